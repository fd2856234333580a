"""How well patients are told apart, and how far the probabilities can be trusted.

HGG is the positive class. A number that a cohort can't give, as sensitivity without a single HGG, is nan.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

Numbers = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

RESAMPLES = 2000
DECISION_METRICS = (
    "balanced accuracy",
    "sensitivity",
    "specificity",
    "F1 of HGG",
    "F1 of LGG",
    "macro-F1",
    "MCC",
    "accuracy",
    "precision",
)
"""Those that need no probability, only what a patient is called."""
_BINS = 10


class Estimate(NamedTuple):
    """A number and its 95 % interval over patients."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Confusion:
    """Patients by what they are and what they are called."""

    hgg_called_hgg: int
    lgg_called_hgg: int
    lgg_called_lgg: int
    hgg_called_lgg: int

    @classmethod
    def count(cls, called_hgg: Flags, is_hgg: Flags) -> "Confusion":
        """Count patients, both of shape (n,)."""
        return cls(
            int((called_hgg & is_hgg).sum()),
            int((called_hgg & ~is_hgg).sum()),
            int((~called_hgg & ~is_hgg).sum()),
            int((~called_hgg & is_hgg).sum()),
        )

    @property
    def patients(self) -> int:
        """All of them."""
        return self.hgg_called_hgg + self.lgg_called_hgg + self.lgg_called_lgg + self.hgg_called_lgg

    @property
    def accuracy(self) -> float:
        """Share called what they are."""
        return _share(self.hgg_called_hgg + self.lgg_called_lgg, self.patients)

    @property
    def precision(self) -> float:
        """Share of those called HGG that are."""
        return _share(self.hgg_called_hgg, self.hgg_called_hgg + self.lgg_called_hgg)

    @property
    def sensitivity(self) -> float:
        """Share of HGG called HGG; the paper's recall."""
        return _share(self.hgg_called_hgg, self.hgg_called_hgg + self.hgg_called_lgg)

    @property
    def specificity(self) -> float:
        """Share of LGG called LGG."""
        return _share(self.lgg_called_lgg, self.lgg_called_lgg + self.lgg_called_hgg)

    @property
    def balanced_accuracy(self) -> float:
        """Mean of sensitivity and specificity."""
        return (self.sensitivity + self.specificity) / 2

    @property
    def f1_hgg(self) -> float:
        """Harmonic mean of precision and recall of HGG."""
        return self._f1(self.hgg_called_hgg)

    @property
    def f1_lgg(self) -> float:
        """Harmonic mean of precision and recall of LGG."""
        return self._f1(self.lgg_called_lgg)

    @property
    def macro_f1(self) -> float:
        """Mean of both F1."""
        return (self.f1_hgg + self.f1_lgg) / 2

    @property
    def mcc(self) -> float:
        """Matthews correlation coefficient; 0 where all are, or are called, the same (Chicco 2020)."""
        a, b = self.hgg_called_hgg, self.lgg_called_hgg
        c, d = self.hgg_called_lgg, self.lgg_called_lgg
        product = (a + b) * (a + c) * (d + b) * (d + c)
        return (a * d - b * c) / product**0.5 if product else 0.0

    def _f1(self, right: int) -> float:
        return _share(2 * right, 2 * right + self.lgg_called_hgg + self.hgg_called_lgg)


PUBLISHED = Confusion(41, 7, 8, 1)
"""The paper's 57 held-out patients of BraTS 2018 (Sabahuddin and Gutta)."""

PUBLISHED_STATED: Mapping[str, float] = {
    "accuracy": 0.8596,
    "precision": 0.8542,
    "sensitivity": 0.9762,
    "F1 of HGG": 0.9118,
}
"""What the paper says of `PUBLISHED`. Its F1 doesn't follow from it: 0.9111 does."""


class RiskCoverage(NamedTuple):
    """What remains wrong when the least certain patients are left to a person, both of shape (n,).

    `risk[i]` is the share of errors among the share `coverage[i]` of patients that are the most certain.
    """

    coverage: Numbers
    risk: Numbers

    @property
    def area(self) -> float:
        """Mean risk over all coverages (Geifman 2019)."""
        return float(self.risk.mean())


class RocCurve(NamedTuple):
    """What each threshold reaches, from calling none HGG to calling all, both of shape (m,)."""

    false_positive_rate: Numbers
    sensitivity: Numbers


class CalibrationBins(NamedTuple):
    """Ten bins of as many patients each, of shape (10,), or as many as there are patients."""

    probability: Numbers
    """Mean probability of HGG."""
    share: Numbers
    """Share of patients that are HGG."""
    patients: Numbers


def roc_curve(probability: Numbers, is_hgg: Flags) -> RocCurve:
    """Lower the threshold from probability to probability; both grades must occur."""
    _, which = np.unique(-probability, return_inverse=True)
    hgg, lgg = (np.concatenate([[0], np.cumsum(np.bincount(which, w))]) for w in (is_hgg, ~is_hgg))
    return RocCurve(lgg / lgg[-1], hgg / hgg[-1])


