"""How well a study was brought to BraTS space, and what is too bad to be graded."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

_BINS = 64
_PERCENTILES = (0.5, 99.5)

Mask = npt.NDArray[np.bool_]
Array = npt.NDArray[np.float32]


class Reason(StrEnum):
    """Why a study cannot be brought to model space."""

    MISSING_CONTRAST = "missing_contrast"
    NOT_FINITE = "not_finite"
    CONSTANT = "constant_volume"
    BAD_GEOMETRY = "bad_geometry"
    NO_BRAIN = "no_brain"
    NOT_IN_SPACE = "not_in_space"
    BRAIN_VOLUME = "brain_volume"
    NOT_LIKE_ATLAS = "not_like_atlas"
    HEAD_TURNED = "head_turned"
    OUTSIDE_GRID = "outside_grid"
    NOT_ALIGNED = "not_aligned"
    SAME_IMAGES = "same_images"
    NOT_COVERED = "not_covered"


class PreprocessingError(Exception):
    """These volumes cannot become a stack; trying again with the same volumes cannot help.

    `reason` is for machines, the message is one sentence for a technologist.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Quality:
    """What was measured of one study on its way to BraTS space.

    Similarities are normalised mutual information within the brain, 1 (nothing in common) to 2, of 64 bins
    from the 0.5th to the 99.5th percentile. Overlaps are Dice coefficients, coverages the share of the
    brain in the 56 slices that a series reaches. `*_rotation_degrees` and `*_shift_mm` say how far a
    series had to be moved from where the scanner's coordinates put it, `head_rotation_degrees` how far the
    head is turned against the atlas.
    """

    brain_ml: float
    outside_grid: float
    atlas_similarity: float
    atlas_overlap: float
    head_rotation_degrees: float
    flair_similarity: float
    t2_similarity: float
    flair_overlap: float
    t2_overlap: float
    flair_rotation_degrees: float
    t2_rotation_degrees: float
    flair_shift_mm: float
    t2_shift_mm: float
    flair_coverage: float
    t1ce_coverage: float
    t2_coverage: float


@dataclass(frozen=True, slots=True)
class Gate:
    """The limits of one measure.

    At `fail` and beyond the study is not graded, at `warn` and beyond it is graded with a flag; `is_least`
    says whether the limits are the least or the most that is good. `sentence` takes `value` and `limit`.
    """

    measure: str
    is_least: bool
    fail: float | None
    warn: float
    reason: Reason
    sentence: str

    def fails(self, value: float) -> bool:
        """Whether a study with this value must not be graded; not a number fails."""
        return self.fail is not None and not self._is_better(value, self.fail)

    def warns(self, value: float) -> bool:
        """Whether a person should know of this value."""
        return not self._is_better(value, self.warn)

    def _is_better(self, value: float, limit: float) -> bool:
        return value > limit if self.is_least else value < limit


_NOT_ALIGNED = "the {name} series could not be aligned with the T1 post-contrast series ({what})"
_SAME = "the {name} series shows the same images as the T1 post-contrast series"
_VOLUME = "what was taken for the brain in the T1 post-contrast series holds {value:.0f} ml"
_ATLAS = "what was taken for the brain in the T1 post-contrast series does not look like one ({what})"


def _series_gates(name: str, contrast: str) -> tuple[Gate, ...]:
    similarity = _NOT_ALIGNED.format(name=name, what="similarity {value:.3f}, {limit} is needed")
    overlap = _NOT_ALIGNED.format(name=name, what="the brains overlap by {value:.2f}, {limit} is needed")
    moved = _NOT_ALIGNED.format(name=name, what="it would have to be turned by {value:.0f}°")
    shifted = _NOT_ALIGNED.format(name=name, what="it would have to be moved by {value:.0f} mm")
    return (
        Gate(f"{contrast}_similarity", True, 1.015, 1.025, Reason.NOT_ALIGNED, similarity),
        Gate(f"{contrast}_similarity", False, 1.6, 1.4, Reason.SAME_IMAGES, _SAME.format(name=name)),
        Gate(f"{contrast}_overlap", True, 0.88, 0.91, Reason.NOT_ALIGNED, overlap),
        Gate(f"{contrast}_rotation_degrees", False, 45.0, 30.0, Reason.NOT_ALIGNED, moved),
        Gate(f"{contrast}_shift_mm", False, None, 60.0, Reason.NOT_ALIGNED, shifted),
    )


