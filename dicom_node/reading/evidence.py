"""The evidence of a result: the instances it rests on, and the header its objects inherit."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from pydicom import Dataset
from pydicom.sequence import Sequence as ItemSequence

from dicom_node.reading.study_header import copy_study_header


class EvidenceError(ValueError):
    """The inputs cannot be the evidence of one result; a person must look, trying again cannot help."""


@dataclass(frozen=True, slots=True)
class InstanceReference:
    """Names one stored instance, or one frame of it (1-based)."""

    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    frame_number: int | None = None

    @classmethod
    def of(cls, dataset: Dataset, frame_number: int | None = None) -> Self:
        """Refer to `dataset`, or to a frame of it."""
        return cls(
            str(dataset.SeriesInstanceUID),
            str(dataset.SOPInstanceUID),
            str(dataset.SOPClassUID),
            frame_number,
        )

    @property
    def sort_key(self) -> tuple[str, str, int]:
        """Total order among references of one study."""
        return self.series_instance_uid, self.sop_instance_uid, self.frame_number or 0

    def build_item(self) -> Dataset:
        """Build an item of the Image SOP Instance Reference Macro (PS3.3 table 10-3)."""
        item = Dataset()
        item.ReferencedSOPClassUID = self.sop_class_uid
        item.ReferencedSOPInstanceUID = self.sop_instance_uid
        if self.frame_number is not None:
            item.ReferencedFrameNumber = self.frame_number
        return item


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What a result's objects need to know of its inputs.

    `header` is `study_header.copy_study_header` of one input; `requests` its requested procedures as
    items of the Referenced Request Sequence; `instances` name every input, sorted.
    """

    header: Dataset
    instances: tuple[InstanceReference, ...]
    requests: tuple[Dataset, ...]

    @property
    def study_instance_uid(self) -> str:
        """The study that the inputs belong to and the results go into."""
        return str(self.header.StudyInstanceUID)


def build_evidence(source: Dataset, inputs: Iterable[Dataset]) -> Evidence:
    """Gather evidence from the headers of all inputs; Patient and Study are taken from `source` alone.

    Of `inputs` only the UIDs are read. Raises EvidenceError where a UID is missing, there is no input,
    or an input belongs to another study than `source`.
    """
    if not source.get("StudyInstanceUID"):
        raise EvidenceError("the source has no Study Instance UID")
    references = set()
    for dataset in inputs:
        missing = [k for k in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID") if not dataset.get(k)]
        if missing:
            raise EvidenceError(f"an input has no {missing[0]}")
        if dataset.get("StudyInstanceUID") != source.StudyInstanceUID:
            raise EvidenceError(f"instance {dataset.SOPInstanceUID} belongs to another study")
        references.add(InstanceReference.of(dataset))
    if not references:
        raise EvidenceError("a result without input has no evidence")
    header = copy_study_header(source)
    return Evidence(header, tuple(sorted(references, key=lambda r: r.sort_key)), _requests(source, header))


def build_series_references(references: Iterable[InstanceReference]) -> ItemSequence:
    """Build the Referenced Series Sequence over the instances, each named once (PS3.3 C.12.2)."""
    series: dict[str, dict[str, str]] = {}
    for reference in references:
        instances = series.setdefault(reference.series_instance_uid, {})
        instances[reference.sop_instance_uid] = reference.sop_class_uid
    items = ItemSequence()
    for series_instance_uid, instances in series.items():
        item = Dataset()
        item.SeriesInstanceUID = series_instance_uid
        item.ReferencedInstanceSequence = [
            InstanceReference(series_instance_uid, uid, sop_class).build_item()
            for uid, sop_class in instances.items()
        ]
        items.append(item)
    return items


def _requests(source: Dataset, header: Dataset) -> tuple[Dataset, ...]:
    """Build the Referenced Request Sequence (PS3.3 C.17.2): an item for each request the source answers."""
    attributes: Sequence[Dataset] = source.get("RequestAttributesSequence") or ()
    return tuple(_request(item, header) for item in attributes)


def _request(attributes: Dataset, header: Dataset) -> Dataset:
    request = Dataset()
    request.StudyInstanceUID = attributes.get("StudyInstanceUID") or header.StudyInstanceUID
    request.ReferencedStudySequence = []
    request.AccessionNumber = attributes.get("AccessionNumber") or header.AccessionNumber
    request.PlacerOrderNumberImagingServiceRequest = ""
    request.FillerOrderNumberImagingServiceRequest = ""
    request.RequestedProcedureID = attributes.get("RequestedProcedureID") or ""
    request.RequestedProcedureDescription = attributes.get("RequestedProcedureDescription") or ""
    request.RequestedProcedureCodeSequence = []
    return request
