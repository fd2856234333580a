"""Simulated glioma studies: head, tumour, scanner. For demonstration and training, no evidence of grading.

The ideas are those of TumorSim (Prastawa 2009): mass effect, infiltrating oedema, contrast uptake by
concentration, images by signal equations.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from model.grade import Contrast, Grade
from model.simulation.anatomy import WARP_STEP, Anatomy, build_anatomy, random_rotation, random_warp
from model.simulation.fields import Grid, Shape, Vector, resize, sample, transform
from model.simulation.growth import grow
from model.simulation.lesion import Enhancement, Form, Lesion, draw_lesion, push, relaxations
from model.simulation.signal import Protocol, Relaxation, Tissue, nulling_ti
from model.simulation.template import Head, Template, load_template
from model.space.stack import Stack
from model.space.volume import Affine, Volume

# BraTS labels and the tissues behind them.
LABELS: dict[int, tuple[Tissue, ...]] = {
    1: (Tissue.NECROSIS, Tissue.SOLID, Tissue.BLOOD),
    2: (Tissue.OEDEMA,),
    4: (Tissue.ENHANCING,),
}
Parameters = dict[str, str | float | bool]
_STEP_MM = 1.25
_HEAD = Grid((152, 192, 152), np.array([-95.0, -132.0, -86.0]), _STEP_MM)
_BRAIN = Grid((128, 160, 136), np.array([-80.0, -116.0, -78.0]), _STEP_MM)
_RECEIVER = Grid((8, 8, 8), np.zeros(3), 30.0)
_CENTRE_MM = np.array([0.0, -18.0, 4.0])
_FIELD_MM = 240.0
_HEIGHT_MM = 160.0


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedCase:
    """One simulated study, each series on its own grid of axial slices, in arbitrary units.

    `segmentation` lies on T1ce's grid: 0 none, 1 necrosis and non-enhancing core, 2 oedema, 4 enhancing
    (BraTS). `parameters` holds what was drawn: plain numbers, words and truth values.
    """

    seed: int
    grade: Grade | None
    volumes: Mapping[Contrast, Volume]
    native_t1: Volume
    segmentation: Volume
    parameters: Mapping[str, str | float | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class _Slices:
    """A series' grid: voxel counts and affine to RAS+ mm; i → left, j → posterior, k → superior."""

    shape: tuple[int, int, int]
    affine: Affine

    @property
    def thickness_mm(self) -> float:
        """Distance between slices, which have no gap."""
        return float(np.linalg.norm(self.affine[:3, 2]))


def simulate_case(
    seed: int,
    grade: Grade | None,
    *,
    spacing_mm: tuple[float, float, float] | None = None,
    brain_only: bool = False,
    head: Head = Head.MNI152,
    form: Form | None = None,
    enhancement: Enhancement | None = None,
) -> SimulatedCase:
    """Draw a head, with a tumour where a grade is given, and image it four times.

    The same arguments give the same case, but for rounding. `spacing_mm` (i, j, k) fixes the voxels of every
    series, else they are drawn: 0.86–1.0 mm in plane, slices 2–5 mm apart. `brain_only` leaves the skull
    out, 0 outside. `form` and `enhancement` fix what else is drawn by grade.
    """
    rng = np.random.default_rng(seed)
    with torch.inference_mode():
        grid = _BRAIN if brain_only else _HEAD
        coarse, template = grid.coarse(WARP_STEP), load_template(head)
        atrophy, warp, lesion = _draw_patient(rng, grade, coarse, template, form, enhancement)
        if lesion is not None:
            warp = push(lesion, template, coarse, warp)
        anatomy = build_anatomy(rng, template, grid, warp, atrophy, brain_only=brain_only)
        if lesion is not None:
            grow(rng, lesion, anatomy)
        tissues = relaxations(rng, lesion)
        protocols = _draw_protocols(rng, tissues[Tissue.CSF].t1)
        slices = _draw_slices(rng, spacing_mm)
        images = _acquire(rng, anatomy, tissues, protocols, slices, brain_only=brain_only)
        segmentation = _segmentation(anatomy, slices["t1ce"])
    parameters = _parameters(grade, head, atrophy, lesion) | {"brain_only": brain_only}
    for name, protocol in protocols.items():
        parameters |= {f"{name}_tr_ms": protocol.tr, f"{name}_te_ms": protocol.te}
        parameters |= {f"{name}_ti_ms": protocol.ti, f"{name}_slice_mm": slices[name].thickness_mm}
    return SimulatedCase(
        seed,
        grade,
        {contrast: images[contrast] for contrast in Contrast},
        images["t1"],
        segmentation,
        parameters,
    )


