"""Attention images: the slices that the network attended most, as Secondary Captures for a reader.

In front of them stands the summary, one page for a reader who has five seconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydicom import Dataset

from dicom_node.reading.evidence import Evidence, EvidenceError, InstanceReference
from dicom_node.reading.frames import Frame, nearest_frame, read_frames
from dicom_node.results.attention_page import draw_page
from dicom_node.results.capture import CaptureBuilder
from dicom_node.results.pane import (
    attention_centre,
    attention_score,
    choose_window,
    edges_of,
    make_pane,
    place_of,
)
from dicom_node.results.report import CONTRAST_WORDS, Report
from dicom_node.results.summary_page import SummaryPane, draw_summary
from model.grade import Contrast
from model.space.volume import Volume

SUMMARY_NUMBER = 1
_PANE_PIXELS = 512


@dataclass(frozen=True, slots=True, eq=False)
class AttentionImage:
    """One Secondary Capture, the source frame it shows, and how attended that frame is (0-1)."""

    dataset: Dataset
    frame: Frame
    attention: float

    @property
    def reference(self) -> InstanceReference:
        """How the report names this image."""
        return InstanceReference.of(self.dataset)


def score_frames(reference: Sequence[Dataset], attention: Volume) -> tuple[float, ...]:
    """Say how attended each frame is (0-1), in the order of `read_frames`; raises FrameGeometryError."""
    return tuple(attention_score(frame, attention) for frame in read_frames(reference))


def build_attention_images(
    reference: Sequence[Dataset],
    attention: Volume,
    report: Report,
    evidence: Evidence,
    *,
    maximum_images: int = 24,
    scores: Sequence[float] | None = None,
) -> tuple[AttentionImage, ...]:
    """Build Secondary Captures of the most attended frames of `reference`, in spatial order.

    `attention` lies anywhere in RAS+ space and is sampled trilinearly; outside it there is none, and what
    lies before or behind its first axis, the slices that the network was shown, is hatched. Frames with
    no attention at all follow the nearer they lie to the most attended one. Grey values are windowed once
    over the series. `scores` are those of `score_frames`, where they are known. Raises FrameGeometryError,
    FrameDecodeError, and EvidenceError where `reference` is no part of the evidence.
    """
    frames = read_frames(reference)
    _require_evidence(frames, evidence)
    if scores is None:
        scores = score_frames(reference, attention)
    most = _most_attended(scores)
    by_attention = sorted(range(len(frames)), key=lambda i: (-scores[i], abs(i - most), i))
    chosen = sorted(by_attention[:maximum_images])
    window = choose_window(frames)
    builder = CaptureBuilder(report, evidence)
    images = []
    for page_number, index in enumerate(chosen, start=1):
        frame = frames[index]
        pane = make_pane(frame, attention, window, _scale(frame))
        place = f"{CONTRAST_WORDS[Contrast.T1CE]}, {place_of(frame)}; slice {page_number} of {len(chosen)}"
        page = draw_page(pane, edges_of(frame), place, report)
        dataset = builder.build(frame, pane.affine, page, SUMMARY_NUMBER + page_number)
        images.append(AttentionImage(dataset, frame, scores[index]))
    return tuple(images)


def build_summary_image(
    series: Mapping[Contrast, Sequence[Dataset]],
    attention: Mapping[Contrast, Volume],
    report: Report,
    evidence: Evidence,
    scores: Sequence[float] | None = None,
) -> Dataset:
    """Build the Secondary Capture that stands before the attention images.

    It shows, of each contrast, the frame through the middle of what is most attended in the most attended
    frame of T1ce. `attention` is one volume in each series' own RAS+ space: the same voxels, the affine of
    each. `scores` are those of T1ce, where they are known. Raises as `build_attention_images`.
    """
    frames = {contrast: read_frames(datasets) for contrast, datasets in series.items()}
    for frames_of_one in frames.values():
        _require_evidence(frames_of_one, evidence)
    reference = attention[Contrast.T1CE]
    if scores is None:
        scores = score_frames(series[Contrast.T1CE], reference)
    most = frames[Contrast.T1CE][_most_attended(scores)]
    voxel = reference.index_of(attention_centre(most, reference))
    panes = []
    for contrast in Contrast:
        one = attention[contrast]
        frame = nearest_frame(frames[contrast], one.place_of(voxel))
        pane = make_pane(frame, one, choose_window(frames[contrast]), _scale(frame))
        panes.append(SummaryPane(contrast, frame, pane))
    page = draw_summary(panes, report)
    return CaptureBuilder(report, evidence).build_summary(
        [pane.frame for pane in panes], page, SUMMARY_NUMBER
    )


def _require_evidence(frames: Sequence[Frame], evidence: Evidence) -> None:
    known = {instance.sop_instance_uid for instance in evidence.instances}
    if any(frame.reference.sop_instance_uid not in known for frame in frames):
        raise EvidenceError("a frame to be shown is no part of the evidence")


def _most_attended(scores: Sequence[float]) -> int:
    return max(range(len(scores)), key=scores.__getitem__)


def _scale(frame: Frame) -> int:
    return max(1, round(_PANE_PIXELS / max(frame.shape)))
