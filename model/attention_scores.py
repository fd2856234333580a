"""Whether the attention sits on the tumour, beside what chance would give.

Arrays are (slice, row, column). Every score is taken in each slice with tumour, then averaged over them, and
is nan for a patient without tumour.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from model.metrics import area_under_curve

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


class AttentionScores(NamedTuple):
    """Scores of one patient, 0–1."""

    pointing: float
    """Share of slices whose most attended pixel lies in the tumour."""
    energy: float
    """Share of the attention within the brain that lies in the tumour."""
    dice: float
    """Dice of the tumour and as many pixels, the most attended ones."""
    jaccard: float
    """Jaccard index of the tumour and attention above half of its range in the slice (Yan 2019)."""
    sign: float
    """Area under the curve of attention in the tumour against the rest of the brain; below 0.5: inverted."""
    chance: float
    """The tumour's share of the brain: what pointing and energy give without looking."""


def score_attention(attention: Array, tumour: Mask, brain: Mask) -> AttentionScores:
    """Score a patient's attention, which is 0 outside the brain, against the tumour."""
    slices = [
        _score_slice(attention[index][brain[index]].astype(np.float64), tumour[index][brain[index]])
        for index in np.flatnonzero((tumour & brain).any(axis=(1, 2)))
    ]
    if not slices:
        return AttentionScores(*[float("nan")] * len(AttentionScores._fields))
    return AttentionScores(*np.nanmean(slices, axis=0).tolist())


def pointing(attention: Array, tumour: Mask) -> float:
    """Share of the slices with tumour whose most attended pixel lies in it; both (slice, row, column)."""
    holding = tumour.any(axis=(1, 2))
    peak = attention[holding].reshape(holding.sum(), -1).argmax(axis=1)
    return float(np.take_along_axis(tumour[holding].reshape(len(peak), -1), peak[:, None], axis=1).mean())


def dice(attention: Array, tumour: Mask) -> float:
    """Dice of attention above one half and the tumour, over the slices with tumour, then their mean."""
    holding = tumour.any(axis=(1, 2))
    attended = attention[holding] > 0.5
    both = (attended & tumour[holding]).sum(axis=(1, 2))
    return float((2 * both / (attended.sum(axis=(1, 2)) + tumour[holding].sum(axis=(1, 2)))).mean())


def _score_slice(attention: npt.NDArray[np.float64], tumour: Mask) -> tuple[float, ...]:
    """Score the pixels of one slice's brain, shape (n,), some of them tumour."""
    area = int(tumour.sum())
    most = np.argsort(-attention, kind="stable")
    above = attention > (attention.min() + attention.max()) / 2
    whole = attention.sum()
    return (
        float(tumour[most[0]]),
        float(attention[tumour].sum() / whole) if whole else 0.0,
        float(tumour[most[:area]].mean()),
        float((above & tumour).sum() / (above | tumour).sum()),
        area_under_curve(attention, tumour),
        area / len(tumour),
    )