def calibration_bins(probability: Numbers, is_hgg: Flags) -> CalibrationBins:
    """Deal patients, in the order of their probability, to the bins that `calibration_error` looks at."""
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, _BINS) if len(part)]
    return CalibrationBins(
        np.array([probability[part].mean() for part in parts]),
        np.array([is_hgg[part].mean() for part in parts]),
        np.array([len(part) for part in parts], dtype=np.float64),
    )


def area_under_curve(probability: Numbers, is_hgg: Flags) -> float:
    """Area under the ROC curve of patients, shape (n,): Mann and Whitney's U over the number of pairs."""
    high, low = int(is_hgg.sum()), int((~is_hgg).sum())
    if not high or not low:
        return float("nan")
    return float((stats.rankdata(probability)[is_hgg].sum() - high * (high + 1) / 2) / (high * low))


def balanced_accuracy(called_hgg: Flags, is_hgg: Flags) -> float:
    """Mean of the share of HGG called HGG and the share of LGG called LGG, patients of shape (n,)."""
    return Confusion.count(called_hgg, is_hgg).balanced_accuracy


def brier_score(probability: Numbers, is_hgg: Flags) -> float:
    """Mean squared difference of probability and truth (Brier 1950)."""
    return float(((probability - is_hgg) ** 2).mean())


def calibration_error(probability: Numbers, is_hgg: Flags) -> float:
    """Expected calibration error in ten bins of as many patients each (Nixon 2019).

    Patients of one probability share their mean truth, so that their order doesn't count.
    """
    _, which, count = np.unique(probability, return_inverse=True, return_counts=True)
    truth = (np.bincount(which, weights=is_hgg) / count)[which]
    gap = (probability - truth)[np.argsort(probability, kind="stable")]
    return float(sum(abs(part.sum()) for part in np.array_split(gap, _BINS)) / len(gap))


def risk_coverage(probability: Numbers, is_hgg: Flags, threshold: float) -> RiskCoverage:
    """Leave the least certain patients out, one after the other; certainty is the distance to `threshold`.

    Equally certain patients share their errors.
    """
    wrong = (probability >= threshold) != is_hgg
    certainty, which, count = np.unique(
        -np.abs(probability - threshold), return_inverse=True, return_counts=True
    )
    shared = np.bincount(which, weights=wrong, minlength=len(certainty)) / count
    patients = np.arange(1, len(wrong) + 1)
    return RiskCoverage(patients / len(wrong), np.cumsum(np.repeat(shared, count)) / patients)


def measure(probability: Numbers, is_hgg: Flags, threshold: float) -> dict[str, float]:
    """Give every number of n patients by its name."""
    confusion = Confusion.count(probability >= threshold, is_hgg)
    return {
        "AUC": area_under_curve(probability, is_hgg),
        "balanced accuracy": confusion.balanced_accuracy,
        "sensitivity": confusion.sensitivity,
        "specificity": confusion.specificity,
        "F1 of HGG": confusion.f1_hgg,
        "F1 of LGG": confusion.f1_lgg,
        "macro-F1": confusion.macro_f1,
        "MCC": confusion.mcc,
        "accuracy": confusion.accuracy,
        "precision": confusion.precision,
        "Brier": brier_score(probability, is_hgg),
        "ECE": calibration_error(probability, is_hgg),
        "area under risk-coverage": risk_coverage(probability, is_hgg, threshold).area,
    }


def estimate_all(
    probability: Numbers, is_hgg: Flags, threshold: float, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Estimate]:
    """Give every number of `measure` with its interval: a percentile bootstrap within each grade."""
    names = list(measure(probability, is_hgg, threshold))

    def all_of_them(values: Numbers, truth: Flags) -> Numbers:
        return np.array(list(measure(values, truth, threshold).values()))

    value, low, high = _bootstrap(all_of_them, probability, is_hgg, resamples, seed)
    columns = zip(value.tolist(), low.tolist(), high.tolist(), strict=True)
    return {name: Estimate(*column) for name, column in zip(names, columns, strict=True)}


def interval_over_patients(
    statistic: Callable[[Numbers, Flags], float], values: Numbers, is_hgg: Flags, seed: int = 0
) -> Estimate:
    """Percentile bootstrap over patients, resampled within each grade so that both always occur."""
    found = _bootstrap(lambda v, t: np.array([statistic(v, t)]), values, is_hgg, RESAMPLES, seed)
    return Estimate(*(float(each[0]) for each in found))


def _bootstrap(
    statistic: Callable[[Numbers, Flags], Numbers], values: Numbers, is_hgg: Flags, resamples: int, seed: int
) -> tuple[Numbers, Numbers, Numbers]:
    """Value, 2.5th and 97.5th percentile of each number that `statistic` gives."""
    random = np.random.default_rng(seed)
    groups = [group for group in (np.flatnonzero(is_hgg), np.flatnonzero(~is_hgg)) if len(group)]
    drawn = []
    for _ in range(resamples):
        index = np.concatenate([random.choice(group, len(group)) for group in groups])
        drawn.append(statistic(values[index], is_hgg[index]))
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    return statistic(values, is_hgg), low, high


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
