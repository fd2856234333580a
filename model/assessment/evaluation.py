"""A checkpoint on a cohort of BraTS folders: what was measured, beside its baselines.

Everything is counted by patient. Figures of patients that were trained on are marked as such.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from model.assessment.baselines import enhancing_rule, source_only
from model.assessment.evaluation_measure import Measured
from model.attention_scores import AttentionScores
from model.card import Card
from model.cohorts.brats import Patient
from model.cohorts.brats_names import CohortError
from model.gates import Judgement
from model.grade import Grade, Verdict
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

CHECKPOINT_NAME = "this checkpoint"
BLANKED_NAME = "this checkpoint, tumour blanked"
BRIGHT_NAME = "bright pixels, no learning"
MIRRORED_NAME = "this checkpoint, tumour replaced by its mirror image"
PUBLISHED_NAME = "the paper's table, 57 patients of BraTS 2018"


class OneGradeError(CohortError):
    """A cohort with patients of one grade only."""


class Row(NamedTuple):
    """What one way of grading reached on some patients."""

    name: str
    hgg: int
    lgg: int
    estimates: dict[str, Estimate]


class Judged(NamedTuple):
    """How many patients have a verdict of the gates, and how many of their grades are, or would be, wrong."""

    verdict: Verdict
    hgg: int
    lgg: int
    wrong: int
    tumour_free: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything measured of one checkpoint on one cohort."""

    checkpoint: Row
    baselines: tuple[Row, ...]
    published: Row
    by_source: tuple[Row, ...]
    risk_coverage: RiskCoverage
    judged: tuple[Judged, ...]
    """One for each verdict."""
    attention: dict[str, dict[str, Estimate]]
    """Of the attention, and of Grad-CAM where it was asked for: means over the patients with a segmented
    tumour; empty where there is none."""
    attention_patients: int
    seen: frozenset[str] = frozenset()
    """Ids of patients that the checkpoint that graded them was trained on: with any, these are training
    figures."""
    checkpoints: tuple[str, ...] = ()
    """Labels of those that graded, each its own patients."""


def require_both_grades(patients: Sequence[Patient]) -> None:
    """Raise `OneGradeError` where there is nothing to tell apart."""
    if len({patient.grade for patient in patients}) < 2:
        raise OneGradeError("all patients have one grade: an evaluation needs patients of HGG and of LGG")


def evaluate(
    card: Card,
    patients: Sequence[Patient],
    measured: Measured,
    resamples: int = RESAMPLES,
    *,
    seen: frozenset[str] = frozenset(),
    checkpoints: tuple[str, ...] = (),
    tumour_free: Sequence[Judgement] = (),
) -> Evaluation:
    """Count what was measured, with 95 % intervals over patients, and the baselines on the same patients.

    `tumour_free` is what the gates say of those without a tumour. Raises `OneGradeError`.
    """
    require_both_grades(patients)
    is_hgg = np.array([patient.grade is Grade.HGG for patient in patients])
    p, threshold = measured.probability, card.threshold

    def row(name: str, probability: Numbers, cut: float, *, which: Flags | None = None) -> Row:
        chosen = np.ones_like(is_hgg) if which is None else which
        return _row(name, probability[chosen], is_hgg[chosen], cut, resamples)

    baselines = [
        _only(row("all HGG", np.ones_like(p), 0.5), DECISION_METRICS),
        row("source only, out of fold", source_only(patients), 0.5),
        _only(row(BRIGHT_NAME, measured.bright, 0.5), ["AUC"]),
    ]
    if not np.isnan(measured.enhancing_ml).any():
        rule = enhancing_rule(patients, measured.enhancing_ml)
        baselines.append(_only(row("enhancing volume, out of fold", rule, 0.5), DECISION_METRICS))
    known = ~np.isnan(measured.blanked)
    if known.any() and len(set(is_hgg[known])) == 2:
        blank, mirror = measured.blanked, measured.mirrored
        baselines += [
            row(BLANKED_NAME, blank, threshold, which=known),
            row(MIRRORED_NAME, mirror, threshold, which=known),
        ]
    sources = np.array([patient.source for patient in patients])
    maps = {"attention": measured.attention, "Grad-CAM": measured.grad_cam}
    means = {name: found for name, scores in maps.items() if (found := _means(scores, is_hgg))}
    return Evaluation(
        checkpoint=row(CHECKPOINT_NAME, p, threshold),
        baselines=tuple(baselines),
        published=_published(resamples),
        by_source=tuple(
            row(source, p, threshold, which=sources == source) for source in np.unique(sources).tolist()
        ),
        risk_coverage=risk_coverage(p, is_hgg, threshold),
        judged=_judged(measured.judgement.tolist(), is_hgg, (p >= threshold) != is_hgg, tumour_free),
        attention=means,
        attention_patients=int((~np.isnan(measured.attention[:, 0])).sum()),
        seen=seen,
        checkpoints=checkpoints or (card.label,),
    )


def _row(name: str, probability: Numbers, is_hgg: Flags, threshold: float, resamples: int) -> Row:
    estimates = estimate_all(probability, is_hgg, threshold, resamples)
    return Row(name, int(is_hgg.sum()), int((~is_hgg).sum()), estimates)


def _means(scores: npt.NDArray[np.float64], is_hgg: Flags) -> dict[str, Estimate]:
    """Mean of each score, columns as in `AttentionScores`, over the patients that have it."""
    scored = ~np.isnan(scores[:, 0])
    if not scored.any():
        return {}
    return {
        name: interval_over_patients(lambda v, _: float(v.mean()), column[scored], is_hgg[scored])
        for name, column in zip(AttentionScores._fields, scores.T, strict=True)
    }


def _only(row: Row, names: Iterable[str]) -> Row:
    """Leave out what a rule doesn't give: what needs a probability, or a threshold."""
    return row._replace(estimates={name: row.estimates[name] for name in names})


def _judged(
    judgements: Sequence[Judgement], is_hgg: Flags, wrong: Flags, tumour_free: Sequence[Judgement]
) -> tuple[Judged, ...]:
    found = []
    for verdict in Verdict:
        has = np.array([each.verdict is verdict for each in judgements])
        free = sum(each.verdict is verdict for each in tumour_free)
        hgg, lgg, errors = (int((has & kind).sum()) for kind in (is_hgg, ~is_hgg, wrong))
        found.append(Judged(verdict, hgg, lgg, errors, free))
    return tuple(found)


def _published(resamples: int) -> Row:
    counts = (
        (PUBLISHED.hgg_called_hgg, 1.0, True),
        (PUBLISHED.lgg_called_hgg, 1.0, False),
        (PUBLISHED.lgg_called_lgg, 0.0, False),
        (PUBLISHED.hgg_called_lgg, 0.0, True),
    )
    called = np.concatenate([np.full(count, value) for count, value, _ in counts])
    is_hgg = np.concatenate([np.full(count, truth) for count, _, truth in counts])
    return _only(_row(PUBLISHED_NAME, called, is_hgg, 0.5, resamples), DECISION_METRICS)
