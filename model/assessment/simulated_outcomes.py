"""What a checkpoint says of simulated patients that it never saw, and what that makes of its card."""

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from model.assessment.baselines import bright_share
from model.attention_scores import AttentionScores, score_attention
from model.calibration import Platt
from model.card import Card, Metric
from model.gates import Gates, PatientStatistics, judge
from model.grade import Grade, GradePrediction, Verdict
from model.metrics import Flags, Numbers, area_under_curve, estimate_all, interval_over_patients
from model.predict import Predictor
from model.simulation.samples import SimulatedPatient
from model.training.fit_gates import fit_judgement

_COLUMNS = (
    "seed",
    "grade",
    "form",
    "probability",
    "verdict",
    "attention_ml",
    "distance",
    "bright",
    "without",
)


class Outcome(NamedTuple):
    """One patient. `scores` is None where no tumour lies in the slices shown.

    `bright` is what a rule without any learning sees, `bright_share`. `without` is what is said with the
    other hemisphere in the tumour's place.
    """

    seed: int
    grade: Grade | None
    form: str
    prediction: GradePrediction
    statistics: PatientStatistics
    scores: AttentionScores | None
    bright: float
    without: GradePrediction | None = None


def measure_simulated(
    predictor: Predictor,
    seeds: Sequence[int],
    patients: Iterable[SimulatedPatient],
    step: Callable[[Outcome], None] = lambda _: None,
) -> list[Outcome]:
    """Grade the patients of these seeds; `step` is called after each."""
    outcomes = []
    for seed, (stack, tumour, drawn, without) in zip(seeds, patients, strict=True):
        prediction = predictor.predict(stack)
        seen = bool(tumour.any())
        scores = score_attention(prediction.attention.array, tumour, stack.mask) if seen else None
        outcomes.append(
            Outcome(
                seed,
                None if drawn["grade"] == "none" else Grade(str(drawn["grade"])),
                str(drawn.get("form", "none")),
                prediction.grade_prediction,
                prediction.statistics,
                scores,
                bright_share(stack),
                None if without is None else predictor.predict(without).grade_prediction,
            )
        )
        step(outcomes[-1])
    return outcomes


def calibrate(card: Card, outcomes: Sequence[Outcome], measured_on: str) -> Card:
    """Give the card with calibration and gates measured on these patients, graded without either.

    A tumour that lies outside the slices shown says nothing of what can be seen, and is left out.
    """
    outcomes = [each for each in outcomes if each.grade is None or each.scores is not None]
    fitted = fit_judgement(
        [each.prediction for each in outcomes],
        [each.statistics for each in outcomes],
        [None if each.grade is None else each.grade is Grade.HGG for each in outcomes],
        measured_on,
    )
    return card.model_copy(update=fitted._asdict())


def graded_outcomes(card: Card, outcomes: Sequence[Outcome]) -> tuple[Numbers, Flags]:
    """Give calibrated probability, and whether it is an HGG, of each with a tumour in the slices."""
    platt, shown = Platt(card.temperature, card.bias), _shown(outcomes)
    probability = np.array([platt.apply(each.prediction).probability for each in shown])
    return probability, np.array([each.grade is Grade.HGG for each in shown])


def _shown(outcomes: Sequence[Outcome]) -> list[Outcome]:
    return [each for each in outcomes if each.grade is not None and each.scores is not None]


def metrics_of(card: Card, outcomes: Sequence[Outcome], measured_on: str) -> tuple[Metric, ...]:
    """Count these patients, graded without calibration, as the card would judge them; 95 % intervals.

    Grades and attention are counted over all patients with a tumour in the slices shown, whatever the gates
    say of them.
    """
    platt, shown = Platt(card.temperature, card.bias), _shown(outcomes)
    probability, truth = graded_outcomes(card, outcomes)
    found = estimate_all(probability, truth, card.threshold)
    bright = np.array([each.bright for each in shown])
    found["AUC of bright pixels, no learning"] = interval_over_patients(area_under_curve, bright, truth)
    without = [platt.apply(each.without).probability for each in shown if each.without is not None]
    if len(without) == len(shown):
        found["AUC with the tumour replaced by its mirror image"] = interval_over_patients(
            area_under_curve, np.array(without), truth
        )
    for name in AttentionScores._fields:
        column = np.array([getattr(each.scores, name) for each in shown])
        found[f"attention: {name}"] = interval_over_patients(lambda v, _: float(v.mean()), column, truth)
    metrics = [
        Metric(name=name, **estimate._asdict(), n=len(shown), measured_on=measured_on)
        for name, estimate in found.items()
        if np.isfinite(estimate.value)
    ]
    for name, flags in _gated(card.gates, outcomes).items():
        share = np.array(flags, float)
        estimate = interval_over_patients(lambda v, _: float(v.mean()), share, share >= 0)
        metrics.append(Metric(name=name, **estimate._asdict(), n=len(flags), measured_on=measured_on))
    return tuple(metrics)


def _gated(gates: Gates | None, outcomes: Sequence[Outcome]) -> dict[str, list[bool]]:
    """What the gates do with whom; nothing of those that the card lacks or that nobody is there for."""
    found: dict[str, list[bool]] = {}
    if gates is not None and gates.no_tumour is not None:
        least = gates.no_tumour.least_ml
        seen = [each.statistics.attention_ml >= least for each in outcomes]
        found["tumours that pass the no-tumour gate"] = [
            passed for passed, each in zip(seen, outcomes, strict=True) if each.scores is not None
        ]
        found["tumour-free brains that it stops"] = [
            not passed for passed, each in zip(seen, outcomes, strict=True) if each.grade is None
        ]
    if gates is not None and gates.appearance is not None:
        verdicts = [judge(each.statistics, gates).verdict for each in outcomes]
        found["patients out of distribution"] = [v is Verdict.OUT_OF_DISTRIBUTION for v in verdicts]
    return {name: flags for name, flags in found.items() if flags}


def write_outcomes(path: Path, card: Card, outcomes: Sequence[Outcome]) -> None:
    """Write one line per patient as CSV, judged as the card does."""
    platt = Platt(card.temperature, card.bias)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow((*_COLUMNS, *AttentionScores._fields))
        for each in outcomes:
            statistics = _calibrated(each, platt)
            judgement = judge(statistics, card.gates)
            writer.writerow(
                [
                    each.seed,
                    each.grade or "none",
                    each.form,
                    round(statistics.probability, 4),
                    judgement.verdict,
                    round(statistics.attention_ml, 2),
                    judgement.appearance_distance,
                    round(each.bright, 6),
                    None if each.without is None else round(platt.apply(each.without).probability, 4),
                    *(each.scores or ()),
                ]
            )


def _calibrated(outcome: Outcome, platt: Platt) -> PatientStatistics:
    probability = platt.apply(outcome.prediction).probability
    return PatientStatistics(probability, outcome.statistics.attention_ml, outcome.statistics.appearance)
