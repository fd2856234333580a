"""A tumour put into the anatomy: which voxels its tissues take, around each of its foci."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from model.simulation.anatomy import Anatomy
from model.simulation.fields import Grid
from model.simulation.lesion import Enhancement, Focus, Form, Lesion
from model.simulation.signal import Tissue


def grow(rng: np.random.Generator, lesion: Lesion, anatomy: Anatomy) -> None:
    """Put the tumour into the anatomy: its tissues take their share of the voxels around its foci."""
    for focus in lesion.foci:
        _grow_focus(rng, lesion, focus, anatomy)


def _grow_focus(rng: np.random.Generator, lesion: Lesion, focus: Focus, anatomy: Anatomy) -> None:
    longest = float(1 / np.linalg.eigvalsh(focus.shape).min())
    reach = (1.2 * longest + 0.3) * focus.radius_mm + lesion.oedema_mm * 2 + lesion.infiltration_mm + 6
    box = anatomy.grid.part(focus.centre_mm, reach)
    part = {tissue: fraction[box] for tissue, fraction in anatomy.fractions.items()}
    white, grey = part[Tissue.WHITE], part[Tissue.GREY]
    step = anatomy.grid.step_mm
    shape = (white.shape[0], white.shape[1], white.shape[2])
    grid = Grid(shape, anatomy.grid.origin_mm + step * np.array([side.start for side in box]), step)
    distance = focus.distance_mm(grid.positions())
    distance += 0.16 * focus.radius_mm * grid.noise(rng, focus.radius_mm * 0.8)[0]
    distance += 0.9 * grid.noise(rng, 7)[0]
    near_white = functional.avg_pool3d(white[None], 5, 1, 2)[0]
    distance -= lesion.infiltration_mm * (near_white - 0.4) * torch.exp(-(distance / 12).square())
    side = float(np.sign(float(anatomy.x_mm[tuple((s.start + s.stop) // 2 for s in box)])) or 1.0)
    own_side = torch.sigmoid((side * anatomy.x_mm[box] + 1.5) / 0.8)
    if lesion.form is Form.BUTTERFLY:
        own_side = torch.maximum(own_side, near_white.clamp(0, 1))
    room = torch.sigmoid((anatomy.depth_mm[box] - 0.8) / 0.6) * (
        1 - anatomy.ventricle[box] - part[Tissue.DURA]
    )
    core = torch.sigmoid(-distance / lesion.edge_mm) * own_side * room.clamp(0, 1)
    reach_mm = lesion.oedema_mm * (0.2 + 1.1 * near_white + 0.35 * grid.noise(rng, 14)[0])
    oedema = _oedema(reach_mm - distance, (white, grey), own_side) * (1 - core)
    shares = {Tissue.OEDEMA: oedema, **_inside(rng, lesion, focus, grid, -distance, core)}
    taken = torch.stack(list(shares.values())).sum(dim=0).clamp(0, 1)
    for tissue, fraction in part.items():
        if tissue is not Tissue.DURA:
            fraction.mul_(1 - taken)
    for tissue, share in shares.items():
        if tissue not in anatomy.fractions:
            anatomy.fractions[tissue] = torch.zeros(anatomy.grid.shape)
        anatomy.fractions[tissue][box] += share


def _oedema(margin_mm: Tensor, brain: tuple[Tensor, Tensor], own_side: Tensor) -> Tensor:
    """Fingers along the white matter; cortex takes little, CSF none. `brain` is white and grey matter."""
    white, grey = brain
    crossing = torch.maximum(own_side, (white > 0.9).float() * 0.6)
    return torch.sigmoid(margin_mm / 1.3) * (white + 0.15 * grey).clamp(0, 1) * crossing * 0.95


def _inside(
    rng: np.random.Generator, lesion: Lesion, focus: Focus, grid: Grid, depth_mm: Tensor, core: Tensor
) -> dict[Tissue, Tensor]:
    """Shares of what the core is made of; after surgery it is a cavity with what was left at its wall."""
    broad, fine = grid.noise(rng, focus.radius_mm * 0.7)[0], grid.noise(rng, 4)[0]
    uneven, patches = grid.noise(rng, focus.radius_mm * 0.9)[0], grid.noise(rng, 7)[0]
    rim = lesion.rim_mm * (1 + 0.6 * broad + 0.4 * fine).clamp_min(0.1)
    match lesion.enhancement:
        case Enhancement.RING:
            gaps = torch.sigmoid(3 * (uneven + 1.3))
            enhancing = torch.sigmoid((rim - depth_mm) / 0.6) * (0.8 + 0.2 * fine).clamp(0.3, 1) * gaps
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
    dead = dead * (0.75 + 0.2 * fine + 0.25 * patches).clamp(0, 1)
    if lesion.form is Form.AFTER_SURGERY:
        cavity = torch.sigmoid((depth_mm - 2.5 - uneven) / 0.6)
        wall = core * (1 - cavity)
        return {
            Tissue.CSF: core * cavity,
            Tissue.ENHANCING: wall * enhancing * 0.8,
            Tissue.BLOOD: wall * 0.3 * torch.sigmoid(4 * (patches - 0.8)) * (1 - enhancing),
            Tissue.SOLID: wall * (1 - 0.8 * enhancing) * 0.5,
        }
    blood = dead * torch.sigmoid(4 * (patches - 0.9)) * (0.7 if lesion.bleeds else 0.0)
    return {
        Tissue.ENHANCING: core * enhancing,
        Tissue.NECROSIS: core * (1 - enhancing) * (dead - blood),
        Tissue.BLOOD: core * (1 - enhancing) * blood,
        Tissue.SOLID: core * (1 - enhancing) * (1 - dead),
    }
