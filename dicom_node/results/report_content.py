"""The report's content tree: TID 1500, one TID 1501 group, TID 4019 (PS3.16)."""

from collections.abc import Sequence

from highdicom.sr import (
    AlgorithmIdentification,
    CodeContentItem,
    ContainerContentItem,
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

from dicom_node.reading.evidence import InstanceReference
from dicom_node.results import codes
from dicom_node.results.report import NotGraded, Report, Statement
from dicom_node.uids import derive_uid


def build_content(
    report: Report, key_frames: Sequence[InstanceReference], overlays: Sequence[InstanceReference]
) -> Dataset:
    """Build the root container of the report.

    `key_frames` are input frames that a reader should open, `overlays` the attention images of the same
    places. No image library: all inputs stand in the evidence sequence, and viewers print each library
    entry as a line before the result.
    """
    root = _build_root(report, _build_group(report, key_frames, overlays))
    _finish(root, report.comments)
    return root


def build_not_graded_content(notice: NotGraded) -> Dataset:
    """Build the root container of a report that has no grade: its reason, and that there is none."""
    # TID 1500 lets qualitative evaluations stand in the place of measurements, which highdicom demands
    tracking = TrackingIdentifier(derive_uid(notice.result_id, "tracking"), "stand-in")
    root = _build_root(notice, MeasurementsAndQualitativeEvaluations(tracking))
    evaluations: Dataset = ContainerContentItem(
        codes.QUALITATIVE_EVALUATIONS, relationship_type=RelationshipTypeValues.CONTAINS
    )
    evaluations.ContentSequence = [
        CodeContentItem(codes.PREDICTED_GRADE, codes.NOT_GRADED, RelationshipTypeValues.CONTAINS)
    ]
    root.ContentSequence = [*root.ContentSequence[:-1], evaluations]
    _finish(root, notice.comments)
    return root


def _build_root(statement: Statement, group: MeasurementsAndQualitativeEvaluations) -> Dataset:
    root: Dataset = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=build_observer(statement)),
        procedure_reported=codes.PROCEDURE_REPORTED,
        imaging_measurements=[group],
        title=codes.REPORT_TITLE,
    )[0]
    return root


def _finish(root: Dataset, comments: Sequence[str]) -> None:
    """Put the comments before what was found, so that a reader meets them first."""
    items = [_build_comment(text) for text in comments]
    root.ContentSequence = [*root.ContentSequence[:-1], *items, root.ContentSequence[-1]]
    _separate(root)


def build_observer(report: Statement) -> ObserverContext:
    """Name this installation as the observer (PS3.16 TID 1004)."""
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
    # without a probability there is no finding either: nothing was found that could be named
    is_finding = report.tells_probability
    grade = codes.VERDICTS[report.judgement.verdict] if report.grade is None else codes.GRADES[report.grade]
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(derive_uid(report.result_id, "tracking"), "glioma-1"),
        finding_category=codes.FINDING_CATEGORY if is_finding else None,
        finding_type=codes.FINDING if is_finding else None,
        finding_sites=[FindingSite(anatomic_location=codes.FINDING_SITE)],
        algorithm_id=AlgorithmIdentification(
            name=report.algorithm.name,
            version=report.algorithm.version_text,
            parameters=report.algorithm_parameters,
            family=codes.ALGORITHM_FAMILY,
        ),
        measurements=_build_measurements(report),
        qualitative_evaluations=[QualitativeEvaluation(codes.PREDICTED_GRADE, grade)],
    )
    group[0].ContentSequence.extend(
        [
            *(_build_image(codes.SOURCE_OF_MEASUREMENT, frame) for frame in key_frames),
            *(_build_image(codes.VISUAL_EXPLANATION, overlay) for overlay in overlays),
        ]
    )
    return group


def _build_measurements(report: Report) -> list[Measurement]:
    measurements = []
    if report.tells_probability:
        measurements.append(Measurement(codes.HGG_PROBABILITY, float(report.percent_text), codes.PERCENT))
    if (volume := report.judgement.attention_ml) is not None:
        measurements.append(Measurement(codes.ATTENTION_VOLUME, round(volume, 1), codes.MILLILITRE))
    return measurements


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
