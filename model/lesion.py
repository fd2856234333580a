"""One glioma: what it is (drawn by grade), where it pushes, and which voxels it takes.

The classes overlap on purpose: a tenth of the high-grade tumours barely enhance and a third of the
low-grade ones do. Shares are chosen, not measured.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from model.anatomy import Anatomy, load_template, random_rotation
from model.fields import Grid, Vector, sample
from model.grade import Grade
from model.signal import RELAXATION_3T, Relaxation, Tissue


class Enhancement(StrEnum):
    """How a tumour takes up contrast."""

    RING = "ring"
    NODULAR = "nodular"
    PATCHY = "patchy"
    NONE = "none"


_SHARES: dict[Grade, dict[Enhancement, float]] = {
    Grade.HGG: {
        Enhancement.RING: 0.74,
        Enhancement.NODULAR: 0.15,
        Enhancement.PATCHY: 0.08,
        Enhancement.NONE: 0.03,
    },
    Grade.LGG: {
        Enhancement.NONE: 0.66,
        Enhancement.PATCHY: 0.22,
        Enhancement.NODULAR: 0.08,
        Enhancement.RING: 0.04,
    },
}


@dataclass(frozen=True, slots=True, eq=False)
class Lesion:
    """What was drawn for one tumour. Lengths in mm, `centre_mm` RAS+ in the patient, `gadolinium` in mM.

    `shape` (3, 3) maps an offset from the centre to one that is isotropic; `rim_mm` is the thickness of the
    enhancing rim; `oedema_mm` the reach of oedema beyond the core; `push_mm` the shift of tissue at its edge.
    """

    grade: Grade
    enhancement: Enhancement
    mismatch: bool
    centre_mm: Vector
    shape: Vector
    radius_mm: float
    rim_mm: float
    oedema_mm: float
    push_mm: float
    gadolinium: float

    def distance_mm(self, positions_mm: Tensor) -> Tensor:
        """About the distance from the core's smooth outline, negative inside: (3, …) → (…)."""
        offset = positions_mm - torch.from_numpy(self.centre_mm).float().view(3, 1, 1, 1)
        mapped = torch.einsum("ab,bijk->aijk", torch.from_numpy(self.shape).float(), offset)
        away: Tensor = torch.linalg.vector_norm(mapped, dim=0)
        return away - self.radius_mm

    def parameters(self) -> dict[str, str | float | bool]:
        """Return the drawn numbers, for a table."""
        return {
            "enhancement": self.enhancement.value,
            "t2_flair_mismatch": self.mismatch,
            "radius_mm": self.radius_mm,
            "rim_mm": self.rim_mm,
            "oedema_mm": self.oedema_mm,
            "push_mm": self.push_mm,
            "gadolinium_mm": self.gadolinium,
        }


def draw_enhancement(rng: np.random.Generator, grade: Grade) -> Enhancement:
    """Draw how a tumour of this grade takes up contrast."""
    kinds = _SHARES[grade]
    return list(kinds)[int(rng.choice(len(kinds), p=list(kinds.values())))]


def draw_lesion(rng: np.random.Generator, grade: Grade, grid: Grid, origin_mm: Tensor) -> Lesion:
    """Draw a tumour of this grade in the white matter of the head that `origin_mm` (coarse warp) gives."""
    high = grade is Grade.HGG
    radius = float(np.clip(rng.lognormal(np.log(17.5 if high else 20.0), 0.28), 9, 32))
    turned = random_rotation(rng, 60)
    stretch = np.exp(rng.normal(0, 0.18, 3))
    return Lesion(
        grade=grade,
        enhancement=draw_enhancement(rng, grade),
        mismatch=not high and bool(rng.random() < 0.25),
        centre_mm=_draw_centre(rng, grid, origin_mm, radius),
        shape=turned @ np.diag(stretch / stretch.prod() ** (1 / 3)) @ turned.T,
        radius_mm=radius,
        rim_mm=float(np.clip(rng.lognormal(np.log(3.6 if high else 2.6), 0.35), 1.5, 9)),
        oedema_mm=float(np.clip(rng.lognormal(np.log(11.0 if high else 3.0), 0.55), 0.5, 24)),
        push_mm=float(radius * rng.uniform(0.05, 0.4)),
        gadolinium=float(np.clip(rng.lognormal(np.log(0.32 if high else 0.2), 0.4), 0.06, 0.9)),
    )


def _draw_centre(rng: np.random.Generator, grid: Grid, origin_mm: Tensor, radius: float) -> Vector:
    template = load_template()
    white = sample(template.tissue, template.grid, origin_mm)[1]
    depth = -sample(template.distances, template.coarse_grid, origin_mm, edge=True)[0]
    x, _, z = origin_mm
    fits = (white > 0.6) & (z > -20) & (z < 62) & (x.abs() > 0.6 * radius + 4) & (depth > 0.6 * radius + 3)
    candidates = torch.nonzero(fits)
    if len(candidates) == 0:
        candidates = torch.nonzero(white > 0.6)
    index = candidates[int(rng.integers(len(candidates)))].numpy()
    return np.asarray(grid.origin_mm + index * grid.step_mm, dtype=np.float64)


def push(lesion: Lesion, grid: Grid, origin_mm: Tensor) -> Tensor:
    """Return the warp with the mass effect: tissue around the core comes from nearer its centre.

    The shift fades over the tumour's radius and tapers at the skull, which does not give.
    """
    template = load_template()
    positions = grid.positions()
    offset = positions - torch.from_numpy(lesion.centre_mm).float().view(3, 1, 1, 1)
    outside = lesion.distance_mm(positions).clamp_min(0)
    depth = -sample(template.distances, template.coarse_grid, origin_mm, edge=True)[0]
    size = lesion.push_mm * torch.exp(-outside / lesion.radius_mm) * (depth / 15).clamp(0, 1)
    away: Tensor = torch.linalg.vector_norm(offset, dim=0)
    inner = (away / lesion.radius_mm).clamp(0, 1)
    return origin_mm - offset / away.clamp_min(1) * size * inner


