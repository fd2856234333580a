"""Volumes to a DICOM MR study: what a scanner would have sent, with honest headers.

Used by the demo's simulated scanner, by the tests, and to bring a folder of NIfTI files into a PACS.
"""

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from pydicom.valuerep import DSfloat

from dicom_node.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, derive_uid
from model.space.volume import Volume, load_volume

RAS_TO_LPS: Final = np.diag([-1.0, -1.0, 1.0, 1.0])
_ORTHOGONAL: Final = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientIdentity:
    """Who a study is of (PS3.3 C.7.1.1)."""

    patient_id: str
    patient_name: str
    birth_date: date | None = None
    sex: str = "O"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesHeader:
    """How one series was acquired (PS3.3 C.8.3.1); times in milliseconds, the flip angle in degrees."""

    description: str
    repetition_time: float
    echo_time: float
    inversion_time: float | None = None
    flip_angle: float = 90.0
    scanning_sequence: tuple[str, ...] = ("SE",)
    sequence_variant: tuple[str, ...] = ("SK",)
    acquisition_type: str = "2D"
    contrast_agent: str | None = None
    protocol: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyHeader:
    """What the series of a study share. The same seed gives the same UIDs."""

    patient: PatientIdentity
    seed: str = field(default_factory=lambda: uuid.uuid4().hex)
    acquired_at: datetime = datetime(2026, 1, 1, 9, tzinfo=UTC)
    description: str = "MR brain"
    accession_number: str = ""
    manufacturer: str = "gliograde simulated scanner"
    field_strength_tesla: float = 3.0

    @property
    def study_instance_uid(self) -> str:
        """The study's UID."""
        return str(derive_uid(self.seed, "study"))


PROTOCOL: Final[Mapping[str, SeriesHeader]] = MappingProxyType(
    {
        "t1": SeriesHeader(description="AX T1", repetition_time=600, echo_time=9),
        "t2": SeriesHeader(description="AX T2 TSE", repetition_time=5000, echo_time=95),
        "flair": SeriesHeader(
            description="AX T2 FLAIR",
            repetition_time=9000,
            echo_time=120,
            inversion_time=2500,
            scanning_sequence=("SE", "IR"),
        ),
        "t1ce": SeriesHeader(
            description="AX T1 POST GD", repetition_time=600, echo_time=9, contrast_agent="Gadobutrol"
        ),
    }
)
"""A plain spin echo protocol, in the order in which it is acquired: contrast agent comes last."""

FILE_NAMES: Final = (
    ("t1ce", re.compile(r"t1[-_ ]?(?:ce|c|gd|post)(?![a-z])")),
    ("flair", re.compile(r"flair|t2f(?![a-z])")),
    ("t2", re.compile(r"t2w?(?![a-z])")),
    ("t1", re.compile(r"t1[nw]?(?![a-z])")),
)
"""First hit in a NIfTI file's name names its series in `PROTOCOL`."""


class NoVolumesError(ValueError):
    """A folder holds no NIfTI file whose name says its contrast. Trying again does not help."""


def build_mr_study(series: Sequence[tuple[Volume, SeriesHeader]], study: StudyHeader) -> list[Dataset]:
    """Build a study's MR Image objects, series after series as numbered from 1, two minutes apart."""
    return [
        dataset
        for number, (volume, header) in enumerate(series, start=1)
        for dataset in build_mr_series(volume, header, study, number)
    ]


