"""Teaching the network on simulated slices, each varied anew whenever it is shown.

Blocks 1 and 2 stay ImageNet's. The loss is cross entropy of the grade on slices with tumour, and on all of
them that of each attention map against the tumour: Yan's Dice loss (IPMI 2019) and cross entropy.
"""

import logging
import math
import time
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from model.network import AttentionVGG16, NetworkOutput
from model.simulation.samples import NO_GRADE, Samples, vary
from model.training.attention_loss import attention_loss

BATCH = 16
ATTENTION_LOSS_WEIGHT = 0.3
BACKBONE_LEARNING_RATE = 3e-5
"""At 1e-4 a trained network first forgot: its loss rose by a tenth, and fell only when the rate did."""
HEAD_LEARNING_RATE = 2e-4
WARM_UP = 0.1
"""Share of the steps in which the learning rates rise."""
WEIGHT_DECAY = 1e-5

_log = logging.getLogger(__name__)


class VariedSlices(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Slice (3, 224, 224), label and mask (1, 224, 224), varied by nothing but seed, epoch and index."""

    def __init__(self, samples: Samples, seed: int) -> None:
        self._samples, self._seed = samples, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._samples.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        random = np.random.default_rng((self._seed, self.epoch, index))
        samples = self._samples
        slices = samples.slices[index].astype(np.float32)
        varied, mask = vary(slices, samples.brain[index], samples.masks[index], random)
        return varied, torch.tensor(samples.labels[index]), mask


def training_loss(output: NetworkOutput, labels: Tensor, masks: Tensor) -> Tensor:
    """Cross entropy of the grade where there is one, and the losses of both attention maps.

    `labels` is (n,), `masks` float (n, 1, 224, 224).
    """
    looked = attention_loss(output.a3, masks) + attention_loss(output.a4, masks)
    grade_loss = functional.cross_entropy(output.logits, labels, ignore_index=NO_GRADE, reduction="sum") / (
        labels != NO_GRADE
    ).sum().clamp(min=1)
    return grade_loss + ATTENTION_LOSS_WEIGHT * looked.mean()


def fit(
    network: AttentionVGG16, samples: Samples, epochs: int, seed: int, deadline: float = float("inf")
) -> int:
    """Train everything after block 2 in place and give the steps taken; stops at `deadline` (monotonic).

    Where the device multiplies in bfloat16 by itself, so does the training; weights and sums stay float32.
    """
    slices = VariedSlices(samples, seed)
    batches = DataLoader(slices, BATCH, shuffle=True, generator=torch.Generator().manual_seed(seed))
    planned = epochs * len(batches)
    optimiser = torch.optim.AdamW(_groups(network), weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, partial(_pace, planned=planned))
    device = next(network.parameters()).device
    network.train().requires_grad_(True)
    for block in (network.block1, network.block2):
        block.requires_grad_(False)
    half = multiplies_bfloat16(device)
    losses: list[float] = []
    for epoch in range(epochs):
        slices.epoch = epoch
        for shown, labels, masks in batches:
            if time.monotonic() > deadline:
                _log.warning("stopped by the time limit after %d steps", len(losses))
                return len(losses)
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                output = network(shown.to(device, memory_format=torch.channels_last))
            output = NetworkOutput(*(each.float() for each in output))
            loss = training_loss(output, labels.to(device), masks.to(device))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call] # torch's stub has no types here
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
            if len(losses) % 50 == 0:
                _log.info("step %d of %d: loss %.3f", len(losses), planned, np.mean(losses[-50:]))
    return len(losses)


def _groups(network: AttentionVGG16) -> list[dict[str, Any]]:
    groups = (
        ((network.block3, network.block4, network.block5), BACKBONE_LEARNING_RATE),
        ((network.attention3, network.attention4, network.head), HEAD_LEARNING_RATE),
    )
    return [
        {"params": [p for module in modules for p in module.parameters()], "lr": rate}
        for modules, rate in groups
    ]


def _pace(step: int, planned: int) -> float:
    """Share of the learning rate at a step: it rises in the warm-up, then falls to nothing along a cosine."""
    rising = (step + 1) / max(WARM_UP * planned, 1)
    return min(rising, 0.5 * (1 + math.cos(math.pi * step / planned)))


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 gains time on a device: a CPU needs AMX for it (Intel's Sapphire Rapids and later)."""
    if device.type == "cpu":
        return bool(torch.cpu.get_capabilities().get("amx_bf16"))
    return bool(torch.cuda.is_bf16_supported())
