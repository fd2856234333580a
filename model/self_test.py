"""One slice whose logits a checkpoint's card states, so that an installed network is seen to compute them.

The digest says that the bytes are the card's; this says that this machine makes of them what the trainer's
machine made.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.card import Card, CheckpointError
from model.grade import Contrast
from model.network import INPUT_SIZE, AttentionVGG16

TOLERANCE = 1e-3
"""How far logits may differ between machines."""


def pattern_slice() -> Tensor:
    """A slice (1, 3, 224, 224) of waves between -3 and 3, made without a random generator."""
    shape = (1, len(Contrast), INPUT_SIZE, INPUT_SIZE)
    waves = 3 * np.sin(np.arange(np.prod(shape)) ** 1.5 / 1000)
    return torch.from_numpy(waves.reshape(shape).astype(np.float32))


def answer(network: AttentionVGG16) -> tuple[float, float]:
    """Give the logits of `pattern_slice`, of a network in evaluation mode on the CPU."""
    with torch.inference_mode():
        low, high = network(pattern_slice()).logits[0].tolist()
    return low, high


def require_answer(network: AttentionVGG16, card: Card, folder: Path) -> None:
    """Raise `CheckpointError` where the network doesn't compute what its card states."""
    if card.self_test is None:
        raise CheckpointError(
            f"the card in {folder} states no self-test: "
            "write the checkpoint again with this version of gliograde"
        )
    found = answer(network)
    if not np.allclose(found, card.self_test, rtol=0, atol=TOLERANCE):
        raise CheckpointError(
            f"the network in {folder} computes {found} where its card states {card.self_test}: "
            "the card is another network's, or this machine computes wrongly; "
            "install a checkpoint whose card was written with it"
        )
