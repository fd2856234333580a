"""What the images of a patient look like, in a few numbers that need no network.

They say whether a stack is a brain in the three contrasts: how each contrast is distributed over the brain,
how sharp it is, and how the contrasts go together. `model.gates` compares them with what is usual.
"""

from itertools import combinations
from typing import Final

import numpy as np
import numpy.typing as npt

from model.grade import Contrast
from model.stack import Stack

_QUANTILES = (0.01, 0.05, 0.25, 0.75, 0.95, 0.99)
_WORDS = {Contrast.FLAIR: "FLAIR", Contrast.T1CE: "T1 post-contrast", Contrast.T2: "T2"}
_LEAST_PIXELS = 1000

NAMES: Final[tuple[str, ...]] = (
    "brain in the slices",
    *(f"{_WORDS[c]} at its quantile {q:g}" for c in Contrast for q in _QUANTILES),
    *(f"{_WORDS[c]} detail {where}" for c in Contrast for where in ("within slices", "between slices")),
    *(f"{_WORDS[a]} against {_WORDS[b]}" for a, b in combinations(Contrast, 2)),
)


def describe_appearance(stack: Stack) -> tuple[float, ...]:
    """Give the features that `NAMES` names.

    Quantiles are robust z-scores of the brain; detail is the logarithm of the mean absolute difference of
    neighbours, within rows and columns or from slice to slice; contrasts go together by their correlation.
    All are infinite where there is hardly any brain.
    """
    mask = stack.mask
    if mask.sum() < _LEAST_PIXELS:
        return (float("inf"),) * len(NAMES)
    channels = [stack.array[:, index] for index in range(len(Contrast))]
    inside = np.stack([channel[mask] for channel in channels]).astype(np.float64)
    features = [float(np.log(mask.mean()))]
    features += np.quantile(inside, _QUANTILES, axis=1).T.ravel().tolist()
    for channel in channels:
        features += [_detail(channel, mask, (1, 2)), _detail(channel, mask, (0,))]
    return (*features, *(_correlation(a, b) for a, b in combinations(inside, 2)))


def _detail(channel: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], axes: tuple[int, ...]) -> float:
    total, count = 0.0, 0
    for axis in axes:
        ahead = [slice(1, None) if a == axis else slice(None) for a in range(3)]
        behind = [slice(None, -1) if a == axis else slice(None) for a in range(3)]
        both = mask[tuple(ahead)] & mask[tuple(behind)]
        change = np.abs(channel[tuple(ahead)] - channel[tuple(behind)])[both]
        total, count = total + float(change.sum(dtype=np.float64)), count + change.size
    return float(np.log(total / max(count, 1) + 1e-3))


def _correlation(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    a, b = first - first.mean(), second - second.mean()
    return float((a @ b) / max(float(np.sqrt((a @ a) * (b @ b))), 1e-9))
