"""Where the brain is: deepbet's two networks (Fisch et al. 2024), made for T1, good enough on FLAIR and T2.

The first pass looks at the whole volume, the second closely at the box that the first has found.
"""

from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from model.space.linknet import LinkNet3d
from model.space.volume import Affine, Volume

WEIGHTS_PATH = Path(__file__).parents[1] / "assets" / "brain.safetensors"

Mask = npt.NDArray[np.bool_]
_Voxels = npt.NDArray[np.float32]

# A head with its scalp holds 3 litres and more.
MAXIMUM_BRAIN_ML = 2500.0
_WHOLE_SIDE, _CLOSE_SIDE = 128, 256
_MARGIN = 0.1
_MOST_FOREGROUND = 0.6
_GREY_QUANTILES = (0.005, 0.995)


def find_brain(volume: Volume) -> Volume | None:
    """Find the brain of a head in two passes; None where there is none.

    Gives the probability of brain, 0–1, on a grid of 256×256×256 voxels about it. A volume that is skull-
    stripped already gives its own foreground. 2.4 s for both passes on two cores.
    """
    return foreground(volume) or _in_passes(volume, close=True)


def find_brain_roughly(volume: Volume) -> Volume | None:
    """Find the brain in the first pass alone, on a grid of 128×128×128 voxels over the whole volume."""
    return foreground(volume) or _in_passes(volume, close=False)


def clean_mask(probability: _Voxels) -> Mask:
    """Brain where it is more likely than not: the largest piece, its holes filled, shape (i, j, k)."""
    mask = probability > 0.5
    # all but the box of the brain is empty, and that is most of it
    for box in ndimage.find_objects(mask.astype(np.int8)):
        mask[box] = ndimage.binary_fill_holes(_largest(mask[box]))
    return np.asarray(mask)


def foreground(volume: Volume) -> Volume | None:
    """Give what isn't background in a skull-stripped volume, 0 or 1; None where it isn't stripped.

    Stripped is a volume in which all but a brain's volume holds one constant value.
    """
    inside = volume.array != volume.array[0, 0, 0]
    millilitres = inside.sum() * volume.spacing_mm.prod() / 1000
    if not inside.any() or inside.mean() >= _MOST_FOREGROUND or millilitres >= MAXIMUM_BRAIN_ML:
        return None
    return Volume(clean_mask(inside.astype(np.float32)).astype(np.float32), volume.affine)


def _in_passes(volume: Volume, *, close: bool) -> Volume | None:
    whole, closer = _networks()
    array, affine = _canonical(volume)
    voxels = torch.from_numpy(array)
    shape = np.array(voxels.shape)
    with torch.inference_mode():
        small = _nearest(voxels, _WHOLE_SIDE)
        low, high = (float(np.quantile(small.numpy(), q)) for q in _GREY_QUANTILES)
        if low >= high:
            return None
        probability = whole(_scaled(small, low, high))[0, 0].numpy()
        brain = _largest(probability > 0.5)
        if not brain.any():
            return None
        if not close:
            cells = shape / _WHOLE_SIDE
            return Volume(probability * brain, affine @ _of_cells(np.zeros(3, np.int64), cells))
        start, stop = _box(brain, shape)
        boxed = voxels[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
        probability = closer(_scaled(_nearest(boxed, _CLOSE_SIDE), low, high))[0, 0].numpy()
    return Volume(probability, affine @ _of_cells(start, (stop - start) / _CLOSE_SIDE))


def _canonical(volume: Volume) -> tuple[_Voxels, Affine]:
    """Voxels with axes in the order and direction next to RAS+, as the networks know heads."""
    image = nib.Nifti1Image(volume.array, volume.affine)  # type: ignore[no-untyped-call] # nibabel's own gap
    canonical = nib.as_closest_canonical(image)  # type: ignore[no-untyped-call] # as above
    return np.ascontiguousarray(canonical.dataobj), np.asarray(canonical.affine)


@lru_cache(maxsize=1)
def _networks() -> tuple[LinkNet3d, LinkNet3d]:
    weights = load_file(WEIGHTS_PATH)
    networks = []
    for name in ("whole", "close"):
        network = LinkNet3d()
        network.load_state_dict({key: weights[f"{name}.{key}"] for key in network.state_dict()})
        networks.append(network.eval())
    return networks[0], networks[1]


def _nearest(voxels: Tensor, side: int) -> Tensor:
    """Voxels (i, j, k) on side×side×side cells over the same space."""
    return functional.interpolate(voxels[None, None], (side, side, side), mode="nearest-exact")[0, 0]


def _of_cells(
    start: npt.NDArray[np.int64] | _Voxels, width: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Map indices of cells that are `width` voxels wide, from voxel `start` on, to indices of voxels."""
    to_voxels = np.diag([*width, 1.0])
    to_voxels[:3, 3] = start + (width - 1) / 2
    return to_voxels


def _scaled(voxels: Tensor, low: float, high: float) -> Tensor:
    """Grey values as the networks were taught on them, (1, 1, i, j, k)."""
    inside = ((voxels - low) / (high - low)).clamp(0, 1)
    return (0.226 * (inside - inside.mean()) / inside.std() + 0.449)[None, None]


def _box(brain: Mask, shape: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """First and last (excluded) voxel of the box about the brain, with a margin, within the volume."""
    cells = shape / np.array(brain.shape)
    places = np.argwhere(brain)
    low, high = places.min(axis=0) * cells, (places.max(axis=0) + 1) * cells
    margin = _MARGIN * (high - low)
    start = np.floor(np.maximum(low - margin, 0)).astype(np.int64)
    return start, np.ceil(np.minimum(high + margin, shape)).astype(np.int64)


def _largest(mask: Mask) -> Mask:
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())
