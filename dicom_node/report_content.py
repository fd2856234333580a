"""The report's content tree: TID 1500, one TID 1501 group, TID 4019 (PS3.16)."""

from collections.abc import Sequence

from highdicom.sr import (
    AlgorithmIdentification,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    ImageContentItem,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    RelationshipTypeValues,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom import Dataset
from pydicom.sr.codedict import codes as dicom_codes
from pydicom.sr.coding import Code

from dicom_node import codes
from dicom_node.evidence import InstanceReference
from dicom_node.report import Report
from dicom_node.uids import derive_uid


def build_content(
    report: Report, key_frames: Sequence[InstanceReference], overlays: Sequence[InstanceReference]
) -> Dataset:
    """Build the root container of the report.

    `key_frames` are input frames that a reader should open, `overlays` the attention images of the same
    places. No image library: all inputs stand in the evidence sequence, and viewers print each library
    entry as a line before the result.
    """
    root: Dataset = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=_build_observer(report)),
        procedure_reported=codes.PROCEDURE_REPORTED,
        imaging_measurements=[_build_group(report, key_frames, overlays)],
        title=codes.REPORT_TITLE,
    )[0]
    comments = [_build_comment(text) for text in report.comments]
    # Before the measurements, so that a reader meets them first.
    root.ContentSequence = [*root.ContentSequence[:-1], *comments, root.ContentSequence[-1]]
    _separate(root)
    return root


def _build_observer(report: Report) -> ObserverContext:
    device = report.device
    return ObserverContext(
        observer_type=dicom_codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=device.uid,
            name=device.name,
            manufacturer_name=device.manufacturer,
            model_name=device.model_name,
            serial_number=device.serial_number,
        ),
    )


def _build_group(
    report: Report, key_frames: Sequence[InstanceReference], overlays: Sequence[InstanceReference]
) -> MeasurementsAndQualitativeEvaluations:
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(derive_uid(report.result_id, "tracking"), "glioma-1"),
        finding_category=codes.FINDING_CATEGORY,
        finding_type=codes.FINDING,
        finding_sites=[FindingSite(anatomic_location=codes.FINDING_SITE)],
        algorithm_id=AlgorithmIdentification(
            name=report.algorithm.name,
            version=report.algorithm.version_text,
            parameters=report.algorithm_parameters,
            family=codes.ALGORITHM_FAMILY,
        ),
        measurements=[Measurement(codes.HGG_PROBABILITY, float(report.percent_text), codes.PERCENT)],
        qualitative_evaluations=[
            QualitativeEvaluation(codes.PREDICTED_GRADE, codes.GRADES[report.prediction.grade])
        ],
    )
    group[0].ContentSequence.extend(
        [
            *(_build_image(codes.SOURCE_OF_MEASUREMENT, frame) for frame in key_frames),
            *(_build_image(codes.VISUAL_EXPLANATION, overlay) for overlay in overlays),
        ]
    )
    return group


def _build_image(purpose: Code, reference: InstanceReference) -> ImageContentItem:
    return ImageContentItem(
        name=purpose,
        referenced_sop_class_uid=reference.sop_class_uid,
        referenced_sop_instance_uid=reference.sop_instance_uid,
        referenced_frame_numbers=reference.frame_number,
        relationship_type=RelationshipTypeValues.CONTAINS,
    )


def _build_comment(text: str) -> TextContentItem:
    return TextContentItem(codes.COMMENT, text, RelationshipTypeValues.CONTAINS)


def _separate(item: Dataset) -> None:
    """Mark every container SEPARATE: highdicom writes CONTINUOUS, and OHIF then drops all labels."""
    if item.ValueType == "CONTAINER":
        item.ContinuityOfContent = "SEPARATE"
    for child in item.get("ContentSequence", ()):
        _separate(child)
