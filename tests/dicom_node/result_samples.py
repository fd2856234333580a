"""Small MR series and reports to build results from."""

from datetime import UTC, datetime
from io import BytesIO

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage

from dicom_node.results.report import Algorithm, Device, Report, SeriesRole
from dicom_node.uids import derive_uid
from model.grade import Contrast, GradePrediction
from model.space.volume import Volume

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
OBLIQUE = (0.98, 0.198997, 0.0, -0.195022, 0.960398, 0.198997)
SLICES, ROWS, COLUMNS = 4, 12, 10
SPACING = 4.0


def study_attributes(**changes: object) -> dict[str, object]:
    return {
        "PatientName": "Doe^Jane",
        "PatientID": "P-1",
        "PatientBirthDate": "19600101",
        "PatientSex": "F",
        "StudyInstanceUID": "1.2.826.0.1.3680043.10.1",
        "StudyDate": "20260101",
        "StudyTime": "101500",
        "StudyID": "S1",
        "AccessionNumber": "A1",
        "ReferringPhysicianName": "Who^Doctor",
    } | changes


def pixel_values(index: int) -> np.ndarray:
    """Distinct values for each slice, row and column."""
    return (1000 * (index + 1) + 20 * np.arange(ROWS)[:, None] + np.arange(COLUMNS)).astype(np.uint16)


def plane_position(index: int, orientation: tuple[float, ...]) -> list[float]:
    normal = np.cross(orientation[:3], orientation[3:])
    return [round(float(v), 4) for v in np.array([-20.0, -24.0, -6.0]) + SPACING * index * normal]


def base_dataset(sop_class: str, uid: str, series: str, number: int, **changes: object) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, uid
    dataset.SeriesInstanceUID, dataset.SeriesNumber, dataset.InstanceNumber = derive_uid(series), 4, number
    dataset.Modality, dataset.FrameOfReferenceUID = "MR", derive_uid("frame of reference")
    dataset.PositionReferenceIndicator = ""
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = ROWS, COLUMNS, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    for keyword, value in study_attributes(**changes).items():
        if value is not None:
            setattr(dataset, keyword, value)
    return dataset


def mr_series(
    name: str = "t1ce", orientation: tuple[float, ...] = AXIAL, *, reverse: bool = False, **changes: object
) -> list[Dataset]:
    """Classic MR, one instance a slice; `changes` set study attributes, None leaves one out."""
    datasets = []
    for index in range(SLICES):
        number = SLICES - index if reverse else index + 1
        dataset = base_dataset(MRImageStorage, derive_uid(name, str(index)), name, number, **changes)
        dataset.ImageOrientationPatient = list(orientation)
        dataset.ImagePositionPatient = plane_position(index, orientation)
        dataset.PixelSpacing = [4.0, 5.0]
        dataset.SliceThickness = 3.5
        dataset.AcquisitionNumber = 1
        dataset.RescaleSlope, dataset.RescaleIntercept = 2, -5
        dataset.PixelData = pixel_values(index).tobytes()
        datasets.append(dataset)
    return datasets[::-1] if reverse else datasets


def item(**attributes: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def enhanced_series(name: str = "t1ce", orientation: tuple[float, ...] = AXIAL) -> list[Dataset]:
    """The same slices in one Enhanced MR instance, stored from top to bottom, rescale per frame."""
    dataset = base_dataset(EnhancedMRImageStorage, derive_uid(name, "enhanced"), name, 1)
    measures = item(PixelSpacing=[4.0, 5.0], SliceThickness=3.5)
    plane = item(ImageOrientationPatient=list(orientation))
    dataset.SharedFunctionalGroupsSequence = [
        item(PixelMeasuresSequence=[measures], PlaneOrientationSequence=[plane])
    ]
    order = list(reversed(range(SLICES)))
    dataset.PerFrameFunctionalGroupsSequence = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=plane_position(index, orientation))],
            PixelValueTransformationSequence=[item(RescaleSlope=2, RescaleIntercept=-5)],
        )
        for index in order
    ]
    dataset.NumberOfFrames = SLICES
    dataset.PixelData = np.stack([pixel_values(index) for index in order]).tobytes()
    return [dataset]


def stored(dataset: Dataset) -> Dataset:
    """The dataset as it is read back from its bytes, in its own character set."""
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    return dcmread(buffer)


def attention_at(point_ras: tuple[float, float, float], width_mm: float = 4.0) -> Volume:
    """A spot of attention around a point, on a turned grid of its own (axes k, i, j)."""
    affine = np.array([[0, 2.0, 0, -60], [0, 0, 2.0, -60], [2.0, 0, 0, -60], [0, 0, 0, 1]])
    indices = np.indices((60, 60, 60)).reshape(3, -1)
    places = affine[:3, :3] @ indices + affine[:3, 3:]
    distance = ((places - np.array(point_ras)[:, None]) ** 2).sum(axis=0)
    array = np.exp(-distance / (2 * width_mm**2)).reshape(60, 60, 60)
    return Volume(array.astype(np.float32), affine)


def make_report(probability: float = 0.873, threshold: float = 0.5, **changes: object) -> Report:
    values: dict[str, object] = {
        "prediction": GradePrediction(probability, threshold, (probability,), (1.0,)),
        "algorithm": Algorithm(
            name="gliograde-attention",
            version="0.1.0",
            checkpoint_sha256="ab" * 32,
            training_statement="Demonstration weights trained on simulated tumours, not for clinical use.",
            parameters=("inputs=FLAIR,T1CE,T2",),
        ),
        "roles": tuple(
            SeriesRole(contrast, derive_uid(contrast), "TR 9000 ms, TI 2500 ms", 0.97)
            for contrast in Contrast
        ),
        "result_id": "0f" * 32,
        "created_at": datetime(2026, 1, 2, 23, 30, 5, 250_000, tzinfo=UTC),
        "device": Device(derive_uid("device"), "GLIOGRADE", "gliograde", "0.1.0", "1"),
    }
    return Report(**(values | changes))  # type: ignore[arg-type]  # the values are typed where they are made
