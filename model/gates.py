"""Knowing when not to answer: what keeps a grade back, and the limits that a checkpoint's card holds for it.

Three gates, in this order: images unlike those that the network was trained on, no tumour seen, and a
probability too near the threshold. `model.training.fit_gates` measures the limits; nothing here needs numpy
or torch.
"""

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from model.grade import Contrast, Verdict

QUANTILES: Final = (0.01, 0.05, 0.25, 0.75, 0.95, 0.99)
_WORDS = {Contrast.FLAIR: "FLAIR", Contrast.T1CE: "T1 post-contrast", Contrast.T2: "T2"}
FEATURES: Final[tuple[str, ...]] = (
    "brain in the slices",
    *(f"{_WORDS[c]} at its quantile {q:g}" for c in Contrast for q in QUANTILES),
    *(f"{_WORDS[c]} detail {where}" for c in Contrast for where in ("within slices", "between slices")),
    *(f"{_WORDS[a]} against {_WORDS[b]}" for a, b in combinations(Contrast, 2)),
)
"""Names of what `model.appearance` measures of a patient's images, in its order."""

NO_GATES_STATEMENT = (
    "No gate was applied: the checkpoint has no limits for a missing tumour, unusual images or an "
    "indeterminate probability."
)

FARTHEST = 1e6
"""The largest distance that is told, so that a database and JSON can hold it."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NoTumourGate(_Frozen):
    """The least attention that a patient is graded from, and whom it kept and stopped when it was chosen."""

    least_ml: FiniteFloat = Field(ge=0, description="Volume of the brain with attention above 0.5, in ml")
    tumours: int = Field(ge=1, description="Patients with a tumour that it was measured on")
    tumours_kept: float = Field(ge=0, le=1, description="Share of them that is graded")
    tumour_free: int = Field(ge=1, description="Patients without a tumour that it was measured on")
    tumour_free_stopped: float = Field(ge=0, le=1, description="Share of them that is not graded")
    measured_on: str


class IndeterminateBand(_Frozen):
    """Calibrated probabilities of HGG that are told without a grade: from `low` to below `high`."""

    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)
    patients: int = Field(ge=1, description="Patients with a known grade that it was measured on")
    share_inside: float = Field(ge=0, le=1, description="Share of them within the band")
    error_inside: float | None = Field(
        ge=0, le=1, description="Share of wrong grades within, had they been told"
    )
    error_outside: float | None = Field(ge=0, le=1, description="Share of wrong grades outside")
    measured_on: str

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low > self.high:
            raise ValueError("the band ends before it begins")
        return self


class AppearanceGate(_Frozen):
    """What the images of a patient usually look like, and how far from that is too far.

    `names` are those of `FEATURES` that are looked at. A patient's are brought to `mean` 0 and
    `scale` 1 and multiplied by `whitening`, the lower triangle of a matrix whose row i has i + 1 entries. The
    distance is the root mean square of the outcome: Mahalanobis' distance over the square root of the number
    of features, near 1 for a usual patient.
    """

    names: tuple[str, ...] = Field(min_length=1)
    mean: tuple[FiniteFloat, ...]
    scale: tuple[FiniteFloat, ...]
    whitening: tuple[tuple[FiniteFloat, ...], ...]
    limit: FiniteFloat = Field(gt=0, description="Largest distance of a patient that is graded")
    wrong_stopped: float | None = Field(
        default=None, ge=0, le=1, description="Share of exchanged or repeated contrasts beyond the limit"
    )
    quantile: float = Field(
        gt=0, le=1, description="Share of patients like those trained on within the limit"
    )
    patients: int = Field(ge=2, description="Patients that it was measured on")
    measured_on: str

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        count = len(self.names)
        if not len(self.mean) == len(self.scale) == len(self.whitening) == count:
            raise ValueError("names, mean, scale and whitening differ in length")
        if [len(row) for row in self.whitening] != list(range(1, count + 1)):
            raise ValueError("whitening is no lower triangle")
        if min(self.scale) <= 0:
            raise ValueError("a scale is not positive")
        return self

    def deviations(self, features: tuple[float, ...]) -> tuple[float, ...]:
        """Give each feature that is looked at in standard deviations from the usual; `features` are all."""
        seen = dict(zip(FEATURES, features, strict=True))
        usual = zip(self.names, self.mean, self.scale, strict=True)
        return tuple((seen[name] - mean) / scale for name, mean, scale in usual)

    def distance(self, features: tuple[float, ...]) -> float:
        """Give the distance from the usual; `FARTHEST` where a feature isn't a number."""
        z = self.deviations(features)
        rows = (sum(w * value for w, value in zip(row, z, strict=False)) for row in self.whitening)
        distance = math.sqrt(sum(value**2 for value in rows) / len(z))
        return min(FARTHEST, distance)  # in this order not a number is far, too


