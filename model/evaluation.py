"""A checkpoint on a cohort of BraTS folders: what was measured, beside its baselines.

Everything is counted by patient. What the cohort's patients were to the checkpoint, held out or trained on,
is for its user to know.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from model.attention_scores import AttentionScores, score_attention
from model.baselines import enhancing_rule, source_only, without_tumour
from model.brats import Patient, enhancing_ml, load_labels, load_patient, tumour_on
from model.brats_names import CohortError
from model.card import Card
from model.grade import Grade
from model.metrics import (
    DECISION_METRICS,
    PUBLISHED,
    RESAMPLES,
    Estimate,
    Flags,
    Numbers,
    RiskCoverage,
    estimate_all,
    interval_over_patients,
    risk_coverage,
)
from model.predict import Prediction
from model.stack import Stack

PUBLISHED_NAME = "the paper's table, 57 patients of BraTS 2018"


class OneGradeError(CohortError):
    """A cohort with patients of one grade only."""


class Grader(Protocol):
    """What grades a stack; a `Predictor`."""

    def predict(self, stack: Stack) -> Prediction:
        """Grade a stack."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One entry per patient; all but the first are nan where there is no segmentation, or no tumour in it."""

    probability: Numbers
    masked: Numbers
    """Probability of HGG with the tumour blanked."""
    enhancing_ml: Numbers
    attention: npt.NDArray[np.float64]
    """Columns as in `AttentionScores`."""


class Row(NamedTuple):
    """What one way of grading reached on some patients."""

    name: str
    hgg: int
    lgg: int
    estimates: dict[str, Estimate]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything measured of one checkpoint on one cohort."""

    checkpoint: Row
    baselines: tuple[Row, ...]
    published: Row
    by_source: tuple[Row, ...]
    risk_coverage: RiskCoverage
    attention: dict[str, Estimate]
    """Means over the patients with a segmented tumour; empty where there is none."""
    attention_patients: int


def measure(grader: Grader, patients: Sequence[Patient], step: Callable[[], None] = lambda: None) -> Measured:
    """Grade every patient, with the tumour and without; `step` is called after each. Raises `CohortError`."""
    if len({patient.grade for patient in patients}) < 2:
        raise OneGradeError("all patients have one grade: an evaluation needs patients of HGG and of LGG")
    rows = []
    for patient in patients:
        rows.append(_measure_one(grader, patient))
        step()
    columns = np.array(rows)
    return Measured(columns[:, 0], columns[:, 1], columns[:, 2], columns[:, 3:])


def evaluate(
    card: Card, patients: Sequence[Patient], measured: Measured, resamples: int = RESAMPLES
) -> Evaluation:
    """Count what was measured, with 95 % intervals over patients, and the baselines on the same patients."""
    is_hgg = np.array([patient.grade is Grade.HGG for patient in patients])
    p, threshold = measured.probability, card.threshold

    def row(name: str, probability: Numbers, cut: float, *, which: Flags | None = None) -> Row:
        chosen = np.ones_like(is_hgg) if which is None else which
        return _row(name, probability[chosen], is_hgg[chosen], cut, resamples)

    baselines = [
        _decisions(row("all HGG", np.ones_like(p), 0.5)),
        row("source only, out of fold", source_only(patients), 0.5),
    ]
    if not np.isnan(measured.enhancing_ml).any():
        rule = enhancing_rule(patients, measured.enhancing_ml)
        baselines.append(_decisions(row("enhancing volume, out of fold", rule, 0.5)))
    if not np.isnan(measured.masked).any():
        baselines.append(row("this checkpoint, tumour blanked", measured.masked, threshold))
    sources = np.array([patient.source for patient in patients])
    scored = ~np.isnan(measured.attention[:, 0])
    means = {
        name: interval_over_patients(lambda v, _: float(v.mean()), column[scored], is_hgg[scored])
        for name, column in zip(AttentionScores._fields, measured.attention.T, strict=True)
        if scored.any()
    }
    return Evaluation(
        checkpoint=row("this checkpoint", p, threshold),
        baselines=tuple(baselines),
        published=_published(resamples),
        by_source=tuple(
            row(source, p, threshold, which=sources == source) for source in np.unique(sources).tolist()
        ),
        risk_coverage=risk_coverage(p, is_hgg, threshold),
        attention=means,
        attention_patients=int(scored.sum()),
    )


def _measure_one(grader: Grader, patient: Patient) -> tuple[float, ...]:
    stack = load_patient(patient).stack
    prediction = grader.predict(stack)
    probability = prediction.grade_prediction.probability
    unknown = [np.nan] * len(AttentionScores._fields)
    labels = load_labels(patient)
    if labels is None:
        return (probability, np.nan, np.nan, *unknown)
    tumour = tumour_on(stack, labels)
    if not tumour.any():
        return (probability, np.nan, enhancing_ml(labels), *unknown)
    masked = grader.predict(without_tumour(stack, tumour)).grade_prediction.probability
    scores = score_attention(prediction.attention.array, tumour, stack.mask)
    return (probability, masked, enhancing_ml(labels), *scores)


def _row(name: str, probability: Numbers, is_hgg: Flags, threshold: float, resamples: int) -> Row:
    estimates = estimate_all(probability, is_hgg, threshold, resamples)
    return Row(name, int(is_hgg.sum()), int((~is_hgg).sum()), estimates)


def _decisions(row: Row) -> Row:
    """Leave out what needs a probability, of a rule that gives none."""
    return row._replace(estimates={name: row.estimates[name] for name in DECISION_METRICS})


def _published(resamples: int) -> Row:
    counts = (
        (PUBLISHED.hgg_called_hgg, 1.0, True),
        (PUBLISHED.lgg_called_hgg, 1.0, False),
        (PUBLISHED.lgg_called_lgg, 0.0, False),
        (PUBLISHED.hgg_called_lgg, 0.0, True),
    )
    called = np.concatenate([np.full(count, value) for count, value, _ in counts])
    is_hgg = np.concatenate([np.full(count, truth) for count, _, truth in counts])
    return _decisions(_row(PUBLISHED_NAME, called, is_hgg, 0.5, resamples))
