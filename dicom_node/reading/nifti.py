"""DICOM series to NIfTI through dicom2nifti, between our own checks.

dicom2nifti merges what lies together: two patients, two studies, a short series. What goes in is therefore
checked against one manifest, and what comes out against the positions that the headers give.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import dicom2nifti
import numpy as np
from dicom2nifti.exceptions import ConversionError as Dicom2NiftiError
from dicom2nifti.exceptions import ConversionValidationError
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from dicom_node.reading.frames import FrameDecodeError, FrameGeometryError
from dicom_node.reading.series_choice import NotGradableError
from dicom_node.reading.slices import (
    POSITION_TOLERANCE_MM,
    GeometryError,
    SlicePlane,
    Vector,
    slice_planes,
    stacked,
)
from dicom_node.reading.stacking import needs_stacking, stack_frames
from model.space.volume import Volume, save_volume

logger = logging.getLogger(__name__)

LPS_TO_RAS: Final = np.array([-1.0, -1.0, 1.0])
MINIMUM_VALUES: Final = 16
"""A volume with no more different values than this is a mask, not an image."""

_UNREADABLE: Final = (
    InvalidDicomError,
    EOFError,
    AttributeError,
    ValueError,
    KeyError,
    RuntimeError,
)
_SENTENCES: Final = {
    "SLICE_INCREMENT_INCONSISTENT": "its slices are not evenly spaced",
    "NON_CUBICAL_IMAGE/GANTRY_TILT": "its slices are not stacked at right angles",
    "TOO_FEW_SLICES/LOCALIZER": "it has too few slices",
    "IMAGE_ORIENTATION_INCONSISTENT": "its slices are not parallel",
    "NON_IMAGING_DICOM_FILES": "it holds no images with a position",
    "NOT_A_VOLUME": "its images are not a volume",
}


class ConversionError(NotGradableError):
    """One series can't be turned into a volume; trying again helps only with other instances."""

    def __init__(self, reason: str) -> None:
        super().__init__("not_convertible", f"a chosen series can't be converted: {reason}")


def convert_series(files: Sequence[Path], output: Path) -> Volume:
    """Convert the instances of exactly one series and write them to `output`, an uncompressed .nii.

    Classic and enhanced MR in any transfer syntax that pydicom decodes. Voxels are rescaled values; the
    affine is that of the headers (LPS+ turned to RAS+ mm). Raises `ConversionError`.
    """
    datasets = [_read(path) for path in files]
    _check_manifest(datasets)
    planes = _planes(datasets)
    volume = _stacked(datasets) if needs_stacking(datasets) else _volume(_convert(datasets))
    _check_volume(volume, planes)
    save_volume(volume, output)
    return volume


def is_mask(files: Sequence[Path]) -> bool:
    """Whether the pixels take so few values that they outline something; what can't be decoded is none.

    A handful of slices spread over the series is read: an image has more values in any slice that isn't air.
    """
    values: set[float] = set()
    try:
        for path in files[:: max(1, len(files) // 5)]:
            values.update(np.unique(dcmread(path).pixel_array).tolist())
            if len(values) > MINIMUM_VALUES:
                return False
    except _UNREADABLE:
        return False
    return True


def _read(path: Path) -> Dataset:
    try:
        return dcmread(path)
    except _UNREADABLE as error:
        raise ConversionError("a file of it can't be read") from error


def _check_manifest(datasets: Sequence[Dataset]) -> None:
    """One patient, one study, one series, each instance once."""
    if not datasets:
        raise ConversionError("it has no instances")
    for keyword, words in (
        ("PatientID", "patient"),
        ("PatientBirthDate", "patient birth date"),
        ("StudyInstanceUID", "study"),
        ("SeriesInstanceUID", "series"),
        ("FrameOfReferenceUID", "frame of reference"),
        ("Rows", "number of rows"),
        ("Columns", "number of columns"),
    ):
        if len({dataset.get(keyword) for dataset in datasets}) != 1:
            raise ConversionError(f"it holds more than one {words}")
    if len({dataset.get("SOPInstanceUID") for dataset in datasets}) != len(datasets):
        raise ConversionError("one of its instances is there twice")
    if len(datasets) > 1 and any(dataset.get("NumberOfFrames", 1) != 1 for dataset in datasets):
        raise ConversionError("it holds several multi-frame instances")
    if any("MOSAIC" in (dataset.get("ImageType") or ()) for dataset in datasets):
        raise ConversionError("its images are mosaics")


def _planes(datasets: Sequence[Dataset]) -> list[SlicePlane]:
    try:
        return stacked([plane for dataset in datasets for plane in slice_planes(dataset)])
    except GeometryError as error:
        raise ConversionError(str(error)) from error


def _stacked(datasets: Sequence[Dataset]) -> Volume:
    try:
        return stack_frames(datasets)
    except (FrameDecodeError, FrameGeometryError) as error:
        raise ConversionError("its pixel data or headers are damaged") from error


def _convert(datasets: list[Dataset]) -> Any:  # noqa: ANN401 (a nibabel image, which is untyped)
    """Run dicom2nifti in memory with its own validations on."""
    try:
        with _quiet_library():
            return dicom2nifti.convert_dicom.dicom_array_to_nifti(datasets, None, reorient_nifti=False)["NII"]
    except (ConversionValidationError, Dicom2NiftiError) as error:
        raise ConversionError(_SENTENCES.get(str(error), "dicom2nifti refuses it")) from error
    except (*_UNREADABLE, TypeError, IndexError, OverflowError, NotImplementedError) as error:
        raise ConversionError(f"its pixel data or headers are damaged ({type(error).__name__})") from error


@contextmanager
def _quiet_library() -> Iterator[None]:
    """Keep dicom2nifti's log, which may quote headers, out of ours."""
    library = logging.getLogger("dicom2nifti")
    level = library.level
    library.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        library.setLevel(level)


def _volume(image: Any) -> Volume:  # noqa: ANN401 (see above)
    array = np.asarray(image.dataobj)
    if array.ndim != 3 or array.dtype.fields is not None:
        raise ConversionError("it is not one volume of grey values")
    return Volume(array.astype(np.float32), np.asarray(image.affine, dtype=np.float64))


def _check_volume(volume: Volume, planes: Sequence[SlicePlane]) -> None:
    """Every plane's corners must be corners of a slice of the volume, and every voxel accounted for."""
    first = planes[0]
    if volume.array.size != first.rows * first.columns * len(planes):
        raise ConversionError("the volume has another number of voxels than its slices")
    corners = np.concatenate([planes[0].corners, planes[-1].corners]) * LPS_TO_RAS
    shape = np.array(volume.array.shape)
    ends = np.array(list(np.ndindex(2, 2, 2))) * (shape - 1)
    places = ends @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    if not _same_points(places, corners):
        raise ConversionError("the volume lies elsewhere than its slices")
    if not np.isfinite(volume.array).all() or len(np.unique(volume.array)) <= MINIMUM_VALUES:
        raise ConversionError("its pixels are a mask or constant, not an image")


def _same_points(one: Vector, other: Vector) -> bool:
    """Whether two sets of points, each of shape (n, 3) mm, are the same set."""
    distances = np.linalg.norm(one[:, None] - other[None], axis=2)
    near = distances < POSITION_TOLERANCE_MM
    return bool((near.sum(axis=0) == 1).all() and (near.sum(axis=1) == 1).all())
