"""One frame made ready to be looked at: windowed, magnified, its attention on the same grid."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from dicom_node.reading.frames import Frame, decode_frame, orientation_letters
from dicom_node.results.colour import overlay_attention
from dicom_node.results.drawing import Edges, hatch
from model.space.volume import Volume

_WINDOW_PERCENTILES = (2.0, 99.8)
_WHITE_OVER_TISSUE = 2.5
_WINDOW_FRAMES = 32
_HOTTEST_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Window:
    """Grey values shown black and white."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class Pane:
    """`grey`, `attention` (0-1) and `seen`, each (row, column); `affine` maps these to RAS+ millimetres.

    `seen` is whether the network was shown that place: none of its slices may lie there.
    """

    grey: npt.NDArray[np.uint8]
    attention: npt.NDArray[np.float32]
    seen: npt.NDArray[np.bool_]
    affine: npt.NDArray[np.float64]

    @property
    def overlay(self) -> npt.NDArray[np.uint8]:
        """The anatomy under its attention, hatched where it wasn't seen: RGB (row, column, 3)."""
        return hatch(overlay_attention(self.grey, self.attention), ~self.seen)


def choose_window(frames: Sequence[Frame]) -> Window:
    """Choose the grey values for a whole series; the source's own windows vary by vendor.

    White is a multiple of typical tissue, so that fat near the coil does not darken the brain and an
    enhancing tumour is not yet white. Raises FrameDecodeError.
    """
    some = frames[:: max(1, len(frames) // _WINDOW_FRAMES)]
    values = np.concatenate([decode_frame(frame)[::2, ::2].ravel() for frame in some])
    low, high = np.percentile(values, _WINDOW_PERCENTILES)
    tissue = values[values > values.mean()]
    if tissue.size:
        high = min(high, low + _WHITE_OVER_TISSUE * (np.median(tissue) - low))
    return Window(float(low), float(max(high, low + 1e-6)))


def make_pane(frame: Frame, attention: Volume, window: Window, scale: int) -> Pane:
    """Magnify the frame by a whole number and sample its attention there; raises FrameDecodeError.

    The first axis of `attention` goes through the slices that the network was shown.
    """
    affine = _magnify(frame.affine, scale)
    grey = _grey(decode_frame(frame), window, scale)
    shape = (grey.shape[0], grey.shape[1])
    return Pane(grey, _sample(attention, shape, affine), _seen(attention, shape, affine), affine)


def sample_attention(frame: Frame, attention: Volume) -> npt.NDArray[np.float32]:
    """Sample the attention (0-1) at each pixel of the frame, shape (row, column)."""
    return _sample(attention, frame.shape, frame.affine)


def attention_score(frame: Frame, attention: Volume) -> float:
    """Average the attention of the frame's hottest hundredth: a hot spot outweighs a faint haze."""
    values, hottest = _hottest(frame, attention)
    return float(values.ravel()[hottest].mean())


def attention_centre(frame: Frame, attention: Volume) -> npt.NDArray[np.float64]:
    """Middle of the frame's hottest hundredth in RAS+ millimetres, shape (3,)."""
    values, hottest = _hottest(frame, attention)
    row, column = np.mean(np.unravel_index(hottest, values.shape), axis=1)
    return np.asarray((frame.affine @ [row, column, 0.0, 1.0])[:3])


def edges_of(frame: Frame) -> Edges:
    """Orientation letters of the frame's edges, one each."""
    down, across = frame.affine[:3, 0], frame.affine[:3, 1]
    return Edges(
        left=orientation_letters(-across)[0],
        right=orientation_letters(across)[0],
        top=orientation_letters(-down)[0],
        bottom=orientation_letters(down)[0],
    )


def place_of(frame: Frame) -> str:
    """Which image of which series the frame is, and where it lies: "series 4, image 7 (S 10.0 mm)"."""
    axis = int(np.argmax(np.abs(frame.normal)))
    side = ("LR", "PA", "IS")[axis][int(frame.position_mm >= 0)]
    within = "" if frame.number is None else f", frame {frame.number}"
    return (
        f"series {_number(frame, 'SeriesNumber')}, image {_number(frame, 'InstanceNumber')}{within} "
        f"({side} {abs(frame.position_mm):.1f} mm)"
    )


def _number(frame: Frame, keyword: str) -> str:
    value = frame.dataset.get(keyword)
    return "?" if value is None else str(value)


def _hottest(frame: Frame, attention: Volume) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.intp]]:
    values = sample_attention(frame, attention)
    count = max(1, round(_HOTTEST_SHARE * values.size))
    return values, np.argpartition(values.ravel(), -count)[-count:]


def _sample(
    attention: Volume, shape: tuple[int, int], affine: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    plane = attention.resample((*shape, 1), affine).array[..., 0]
    return np.clip(plane, 0.0, 1.0)


def _seen(
    attention: Volume, shape: tuple[int, int], affine: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """Whether each place lies between the first and the last slice, where `_sample` finds attention."""
    down, across, _, first = np.round((np.linalg.inv(attention.affine) @ affine)[0], 9)
    rows, columns = np.indices(shape, sparse=True)
    level = first + down * rows + across * columns
    return np.asarray((level >= 0) & (level <= len(attention.array) - 1))


def _grey(pixels: npt.NDArray[np.float32], window: Window, scale: int) -> npt.NDArray[np.uint8]:
    shown = np.clip((pixels - window.low) / (window.high - window.low), 0, 1)
    grey = np.rint(255 * shown).astype(np.uint8)
    rows, columns = grey.shape
    image = Image.fromarray(grey).resize((columns * scale, rows * scale), Image.Resampling.BICUBIC)
    return np.asarray(image)


def _magnify(affine: npt.NDArray[np.float64], scale: int) -> npt.NDArray[np.float64]:
    """Give the affine of the same plane cut into `scale` times the rows and columns, edges kept."""
    shift = 0.5 / scale - 0.5
    finer = np.diag([1 / scale, 1 / scale, 1.0, 1.0])
    finer[:2, 3] = shift
    return np.asarray(affine @ finer)