def describe_patient(seed: int, grade: Grade | None, head: Head = Head.MNI152) -> Parameters:
    """Give what `simulate_case` with `brain_only` draws of the patient of this seed, without any image."""
    rng = np.random.default_rng(seed)
    with torch.inference_mode():
        drawn = _draw_patient(rng, grade, _BRAIN.coarse(WARP_STEP), load_template(head), None, None)
    atrophy, _, lesion = drawn
    return _parameters(grade, head, atrophy, lesion)


def _draw_patient(
    rng: np.random.Generator,
    grade: Grade | None,
    coarse: Grid,
    template: Template,
    form: Form | None,
    enhancement: Enhancement | None,
) -> tuple[float, Tensor, Lesion | None]:
    """Atrophy (0-1), the warp of the healthy head on the coarse grid, and the tumour."""
    atrophy = float(rng.beta(1.3, 2.5))
    warp = random_warp(rng, coarse, atrophy)
    if grade is None:
        return atrophy, warp, None
    lesion = draw_lesion(rng, grade, template, coarse, warp, form=form, enhancement=enhancement)
    return atrophy, warp, lesion


def _parameters(grade: Grade | None, head: Head, atrophy: float, lesion: Lesion | None) -> Parameters:
    drawn = lesion.parameters() if lesion else {}
    return drawn | {"grade": grade.value if grade else "none", "head": head.value, "atrophy": atrophy}


def tumour_mask_on(stack: Stack, case: SimulatedCase, to_atlas: Affine) -> npt.NDArray[np.bool_]:
    """Return the whole tumour (labels 1, 2 and 4) on the stack's grid, bool (slice, row, column).

    `to_atlas` is T1ce's transform.
    """
    whole = Volume((case.segmentation.array > 0).astype(np.float32), case.segmentation.affine)
    shape = (stack.mask.shape[0], stack.mask.shape[1], stack.mask.shape[2])
    return np.asarray(whole.moved(to_atlas).resample(shape, stack.affine).array >= 0.5)


def _draw_protocols(rng: np.random.Generator, csf_t1: float) -> dict[str, Protocol]:
    tr_t1, te_t1 = float(rng.uniform(450, 750)), float(rng.uniform(8, 16))
    tr_flair = float(rng.uniform(8000, 11000))
    ti = nulling_ti(tr_flair, csf_t1) * float(rng.normal(1, 0.015))
    return {
        "flair": Protocol(tr_flair, float(rng.uniform(85, 135)), ti),
        "t1": Protocol(tr_t1, te_t1),
        "t1ce": Protocol(tr_t1, te_t1, gadolinium=True),
        "t2": Protocol(float(rng.uniform(3500, 6500)), float(rng.uniform(80, 115))),
    }


def _draw_slices(
    rng: np.random.Generator, spacing_mm: tuple[float, float, float] | None
) -> dict[str, _Slices]:
    common = float(rng.uniform(2.0, 5.0))
    plane = random_rotation(rng, 2.5)
    drawn = {}
    for name in ("flair", "t1ce", "t2"):
        thick = common if rng.random() < 0.5 else float(np.clip(common + rng.normal(0, 0.8), 2.0, 5.0))
        pixel = float(rng.uniform(0.86, 1.0))
        voxel = np.array(spacing_mm or (pixel, pixel, thick))
        tilt = plane @ random_rotation(rng, 1.0)
        drawn[name] = _slices(voxel, tilt, _CENTRE_MM + rng.normal(0, 2.0, 3))
    return {"flair": drawn["flair"], "t1": drawn["t1ce"], "t1ce": drawn["t1ce"], "t2": drawn["t2"]}


