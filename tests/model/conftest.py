import shutil

import numpy as np
import pytest
import torch

from model.card import Card
from model.checkpoint import save_checkpoint
from model.network import AttentionVGG16
from model.simulation.samples import NO_GRADE, Samples


@pytest.fixture(scope="session")
def network():
    torch.manual_seed(0)
    return AttentionVGG16(batch_norm=False).eval()


@pytest.fixture(scope="session")
def card():
    return Card.model_validate(
        {
            "name": "test",
            "version": "1",
            "architecture": "attention-vgg16",
            "classes": ["LGG", "HGG"],
            "input": {
                "contrasts": ["flair", "t1ce", "t2"],
                "size": [224, 224],
                "slices": "all",
                "normalisation": "median and MAD",
            },
            "pooling": "attention-weighted-mean",
            "temperature": 1.0,
            "threshold": 0.5,
            "training": {
                "kind": "simulated",
                "description": "random weights",
                "cases": 0,
                "samples": 0,
                "steps": 0,
                "seed": 0,
                "seconds": 0,
            },
            "metrics": [],
            "intended_use": "tests",
            "licence": "Apache-2.0",
            "weights_sha256": "0" * 64,
        },
        strict=False,
    )


@pytest.fixture(scope="session")
def saved_checkpoint(tmp_path_factory, network, card):
    folder = tmp_path_factory.mktemp("checkpoint")
    save_checkpoint(folder, network, card)
    return folder


@pytest.fixture
def checkpoint_folder(tmp_path, saved_checkpoint):
    """A valid checkpoint with random weights that a test may damage."""
    return shutil.copytree(saved_checkpoint, tmp_path / "checkpoint")


@pytest.fixture(scope="session")
def square_samples():
    """Eight noise slices with a bright square, whose brightness in T1ce gives the grade away."""
    random = np.random.default_rng(0)
    slices = random.normal(0, 0.3, (8, 3, 224, 224))
    masks = np.zeros((8, 224, 224), bool)
    masks[:6, 64:128, 96:160] = True
    labels = np.array([0, 1, 0, 1, 0, 1, NO_GRADE, NO_GRADE])
    slices[:, 0] += 3 * masks
    slices[:, 1] += 3 * masks * (labels == 1)[:, None, None]
    return Samples(slices.astype(np.float16), np.ones_like(masks), masks, labels)