def build_study_from_folder(folder: Path, study: StudyHeader) -> list[Dataset]:
    """Build a study from .nii or .nii.gz files whose names say flair, t1, t1ce (t1gd) or t2.

    Raises `NoVolumesError`, and ValueError where two files claim one contrast.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*.nii*")):
        role = next((role for role, pattern in FILE_NAMES if pattern.search(path.name.lower())), None)
        if role is not None and found.setdefault(role, path) != path:
            raise ValueError(f"two files claim to be {role}: {found[role].name}, {path.name}")
    if not found:
        raise NoVolumesError(f"no NIfTI file in {folder} has flair, t1, t1ce or t2 in its name")
    return build_mr_study(
        [(as_displayed(load_volume(found[role])), PROTOCOL[role]) for role in PROTOCOL if role in found],
        study,
    )


def as_displayed(volume: Volume) -> Volume:
    """The same voxels with i and j mirrored where needed, so that a viewer shows them the usual way up.

    i (columns) and j (rows) then run to the patient's left, back or feet; k is left as it is.
    """
    array, affine = volume.array, volume.affine.copy()
    for axis in (0, 1):
        direction = affine[:3, axis]
        if direction[np.argmax(np.abs(direction))] > 0:
            array = np.flip(array, axis)
            affine[:3, 3] += direction * (array.shape[axis] - 1)
            affine[:3, axis] = -direction
    return Volume(np.ascontiguousarray(array), affine)


def build_mr_series(volume: Volume, header: SeriesHeader, study: StudyHeader, number: int) -> list[Dataset]:
    """Build one MR Image object (PS3.3 A.4) a slice; axes i, j, k become column, row, slice.

    Raises ValueError where the affine is sheared, which single-frame objects can't say.
    """
    affine = RAS_TO_LPS @ volume.affine
    spacing = volume.spacing_mm
    directions = affine[:3, :3] / spacing
    if not np.allclose(directions.T @ directions, np.eye(3), atol=_ORTHOGONAL):
        raise ValueError("the affine is sheared or flat")
    stored, slope, intercept = _stored_values(volume.array)
    series = _series_dataset(volume, header, study, number)
    series.ImageOrientationPatient = _decimals(directions[:, :2].T.ravel())
    series.PixelSpacing = _decimals((spacing[1], spacing[0]))
    series.SliceThickness = _decimals(spacing[2:])[0]
    series.SpacingBetweenSlices = series.SliceThickness
    if (slope, intercept) != (1.0, 0.0):
        series.RescaleSlope, series.RescaleIntercept = _decimals((slope, intercept))
        series.RescaleType = "US"
    return [
        _slice_dataset(series, stored[:, :, k], affine[:3, :3] @ (0, 0, k) + affine[:3, 3], k)
        for k in range(stored.shape[2])
    ]


def save_study(datasets: Iterable[Dataset], folder: Path) -> list[Path]:
    """Write each object as a DICOM file into `folder`, numbered; returns the paths in order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, dataset in enumerate(datasets, start=1):
        paths.append(folder / f"{number:05d}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def _series_dataset(volume: Volume, header: SeriesHeader, study: StudyHeader, number: int) -> Dataset:
    """Make what the slices of a series share."""
    dataset = _study_dataset(study)
    began = study.acquired_at + timedelta(minutes=2 * number)
    dataset.SeriesInstanceUID = derive_uid(study.seed, "series", str(number))
    dataset.SeriesNumber = number
    dataset.AcquisitionNumber = 1
    for keyword in ("Series", "Acquisition", "Content"):
        setattr(dataset, f"{keyword}Date", f"{began:%Y%m%d}")
        setattr(dataset, f"{keyword}Time", f"{began:%H%M%S}")
    dataset.SeriesDescription = header.description
    dataset.ProtocolName = header.protocol or header.description
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    dataset.ScanningSequence = list(header.scanning_sequence)
    dataset.SequenceVariant = list(header.sequence_variant)
    dataset.ScanOptions = ""
    dataset.MRAcquisitionType = header.acquisition_type
    dataset.RepetitionTime = header.repetition_time
    dataset.EchoTime = header.echo_time
    dataset.EchoTrainLength = 1
    dataset.FlipAngle = header.flip_angle
    if header.inversion_time is not None:
        dataset.InversionTime = header.inversion_time
    if header.contrast_agent is not None:
        dataset.ContrastBolusAgent = header.contrast_agent
        dataset.ContrastBolusRoute = "IV"
    dataset.Rows, dataset.Columns = volume.array.shape[1], volume.array.shape[0]
    low, high = np.percentile(volume.array, (1, 99.5))
    dataset.WindowCenter, dataset.WindowWidth = _decimals(((low + high) / 2, max(high - low, 1.0)))
    return dataset


def _study_dataset(study: StudyHeader) -> Dataset:
    """Make what the series of a study share."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = MRImageStorage
    dataset.PatientID = study.patient.patient_id
    dataset.PatientName = study.patient.patient_name
    dataset.PatientBirthDate = f"{study.patient.birth_date:%Y%m%d}" if study.patient.birth_date else ""
    dataset.PatientSex = study.patient.sex
    dataset.StudyInstanceUID = study.study_instance_uid
    dataset.StudyDate, dataset.StudyTime = f"{study.acquired_at:%Y%m%d}", f"{study.acquired_at:%H%M%S}"
    dataset.StudyDescription = study.description
    dataset.StudyID = "1"
    dataset.AccessionNumber = study.accession_number
    dataset.ReferringPhysicianName = ""
    dataset.Modality = "MR"
    dataset.Manufacturer = study.manufacturer
    dataset.MagneticFieldStrength = study.field_strength_tesla
    dataset.BodyPartExamined = "BRAIN"
    dataset.PatientPosition = "HFS"
    dataset.FrameOfReferenceUID = derive_uid(study.seed, "frame of reference")
    dataset.PositionReferenceIndicator = ""
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 0
    return dataset


def _slice_dataset(
    series: Dataset, pixels: npt.NDArray[np.uint16], position: npt.NDArray[np.float64], index: int
) -> Dataset:
    """One slice; `pixels` has shape (column, row), `position` is LPS+ mm of its first pixel's centre."""
    dataset = deepcopy(series)
    dataset.SOPInstanceUID = derive_uid(str(series.SeriesInstanceUID), "instance", str(index))
    dataset.InstanceNumber = index + 1
    dataset.ImagePositionPatient = _decimals(position)
    dataset.PixelData = np.ascontiguousarray(pixels.T).astype("<u2", copy=False).tobytes()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = MRImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    dataset.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return dataset


def _stored_values(array: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.uint16], float, float]:
    """Voxels as 16-bit stored values, with the slope and intercept that give them back (PS3.3 C.11.1)."""
    low, high = float(array.min()), float(array.max())
    if low >= 0 and high <= 65535 and np.array_equal(array, np.round(array)):
        return array.astype(np.uint16), 1.0, 0.0
    slope = (high - low) / 65535 if high > low else 1.0
    return np.round((array - low) / slope).astype(np.uint16), slope, low


def _decimals(values: Iterable[float]) -> list[DSfloat]:
    """Numbers as Decimal Strings, rounded to their 16 characters."""
    return [DSfloat(float(value), auto_format=True) for value in values]
