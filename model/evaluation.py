"""A checkpoint on a cohort of BraTS folders: what was measured, beside its baselines, as Markdown."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from model.attention_scores import dice, pointing
from model.baselines import enhancing_rule, source_only, without_tumour
from model.brats import Patient, enhancing_ml, load_labels, load_patient, tumour_on
from model.brats_names import CohortError
from model.card import Card
from model.grade import Grade
from model.metrics import (
    PUBLISHED,
    Confusion,
    Estimate,
    Flags,
    Numbers,
    area_under_curve,
    brier_score,
    calibration_error,
    interval_over_patients,
    risk_coverage,
)
from model.predict import Prediction
from model.stack import Stack


class OneGradeError(CohortError):
    """A cohort with patients of one grade only."""


class Grader(Protocol):
    """What grades a stack; a `Predictor`."""

    def predict(self, stack: Stack) -> Prediction:
        """Grade a stack."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One entry per patient; the last four are NaN where the patient has no segmentation or no tumour."""

    probability: Numbers
    masked: Numbers
    """Probability of HGG with the tumour blanked."""
    enhancing_ml: Numbers
    pointing: Numbers
    dice: Numbers


def measure(grader: Grader, patients: Sequence[Patient], step: Callable[[], None] = lambda: None) -> Measured:
    """Grade every patient, with the tumour and without; `step` is called after each. Raises `CohortError`."""
    if len({patient.grade for patient in patients}) < 2:
        raise OneGradeError("all patients have one grade: an evaluation needs patients of HGG and of LGG")
    rows = []
    for patient in patients:
        rows.append(_measure_one(grader, patient))
        step()
    return Measured(*np.array(rows).T)


def _measure_one(grader: Grader, patient: Patient) -> tuple[float, float, float, float, float]:
    stack = load_patient(patient).stack
    prediction = grader.predict(stack)
    probability = prediction.grade_prediction.probability
    labels = load_labels(patient)
    if labels is None:
        return probability, np.nan, np.nan, np.nan, np.nan
    tumour = tumour_on(stack, labels)
    if not tumour.any():
        return probability, np.nan, enhancing_ml(labels), np.nan, np.nan
    masked = grader.predict(without_tumour(stack, tumour)).grade_prediction.probability
    attention = prediction.attention.array
    return probability, masked, enhancing_ml(labels), pointing(attention, tumour), dice(attention, tumour)


def report(card: Card, patients: Sequence[Patient], measured: Measured) -> str:
    """Say in Markdown what was measured, every interval 95 % over 2,000 resamples of patients."""
    is_hgg = np.array([patient.grade is Grade.HGG for patient in patients])
    p, threshold = measured.probability, card.threshold
    counted = Confusion.count(p >= threshold, is_hgg)
    figures: dict[str, Callable[[Numbers, Flags], float]] = {
        "AUC": area_under_curve,
        "Brier": brier_score,
        "ECE, 10 bins of equal mass": calibration_error,
    }
    for name, figure in _DECISION_FIGURES.items():
        figures[name] = _of_decision(figure, threshold)
    lines = [
        f"# {card.label} on {len(patients)} patients",
        "",
        f"{card.training_statement}.",
        "HGG is the glioblastoma collection, LGG the lower-grade one (WHO 2 and 3);",
        "no histology, no molecular grade. A card does not name its patients: see to it that none of these",
        "was trained on.",
        "",
        "| figure | value | 95 % interval |",
        "|---|---|---|",
        *(_line(name, interval_over_patients(figure, p, is_hgg)) for name, figure in figures.items()),
        "",
        f"Of {is_hgg.sum()} HGG {counted.hgg_called_hgg} were called HGG;",
        f"of {(~is_hgg).sum()} LGG {counted.lgg_called_lgg} were called LGG (threshold {threshold:g}).",
        "",
        "| surest patients kept | share of errors |",
        "|---|---|",
        *_risks(p, is_hgg, threshold),
        "",
        "| beside | balanced accuracy | F1 HGG | F1 LGG | MCC |",
        "|---|---|---|---|---|",
        _row("this checkpoint", counted),
        *_baselines(patients, measured, is_hgg, threshold),
        _row("the paper's table, 57 patients of BraTS 2018", PUBLISHED),
        "",
        *_attention(measured),
    ]
    return "\n".join(lines) + "\n"


_DECISION_FIGURES: dict[str, Callable[[Confusion], float]] = {
    "accuracy": lambda each: each.accuracy,
    "balanced accuracy": lambda each: each.balanced_accuracy,
    "sensitivity": lambda each: each.sensitivity,
    "specificity": lambda each: each.specificity,
    "F1 HGG": lambda each: each.f1_hgg,
    "F1 LGG": lambda each: each.f1_lgg,
    "macro-F1": lambda each: each.macro_f1,
    "MCC": lambda each: each.mcc,
}


def _of_decision(figure: Callable[[Confusion], float], threshold: float) -> Callable[[Numbers, Flags], float]:
    return lambda p, truth: figure(Confusion.count(p >= threshold, truth))


def _baselines(patients: Sequence[Patient], measured: Measured, is_hgg: Flags, threshold: float) -> list[str]:
    rows = [
        _row("all HGG", Confusion.count(np.ones_like(is_hgg), is_hgg)),
        _row("source only, out of fold", Confusion.count(source_only(patients) >= 0.5, is_hgg)),
    ]
    if not np.isnan(measured.enhancing_ml).any():
        called = enhancing_rule(patients, measured.enhancing_ml) > 0
        rows.append(_row("enhancing volume, out of fold", Confusion.count(called, is_hgg)))
    if not np.isnan(measured.masked).any():
        rows.append(_row("tumour blanked", Confusion.count(measured.masked >= threshold, is_hgg)))
    return rows


def _risks(p: Numbers, is_hgg: Flags, threshold: float) -> list[str]:
    coverage, risk = risk_coverage(p, is_hgg, threshold)
    indices = [int(np.searchsorted(coverage, share - 1e-9)) for share in (0.5, 0.7, 0.8, 0.9, 1.0)]
    return [f"| {coverage[index]:.0%} | {risk[index]:.3f} |" for index in dict.fromkeys(indices)]


def _attention(measured: Measured) -> list[str]:
    with_tumour = ~np.isnan(measured.pointing)
    if not with_tumour.any():
        return ["No patient has a segmentation: the attention was not scored."]
    return [
        f"Attention on the {with_tumour.sum()} patients with a segmented tumour:",
        f"pointing {measured.pointing[with_tumour].mean():.3f},",
        f"Dice at 0.5 {measured.dice[with_tumour].mean():.3f}.",
    ]


def _line(name: str, estimate: Estimate) -> str:
    return f"| {name} | {estimate.value:.3f} | {estimate.low:.3f} to {estimate.high:.3f} |"


def _row(name: str, each: Confusion) -> str:
    return (
        f"| {name} | {each.balanced_accuracy:.3f} | {each.f1_hgg:.3f} | {each.f1_lgg:.3f} | {each.mcc:.3f} |"
    )
