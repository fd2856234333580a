"""Teaching the network's upper part, from features of its lower part that are computed once.

Blocks 1-4 never change, so that F3 and F4 are kept as float16. The loss is cross entropy of the grade on
slices with tumour, and Yan's regulariser (IPMI 2019) on all: the Dice loss of each attention map against
the tumour.
"""

import logging
import time

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from model.network import INPUT_SIZE, AttentionVGG16, NetworkOutput
from model.simulation.samples import NO_GRADE, Samples

BATCH = 16
ATTENTION_LOSS_WEIGHT = 0.15
BACKBONE_LEARNING_RATE = 1e-4
HEAD_LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1e-5

_log = logging.getLogger(__name__)


def keep_features(network: AttentionVGG16, samples: Samples) -> TensorDataset:
    """Run blocks 1-4 over all samples: F3 and F4 as float16, labels, masks as bool (n, 1, 224, 224)."""
    f3: list[Tensor] = []
    f4: list[Tensor] = []
    with torch.inference_mode():
        for start in range(0, len(samples.labels), BATCH):
            batch = torch.from_numpy(samples.slices[start : start + BATCH]).float()
            for kept, features in zip((f3, f4), network.features(batch), strict=True):
                kept.append(features.half())
    labels, masks = torch.from_numpy(samples.labels), torch.from_numpy(samples.masks)
    return TensorDataset(torch.cat(f3), torch.cat(f4), labels, masks[:, None])


def training_loss(output: NetworkOutput, labels: Tensor, masks: Tensor) -> Tensor:
    """Cross entropy of the grade where there is one, and the Dice losses of both attention maps.

    `labels` is (n,), `masks` float (n, 1, 224, 224).
    """
    attention_loss = sum(
        (_dice_loss(attention, functional.avg_pool2d(masks, INPUT_SIZE // attention.shape[-1])))
        for attention in (output.a3, output.a4)
    )
    grade_loss = functional.cross_entropy(output.logits, labels, ignore_index=NO_GRADE, reduction="sum") / (
        labels != NO_GRADE
    ).sum().clamp(min=1)
    return grade_loss + ATTENTION_LOSS_WEIGHT * attention_loss


def _dice_loss(attention: Tensor, mask: Tensor) -> Tensor:
    both = (attention * mask).sum(dim=(1, 2, 3))
    either = attention.sum(dim=(1, 2, 3)) + mask.sum(dim=(1, 2, 3))
    return (1 - (2 * both + 1) / (either + 1)).mean()


def fit(network: AttentionVGG16, kept: TensorDataset, epochs: int, deadline: float) -> int:
    """Train everything after pool-4 in place and give the steps taken; stops at `deadline` (monotonic)."""
    batches = DataLoader(kept, BATCH, shuffle=True)
    fresh = [network.attention3, network.attention4, network.head]
    groups = [
        {"params": list(network.block5.parameters()), "lr": BACKBONE_LEARNING_RATE},
        {"params": [p for module in fresh for p in module.parameters()], "lr": HEAD_LEARNING_RATE},
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * len(batches))
    network.train()
    steps = 0
    for epoch in range(epochs):
        losses: list[float] = []
        for f3, f4, labels, masks in batches:
            if time.monotonic() > deadline:
                _log.warning("stopped by the time limit after %d steps", steps)
                return steps
            loss = training_loss(network.grade_features(f3.float(), f4.float()), labels, masks.float())
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call] # torch's stub has no types here
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
            steps += 1
        _log.info("epoch %d of %d: loss %.3f", epoch + 1, epochs, np.mean(losses))
    return steps
