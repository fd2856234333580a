"""The attention on the pixels of T1ce, as multi-frame objects that lie where it does (PS3.3 C.7.6.16).

highdicom builds them from stand-ins of single frames, whatever the source is; the references to the true
frames are put in afterwards.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from highdicom import AlgorithmIdentificationSequence, ContentQualificationValues, VOILUTTransformation
from highdicom.pm import DerivedPixelContrastValues, ParametricMap, RealWorldValueMapping
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.uid import MRImageStorage, ParametricMapStorage, SegmentationStorage

from dicom_node.reading.evidence import Evidence, InstanceReference, build_series_references
from dicom_node.reading.frames import Frame, FrameGeometryError
from dicom_node.results import codes
from dicom_node.results.document import finish, stand_ins
from dicom_node.results.pane import sample_attention
from dicom_node.results.report import ATTENTION_SENTENCE, RESEARCH_SENTENCE, Report
from dicom_node.uids import derive_uid
from model.space.volume import Volume

MAP_SERIES_NUMBER = 9904
REGION_SERIES_NUMBER = 9905
REGION_THRESHOLD = 0.5
REGION_LABEL = "attention of the network, not a tumour outline"


def has_place(frames: Sequence[Frame]) -> bool:
    """Whether the frames name their frame of reference, without which no multi-frame object can lie there."""
    return bool(frames[0].dataset.get("FrameOfReferenceUID"))


def sample_frames(frames: Sequence[Frame], attention: Volume) -> npt.NDArray[np.float32]:
    """Sample the attention (0-1) at every pixel, shape (frame, row, column).

    Raises FrameGeometryError where the frames differ in size.
    """
    if len({frame.shape for frame in frames}) > 1:
        raise FrameGeometryError("the frames of the series differ in size")
    return np.stack([sample_attention(frame, attention) for frame in frames])


def build_attention_map(
    frames: Sequence[Frame], values: npt.NDArray[np.float32], report: Report, evidence: Evidence
) -> Dataset:
    """Build the Parametric Map: `values` as they are, 32-bit floating point, one frame for each of `frames`.

    Viewers that lay a map over its source read floating point only (OHIF), and so no value is rounded.
    """
    dataset: Dataset = ParametricMap(
        source_images=_stand_in_frames(frames, evidence),
        pixel_array=values,
        series_number=MAP_SERIES_NUMBER,
        **_identify(report, evidence, "attention map", ParametricMapStorage),
        series_description=report.series_description("AI glioma attention map"),
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[
            RealWorldValueMapping(
                lut_label="attention",
                lut_explanation="Attention of the network",
                unit=codes.NO_UNITS,
                value_range=(0.0, 1.0),
                slope=1,
                intercept=0,
                quantity_definition=codes.SALIENCY,
            )
        ],
        voi_lut_transformations=[VOILUTTransformation(window_center=0.5, window_width=1.0)],
        content_label="ATTENTION",
        content_description="Where the network looked, 0-1",
        content_qualification=_qualification(report),
        derived_pixel_contrast=DerivedPixelContrastValues.NONE,
    )
    # PS3.3 table A.75-2 demands the macro, which highdicom leaves out
    anatomy = Dataset()
    anatomy.AnatomicRegionSequence = [CodedConcept.from_code(codes.FINDING_SITE)]
    anatomy.FrameLaterality = "U"
    dataset.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [anatomy]
    return _place(dataset, frames, report, evidence)


def build_attention_region(
    frames: Sequence[Frame], values: npt.NDArray[np.float32], report: Report, evidence: Evidence
) -> Dataset | None:
    """Build the Segmentation of what has at least `REGION_THRESHOLD`; None where nothing has."""
    mask = values >= REGION_THRESHOLD
    if not mask.any():
        return None
    algorithm = AlgorithmIdentificationSequence(
        name=report.algorithm.name,
        family=codes.ALGORITHM_FAMILY,
        version=report.algorithm.version,
        parameters={
            "checkpoint_sha256": report.algorithm.checkpoint_sha256,
            "attention_threshold": f"{REGION_THRESHOLD:g}",
        },
    )
    segment = SegmentDescription(
        segment_number=1,
        segment_label=REGION_LABEL,
        segmented_property_category=codes.SPATIAL_CONCEPT,
        segmented_property_type=codes.SALIENCY,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        anatomic_regions=[codes.FINDING_SITE],
    )
    segment.SegmentDescription = f"Attention of at least {REGION_THRESHOLD:g}. {ATTENTION_SENTENCE}"
    dataset: Dataset = Segmentation(
        source_images=_stand_in_frames(frames, evidence),
        pixel_array=mask.astype(np.uint8),
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[segment],
        series_number=REGION_SERIES_NUMBER,
        **_identify(report, evidence, "attention region", SegmentationStorage),
        series_description=report.series_description("AI glioma attention region"),
        content_label="ATTENTION",
        content_description="Where the attention is at least one half",
    )
    dataset.ContentQualification = _qualification(report).value
    return _place(dataset, frames, report, evidence)


def _identify(report: Report, evidence: Evidence, kind: str, sop_class: str) -> dict[str, Any]:
    device = report.device
    return {
        "series_instance_uid": derive_uid(report.result_id, f"{kind} series", evidence.study_instance_uid),
        "sop_instance_uid": derive_uid(report.result_id, kind, sop_class),
        "instance_number": 1,
        "manufacturer": device.manufacturer,
        "manufacturer_model_name": device.model_name,
        "software_versions": device.software_version,
        "device_serial_number": device.serial_number,
    }


def _qualification(report: Report) -> ContentQualificationValues:
    product, research = ContentQualificationValues.PRODUCT, ContentQualificationValues.RESEARCH
    return research if report.research_use_only else product


def _stand_in_uid(frame: Frame) -> str:
    """UID of a single frame: the instance's own where it has but one."""
    uid = str(frame.dataset.SOPInstanceUID)
    return uid if frame.number is None else derive_uid("frame", uid, str(frame.number))


