"""One glioma: what it is (drawn by grade), where it lies and where it pushes.

The classes overlap on purpose: a tenth of the high-grade tumours barely enhance and a third of the
low-grade ones do. Shares are chosen, not measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from model.grade import Grade
from model.simulation.anatomy import random_rotation
from model.simulation.fields import Grid, Vector, sample, transform
from model.simulation.signal import RELAXATION_3T, Relaxation, Tissue
from model.simulation.template import Template


class Enhancement(StrEnum):
    """How a tumour takes up contrast."""

    RING = "ring"
    NODULAR = "nodular"
    PATCHY = "patchy"
    NONE = "none"


class Form(StrEnum):
    """What a tumour looks like as a whole; all but the first are the hard ones."""

    SINGLE = "single"
    SMALL = "small"
    MULTIFOCAL = "multifocal"
    BUTTERFLY = "butterfly"
    INFRATENTORIAL = "infratentorial"
    METASTASIS_LIKE = "metastasis-like"
    AFTER_SURGERY = "after surgery"


_ENHANCEMENTS: Mapping[Grade, Mapping[Enhancement, float]] = {
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
_FORMS: Mapping[Grade, Mapping[Form, float]] = {
    Grade.HGG: {
        Form.SINGLE: 0.72,
        Form.SMALL: 0.07,
        Form.MULTIFOCAL: 0.07,
        Form.BUTTERFLY: 0.05,
        Form.INFRATENTORIAL: 0.03,
        Form.METASTASIS_LIKE: 0.03,
        Form.AFTER_SURGERY: 0.03,
    },
    Grade.LGG: {
        Form.SINGLE: 0.83,
        Form.SMALL: 0.08,
        Form.MULTIFOCAL: 0.01,
        Form.BUTTERFLY: 0.02,
        Form.INFRATENTORIAL: 0.03,
        Form.AFTER_SURGERY: 0.03,
    },
}
_SMALL_MM = (5.0, 9.0)
_Kind = TypeVar("_Kind")


@dataclass(frozen=True, slots=True, eq=False)
class Focus:
    """One mass of a tumour: its centre (RAS+ mm in the patient) and mean radius.

    `shape` (3, 3) maps an offset from the centre to one that is isotropic.
    """

    centre_mm: Vector
    shape: Vector
    radius_mm: float

    def offset_mm(self, positions_mm: Tensor) -> Tensor:
        """Offset from the centre, (3, …)."""
        return positions_mm - torch.from_numpy(self.centre_mm).float().view(3, 1, 1, 1)

    def distance_mm(self, positions_mm: Tensor) -> Tensor:
        """About the distance from the smooth outline, negative inside: (3, …) → (…)."""
        mapped = transform(self.shape, self.offset_mm(positions_mm))
        away: Tensor = torch.linalg.vector_norm(mapped, dim=0)
        return away - self.radius_mm


@dataclass(frozen=True, slots=True, eq=False)
class Lesion:
    """What was drawn for one tumour. Lengths in mm, `gadolinium` in mM.

    `rim_mm` is the thickness of the enhancing rim; `oedema_mm` the reach of oedema beyond the core;
    `edge_mm` the width of the core's edge and `infiltration_mm` how much further it goes in white matter;
    `push_share` the shift of tissue at its edge as a share of the radius.
    """

    grade: Grade
    form: Form
    enhancement: Enhancement
    mismatch: bool
    bleeds: bool
    foci: tuple[Focus, ...]
    rim_mm: float
    oedema_mm: float
    edge_mm: float
    infiltration_mm: float
    push_share: float
    gadolinium: float

    def parameters(self) -> dict[str, str | float | bool]:
        """Return the drawn numbers, for a table."""
        return {
            "form": self.form.value,
            "enhancement": self.enhancement.value,
            "t2_flair_mismatch": self.mismatch,
            "bleeds": self.bleeds,
            "foci": len(self.foci),
            "radius_mm": self.foci[0].radius_mm,
            "rim_mm": self.rim_mm,
            "oedema_mm": self.oedema_mm,
            "edge_mm": self.edge_mm,
            "infiltration_mm": self.infiltration_mm,
            "push_share": self.push_share,
            "gadolinium_mm": self.gadolinium,
        }


def draw_enhancement(rng: np.random.Generator, grade: Grade) -> Enhancement:
    """Draw how a tumour of this grade takes up contrast."""
    return _draw(rng, _ENHANCEMENTS[grade])


def draw_form(rng: np.random.Generator, grade: Grade) -> Form:
    """Draw what a tumour of this grade looks like as a whole."""
    return _draw(rng, _FORMS[grade])


def _draw(rng: np.random.Generator, shares: Mapping[_Kind, float]) -> _Kind:
    return list(shares)[int(rng.choice(len(shares), p=list(shares.values())))]


def draw_lesion(
    rng: np.random.Generator,
    grade: Grade,
    template: Template,
    grid: Grid,
    origin_mm: Tensor,
    *,
    form: Form | None = None,
    enhancement: Enhancement | None = None,
) -> Lesion:
    """Draw a tumour of this grade in the head that `origin_mm` (coarse warp, on `grid`) gives.

    Form and enhancement are drawn where they aren't given.
    """
    high = grade is Grade.HGG
    drawn_form, drawn_enhancement = draw_form(rng, grade), draw_enhancement(rng, grade)
    form, enhancement = form or drawn_form, enhancement or drawn_enhancement
    radius = float(np.clip(rng.lognormal(np.log(17.5 if high else 20.0), 0.28), 9, 32))
    if form is Form.METASTASIS_LIKE:
        enhancement = Enhancement.RING
    foci = _draw_foci(rng, form, radius, _Places(template, grid, origin_mm))
    return Lesion(
        grade=grade,
        form=form,
        enhancement=enhancement,
        mismatch=not high and bool(rng.random() < 0.25),
        bleeds=bool(rng.random() < (0.3 if high else 0.05)),
        foci=foci,
        rim_mm=min(
            float(np.clip(rng.lognormal(np.log(3.6 if high else 2.6), 0.35), 1.5, 9)),
            0.6 * foci[0].radius_mm,
        ),
        oedema_mm=float(np.clip(rng.lognormal(np.log(11.0 if high else 3.0), 0.55), 0.5, 24)),
        edge_mm=float(rng.uniform(0.6, 1.2) if high else rng.uniform(0.7, 2.8)),
        infiltration_mm=float(rng.uniform(0, 3) if high else rng.uniform(0, 7)),
        push_share=float(rng.uniform(0.05, 0.4)),
        gadolinium=float(np.clip(rng.lognormal(np.log(0.32 if high else 0.2), 0.4), 0.06, 0.9)),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Places:
    """Where in a patient a tumour can lie."""

    template: Template
    grid: Grid
    origin_mm: Tensor

    def draw(self, rng: np.random.Generator, form: Form, radius: float) -> Vector:
        """Draw a centre in white matter, RAS+ mm in the patient."""
        white = sample(self.template.tissue, self.template.grid, self.origin_mm)[1]
        depth = -sample(self.template.distances, self.template.coarse_grid, self.origin_mm, edge=True)[0]
        x, y, z = self.origin_mm
        match form:
            case Form.BUTTERFLY:
                fits = (x.abs() < 4) & (z > 3) & (z < 36) & (y > -48) & (y < 34)
            case Form.INFRATENTORIAL:
                fits = (z < -28) & (y < -40) & (x.abs() > 8) & (depth > 6)
            case _:
                fits = (z > -20) & (z < 62) & (x.abs() > 0.6 * radius + 4) & (depth > 0.6 * radius + 3)
        candidates = torch.nonzero(fits & (white > 0.6))
        if len(candidates) == 0:
            candidates = torch.nonzero(white > 0.6)
        index = candidates[int(rng.integers(len(candidates)))].numpy()
        return np.asarray(self.grid.origin_mm + index * self.grid.step_mm, dtype=np.float64)


def _draw_foci(rng: np.random.Generator, form: Form, radius: float, places: _Places) -> tuple[Focus, ...]:
    count, radii = 1, [radius]
    match form:
        case Form.SMALL:
            radii = [float(rng.uniform(*_SMALL_MM))]
        case Form.INFRATENTORIAL:
            radii = [0.7 * radius]
        case Form.MULTIFOCAL:
            count = int(rng.integers(2, 4))
            radii = [0.8 * radius, *(float(rng.uniform(0.3, 0.7)) * radius for _ in range(count - 1))]
        case Form.METASTASIS_LIKE:
            radii = [float(rng.uniform(4, 10)) for _ in range(int(rng.integers(3, 6)))]
        case _:
            pass
    foci = []
    for each in radii:
        turned = random_rotation(rng, 8 if form is Form.BUTTERFLY else 60)
        stretch = np.exp(rng.normal(0, 0.18, 3))
        if form is Form.BUTTERFLY:
            stretch *= (0.5, 1.2, 1.5)
        shape = turned @ np.diag(stretch / stretch.prod() ** (1 / 3)) @ turned.T
        foci.append(Focus(places.draw(rng, form, each), shape, each))
    return tuple(foci)


def push(lesion: Lesion, template: Template, grid: Grid, origin_mm: Tensor) -> Tensor:
    """Return the warp with the mass effect: tissue around the core comes from nearer its centre.

    The shift fades over the tumour's radius and tapers at the skull, which does not give. What was operated
    on pushes nothing.
    """
    if lesion.form is Form.AFTER_SURGERY:
        return origin_mm
    positions = grid.positions()
    depth = -sample(template.distances, template.coarse_grid, origin_mm, edge=True)[0]
    pushed = origin_mm
    for focus in lesion.foci:
        offset = focus.offset_mm(positions)
        outside = focus.distance_mm(positions).clamp_min(0)
        fading = torch.exp(-outside / focus.radius_mm) * (depth / 15).clamp(0, 1)
        away: Tensor = torch.linalg.vector_norm(offset, dim=0)
        inner = (away / focus.radius_mm).clamp(0, 1)
        size = lesion.push_share * focus.radius_mm * fading * inner
        pushed = pushed - offset / away.clamp_min(1) * size
    return pushed


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