def _slices(voxel_mm: Vector, tilt: npt.NDArray[np.float64], centre_mm: Vector) -> _Slices:
    count = (np.ceil(np.array([_FIELD_MM, _FIELD_MM, _HEIGHT_MM]) / voxel_mm / 2) * 2).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = tilt @ np.diag(np.array([-1.0, -1.0, 1.0]) * voxel_mm)
    affine[:3, 3] = centre_mm - affine[:3, :3] @ ((count - 1) / 2)
    return _Slices((int(count[0]), int(count[1]), int(count[2])), affine)


def _acquire(
    rng: np.random.Generator,
    anatomy: Anatomy,
    tissues: Mapping[Tissue, Relaxation],
    protocols: Mapping[str, Protocol],
    slices: Mapping[str, _Slices],
    *,
    brain_only: bool,
) -> dict[str, Volume]:
    """Every series: signal of each voxel, averaged through its slice, then what the receiver adds."""
    volumes = {}
    for names in (("flair",), ("t1", "t1ce"), ("t2",)):
        # The last channel is how much of a voxel is not air.
        images = torch.zeros(len(names) + 1, *anatomy.grid.shape)
        for tissue, fraction in anatomy.fractions.items():
            images[-1].add_(fraction)
            for image, name in zip(images, names, strict=False):
                image.add_(fraction, alpha=protocols[name].signal(tissues[tissue]))
        *scanned, filled = _through_slices(images, anatomy.grid, slices[names[0]])
        receptions = [_draw_reception(rng, slices[name].shape) for name in names]
        # one patient in one coil: series that share their slices share their bias
        bias = receptions[-1].bias
        for signal, name, reception in zip(scanned, names, receptions, strict=True):
            array = reception.of(signal / protocols[name].signal(tissues[Tissue.WHITE]), bias)
            if brain_only:
                array *= filled > 0.5
            volumes[name] = Volume(array.numpy(), slices[name].affine)
    return volumes


@dataclass(frozen=True, slots=True, eq=False)
class _Reception:
    """What the receiver adds: bias (i, j, k) about 1, complex noise (2, i, j, k), an arbitrary scale."""

    bias: Tensor
    noise: Tensor
    scale: float

    def of(self, signal: Tensor, bias: Tensor) -> Tensor:
        """Receive a signal (i, j, k) of 1 in white matter: the noise of its magnitude is Rician."""
        noisy = torch.sqrt((signal * bias + self.noise[0]).square_().add_(self.noise[1].square()))
        return noisy * self.scale


def _draw_reception(rng: np.random.Generator, shape: Shape) -> _Reception:
    bias = torch.exp(float(rng.uniform(0.05, 0.22)) * resize(_RECEIVER.noise(rng, 120), shape)[0])
    noise = torch.from_numpy(rng.standard_normal((2, *shape), dtype=np.float32))
    noise *= float(rng.uniform(0.015, 0.04))
    return _Reception(bias, noise, float(rng.uniform(150, 600)))


def _through_slices(images: Tensor, grid: Grid, slices: _Slices) -> Tensor:
    """Average over the slice thickness, then sample at the slices' voxels: (channel, i, j, k)."""
    width = 2 * int(slices.thickness_mm / grid.step_mm / 2) + 1
    if width > 1:
        pool = functional.avg_pool3d
        images = pool(images[None], (1, 1, width), 1, (0, 0, width // 2), count_include_pad=False)[0]
    index = Grid(slices.shape, np.zeros(3)).positions()
    origin = torch.from_numpy(slices.affine[:3, 3]).float().view(3, 1, 1, 1)
    places = transform(slices.affine[:3, :3], index) + origin
    return sample(images, grid, places)


def _segmentation(anatomy: Anatomy, slices: _Slices) -> Volume:
    empty = torch.zeros(anatomy.grid.shape)
    shares = torch.stack(
        [sum((anatomy.fractions.get(tissue, empty) for tissue in parts), empty) for parts in LABELS.values()]
    )
    seen = _through_slices(shares, anatomy.grid, slices)
    most, tumour = seen.amax(dim=0), seen.sum(dim=0) >= 0.5
    array = torch.zeros(slices.shape)
    for label, share in zip(LABELS, seen, strict=True):
        array[tumour & (share == most)] = label
    return Volume(array.numpy(), slices.affine)
