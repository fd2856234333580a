"""A new healthy head from the MNI152 template: fractions of each tissue on the patient's grid.

Template: grey and white matter of MNI152 nonlinear symmetric 2009a (Fonov 2011), as nilearn ships it.
"""

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation
from torch import Tensor

from model.fields import Grid, resize, sample
from model.signal import Tissue
from model.volume import Volume, load_volume

# The warp is smooth: it is drawn on every fourth voxel.
WARP_STEP = 4
Fractions = dict[Tissue, Tensor]
_Mask = npt.NDArray[np.bool_]
_COARSE_MM = 2.0
_PAD_MM = 40
_SCALP_MM = 13.0
# The template's brain holds 1.9 L, an average one 1.5 L.
_TEMPLATE_SCALE = 1.08


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """`tissue` is grey and white matter 0–1 (2, i, j, k) on `grid` (1 mm).

    `distances` (2, i, j, k) on `coarse_grid` (2 mm): mm to the brain's hull and to the skin, negative inside.
    """

    tissue: Tensor
    grid: Grid
    distances: Tensor
    coarse_grid: Grid


@lru_cache(maxsize=1)
def load_template() -> Template:
    """Read the template from the installed nilearn, once a process; FileNotFoundError where it is absent."""
    package = find_spec("nilearn")
    if package is None or not package.submodule_search_locations:
        raise FileNotFoundError("nilearn, which holds the MNI152 template, is not installed")
    folder = Path(package.submodule_search_locations[0]) / "datasets" / "data"
    volumes = [
        load_volume(folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz") for name in ("gm", "wm")
    ]
    tissue = np.stack([volume.array for volume in volumes]) / np.float32(255)
    origin = volumes[0].affine[:3, 3]
    hull = _closed(
        np.pad(tissue.sum(axis=0)[::2, ::2, ::2] > 0.15, int(_PAD_MM / _COARSE_MM)), 9.0, _COARSE_MM
    )
    to_hull = _distance(hull, _COARSE_MM)
    head = _closed(to_hull[::2, ::2, ::2] < _SCALP_MM, 50.0, 2 * _COARSE_MM)
    to_skin = resize(torch.from_numpy(_distance(head, 2 * _COARSE_MM))[None], _shape(hull))
    return Template(
        torch.from_numpy(tissue),
        Grid(_shape(tissue[0]), origin),
        torch.stack([torch.from_numpy(to_hull), to_skin[0]]),
        Grid(_shape(hull), origin - _PAD_MM, _COARSE_MM),
    )


def typical_brain() -> Volume:
    """Give the brain that all others vary about: white matter 1, grey matter 0.7, on the patient's scale."""
    template = load_template()
    grey, white = template.tissue.numpy()
    affine = np.eye(4)
    affine[:3, :3] /= _TEMPLATE_SCALE
    affine[:3, 3] = template.grid.origin_mm / _TEMPLATE_SCALE
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


def random_rotation(rng: np.random.Generator, degrees: float) -> npt.NDArray[np.float64]:
    """Rotation by normal angles of this deviation about each axis, (3, 3)."""
    return np.asarray(Rotation.from_euler("xyz", rng.normal(0, degrees, 3), degrees=True).as_matrix())


def random_warp(rng: np.random.Generator, grid: Grid) -> Tensor:
    """Where in the template each point of a coarse patient grid comes from: RAS+ mm (3, i, j, k)."""
    linear = random_rotation(rng, 3.0) @ np.diag(_TEMPLATE_SCALE + rng.normal(0, 0.035, 3))
    moved = torch.einsum("ab,bijk->aijk", torch.from_numpy(linear).float(), grid.positions())
    broad, fine = (grid.noise(rng, scale_mm, 3) for scale_mm in (40.0, 18.0))
    return moved + 2.5 * broad + 1.1 * fine


@dataclass(frozen=True, slots=True, eq=False)
class Anatomy:
    """A healthy head on `grid`: tissue `fractions`, each (i, j, k), 0–1, of sum ≤ 1 (air is the rest).

    `depth_mm` is the distance inside the brain's hull, `x_mm` that to the midplane, right side positive;
    `ventricle` is the fraction of CSF in the ventricles. All have shape (i, j, k).
    """

    grid: Grid
    fractions: Fractions
    depth_mm: Tensor
    x_mm: Tensor
    ventricle: Tensor


def build_anatomy(rng: np.random.Generator, grid: Grid, origin_mm: Tensor, *, brain_only: bool) -> Anatomy:
    """Tissue fractions of the head whose points come from the template's `origin_mm` (coarse, RAS+ mm)."""
    template = load_template()
    places = resize(origin_mm, _covering(grid))[:, : grid.shape[0], : grid.shape[1], : grid.shape[2]]
    grey, white = sample(template.tissue, template.grid, places)
    to_brain, to_skin = sample(template.distances, template.coarse_grid, places, edge=True)
    inside = torch.sigmoid((1.2 - to_brain) / 0.5)
    grey = torch.minimum(grey * (1 + 0.12 * grid.noise(rng, 30)[0]), (1 - white).clamp_min(0))
    csf = (inside - grey - white).clamp_min(0)
    ventricle = csf * torch.sigmoid((-to_brain - 20) / 2)
    fractions = {Tissue.GREY: grey.clamp_min(0), Tissue.WHITE: white, Tissue.CSF: csf}
    anatomy = Anatomy(grid, fractions, -to_brain, places[0], ventricle)
    _add_vessels(rng, anatomy, places)
    if brain_only:
        kept = (to_brain < rng.uniform(0.0, 1.5)).float()
        for fraction in fractions.values():
            fraction.mul_(kept)
    else:
        _add_skull(rng, anatomy, to_skin)
    return anatomy


def _covering(grid: Grid) -> tuple[int, int, int]:
    """Shape of the fine grid that ends where the coarse one does."""
    i, j, k = ((count - 1) * WARP_STEP + 1 for count in grid.coarse(WARP_STEP).shape)
    return i, j, k


def _take(fractions: Fractions, tissue: Tissue, share: Tensor, sources: tuple[Tissue, ...]) -> None:
    """Turn a share (0–1) of some tissues into another."""
    for source in sources:
        taken = fractions[source] * share
        fractions[source] = fractions[source] - taken
        fractions[tissue] = fractions.get(tissue, 0) + taken


def _tubes(rng: np.random.Generator, grid: Grid, scale_mm: float, width: float) -> Tensor:
    """Thin winding tubes: where two independent smooth fields both cross zero."""
    first, second = grid.noise(rng, scale_mm, 2)
    return torch.exp((first.square() + second.square()) / (-2 * width**2))


def _add_vessels(rng: np.random.Generator, anatomy: Anatomy, places: Tensor) -> None:
    """Add what enhances in every head: vessels of the sulci, choroid plexus, falx, sagittal sinus."""
    fractions, grid, ventricle = anatomy.fractions, anatomy.grid, anatomy.ventricle
    x, y, z = places
    outer = (fractions[Tissue.CSF] - ventricle).clamp_min(0)
    falx = torch.exp(-x.square() / (2 * 0.7**2)) * (outer > 0.2) * (z > 0)
    veins = _tubes(rng, grid, 11, 0.17) * (outer > 0.08)
    choroid = _tubes(rng, grid, 6, 0.35) * (ventricle > 0.4) * (y < 0)
    sinus = torch.sigmoid((4 - x.abs()) / 0.7) * torch.exp(-((anatomy.depth_mm + 1) / 3).square())
    sinus = (1.3 * sinus * torch.sigmoid((z - 0.4 * y - 30) / 4)).clamp(0, 1)
    _take(fractions, Tissue.DURA, 0.6 * falx, (Tissue.CSF,))
    _take(fractions, Tissue.VESSEL, veins, (Tissue.CSF, Tissue.GREY))
    _take(fractions, Tissue.VESSEL, 0.7 * choroid, (Tissue.CSF,))
    _take(fractions, Tissue.VESSEL, sinus, (Tissue.CSF, Tissue.GREY))
    room = (1 - torch.stack(list(fractions.values())).sum(dim=0)).clamp(0, 1)
    fractions[Tissue.VESSEL] += sinus * room


def _add_skull(rng: np.random.Generator, anatomy: Anatomy, to_skin: Tensor) -> None:
    """Dura, skull with marrow, muscle, subcutaneous fat and skin around the brain, air outside."""
    fractions, grid, to_brain = anatomy.fractions, anatomy.grid, -anatomy.depth_mm
    broad, fine = grid.noise(rng, 30)[0], grid.noise(rng, 6)[0]
    taken = torch.stack(list(fractions.values())).sum(dim=0)
    rest = (torch.sigmoid(-to_skin / 0.4) - taken).clamp_min(0)
    dura = torch.exp(-((to_brain - 2.2) / 0.6).square()) * 0.8
    middle = 5.0 + broad
    bone = torch.sigmoid((7.5 + broad - to_brain) / 0.4)
    marrow = torch.exp(-((to_brain - middle) / 1.2).square()) * (0.35 + 0.15 * fine).clamp(0, 1)
    skin = torch.sigmoid((to_skin + 1.5) / 0.3)
    fat = torch.sigmoid((to_skin + 5.5 + broad) / 0.5)
    deep = torch.sigmoid(4 * (fine - 0.9 + 0.3 * broad))
    soft = torch.maximum(fat, deep) * (1 - skin)
    for tissue, share in (
        (Tissue.DURA, bone * dura),
        (Tissue.FAT, bone * (1 - dura) * marrow + (1 - bone) * soft),
        (Tissue.BONE, bone * (1 - dura) * (1 - marrow)),
        (Tissue.MUSCLE, (1 - bone) * (1 - soft)),
    ):
        fractions[tissue] = fractions.get(tissue, 0) + rest * share
