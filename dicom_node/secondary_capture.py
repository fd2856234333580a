"""Attention images: the slices that the network attended most, as Secondary Captures for a reader."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom import Dataset

from dicom_node.attention_page import PageText, draw_page
from dicom_node.capture import CaptureBuilder
from dicom_node.evidence import Evidence, EvidenceError, InstanceReference
from dicom_node.frames import Frame, decode_frame, orientation_letters, read_frames
from dicom_node.report import Report
from model.volume import Volume

_PANE_PIXELS = 512
_WINDOW_PERCENTILES = (2.0, 99.8)
_WHITE_OVER_TISSUE = 2.5
_WINDOW_FRAMES = 32
_HOTTEST_SHARE = 0.01


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


def build_attention_images(
    reference: Sequence[Dataset],
    attention: Volume,
    report: Report,
    evidence: Evidence,
    *,
    maximum_images: int = 24,
) -> tuple[AttentionImage, ...]:
    """Build Secondary Captures of the most attended frames of `reference`, in spatial order.

    `attention` lies anywhere in RAS+ space and is sampled trilinearly; outside it there is none. Grey
    values are windowed once over the series. Raises FrameGeometryError, FrameDecodeError, and EvidenceError
    where `reference` is no part of the evidence.
    """
    frames = read_frames(reference)
    known = {instance.sop_instance_uid for instance in evidence.instances}
    if any(frame.reference.sop_instance_uid not in known for frame in frames):
        raise EvidenceError("a frame to be shown is no part of the evidence")
    scores = [_score(frame, attention) for frame in frames]
    chosen = sorted(sorted(range(len(frames)), key=lambda i: (-scores[i], i))[:maximum_images])
    low, high = _window(frames)
    builder = CaptureBuilder(report, evidence)
    images = []
    for number, index in enumerate(chosen, start=1):
        frame = frames[index]
        scale = max(1, round(_PANE_PIXELS / max(frame.shape)))
        affine = _magnify(frame.affine, scale)
        grey = _grey(decode_frame(frame), low, high, scale)
        shown = _sample(attention, (grey.shape[0], grey.shape[1]), affine)
        text = _page_text(frame, number, len(chosen))
        page = draw_page(grey, shown, text, report)
        dataset = builder.build(frame, affine, page, number)
        images.append(AttentionImage(dataset, frame, scores[index]))
    return tuple(images)


def _score(frame: Frame, attention: Volume) -> float:
    """Average the attention of the frame's hottest hundredth: a hot spot outweighs a faint haze."""
    values = _sample(attention, frame.shape, frame.affine).ravel()
    count = max(1, round(_HOTTEST_SHARE * values.size))
    return float(np.partition(values, -count)[-count:].mean())


def _sample(
    attention: Volume, shape: tuple[int, int], affine: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    plane = attention.resample((*shape, 1), affine).array[..., 0]
    return np.clip(plane, 0.0, 1.0)


def _window(frames: Sequence[Frame]) -> tuple[float, float]:
    """Choose the grey values shown black and white; the source's own windows vary by vendor.

    White is a multiple of typical tissue, so that fat near the coil does not darken the brain and an
    enhancing tumour is not yet white.
    """
    some = frames[:: max(1, len(frames) // _WINDOW_FRAMES)]
    values = np.concatenate([decode_frame(frame)[::2, ::2].ravel() for frame in some])
    low, high = np.percentile(values, _WINDOW_PERCENTILES)
    tissue = values[values > values.mean()]
    if tissue.size:
        high = min(high, low + _WHITE_OVER_TISSUE * (np.median(tissue) - low))
    return float(low), float(max(high, low + 1e-6))


def _grey(pixels: npt.NDArray[np.float32], low: float, high: float, scale: int) -> npt.NDArray[np.uint8]:
    grey = np.rint(255 * np.clip((pixels - low) / (high - low), 0, 1)).astype(np.uint8)
    rows, columns = grey.shape
    image = Image.fromarray(grey).resize((columns * scale, rows * scale), Image.Resampling.BICUBIC)
    return np.asarray(image)


def _magnify(affine: npt.NDArray[np.float64], scale: int) -> npt.NDArray[np.float64]:
    """Give the affine of the same plane cut into `scale` times the rows and columns, edges kept."""
    shift = 0.5 / scale - 0.5
    finer = np.diag([1 / scale, 1 / scale, 1.0, 1.0])
    finer[:2, 3] = shift
    return np.asarray(affine @ finer)


def _page_text(frame: Frame, number: int, count: int) -> PageText:
    down, across = frame.affine[:3, 0], frame.affine[:3, 1]
    axis = int(np.argmax(np.abs(frame.normal)))
    side = ("LR", "PA", "IS")[axis][int(frame.position_mm >= 0)]
    within = "" if frame.number is None else f", frame {frame.number}"
    place = (
        f"Slice at {side} {abs(frame.position_mm):.1f} mm: T1 post-contrast, "
        f"series {_number(frame, 'SeriesNumber')}, image {_number(frame, 'InstanceNumber')}{within}; "
        f"page {number} of {count}"
    )
    return PageText(
        left=orientation_letters(-across)[0],
        right=orientation_letters(across)[0],
        top=orientation_letters(-down)[0],
        bottom=orientation_letters(down)[0],
        place=place,
    )


def _number(frame: Frame, keyword: str) -> str:
    value = frame.dataset.get(keyword)
    return "?" if value is None else str(value)
