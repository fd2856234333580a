"""Three native volumes → one axial, masked, normalised stack: the one path for training and inference.

First form: series are aligned by scanner coordinates alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.brain_mask import MINIMUM_BRAIN_ML, brain_mask
from model.grade import Contrast
from model.volume import Affine, Volume

ROWS = COLUMNS = 224
FIELD_MM = 240.0
MAXIMUM_SLICES = 56
MINIMUM_SLICES = 8
MINIMUM_COVERAGE = 0.5
MINIMUM_BRAIN_AREA_MM2 = 1000.0
CLIP = 6.0

# Beyond this angle from the body axis (25°) T1ce's own slices are no longer called axial.
_AXIAL_COSINE = 0.906
_OBLIQUE_SPACING_MM = 2.5
_COARSE_MM = 2.0
# Columns: slice → superior, row → left, column → posterior.
_SCANNER_AXES = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])

Mask = npt.NDArray[np.bool_]
Array = npt.NDArray[np.float32]
Vectors = npt.NDArray[np.float64]


class Reason(StrEnum):
    """Why a study cannot be brought to model space."""

    MISSING_CONTRAST = "missing_contrast"
    NOT_FINITE = "not_finite"
    CONSTANT = "constant_volume"
    BAD_GEOMETRY = "bad_geometry"
    NO_OVERLAP = "no_overlap"
    NO_BRAIN = "no_brain"
    TOO_FEW_SLICES = "too_few_slices"


class PreprocessingError(Exception):
    """These volumes cannot become a stack; trying again with the same volumes cannot help.

    `reason` is for machines, the message is one sentence for a technologist.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """What the network sees of one patient.

    `array` is float32 (slice, contrast, row, column), contrasts in the order of `Contrast`, in robust
    z-scores of the brain, 0 outside it. `mask` is bool (slice, row, column). `affine` maps (slice, row,
    column) to RAS+ mm. Slices go from inferior to superior, rows from the patient's right to the left,
    columns from anterior to posterior: an untransposed axial slice of a BraTS array. Exchange rows and
    columns to show a slice as a radiologist does.
    """

    array: Array
    mask: Mask
    affine: Affine

    def __post_init__(self) -> None:
        slices = len(self.array)
        if self.array.shape != (slices, len(Contrast), ROWS, COLUMNS):
            raise ValueError(
                f"a stack is (slice, {len(Contrast)}, {ROWS}, {COLUMNS}), not {self.array.shape}"
            )
        if self.mask.shape != (slices, ROWS, COLUMNS) or self.affine.shape != (4, 4):
            raise ValueError("mask and affine do not belong to this stack")

    def save(self, path: Path) -> None:
        """Write an uncompressed .npz file."""
        with path.open("wb") as file:
            np.savez(file, array=self.array, mask=self.mask, affine=self.affine)

    @classmethod
    def load(cls, path: Path) -> "Stack":
        """Read what `save` wrote; ValueError where the shapes do not belong together."""
        with np.load(path, allow_pickle=False) as file:
            return cls(file["array"], file["mask"], file["affine"])


def build_stack(volumes: Mapping[Contrast, Volume]) -> Stack:
    """Bring FLAIR and T2 onto T1ce's axial slices and normalise each within the brain.

    The in-plane window is 240 mm × 240 mm about the brain's centre. T1ce's own slices are kept where it has
    at most 56 with brain, else 56 evenly spaced positions over the brain. Raises PreprocessingError.
    """
    for contrast in Contrast:
        _check(contrast, volumes)
    coarse_shape, coarse_affine = _coarse_grid(volumes[Contrast.T1CE])
    t1ce = volumes[Contrast.T1CE].resample(coarse_shape, coarse_affine).array
    flair = volumes[Contrast.FLAIR].resample(coarse_shape, coarse_affine, fill=np.nan).array
    spacing_mm = np.linalg.norm(coarse_affine[:3, :3], axis=0)
    coarse_mask = brain_mask(t1ce, flair, spacing_mm)
    if coarse_mask.sum() * spacing_mm.prod() < MINIMUM_BRAIN_ML * 1000:
        raise PreprocessingError(Reason.NO_BRAIN, "No brain was found in the T1 post-contrast series.")
    for contrast in Contrast:
        _check_coverage(contrast, volumes[contrast], coarse_mask, coarse_affine)
    shape, affine = _window(coarse_mask, coarse_affine)
    mask = Volume(coarse_mask.astype(np.float32), coarse_affine).resample(shape, affine).array > 0.5
    series = [_normalised(volumes[c].resample(shape, affine, fill=np.nan).array, mask, c) for c in Contrast]
    return Stack(np.stack(series, axis=1), mask, affine)


