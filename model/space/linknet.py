"""The network that finds the brain: a LinkNet of three dimensions with residual blocks.

Source: Chaurasia and Culurciello, "LinkNet" (2017), in the form of Fisch et al., "deepbet" (2024), whose
weights it takes.
"""

import torch
from torch import Tensor, nn

WIDTHS = (16, 32, 64, 128)


def _normalised(convolution: nn.Module, channels: int, *, relu: bool = True) -> nn.Sequential:
    layers = [convolution, nn.InstanceNorm3d(channels)]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)


class _Residual(nn.Module):
    """Two 3×3×3 convolutions beside a shortcut; the first may halve the grid."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        first = nn.Conv3d(channels_in, channels, 3, stride, padding=1, bias=False)
        second = nn.Conv3d(channels, channels, 3, padding=1, bias=False)
        self.convolutions = nn.Sequential(
            *_normalised(first, channels), *_normalised(second, channels, relu=False)
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1:
            self.shortcut = _normalised(
                nn.Conv3d(channels_in, channels, 1, stride, bias=False), channels, relu=False
            )

    def forward(self, features: Tensor) -> Tensor:
        """Features (n, c, i, j, k) to (n, channels, i/stride, j/stride, k/stride)."""
        return torch.relu(self.convolutions(features) + self.shortcut(features))


class _Up(nn.Sequential):
    """A bottleneck around a transposed convolution, which may double the grid."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        inner = channels_in // 4
        raised = nn.ConvTranspose3d(inner, inner, 3, stride, 1, output_padding=stride - 1, bias=False)
        super().__init__(
            _normalised(nn.Conv3d(channels_in, inner, 1, bias=False), inner),
            _normalised(raised, inner),
            _normalised(nn.Conv3d(inner, channels, 1, bias=False), channels),
        )


class LinkNet3d(nn.Module):
    """Probability of brain in each voxel; 2,126,258 parameters.

    Input is float (n, 1, i, j, k) with sides divisible by 32, output the same, 0–1.
    """

    def __init__(self) -> None:
        super().__init__()
        first, *others = WIDTHS
        self.start = nn.Sequential(
            _normalised(nn.Conv3d(1, first, 7, 2, padding=3, bias=False), first),
            nn.MaxPool3d(3, 2, padding=1),
        )
        downs = [nn.Sequential(_Residual(first, first, 1), _Residual(first, first, 1))]
        for before, width in zip(WIDTHS, others, strict=False):
            downs.append(nn.Sequential(_Residual(before, width, 2), _Residual(width, width, 1)))
        self.downs = nn.ModuleList(downs)
        ups = [_Up(width, before, 2) for width, before in zip(others[::-1], WIDTHS[-2::-1], strict=True)]
        self.ups = nn.ModuleList([*ups, _Up(first, first, 1)])
        self.end = nn.Sequential(
            _normalised(nn.ConvTranspose3d(first, 8, 3, 2, 1, output_padding=1), 8),
            _normalised(nn.Conv3d(8, 8, 3, padding=1), 8),
            nn.ConvTranspose3d(8, 2, 2, 2),
        )

    def forward(self, volumes: Tensor) -> Tensor:
        """Give the probability of brain."""
        features = self.start(volumes)  # (n, 16, i/4, j/4, k/4)
        skipped = [features]
        for down in self.downs:
            features = down(features)
            skipped.append(features)  # /4, /4, /8, /16, /32
        for up, skip in zip(self.ups, skipped[-2::-1], strict=True):
            features = up(features) + skip
        return torch.softmax(self.end(features), dim=1)[:, 1:]
