"""The frames of a series in space: single-frame and multi-frame instances alike.

A frame's affine maps (row, column, millimetres along the slice normal) to RAS+ millimetres, with (0, 0, 0)
at the centre of the top-left pixel (PS3.3 C.7.6.2.1.1, turned from LPS+ to RAS+).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.pixels.utils import pixel_array

from dicom_node.reading.evidence import InstanceReference

_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
_PARALLEL = 0.999


class FrameGeometryError(ValueError):
    """A frame's place in the patient is missing or contradicts the others'; trying again cannot help."""


class FrameDecodeError(ValueError):
    """A frame's pixels cannot be decoded; trying again with the same bytes cannot help."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image of a series: its instance, its 1-based frame number (None in single-frame), its place."""

    dataset: Dataset
    number: int | None
    affine: npt.NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.dataset.Rows), int(self.dataset.Columns)

    @property
    def spacing_mm(self) -> tuple[float, float]:
        """Distance between rows and between columns, the order of Pixel Spacing."""
        rows, columns = np.linalg.norm(self.affine[:3, :2], axis=0)
        return float(rows), float(columns)

    @property
    def normal(self) -> npt.NDArray[np.float64]:
        """Unit normal in RAS+, shape (3,), towards where its largest component grows: S, A or R."""
        normal = self.affine[:3, 2]
        return np.asarray(normal * np.sign(normal[np.argmax(np.abs(normal))]))

    @property
    def position_mm(self) -> float:
        """Where the frame's plane lies along `normal`."""
        return float(self.normal @ self.affine[:3, 3])

    @property
    def centre(self) -> npt.NDArray[np.float64]:
        """Middle of the frame in RAS+ millimetres, shape (3,)."""
        rows, columns = self.shape
        return np.asarray((self.affine @ [(rows - 1) / 2, (columns - 1) / 2, 0.0, 1.0])[:3])

    @property
    def reference(self) -> InstanceReference:
        """How the objects sent back name this frame."""
        return InstanceReference.of(self.dataset, self.number)

    def functional(self, keyword: str) -> Dataset:
        """Return the functional group `keyword` of a multi-frame instance, or the instance itself."""
        return _functional_group(self.dataset, self.number, keyword)


def read_frames(datasets: Iterable[Dataset]) -> tuple[Frame, ...]:
    """Order all frames of one series by `Frame.position_mm`; only headers are read.

    Axial frames come inferior to superior, coronal posterior to anterior, sagittal left to right, whatever
    their instance numbers say. Raises FrameGeometryError.
    """
    frames = [frame for dataset in datasets for frame in _frames_of(dataset)]
    if not frames:
        raise FrameGeometryError("the series has no frame")
    first = frames[0].normal
    if any(abs(float(frame.normal @ first)) < _PARALLEL for frame in frames):
        raise FrameGeometryError("the frames of the series are not parallel")
    return tuple(sorted(frames, key=lambda frame: (frame.position_mm, *frame.reference.sort_key)))


def decode_frame(frame: Frame) -> npt.NDArray[np.float32]:
    """Decode the frame and apply its rescale slope and intercept, shape (row, column).

    Raises FrameDecodeError, which names the instance and not its content.
    """
    index = 0 if frame.number is None else frame.number - 1
    try:
        pixels = pixel_array(frame.dataset, index=index)
    except (RuntimeError, ValueError, AttributeError, IndexError) as error:
        uid = frame.dataset.SOPInstanceUID
        raise FrameDecodeError(f"frame {index + 1} of instance {uid} cannot be decoded") from error
    if pixels.ndim != 2:
        raise FrameDecodeError(f"instance {frame.dataset.SOPInstanceUID} is in colour, not grey")
    rescale = frame.functional("PixelValueTransformationSequence")
    slope, intercept = float(rescale.get("RescaleSlope") or 1), float(rescale.get("RescaleIntercept") or 0)
    return np.asarray(pixels * np.float32(slope) + np.float32(intercept), dtype=np.float32)


def nearest_frame(frames: Sequence[Frame], point: npt.NDArray[np.float64]) -> Frame:
    """Find the frame whose plane is nearest to `point` (RAS+ millimetres, shape (3,))."""
    return min(frames, key=lambda frame: abs(float(frame.normal @ point) - frame.position_mm))


def orientation_letters(vector: npt.NDArray[np.float64]) -> str:
    """Give the Patient Orientation letters of a RAS+ direction, the strongest first (PS3.3 C.7.6.1.1.1)."""
    unit = vector / np.linalg.norm(vector)
    letters = [("RL", "AP", "HF")[axis][int(unit[axis] < 0)] for axis in np.argsort(-np.abs(unit))]
    strengths = sorted(np.abs(unit), reverse=True)
    return "".join(letter for letter, strength in zip(letters, strengths, strict=True) if strength > 0.1)


def _frames_of(dataset: Dataset) -> list[Frame]:
    if "PerFrameFunctionalGroupsSequence" not in dataset:
        return [Frame(dataset, None, _affine(dataset, None))]
    count = len(dataset.PerFrameFunctionalGroupsSequence)
    return [Frame(dataset, number, _affine(dataset, number)) for number in range(1, count + 1)]


def _affine(dataset: Dataset, number: int | None) -> npt.NDArray[np.float64]:
    try:
        position = _functional_group(dataset, number, "PlanePositionSequence").ImagePositionPatient
        orientation = _functional_group(dataset, number, "PlaneOrientationSequence").ImageOrientationPatient
        spacing = _functional_group(dataset, number, "PixelMeasuresSequence").PixelSpacing
        origin = np.array([float(value) for value in position]) * _LPS_TO_RAS
        axes = np.array([float(value) for value in orientation]).reshape(2, 3) * _LPS_TO_RAS
        between_rows, between_columns = (float(value) for value in spacing)
    except (AttributeError, TypeError, ValueError) as error:
        uid = dataset.get("SOPInstanceUID")
        raise FrameGeometryError(f"instance {uid} does not say where its frames lie") from error
    normal = np.cross(axes[1], axes[0])
    if between_rows <= 0 or between_columns <= 0 or np.linalg.norm(normal) < _PARALLEL:
        raise FrameGeometryError(f"instance {dataset.get('SOPInstanceUID')} has impossible geometry")
    # Decimal strings make direction cosines a little shorter or longer than one.
    along_row, along_column = axes / np.linalg.norm(axes, axis=1, keepdims=True)
    affine = np.eye(4)
    affine[:3, 0] = along_column * between_rows
    affine[:3, 1] = along_row * between_columns
    affine[:3, 2] = normal / np.linalg.norm(normal)
    affine[:3, 3] = origin
    return affine


def _functional_group(dataset: Dataset, number: int | None, keyword: str) -> Dataset:
    if number is None:
        return dataset
    per_frame = dataset.PerFrameFunctionalGroupsSequence[number - 1]
    for groups in (per_frame, *dataset.get("SharedFunctionalGroupsSequence", ())):
        if groups.get(keyword):
            return groups[keyword][0]  # type: ignore[no-any-return]  # pydicom types items as Any
    return dataset