def _check(contrast: Contrast, volumes: Mapping[Contrast, Volume]) -> None:
    if contrast not in volumes:
        raise PreprocessingError(Reason.MISSING_CONTRAST, f"There is no {contrast} series.")
    volume = volumes[contrast]
    if not (np.isfinite(volume.affine).all() and volume.spacing_mm.all() and volume.array.size):
        raise PreprocessingError(Reason.BAD_GEOMETRY, f"The {contrast} series has no valid voxel size.")
    if abs(np.linalg.det(volume.affine[:3, :3] / volume.spacing_mm)) < 0.5:
        raise PreprocessingError(
            Reason.BAD_GEOMETRY, f"The axes of the {contrast} series are not at right angles."
        )
    low, high = volume.array.min(), volume.array.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise PreprocessingError(
            Reason.NOT_FINITE, f"The {contrast} series holds values that are not numbers."
        )
    if low == high:
        raise PreprocessingError(
            Reason.CONSTANT, f"The {contrast} series is empty: all its voxels are equal."
        )


def _axial_axes(volume: Volume) -> tuple[Vectors, float]:
    """Return the unit vectors of slice, row and column as columns (RAS+) and the slice spacing in mm."""
    units = volume.affine[:3, :3] / volume.spacing_mm
    slice_axis = int(np.argmax(np.abs(units[2])))
    if abs(units[2, slice_axis]) < _AXIAL_COSINE:
        return _SCANNER_AXES, _OBLIQUE_SPACING_MM
    in_plane = [axis for axis in range(3) if axis != slice_axis]
    row_axis, column_axis = sorted(in_plane, key=lambda axis: -abs(float(units[0, axis])))
    axes = units[:, [slice_axis, row_axis, column_axis]]
    signs = np.where((axes * _SCANNER_AXES).sum(axis=0) < 0, -1.0, 1.0)
    return axes * signs, float(volume.spacing_mm[slice_axis])


def _coarse_grid(volume: Volume) -> tuple[tuple[int, int, int], Affine]:
    """Grid of T1ce's axial slices at 2 mm in plane that holds the whole volume."""
    axes, slice_spacing_mm = _axial_axes(volume)
    spacing_mm = np.array([slice_spacing_mm, _COARSE_MM, _COARSE_MM])
    corners = np.array(np.meshgrid(*[[0, n - 1] for n in volume.array.shape], indexing="ij")).reshape(3, 8)
    along = np.linalg.inv(axes) @ (volume.affine[:3, :3] @ corners + volume.affine[:3, 3:])
    count = np.floor(np.ptp(along, axis=1) / spacing_mm + 1e-3).astype(int) + 1
    return (int(count[0]), int(count[1]), int(count[2])), _affine(axes, spacing_mm, along.min(axis=1))


def _affine(axes: Vectors, spacing_mm: Vectors, along: Vectors) -> Affine:
    """Affine of a grid whose first voxel lies `along` mm on each axis from the origin."""
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing_mm
    affine[:3, 3] = axes @ along
    return affine


def _check_coverage(contrast: Contrast, volume: Volume, mask: Mask, affine: Affine) -> None:
    to_volume = np.linalg.inv(volume.affine) @ affine
    index = to_volume[:3, :3] @ np.argwhere(mask)[::7].T + to_volume[:3, 3:]
    last = np.array(volume.array.shape)[:, None] - 0.5
    covered = ((index > -0.5) & (index < last)).all(axis=0).mean()
    if covered < MINIMUM_COVERAGE:
        raise PreprocessingError(
            Reason.NO_OVERLAP,
            f"The {contrast} series covers {covered:.0%} of the brain seen in the t1ce series.",
        )


def _window(mask: Mask, affine: Affine) -> tuple[tuple[int, int, int], Affine]:
    """Grid of the stack: the slices that hold brain, and 240 mm × 240 mm about its centre."""
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    area_mm2 = mask.sum(axis=(1, 2)) * spacing_mm[1] * spacing_mm[2]
    holding = np.flatnonzero(area_mm2 >= MINIMUM_BRAIN_AREA_MM2)
    if len(holding) < MINIMUM_SLICES:
        raise PreprocessingError(
            Reason.TOO_FEW_SLICES,
            f"Only {len(holding)} slices hold brain; at least {MINIMUM_SLICES} are needed.",
        )
    first, last = int(holding[0]), int(holding[-1])
    count = min(last - first + 1, MAXIMUM_SLICES)
    step = (last - first) / (count - 1)
    centre = np.argwhere(mask)[:, 1:].mean(axis=0)
    pixel = np.array([FIELD_MM / ROWS, FIELD_MM / COLUMNS]) / spacing_mm[1:]
    start = centre - pixel * (np.array([ROWS, COLUMNS]) - 1) / 2
    to_coarse = np.diag([step, *pixel, 1.0])
    to_coarse[:3, 3] = [first, *start]
    return (count, ROWS, COLUMNS), affine @ to_coarse


def _normalised(array: Array, mask: Mask, contrast: Contrast) -> Array:
    """Median and MAD of the brain to 0 and 1, clipped; 0 outside the mask and where the series ends (NaN)."""
    inside = array[mask]
    inside = inside[np.isfinite(inside)]
    median = np.median(inside)
    spread = 1.4826 * np.median(np.abs(inside - median))
    if spread <= 0:
        raise PreprocessingError(Reason.CONSTANT, f"The {contrast} series is constant in the brain.")
    scores = np.clip((array - median) / spread, -CLIP, CLIP)
    return np.where(mask & np.isfinite(scores), scores, 0).astype(np.float32)
