"""The objects that go back only where a destination wants them."""

from collections.abc import Collection, Sequence

from pydicom import Dataset

from dicom_node.reading.evidence import Evidence, InstanceReference
from dicom_node.reading.frames import read_frames
from dicom_node.results.attention_grid import (
    build_attention_map,
    build_attention_region,
    has_place,
    sample_frames,
)
from dicom_node.results.key_objects import build_key_objects
from dicom_node.results.printed_summary import build_printed_summary
from dicom_node.results.report import Report
from dicom_node.results.result_kind import ResultKind
from model.space.volume import Volume


def build_before_report(
    wanted: Collection[ResultKind],
    reference: Sequence[Dataset],
    attention: Volume,
    summary: Dataset,
    report: Report,
    evidence: Evidence,
) -> list[Dataset]:
    """Build the attention map, the region and the PDF, as far as they are wanted and can be.

    `reference` is the series of T1ce. Without a frame of reference there is neither map nor region, without
    attention of one half no region. Raises FrameGeometryError.
    """
    objects: list[Dataset] = []
    on_grid = {ResultKind.ATTENTION_MAP, ResultKind.REGION} & set(wanted)
    frames = read_frames(reference)
    if on_grid and has_place(frames):
        values = sample_frames(frames, attention)
        if ResultKind.ATTENTION_MAP in on_grid:
            objects.append(build_attention_map(frames, values, report, evidence))
        if ResultKind.REGION in on_grid:
            region = build_attention_region(frames, values, report, evidence)
            objects += [] if region is None else [region]
    if ResultKind.PDF in wanted:
        objects.append(build_printed_summary(summary, report, evidence))
    return objects


def build_after_report(
    wanted: Collection[ResultKind],
    selected: Sequence[InstanceReference],
    report: Report,
    evidence: Evidence,
) -> list[Dataset]:
    """Build the Key Object Selection of `selected`, where it is wanted."""
    return [build_key_objects(report, evidence, selected)] if ResultKind.KEY_OBJECTS in wanted else []