def _stand_in_frames(frames: Sequence[Frame], evidence: Evidence) -> list[Dataset]:
    series_instance_uid = str(frames[0].dataset.SeriesInstanceUID)
    references = [
        InstanceReference(series_instance_uid, _stand_in_uid(frame), MRImageStorage) for frame in frames
    ]
    items = stand_ins(evidence, references)
    # directions of parallel frames differ in their last decimals; one holds for all
    orientation = frames[0].functional("PlaneOrientationSequence").ImageOrientationPatient
    for item, frame in zip(items, frames, strict=True):
        item.Rows, item.Columns = frame.shape
        item.FrameOfReferenceUID = frame.dataset.FrameOfReferenceUID
        item.PositionReferenceIndicator = frame.dataset.get("PositionReferenceIndicator") or ""
        item.ImageOrientationPatient = orientation
        item.ImagePositionPatient = frame.functional("PlanePositionSequence").ImagePositionPatient
        measures = frame.functional("PixelMeasuresSequence")
        item.PixelSpacing = measures.PixelSpacing
        item.SliceThickness = measures.get("SliceThickness")
    return items


def _place(dataset: Dataset, frames: Sequence[Frame], report: Report, evidence: Evidence) -> Dataset:
    """Put in the true frames, fixed UIDs, and what is said of the object."""
    references = {_stand_in_uid(frame): frame.reference for frame in frames}
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        for derivation in groups.get("DerivationImageSequence", ()):
            for source in derivation.SourceImageSequence:
                source.update(references[source.ReferencedSOPInstanceUID].build_item())
    dataset.ReferencedSeriesSequence = build_series_references(references.values())
    # the same, said once more: the instances stand there, and each frame's own source with the frame
    dataset.pop("SourceImageSequence", None)
    organization = derive_uid(report.result_id, "dimensions", dataset.SOPClassUID)
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization
    # of type 2, which highdicom leaves out where nobody is named
    dataset.ContentCreatorName = ""
    dataset.BodyPartExamined = "BRAIN"
    marks = f"{RESEARCH_SENTENCE}. " if report.research_use_only else ""
    dataset.ImageComments = f"{marks}{report.algorithm.training_statement} {ATTENTION_SENTENCE}"
    return finish(dataset, report, evidence)
