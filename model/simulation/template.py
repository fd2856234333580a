"""The heads that simulated patients vary: grey and white matter, and how far it is to brain and skin.

MNI152 is nonlinear symmetric 2009a (Fonov 2011), as nilearn ships it; SRI24 (Rohlfing 2010) is the atlas
that defines BraTS space.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from model.simulation.fields import Grid, Shape, Vector, resize
from model.space.atlas import load_atlas
from model.space.register import register_brains
from model.space.volume import Affine, Volume, load_volume

_Mask = npt.NDArray[np.bool_]
_Tissue = npt.NDArray[np.float32]
_COARSE_MM = 2.0
_PAD_MM = 40
_SCALP_MM = 13.0
TEMPLATE_SCALE = 1.08
"""The templates' brain holds 1.9 L, an average one 1.5 L."""
# CSF, grey and white matter on T1: of the atlas read off its histogram, of MNI152 the medians of pure tissue.
_SRI24_T1 = (250.0, 530.0, 720.0)
_MNI152_T1 = (66.0, 164.0, 225.0)


class Head(StrEnum):
    """Whose anatomy a simulated patient varies: the first two, one person, teach; SRI24 is kept for tests.

    The second has its tissues read off its T1 image, so that how tissue is told apart teaches nothing.
    """

    MNI152 = "MNI152"
    MNI152_BY_T1 = "MNI152 by its T1"
    SRI24 = "SRI24"


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """`tissue` is grey and white matter 0–1 (2, i, j, k) on `grid` (1 mm).

    `distances` (2, i, j, k) on `coarse_grid` (2 mm): mm to the brain's hull and to the skin, negative inside.
    """

    tissue: Tensor
    grid: Grid
    distances: Tensor
    coarse_grid: Grid


@lru_cache(maxsize=len(Head))
def load_template(head: Head = Head.MNI152) -> Template:
    """Read a head, once a process; FileNotFoundError where nilearn, which holds MNI152, is absent."""
    tissue, origin = _read_mni152()
    match head:
        case Head.SRI24:
            tissue = _tissue_of_sri24(_shape(tissue[0]), origin)
        case Head.MNI152_BY_T1:
            brain = tissue.sum(axis=0) > 0.15
            tissue = _classify(_read_nilearn("t1").array * _closed(brain, 6.0, 1.0), _MNI152_T1)
    hull = _closed(
        np.pad(tissue.sum(axis=0)[::2, ::2, ::2] > 0.15, int(_PAD_MM / _COARSE_MM)), 9.0, _COARSE_MM
    )
    to_hull = _distance(hull, _COARSE_MM)
    skin = _closed(to_hull[::2, ::2, ::2] < _SCALP_MM, 50.0, 2 * _COARSE_MM)
    to_skin = resize(torch.from_numpy(_distance(skin, 2 * _COARSE_MM))[None], _shape(hull))
    return Template(
        torch.from_numpy(tissue),
        Grid(_shape(tissue[0]), origin),
        torch.stack([torch.from_numpy(to_hull), to_skin[0]]),
        Grid(_shape(hull), origin - _PAD_MM, _COARSE_MM),
    )


@lru_cache(maxsize=1)
def _read_mni152() -> tuple[_Tissue, Vector]:
    """Grey and white matter (2, i, j, k), and RAS+ mm of the first voxel."""
    volumes = [_read_nilearn(name) for name in ("gm", "wm")]
    return np.stack([volume.array for volume in volumes]) / np.float32(255), volumes[0].affine[:3, 3]


def _read_nilearn(name: str) -> Volume:
    package = find_spec("nilearn")
    if package is None or not package.submodule_search_locations:
        raise FileNotFoundError("nilearn, which holds the MNI152 template, is not installed")
    folder = Path(package.submodule_search_locations[0]) / "datasets" / "data"
    return load_volume(folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz")


def _tissue_of_sri24(shape: Shape, origin_mm: Vector) -> _Tissue:
    """Grey and white matter of the SRI24 atlas by its T1, laid where MNI152 lies, on the same grid."""
    affine = np.eye(4)
    affine[:3, :3] /= TEMPLATE_SCALE
    affine[:3, 3] = origin_mm / TEMPLATE_SCALE
    there = load_atlas().moved(np.linalg.inv(typical_to_atlas()))
    return _classify(there.resample(shape, affine).array, _SRI24_T1)


def _classify(t1: npt.NDArray[np.float32], levels: tuple[float, float, float]) -> _Tissue:
    """Grey and white matter (2, i, j, k) of T1 (i, j, k), by what CSF, grey and white matter are there."""
    csf, grey, white = levels
    csf_to_grey = np.clip((t1 - csf) / (grey - csf), 0, 1)
    share = np.clip((t1 - grey) / (white - grey), 0, 1)
    return np.stack([csf_to_grey - share, share]).astype(np.float32)


@lru_cache(maxsize=1)
def typical_to_atlas() -> Affine:
    """Register the typical simulated brain to the atlas, once a process."""
    return register_brains(load_atlas(), typical_brain())


def typical_brain() -> Volume:
    """Give the brain that all others vary about: white matter 1, grey matter 0.7, on the patient's scale."""
    (grey, white), origin = _read_mni152()
    affine = np.eye(4)
    affine[:3, :3] /= TEMPLATE_SCALE
    affine[:3, 3] = origin / TEMPLATE_SCALE
    return Volume(white + np.float32(0.7) * grey, affine)


def _shape(array: npt.NDArray[np.generic] | Tensor) -> tuple[int, int, int]:
    i, j, k = array.shape
    return i, j, k


def _distance(mask: _Mask, step_mm: float) -> npt.NDArray[np.float32]:
    outside = ndimage.distance_transform_edt(~mask) - ndimage.distance_transform_edt(mask)
    return np.asarray(outside * step_mm, dtype=np.float32)


def _closed(mask: _Mask, radius_mm: float, step_mm: float) -> _Mask:
    pad = int(radius_mm / step_mm) + 2
    # The template is cut through the brain stem: repeating its border carries the head on as a neck.
    padded = np.pad(mask, pad, mode="edge")
    grown = ndimage.distance_transform_edt(~padded) <= radius_mm / step_mm
    closed = ndimage.distance_transform_edt(grown) > radius_mm / step_mm
    return np.asarray(closed[pad:-pad, pad:-pad, pad:-pad])