def _coverage_gate(name: str, contrast: str) -> Gate:
    sentence = f"the {name} series reaches {{value:.0%}} of the brain that is graded, {{limit:.0%}} is needed"
    return Gate(f"{contrast}_coverage", True, 0.85, 0.95, Reason.NOT_COVERED, sentence)


GATES: tuple[Gate, ...] = (
    Gate("brain_ml", True, 700.0, 1000.0, Reason.BRAIN_VOLUME, _VOLUME),
    Gate("brain_ml", False, 2200.0, 1900.0, Reason.BRAIN_VOLUME, _VOLUME),
    Gate("atlas_similarity", True, 1.010, 1.015, Reason.NOT_LIKE_ATLAS,
         _ATLAS.format(what="similarity to the atlas {value:.3f}, {limit} is needed")),
    Gate("atlas_overlap", True, 0.80, 0.88, Reason.NOT_LIKE_ATLAS,
         _ATLAS.format(what="overlap with the atlas {value:.2f}, {limit} is needed")),
    Gate("head_rotation_degrees", False, 45.0, 30.0, Reason.HEAD_TURNED,
         "the head is turned by {value:.0f}° against the atlas, less than {limit:.0f}° is needed"),
    Gate("outside_grid", False, 0.03, 0.01, Reason.OUTSIDE_GRID,
         "{value:.0%} of the brain would lie outside the model's field of view"),
    *_series_gates("FLAIR", "flair"),
    *_series_gates("T2", "t2"),
    _coverage_gate("FLAIR", "flair"),
    _coverage_gate("T1 post-contrast", "t1ce"),
    _coverage_gate("T2", "t2"),
)  # fmt: skip


def require_gradable(quality: Quality) -> None:
    """Raise PreprocessingError for the first gate that fails."""
    for gate in GATES:
        value = getattr(quality, gate.measure)
        if gate.fails(value):
            sentence = gate.sentence.format(value=value, limit=gate.fail)
            raise PreprocessingError(gate.reason, f"not gradable: {sentence}.")


def list_warnings(quality: Quality) -> tuple[str, ...]:
    """Name the measures that a person should look at, in the order of the gates."""
    return tuple(gate.measure for gate in GATES if gate.warns(getattr(quality, gate.measure)))


def similarity(first: Array, second: Array) -> float:
    """Normalised mutual information (Studholme 1999), (H(a) + H(b)) / H(a, b), of samples of shape (n,).

    Samples of which one is not a number are left out; 1 where nothing or a constant is left.
    """
    known = np.isfinite(first) & np.isfinite(second)
    if not known.any():
        return 1.0
    codes = [_binned(values[known]) for values in (first, second)]
    joint = np.bincount(codes[0] * _BINS + codes[1], minlength=_BINS**2).reshape(_BINS, _BINS)
    together = _entropy(joint.ravel())
    if together == 0:
        return 1.0
    return (_entropy(joint.sum(axis=0)) + _entropy(joint.sum(axis=1))) / together


def overlap(first: Mask, second: Mask) -> float:
    """Dice coefficient of two masks of one shape; 0 where both are empty."""
    both = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / both if both else 0.0


def _binned(values: Array) -> npt.NDArray[np.intp]:
    low, high = np.percentile(values, _PERCENTILES)
    scaled = (values - low) / max(high - low, 1e-12) * _BINS
    return np.asarray(np.clip(scaled, 0, _BINS - 1).astype(np.intp))


def _entropy(counts: npt.NDArray[np.intp]) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
