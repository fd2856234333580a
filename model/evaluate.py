"""How well patients are told apart, and whether the attention sits on the tumour. First form."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

Numbers = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_RESAMPLES = 2000


class Estimate(NamedTuple):
    """A number and its 95 % interval over patients."""

    value: float
    low: float
    high: float


def area_under_curve(probability: Numbers, is_hgg: Flags) -> float:
    """Area under the ROC curve of patients, shape (n,): Mann and Whitney's U over the number of pairs."""
    high, low = probability[is_hgg], probability[~is_hgg]
    return float(stats.mannwhitneyu(high, low).statistic) / (len(high) * len(low))


def balanced_accuracy(called_hgg: Flags, is_hgg: Flags) -> float:
    """Mean of the share of HGG called HGG and the share of LGG called LGG, patients of shape (n,)."""
    return float((called_hgg[is_hgg].mean() + (~called_hgg[~is_hgg]).mean()) / 2)


def interval_over_patients(
    statistic: Callable[[Numbers, Flags], float], values: Numbers, is_hgg: Flags, seed: int = 0
) -> Estimate:
    """Percentile bootstrap over patients, resampled within each grade so that both always occur."""
    random = np.random.default_rng(seed)
    groups = (np.flatnonzero(is_hgg), np.flatnonzero(~is_hgg))
    drawn = []
    for _ in range(_RESAMPLES):
        index = np.concatenate([random.choice(group, len(group)) for group in groups])
        drawn.append(statistic(values[index], is_hgg[index]))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(statistic(values, is_hgg), float(low), float(high))


def pointing(attention: npt.NDArray[np.float32], tumour: Flags) -> float:
    """Share of the slices with tumour whose most attended pixel lies in it; both (slice, row, column)."""
    holding = tumour.any(axis=(1, 2))
    peak = attention[holding].reshape(holding.sum(), -1).argmax(axis=1)
    return float(np.take_along_axis(tumour[holding].reshape(len(peak), -1), peak[:, None], axis=1).mean())


def dice(attention: npt.NDArray[np.float32], tumour: Flags) -> float:
    """Dice of attention above one half and the tumour, over the slices with tumour, then their mean."""
    holding = tumour.any(axis=(1, 2))
    attended = attention[holding] > 0.5
    both = (attended & tumour[holding]).sum(axis=(1, 2))
    return float((2 * both / (attended.sum(axis=(1, 2)) + tumour[holding].sum(axis=(1, 2)))).mean())
