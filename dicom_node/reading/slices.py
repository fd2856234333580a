"""Where the slices of a series lie, classic or enhanced, one `SlicePlane` a frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

Vector = npt.NDArray[np.float64]

POSITION_TOLERANCE_MM: Final = 0.1
_STEP_TOLERANCE: Final = 0.05
_SHEAR_TOLERANCE: Final = 0.02


class GeometryError(ValueError):
    """Slices lie nowhere, or not as one volume does. Trying again does not help."""


@dataclass(frozen=True, slots=True, eq=False)
class SlicePlane:
    """Image Plane attributes of one frame (PS3.3 C.7.6.2), in the patient's LPS+ millimetres.

    `position` is the centre of the first pixel. `along_row` points from one column to the next,
    `along_column` from one row to the next; both are unit vectors. `spacing_mm` is (between rows,
    between columns).
    """

    position: Vector
    along_row: Vector
    along_column: Vector
    spacing_mm: tuple[float, float]
    rows: int
    columns: int

    @property
    def normal(self) -> Vector:
        """Unit vector across the slice, the cross product of row and column direction."""
        return np.cross(self.along_row, self.along_column)

    @property
    def corners(self) -> Vector:
        """Centres of the four corner pixels, shape (4, 3), LPS+ mm."""
        right = self.along_row * self.spacing_mm[1] * (self.columns - 1)
        down = self.along_column * self.spacing_mm[0] * (self.rows - 1)
        return np.stack(
            [self.position, self.position + right, self.position + down, self.position + right + down]
        )


def slice_planes(header: Dataset) -> list[SlicePlane]:
    """Return the planes of one instance in frame order.

    Raises `GeometryError` where an attribute is absent or malformed.
    """
    try:
        if "PerFrameFunctionalGroupsSequence" not in header:
            return [_plane(header, header, header, header)]
        return [
            _plane(
                header,
                functional_group(header, frame, "PlanePositionSequence"),
                functional_group(header, frame, "PlaneOrientationSequence"),
                functional_group(header, frame, "PixelMeasuresSequence"),
            )
            for frame in header.PerFrameFunctionalGroupsSequence
        ]
    except (AttributeError, TypeError, ValueError, IndexError) as error:
        raise GeometryError("position, orientation or pixel spacing is absent or malformed") from error


def stacked(planes: Sequence[SlicePlane]) -> list[SlicePlane]:
    """Sort planes along their normal, where they are the slices of one volume.

    That is: parallel, of one matrix and pixel spacing, one step apart, at right angles to the stack. Raises
    `GeometryError` with the reason where they are not.
    """
    if not planes:
        raise GeometryError("it holds no images with a position")
    first = planes[0]
    for plane in planes:
        if not np.allclose(
            [plane.along_row, plane.along_column], [first.along_row, first.along_column], atol=1e-3
        ):
            raise GeometryError("its slices are not parallel")
        if not np.allclose(plane.spacing_mm, first.spacing_mm, rtol=1e-3):
            raise GeometryError("its slices differ in pixel spacing")
        if (plane.rows, plane.columns) != (first.rows, first.columns):
            raise GeometryError("its slices differ in rows or columns")
    planes = sorted(planes, key=lambda plane: float(plane.position @ first.normal))
    positions = np.stack([plane.position for plane in planes])
    steps = np.diff(positions @ first.normal)
    if not len(steps):
        raise GeometryError("it has a single slice")
    if steps.min() < POSITION_TOLERANCE_MM:
        raise GeometryError("two of its slices lie at one place")
    if np.abs(steps - np.median(steps)).max() > max(_STEP_TOLERANCE * float(np.median(steps)), 0.1):
        raise GeometryError("its slices are not evenly spaced")
    walk = positions[-1] - positions[0]
    sideways = walk - (walk @ first.normal) * first.normal
    if np.linalg.norm(sideways) > _SHEAR_TOLERANCE * np.linalg.norm(walk):
        raise GeometryError("its slices are not stacked at right angles")
    return planes


def functional_group(header: Dataset, frame: Dataset, keyword: str) -> Dataset:
    """Return the item of a functional group macro for one frame, or an empty one (PS3.3 C.7.6.16)."""
    shared: Any = header.get("SharedFunctionalGroupsSequence") or [Dataset()]
    sequence: Any = frame.get(keyword) or shared[0].get(keyword) or [Dataset()]
    item: Dataset = sequence[0]
    return item


def _plane(image: Dataset, position: Dataset, orientation: Dataset, measures: Dataset) -> SlicePlane:
    cosines = _vector(orientation.ImageOrientationPatient, 6)
    spacing = _vector(measures.PixelSpacing, 2)
    if min(spacing) <= 0 or not cosines[:3].any() or not cosines[3:].any():
        raise ValueError("spacing or orientation is zero")
    return SlicePlane(
        position=_vector(position.ImagePositionPatient, 3),
        along_row=cosines[:3] / np.linalg.norm(cosines[:3]),
        along_column=cosines[3:] / np.linalg.norm(cosines[3:]),
        spacing_mm=(float(spacing[0]), float(spacing[1])),
        rows=int(image.Rows),
        columns=int(image.Columns),
    )


def _vector(values: Any, length: int) -> Vector:  # noqa: ANN401 (a pydicom MultiValue)
    vector = np.asarray([float(value) for value in values], dtype=np.float64)
    if vector.shape != (length,) or not np.isfinite(vector).all():
        raise ValueError(f"not {length} finite numbers")
    return vector