class Gates(_Frozen):
    """All limits of a checkpoint; a gate that is None is not applied."""

    no_tumour: NoTumourGate | None = None
    indeterminate: IndeterminateBand | None = None
    appearance: AppearanceGate | None = None

    @property
    def statement(self) -> str:
        """One sentence for a report: which gates were applied, with which limits."""
        applied = []
        if self.appearance is not None:
            applied.append(f"images unlike those trained on (distance above {self.appearance.limit:.3g})")
        if self.no_tumour is not None:
            applied.append(f"no tumour seen (attention below {self.no_tumour.least_ml:.3g} ml)")
        if self.indeterminate is not None:
            band = self.indeterminate
            applied.append(f"indeterminate probability ({100 * band.low:.3g} to {100 * band.high:.3g} %)")
        if not applied:
            return NO_GATES_STATEMENT
        return f"Gates applied before a grade is told: {'; '.join(applied)}."


@dataclass(frozen=True, slots=True)
class PatientStatistics:
    """What the gates look at: the calibrated probability of HGG, attention above 0.5 in ml, and features.

    `appearance` are the features of `model.appearance`, in the order of `FEATURES`.
    """

    probability: float
    attention_ml: float
    appearance: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the gates say of a patient; `sentence` says why there is no grade, else it is empty.

    `attention_ml` is None where nobody measured it, `appearance_distance` where the checkpoint knows no usual
    appearance.
    """

    verdict: Verdict
    sentence: str
    attention_ml: float | None
    appearance_distance: float | None


NOT_JUDGED = Judgement(Verdict.GRADED, "", None, None)
"""Of a grade that no gate was asked about."""


def judge(statistics: PatientStatistics, gates: Gates | None) -> Judgement:
    """Ask the gates in their order; the first that closes gives the verdict. Not a number closes a gate."""
    gates = gates or Gates()
    appearance, no_tumour, band = gates.appearance, gates.no_tumour, gates.indeterminate
    distance = None if appearance is None else appearance.distance(statistics.appearance)
    verdict, sentence = Verdict.GRADED, ""
    if appearance is not None and distance is not None and not distance <= appearance.limit:
        verdict, sentence = Verdict.OUT_OF_DISTRIBUTION, _unlike(statistics, appearance, distance)
    elif no_tumour is not None and not statistics.attention_ml >= no_tumour.least_ml:
        verdict = Verdict.NO_TUMOUR_SEEN
        sentence = (
            "No tumour seen by the network: not graded. Its attention covers "
            f"{statistics.attention_ml:.1f} ml of the brain, {no_tumour.least_ml:.1f} ml are needed; "
            "this does not exclude a tumour."
        )
    elif band is not None and not (statistics.probability < band.low or statistics.probability >= band.high):
        verdict = Verdict.INDETERMINATE
        sentence = (
            f"Indeterminate: a probability of HGG between {100 * band.low:.3g} % and {100 * band.high:.3g} % "
            "is too near the threshold for a grade."
        )
    return Judgement(verdict, sentence, statistics.attention_ml, distance)


def _unlike(statistics: PatientStatistics, gate: AppearanceGate, distance: float) -> str:
    deviations = [abs(value) for value in gate.deviations(statistics.appearance)]
    unusual = gate.names[deviations.index(max(deviations))]
    return (
        "Not graded: the images are unlike those that the network was trained on (distance "
        f"{distance:.1f}, at most {gate.limit:.1f} is usual; most unusual: {unusual})."
    )
