"""The Structured Report that goes back: header, evidence and versions around `report_content`."""

from collections.abc import Sequence
from copy import deepcopy

from highdicom.sr import Comprehensive3DSR
from pydicom import Dataset
from pydicom.uid import UID, Comprehensive3DSRStorage, EnhancedSRStorage

from dicom_node.reading.evidence import Evidence, InstanceReference
from dicom_node.reading.frames import nearest_frame, read_frames
from dicom_node.results import codes
from dicom_node.results.document import finish, stand_ins
from dicom_node.results.part10 import build_file_meta
from dicom_node.results.report import NotGraded, Predecessor, Report, Statement
from dicom_node.results.report_content import build_content, build_not_graded_content
from dicom_node.results.secondary_capture import AttentionImage
from dicom_node.uids import derive_uid

SERIES_NUMBER = 9900
KEY_IMAGES = 3


def select_key_images(
    images: Sequence[AttentionImage], count: int = KEY_IMAGES
) -> tuple[AttentionImage, ...]:
    """Choose the `count` most attended images, in spatial order."""
    best = sorted(range(len(images)), key=lambda i: (-images[i].attention, i))[:count]
    return tuple(images[index] for index in sorted(best))


def select_key_frames(
    key_images: Sequence[AttentionImage], series: Sequence[Sequence[Dataset]]
) -> tuple[InstanceReference, ...]:
    """Find for each key image the frame of each series that lies nearest to the middle of it.

    Headers are enough. A frame that is nearest to two key images is named once. Raises FrameGeometryError.
    """
    frames = [read_frames(datasets) for datasets in series]
    found = [nearest_frame(one, image.frame.centre) for one in frames for image in key_images]
    return tuple(dict.fromkeys(frame.reference for frame in found))


def build_structured_report(
    report: Report,
    evidence: Evidence,
    key_frames: Sequence[InstanceReference] = (),
    images: Sequence[AttentionImage] = (),
    summary: InstanceReference | None = None,
) -> Dataset:
    """Build the Comprehensive 3D SR of the report; `as_enhanced` makes the one for peers that refuse it.

    All inputs and all images go into the evidence; the tree itself names only `key_frames`, the `summary`
    page and the most attended `images`. Raises ValueError where a key frame is no part of the evidence.
    """
    first = [] if summary is None else [summary]
    overlays = [*first, *(image.reference for image in images)]
    shown = [*first, *(image.reference for image in select_key_images(images))]
    return _build_document(report, evidence, build_content(report, key_frames, shown), overlays)


def build_not_graded_report(
    notice: NotGraded, evidence: Evidence, images: Sequence[InstanceReference] = ()
) -> Dataset:
    """Build the Comprehensive 3D SR that says why a study was not graded."""
    return _build_document(notice, evidence, build_not_graded_content(notice), images)


def _build_document(
    report: Statement, evidence: Evidence, content: Dataset, images: Sequence[InstanceReference]
) -> Dataset:
    document: Dataset = Comprehensive3DSR(
        evidence=stand_ins(evidence, (*evidence.instances, *images)),
        content=content,
        series_instance_uid=derive_uid(report.result_id, "report series", evidence.study_instance_uid),
        series_number=SERIES_NUMBER,
        sop_instance_uid=derive_uid(report.result_id, "report", Comprehensive3DSRStorage),
        instance_number=1,
        manufacturer=report.device.manufacturer,
        is_complete=True,
        requested_procedures=list(evidence.requests) or None,
        series_description=report.series_description("AI glioma grade report"),
        manufacturer_model_name=report.device.model_name,
        software_versions=report.device.software_version,
        device_serial_number=report.device.serial_number,
        coding_schemes=[codes.build_private_scheme()],
    )
    if report.predecessor is not None:
        document.PredecessorDocumentsSequence = [_build_predecessor(report.predecessor, evidence)]
    return finish(document, report, evidence)


def as_enhanced(document: Dataset) -> Dataset:
    """Give one of our reports as Enhanced SR: the same tree under a UID that follows from the report's own.

    So does the UID of its predecessor, which the same peer got in the same way.
    """
    enhanced = deepcopy(document)
    enhanced.SOPClassUID = EnhancedSRStorage
    enhanced.SOPInstanceUID = _enhanced_uid(document.SOPInstanceUID)
    for study in enhanced.get("PredecessorDocumentsSequence", ()):
        for series in study.ReferencedSeriesSequence:
            for reference in series.ReferencedSOPSequence:
                reference.ReferencedSOPClassUID = EnhancedSRStorage
                reference.ReferencedSOPInstanceUID = _enhanced_uid(reference.ReferencedSOPInstanceUID)
    enhanced.file_meta = build_file_meta(enhanced)
    return enhanced


def _enhanced_uid(sop_instance_uid: str) -> UID:
    return derive_uid("enhanced report", sop_instance_uid)


def _build_predecessor(predecessor: Predecessor, evidence: Evidence) -> Dataset:
    """Build an item of the Hierarchical SOP Instance Reference Macro (PS3.3 C.17.2.1)."""
    instance = Dataset()
    instance.ReferencedSOPClassUID = predecessor.sop_class_uid
    instance.ReferencedSOPInstanceUID = predecessor.sop_instance_uid
    series = Dataset()
    series.SeriesInstanceUID = predecessor.series_instance_uid
    series.ReferencedSOPSequence = [instance]
    study = Dataset()
    study.StudyInstanceUID = evidence.study_instance_uid
    study.ReferencedSeriesSequence = [series]
    return study
