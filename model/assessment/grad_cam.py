"""Grad-CAM, the usual explanation of a network, to be scored beside the attention.

Source: Selvaraju et al., "Grad-CAM", ICCV 2017, equations 1 and 2, on the features of the last convolution
after its ReLU. The score explained is the margin of HGG: its logit less that of LGG.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from model.checkpoint import load_checkpoint
from model.grade import Grade
from model.network import CLASS_ORDER, INPUT_SIZE, AttentionVGG16
from model.predict import shown_to_network
from model.space.stack import Stack

_HGG = CLASS_ORDER.index(Grade.HGG)
_BATCH = 8


def grad_cam(network: AttentionVGG16, slices: Tensor) -> Tensor:
    """Explain n slices (n, 3, 224, 224) by the last convolution: (n, 14, 14), not negative.

    L = ReLU(Σ_k α_k A^k) with α_k the mean over positions of ∂y/∂A^k.
    """
    *convolutions, pool = network.block5
    with torch.enable_grad():
        f3, f4 = network.features(slices)
        activation = f4
        for layer in convolutions:
            activation = layer(activation)  # (n, 512, 14, 14)
        activation = activation.detach().requires_grad_()
        logits = network.grade_gated(f3.detach(), f4.detach(), pool(activation)).logits
        margin = (logits[:, _HGG] - logits[:, 1 - _HGG]).sum()
        (gradient,) = torch.autograd.grad(margin, activation)
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    return functional.relu((weights * activation).sum(dim=1)).detach()


class GradCam:
    """One checkpoint's Grad-CAM on one device."""

    def __init__(self, folder: Path, device: str | None = None) -> None:
        """Load the checkpoint in `folder`; `device` as `Predictor` takes it. Raises `CheckpointError`."""
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._card, network = load_checkpoint(folder)
        self._network = network.to(self._device).requires_grad_(False)

    def explain(self, stack: Stack, levels: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        """Explain these slices of a stack: (slice, row, column), 0 outside the brain and on other slices."""
        shown = shown_to_network(stack, self._card)
        found = np.zeros(stack.mask.shape, np.float32)
        for part in np.array_split(levels, -(-len(levels) // _BATCH)):
            maps = grad_cam(self._network, torch.from_numpy(shown[part]).to(self._device))
            size = (INPUT_SIZE, INPUT_SIZE)
            raised = functional.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)
            found[part] = raised[:, 0].cpu().numpy() * stack.mask[part]
        return found