def grow(rng: np.random.Generator, lesion: Lesion, anatomy: Anatomy) -> None:
    """Put the tumour into the anatomy: its tissues take their share of the voxels around its centre."""
    reach = 1.5 * lesion.radius_mm + lesion.oedema_mm * 2 + 6
    box = anatomy.grid.part(lesion.centre_mm, reach)
    part = {tissue: fraction[box] for tissue, fraction in anatomy.fractions.items()}
    white = part[Tissue.WHITE]
    shape = (white.shape[0], white.shape[1], white.shape[2])
    step = anatomy.grid.step_mm
    grid = Grid(shape, anatomy.grid.origin_mm + step * np.array([side.start for side in box]), step)
    distance = lesion.distance_mm(grid.positions())
    distance += 0.16 * lesion.radius_mm * grid.noise(rng, lesion.radius_mm * 0.8)[0]
    distance += 0.9 * grid.noise(rng, 7)[0]
    side = float(np.sign(float(anatomy.x_mm[tuple((s.start + s.stop) // 2 for s in box)])) or 1.0)
    own_side = torch.sigmoid((side * anatomy.x_mm[box] + 1.5) / 0.8)
    room = torch.sigmoid((anatomy.depth_mm[box] - 0.8) / 0.6) * (
        1 - anatomy.ventricle[box] - part[Tissue.DURA]
    )
    core = torch.sigmoid(-distance / 0.7) * own_side * room.clamp(0, 1)
    brain = (white, part[Tissue.GREY])
    reach_mm = lesion.oedema_mm * (0.2 + 1.1 * _near(white) + 0.35 * grid.noise(rng, 14)[0])
    oedema = _oedema(reach_mm - distance, brain, own_side) * (1 - core)
    shares = {Tissue.OEDEMA: oedema, **_inside(rng, lesion, grid, -distance, core)}
    taken = torch.stack(list(shares.values())).sum(dim=0).clamp(0, 1)
    for tissue in (Tissue.GREY, Tissue.WHITE, Tissue.CSF, Tissue.VESSEL):
        part[tissue].mul_(1 - taken)
    for tissue, share in shares.items():
        whole = torch.zeros(anatomy.grid.shape)
        whole[box] = share
        anatomy.fractions[tissue] = whole


def _near(white: Tensor) -> Tensor:
    return functional.avg_pool3d(white[None], 5, 1, 2)[0]


def _oedema(margin_mm: Tensor, brain: tuple[Tensor, Tensor], own_side: Tensor) -> Tensor:
    """Fingers along the white matter; cortex takes little, CSF none. `brain` is white and grey matter."""
    white, grey = brain
    crossing = torch.maximum(own_side, (white > 0.9).float() * 0.6)
    return torch.sigmoid(margin_mm / 1.3) * (white + 0.15 * grey).clamp(0, 1) * crossing * 0.95


def _inside(
    rng: np.random.Generator, lesion: Lesion, grid: Grid, depth_mm: Tensor, core: Tensor
) -> dict[Tissue, Tensor]:
    """Shares of enhancing, solid and necrotic tumour in the core."""
    broad, fine = grid.noise(rng, lesion.radius_mm * 0.7)[0], grid.noise(rng, 4)[0]
    rim = lesion.rim_mm * (1 + 0.6 * broad + 0.4 * fine).clamp_min(0.1)
    match lesion.enhancement:
        case Enhancement.RING:
            enhancing = torch.sigmoid((rim - depth_mm) / 0.6) * (0.8 + 0.2 * fine).clamp(0.3, 1)
        case Enhancement.NODULAR:
            enhancing = torch.sigmoid(4 * (broad + 0.4 * fine + rng.uniform(-0.3, 0.8)))
        case Enhancement.PATCHY:
            enhancing = 0.7 * torch.sigmoid(5 * (fine + 0.6 * broad - rng.uniform(0.6, 1.3)))
        case Enhancement.NONE:
            enhancing = torch.zeros_like(core)
    dead = (
        torch.sigmoid((depth_mm - rim - 1) / 0.8)
        if lesion.enhancement is Enhancement.RING
        else 0.25 * (broad > 1)
    )
    dead = dead * (0.8 + 0.2 * fine + 0.15 * broad).clamp(0, 1)
    return {
        Tissue.ENHANCING: core * enhancing,
        Tissue.NECROSIS: core * (1 - enhancing) * dead,
        Tissue.SOLID: core * (1 - enhancing) * (1 - dead),
    }


def relaxations(rng: np.random.Generator, lesion: Lesion | None) -> dict[Tissue, Relaxation]:
    """Relaxation of each tissue in this patient: some spread on all, the tumour's own where there is one."""
    spread = {
        tissue: replace(
            value,
            t1=value.t1 * float(np.exp(rng.normal(0, 0.04))),
            t2=value.t2 * float(np.exp(rng.normal(0, 0.05))),
        )
        for tissue, value in RELAXATION_3T.items()
    }
    if lesion is None:
        return spread
    enhancing, solid = spread[Tissue.ENHANCING], spread[Tissue.SOLID]
    spread[Tissue.ENHANCING] = replace(enhancing, gadolinium=lesion.gadolinium)
    if lesion.mismatch:
        spread[Tissue.SOLID] = replace(solid, t1=2700.0, t2=260.0)
    elif lesion.grade is Grade.LGG:
        spread[Tissue.SOLID] = replace(solid, t1=solid.t1 * 1.05, t2=solid.t2 * 1.1)
    return spread
