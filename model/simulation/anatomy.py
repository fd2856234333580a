"""A new healthy head from a template: fractions of each tissue on the patient's grid."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn import functional

from model.simulation.fields import Grid, resize, sample, transform
from model.simulation.signal import Tissue
from model.simulation.template import TEMPLATE_SCALE, Template

# The warp is smooth: it is drawn on every fourth voxel.
WARP_STEP = 4
Fractions = dict[Tissue, Tensor]
_VENTRICLES_MM = torch.tensor([0.0, -15.0, 14.0]).view(3, 1, 1, 1)


def random_rotation(rng: np.random.Generator, degrees: float) -> npt.NDArray[np.float64]:
    """Rotation by normal angles of this deviation about each axis, (3, 3)."""
    return np.asarray(Rotation.from_euler("xyz", rng.normal(0, degrees, 3), degrees=True).as_matrix())


def random_warp(rng: np.random.Generator, grid: Grid, atrophy: float) -> Tensor:
    """Where in the template each point of a coarse patient grid comes from: RAS+ mm (3, i, j, k).

    `atrophy` (0-1) widens the ventricles.
    """
    linear = random_rotation(rng, 3.0) @ np.diag(TEMPLATE_SCALE + rng.normal(0, 0.035, 3))
    moved = transform(linear, grid.positions())
    offset = moved - _VENTRICLES_MM
    near = torch.exp(-offset.square().sum(dim=0) / (2 * 24.0**2))
    warped = moved - (0.45 * atrophy - 0.08) * near * offset
    for scale_mm, reach_mm in ((40.0, 2.5), (18.0, 1.1), (11.0, 0.5)):
        warped += reach_mm * grid.noise(rng, scale_mm, 3)
    return warped


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


def build_anatomy(
    rng: np.random.Generator,
    template: Template,
    grid: Grid,
    origin_mm: Tensor,
    atrophy: float,
    *,
    brain_only: bool,
) -> Anatomy:
    """Tissue fractions of the head whose points come from the template's `origin_mm` (coarse, RAS+ mm).

    `atrophy` (0-1) widens the sulci and brings age's changes to the white matter.
    """
    places = resize(origin_mm, _covering(grid))[:, : grid.shape[0], : grid.shape[1], : grid.shape[2]]
    grey, white = sample(template.tissue, template.grid, places)
    to_brain, to_skin = sample(template.distances, template.coarse_grid, places, edge=True)
    inside = torch.sigmoid((1.2 - to_brain) / 0.5)
    varied = 1 + 0.12 * grid.noise(rng, 30)[0] + 0.06 * grid.noise(rng, 5)[0]
    shrunk = 1 - 0.35 * atrophy * torch.sigmoid((to_brain + 14) / 3)
    grey = torch.minimum(grey * varied * shrunk, (1 - white).clamp_min(0))
    csf = (inside - grey - white).clamp_min(0)
    ventricle = csf * torch.sigmoid((-to_brain - 20) / 2)
    fractions = {Tissue.GREY: grey.clamp_min(0), Tissue.WHITE: white, Tissue.CSF: csf}
    anatomy = Anatomy(grid, fractions, -to_brain, places[0], ventricle)
    _add_vessels(rng, anatomy, places)
    _add_bright_spots(rng, anatomy, atrophy)
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
    bent = x + 1.2 * grid.noise(rng, 25)[0]
    falx = torch.exp(-bent.square() / (2 * 0.7**2)) * (outer > 0.2) * (z > 0)
    falx = falx * (0.7 + 0.3 * grid.noise(rng, 12)[0]).clamp(0, 1)
    basal = torch.exp(-((z + 14) / 10).square()) * torch.exp(-((y + 2) / 26).square())
    arteries = _tubes(rng, grid, 16, 0.2) * basal * (outer > 0.1)
    veins = _tubes(rng, grid, 11, 0.17) * (outer > 0.08)
    choroid = _tubes(rng, grid, 6, 0.35) * (ventricle > 0.4) * (y < 0)
    sinus = torch.sigmoid((4 - x.abs()) / 0.7) * torch.exp(-((anatomy.depth_mm + 1) / 3).square())
    sinus = (1.3 * sinus * torch.sigmoid((z - 0.4 * y - 30) / 4)).clamp(0, 1)
    _take(fractions, Tissue.DURA, 0.45 * falx, (Tissue.CSF,))
    _take(fractions, Tissue.VESSEL, torch.maximum(veins, arteries), (Tissue.CSF, Tissue.GREY))
    _take(fractions, Tissue.VESSEL, 0.7 * choroid, (Tissue.CSF,))
    _take(fractions, Tissue.VESSEL, sinus, (Tissue.CSF, Tissue.GREY))
    room = (1 - torch.stack(list(fractions.values())).sum(dim=0)).clamp(0, 1)
    fractions[Tissue.VESSEL] += sinus * room


def _add_bright_spots(rng: np.random.Generator, anatomy: Anatomy, atrophy: float) -> None:
    """Add what is bright on FLAIR and no tumour: ventricles' rims, age's lesions, flowing CSF."""
    fractions, grid, ventricle = anatomy.fractions, anatomy.grid, anatomy.ventricle
    edge = (functional.max_pool3d(ventricle[None], 3, 1, 1)[0] - ventricle).clamp(0, 1)
    coarse = functional.avg_pool3d(functional.avg_pool3d(ventricle[None], 4), 3, 1, 1)
    near = resize(coarse, grid.shape)[0].mul_(6).clamp_(0, 1)
    spots = torch.sigmoid(5 * (grid.noise(rng, 8)[0] - 2.6 + 1.6 * atrophy)) * (0.25 + 0.75 * near)
    rims = edge * float(rng.uniform(0.1, 0.6))
    _take(fractions, Tissue.GLIOSIS, (rims + spots * min(1.0, 2 * atrophy)).clamp(0, 1), (Tissue.WHITE,))
    flow = torch.sigmoid(4 * (grid.noise(rng, 14)[0] - 1.5)) * float(rng.uniform(0, 0.8))
    _take(fractions, Tissue.FLOWING, flow, (Tissue.CSF,))


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
