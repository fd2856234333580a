"""VGG16 with two attention modules gated by its last pooled features.

Source: Sabahuddin and Gutta, "An Attention based Network for Improved Glioma Grading"; the attention
equations are those of Yan, Kawahara and Hamarneh, "Melanoma Recognition via Visual Attention", IPMI 2019.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.grade import Grade

CLASS_ORDER = (Grade.LGG, Grade.HGG)
"""Which grade each of the two logits speaks for."""

INPUT_SIZE = 224
"""Rows and columns of a slice, in pixels."""

ATTENTION_CHANNELS = 256
DROPOUT = 0.4


class NetworkOutput(NamedTuple):
    """What one forward pass gives for n slices."""

    logits: Tensor
    """(n, 2) in `CLASS_ORDER`."""
    a3: Tensor
    """(n, 1, 28, 28) attention over pool-3, 0–1."""
    a4: Tensor
    """(n, 1, 14, 14) attention over pool-4, 0–1."""


class AttentionModule(nn.Module):
    """Attention over features F, gated by G: A = sigmoid(w_φ · ReLU(W_f F + up(W_g G)) + b).

    `up` is bilinear interpolation to the grid of F. All convolutions are 1×1.
    """

    def __init__(self, feature_channels: int, gate_channels: int) -> None:
        super().__init__()
        self.feature = nn.Conv2d(feature_channels, ATTENTION_CHANNELS, 1, bias=False)
        self.gate = nn.Conv2d(gate_channels, ATTENTION_CHANNELS, 1, bias=False)
        self.score = nn.Conv2d(ATTENTION_CHANNELS, 1, 1)

    def forward(self, features: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
        """Give the attended feature vector (n, c) and the attention (n, 1, h, w) of features (n, c, h, w)."""
        size = features.shape[-2:]
        raised = functional.interpolate(self.gate(gate), size, mode="bilinear", align_corners=False)
        score = self.score(functional.relu(self.feature(features) + raised))
        # 16 bits would leave two values between 0.99 and 1, and the most attended place a matter of chance
        attention = torch.sigmoid(score.float())
        return (attention * features).mean(dim=(2, 3)), attention


def _block(channels_in: int, channels: int, convolutions: int, batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index in range(convolutions):
        layers.append(nn.Conv2d(channels if index else channels_in, channels, 3, padding=1))
        if batch_norm:
            layers.append(nn.BatchNorm2d(channels))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers, nn.MaxPool2d(2))


class AttentionVGG16(nn.Module):
    """The paper's network: 15,176,516 parameters, or 15,184,964 with batch normalisation.

    Input is float (n, 3, 224, 224), channels in the order of `Contrast`.
    """

    def __init__(self, *, batch_norm: bool) -> None:
        super().__init__()
        self.batch_norm = batch_norm
        self.block1 = _block(3, 64, 2, batch_norm)
        self.block2 = _block(64, 128, 2, batch_norm)
        self.block3 = _block(128, 256, 3, batch_norm)
        self.block4 = _block(256, 512, 3, batch_norm)
        self.block5 = _block(512, 512, 3, batch_norm)
        self.attention3 = AttentionModule(256, 512)
        self.attention4 = AttentionModule(512, 512)
        self.dropout = nn.Dropout(DROPOUT)
        self.head = nn.Linear(512 + 256 + 512, len(CLASS_ORDER))
        self.apply(_initialise)

    def forward(self, slices: Tensor) -> NetworkOutput:
        """Grade n slices (n, 3, 224, 224)."""
        return self.grade_features(*self.features(slices))

    def features(self, slices: Tensor) -> tuple[Tensor, Tensor]:
        """Blocks 1–4: slices (n, 3, 224, 224) to F3 (n, 256, 28, 28) and F4 (n, 512, 14, 14)."""
        x = self.block1(slices)  # (n, 64, 112, 112)
        x = self.block2(x)  # (n, 128, 56, 56)
        f3 = self.block3(x)  # (n, 256, 28, 28)
        f4 = self.block4(f3)  # (n, 512, 14, 14)
        return f3, f4

    def grade_features(self, f3: Tensor, f4: Tensor) -> NetworkOutput:
        """Everything after pool-4, from F3 (n, 256, 28, 28) and F4 (n, 512, 14, 14)."""
        return self.grade_gated(f3, f4, self.block5(f4))

    def grade_gated(self, f3: Tensor, f4: Tensor, gate: Tensor) -> NetworkOutput:
        """Everything after pool-5, whose features `gate` are (n, 512, 7, 7)."""
        v3, a3 = self.attention3(f3, gate)  # (n, 256), (n, 1, 28, 28)
        v4, a4 = self.attention4(f4, gate)  # (n, 512), (n, 1, 14, 14)
        g = gate.mean(dim=(2, 3))  # (n, 512)
        logits = self.head(self.dropout(torch.cat((g, v3, v4), dim=1)))  # (n, 1280) → (n, 2)
        return NetworkOutput(logits, a3, a4)

    def backbone(self) -> Iterator[nn.Module]:
        """Give VGG16's layers, first to last."""
        for block in (self.block1, self.block2, self.block3, self.block4, self.block5):
            yield from block


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)
