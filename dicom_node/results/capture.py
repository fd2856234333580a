"""One picture as a single-frame RGB Secondary Capture in the geometry of its source (PS3.3 A.8.1).

With the Image Plane and Frame of Reference modules viewers cross-reference and scroll the pictures with the
series they explain. Geometry holds for the left pane, whose top-left pixel is the picture's; the plain
slice, the colour bar and the words stand right of it and below it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.sequence import Sequence as ItemSequence
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_node.reading.evidence import Evidence, InstanceReference, build_series_references
from dicom_node.reading.frames import Frame, orientation_letters
from dicom_node.results import codes
from dicom_node.results.part10 import build_file_meta
from dicom_node.results.report import ATTENTION_SENTENCE, RESEARCH_SENTENCE, Statement
from dicom_node.uids import derive_uid

SERIES_NUMBER = 9901


@dataclass(frozen=True, slots=True, eq=False)
class CaptureBuilder:
    """Builds the Secondary Captures of one report.

    The references to all inputs are made once and shared: a study has hundreds of them, a report dozens of
    captures.
    """

    report: Statement
    evidence: Evidence
    _sources: tuple[Dataset, ...] = field(init=False)
    _series: ItemSequence = field(init=False)

    def __post_init__(self) -> None:
        sources = tuple(_build_source(instance) for instance in self.evidence.instances)
        object.__setattr__(self, "_sources", sources)
        object.__setattr__(self, "_series", build_series_references(self.evidence.instances))

    def build(
        self, frame: Frame, affine: npt.NDArray[np.float64], page: npt.NDArray[np.uint8], number: int
    ) -> Dataset:
        """Build the capture of `frame`; `number` is its instance number.

        `affine` maps (row, column, millimetres) of `page`, RGB of shape (row, column, 3), to RAS+
        millimetres.
        """
        shown = frame.reference
        uid = derive_uid(
            self.report.result_id, "attention image", shown.sop_instance_uid, str(shown.frame_number)
        )
        dataset = self._begin(uid, number, {shown.sop_instance_uid: _build_shown_source(shown)})
        _add_geometry(dataset, frame, affine)
        return _finish(dataset, page, [frame.dataset])

    def build_summary(self, frames: Sequence[Frame], page: npt.NDArray[np.uint8], number: int) -> Dataset:
        """Build the capture of a page that shows several frames, and so lies nowhere in the patient."""
        shown = {frame.reference.sop_instance_uid: _build_source(frame.reference) for frame in frames}
        for item in shown.values():
            item.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.SOURCE_IMAGE)]
        dataset = self._begin(derive_uid(self.report.result_id, "summary image"), number, shown)
        dataset.PatientOrientation = None
        return _finish(dataset, page, [frame.dataset for frame in frames])

    def build_notice(self, page: npt.NDArray[np.uint8], headline: str) -> Dataset:
        """Build the capture of a page that shows no image at all; `headline` is what it says in a line."""
        dataset = self._begin(derive_uid(self.report.result_id, "notice image"), 1, {})
        dataset.SeriesDescription = self.report.series_description("AI glioma grading notice")
        dataset.DerivationDescription = headline
        dataset.PatientOrientation = None
        return _finish(dataset, page, [])

    def _begin(self, sop_instance_uid: str, number: int, shown: Mapping[str, Dataset]) -> Dataset:
        dataset = _build_header(self.report, self.evidence, sop_instance_uid, number)
        dataset.SourceImageSequence = [
            shown.get(item.ReferencedSOPInstanceUID, item) for item in self._sources
        ]
        dataset.ReferencedSeriesSequence = self._series
        return dataset


def _finish(dataset: Dataset, page: npt.NDArray[np.uint8], sources: Sequence[Dataset]) -> Dataset:
    _add_pixels(dataset, page, sources)
    dataset.file_meta = build_file_meta(dataset)
    return dataset


def _build_header(report: Statement, evidence: Evidence, sop_instance_uid: str, number: int) -> Dataset:
    date, time = report.dicom_date_time(evidence.header)
    dataset = Dataset()
    dataset.update(evidence.header)
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = sop_instance_uid
    dataset.InstanceCreationDate = dataset.SeriesDate = dataset.ContentDate = date
    dataset.InstanceCreationTime = dataset.SeriesTime = dataset.ContentTime = time
    dataset.DateOfSecondaryCapture, dataset.TimeOfSecondaryCapture = date, time
    dataset.Modality = "OT"
    dataset.SeriesInstanceUID = derive_uid(report.result_id, "attention series", evidence.study_instance_uid)
    dataset.SeriesNumber = SERIES_NUMBER
    dataset.SeriesDescription = report.series_description("AI glioma attention on T1ce")
    dataset.BodyPartExamined = "BRAIN"
    dataset.InstanceNumber = number
    dataset.ConversionType = "WSD"
    dataset.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    _add_device(dataset, report)
    _add_statements(dataset, report)
    return dataset


def _add_device(dataset: Dataset, report: Statement) -> None:
    device = report.device
    dataset.Manufacturer = dataset.SecondaryCaptureDeviceManufacturer = device.manufacturer
    dataset.ManufacturerModelName = device.model_name
    dataset.SecondaryCaptureDeviceManufacturerModelName = device.model_name
    dataset.DeviceSerialNumber = device.serial_number
    dataset.SoftwareVersions = dataset.SecondaryCaptureDeviceSoftwareVersions = device.software_version


def _add_statements(dataset: Dataset, report: Statement) -> None:
    # The attribute asks for *identifying* annotation (PS3.3 C.7.6.1.1.5), and none is drawn.
    dataset.BurnedInAnnotation = "NO"
    dataset.RecognizableVisualFeatures = "NO"
    marks = f"{RESEARCH_SENTENCE}. " if report.research_use_only else ""
    dataset.ImageComments = f"{marks}{report.algorithm.training_statement}"
    dataset.DerivationDescription = (
        f"{marks}Attention of {report.algorithm.short_text} over the source image. {ATTENTION_SENTENCE}"
    )


def _build_source(instance: InstanceReference) -> Dataset:
    item = instance.build_item()
    item.SpatialLocationsPreserved = "NO"
    return item


def _build_shown_source(shown: InstanceReference) -> Dataset:
    item = shown.build_item()
    item.SpatialLocationsPreserved = "YES"
    item.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.SOURCE_IMAGE)]
    return item


def _add_geometry(dataset: Dataset, frame: Frame, affine: npt.NDArray[np.float64]) -> None:
    """Add Image Plane and Frame of Reference of the left pane; `affine` is the magnified one (RAS+)."""
    source = frame.dataset
    lps = np.diag([-1.0, -1.0, 1.0]) @ affine[:3]
    spacing = np.linalg.norm(lps[:, :2], axis=0)
    row, column = lps[:, 1] / spacing[1], lps[:, 0] / spacing[0]
    dataset.PixelSpacing = [_decimal(value) for value in spacing]
    dataset.PatientOrientation = [orientation_letters(affine[:3, 1]), orientation_letters(affine[:3, 0])]
    # A position means nothing, and is not allowed, without the frame of reference that it is in.
    if source.get("FrameOfReferenceUID"):
        dataset.FrameOfReferenceUID = source.FrameOfReferenceUID
        dataset.PositionReferenceIndicator = source.get("PositionReferenceIndicator") or ""
        dataset.ImagePositionPatient = [_decimal(value) for value in lps[:, 3]]
        dataset.ImageOrientationPatient = [_decimal(value) for value in (*row, *column)]
        dataset.SliceThickness = frame.functional("PixelMeasuresSequence").get("SliceThickness")
    if source.get("AcquisitionNumber") is not None:
        dataset.AcquisitionNumber = source.AcquisitionNumber


def _decimal(value: float) -> str:
    """Write a decimal string of at most 16 characters (PS3.5 6.2, DS), to a tenth of a nanometre."""
    # Adding zero turns a rounded -0.0 into 0.0.
    return f"{round(value, 7) + 0.0:.7f}".rstrip("0").rstrip(".")


def _add_pixels(dataset: Dataset, page: npt.NDArray[np.uint8], sources: Sequence[Dataset]) -> None:
    dataset.LossyImageCompression = "00"
    lossy = next((source for source in sources if source.get("LossyImageCompression") == "01"), None)
    if lossy is not None:
        for keyword in ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            if keyword in lossy:
                dataset.add(lossy[keyword])
    dataset.SamplesPerPixel = 3
    dataset.PhotometricInterpretation = "RGB"
    dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = page.shape[:2]
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelRepresentation = 0
    pixels = page.tobytes()
    dataset.PixelData = pixels + b"\x00" * (len(pixels) % 2)
