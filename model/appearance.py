"""What the images of a patient look like, in a few numbers that need no network: `model.gates.FEATURES`.

They say whether a stack is a brain in the three contrasts: how each contrast is distributed over the brain,
how sharp it is, and how the contrasts go together. `model.gates` compares them with what is usual.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Final

import numpy as np
import numpy.typing as npt

from model.gates import FEATURES, QUANTILES
from model.grade import Contrast
from model.space.stack import Stack

Numbers = npt.NDArray[np.float64]

_LEAST_PIXELS = 1000
_PAIRS = tuple(combinations(range(len(Contrast)), 2))
# with all that training varies, 0.7 to 1.4, exchanged contrasts come as near to usual as another scanner
_GAINS, _OFFSETS = (0.8, 1.25), (-0.2, 0.2)

_EXCHANGES: Final = ((2, 1, 0), (1, 0, 2), (0, 2, 1), (1, 2, 0), (2, 0, 1))
_REPEATS: Final = ((0, 1, 0), (2, 1, 2), (1, 1, 2), (0, 1, 1))
WRONG_ORDERS: Final = _EXCHANGES + _REPEATS
"""Which channel a wrong study shows in the place of each: contrasts exchanged, or one in two roles."""


def describe_appearance(stack: Stack) -> tuple[float, ...]:
    """Give the features that `FEATURES` names.

    Quantiles are robust z-scores of the brain; detail is the logarithm of the mean absolute difference of
    neighbours, within rows and columns or from slice to slice; contrasts go together by their correlation.
    All are infinite where there is hardly any brain.
    """
    mask = stack.mask
    if mask.sum() < _LEAST_PIXELS:
        return (float("inf"),) * len(FEATURES)
    channels = [stack.array[:, index] for index in range(len(Contrast))]
    inside = np.stack([channel[mask] for channel in channels]).astype(np.float64)
    features = [float(np.log(mask.mean()))]
    features += np.quantile(inside, QUANTILES, axis=1).T.ravel().tolist()
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


def reorder(features: Sequence[float], order: Sequence[int]) -> tuple[float, ...]:
    """Give the features of the same stack with channel `order[c]` in the place of channel c."""
    brain, quantiles, details, pairs = _parts(features)
    together = np.eye(len(Contrast))
    for (a, b), value in zip(_PAIRS, pairs, strict=True):
        together[a, b] = together[b, a] = value
    pairs = np.array([together[order[a], order[b]] for a, b in _PAIRS])
    return _joined(brain, quantiles[list(order)], details[list(order)], pairs)


def rescale(features: Sequence[float], random: np.random.Generator) -> tuple[float, ...]:
    """Give the features of the same stack with brightness and contrast of each channel varied.

    No more than training varies them: to the network what comes out is as usual as the patient itself.
    """
    brain, quantiles, details, pairs = _parts(features)
    gain, offset = random.uniform(*_GAINS, (len(Contrast), 1)), random.uniform(*_OFFSETS, (len(Contrast), 1))
    return _joined(brain, quantiles * gain + offset, details + np.log(gain), pairs)


def _parts(features: Sequence[float]) -> tuple[float, Numbers, Numbers, Numbers]:
    """Part features into the brain's, and by channel quantiles and details, and the pairs' correlations."""
    count, width = len(Contrast), len(QUANTILES)
    brain, rest = float(features[0]), np.array(features[1:], np.float64)
    quantiles = rest[: count * width].reshape(count, width)
    details = rest[count * width : count * (width + 2)].reshape(count, 2)
    return brain, quantiles, details, rest[count * (width + 2) :]


def _joined(brain: float, *parts: Numbers) -> tuple[float, ...]:
    return (brain, *np.concatenate([part.ravel() for part in parts]).tolist())
