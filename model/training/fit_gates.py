"""Measuring the limits of `model.gates` on patients that the network was not trained on.

`fit_judgement` does all of it for a trainer: calibration first, then the gates on calibrated probabilities.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from model import appearance
from model.calibration import UNCALIBRATED, Platt, fit_platt
from model.card import Calibration
from model.gates import FEATURES, AppearanceGate, Gates, IndeterminateBand, NoTumourGate, PatientStatistics
from model.grade import GradePrediction
from model.metrics import brier_score, calibration_error

Numbers = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

TUMOURS_KEPT = 0.98
"""Least share of tumours that the no-tumour gate lets pass."""
TOLERATED_ERROR = 0.05
MOST_INDETERMINATE = 0.2
"""The band holds at most this share of patients, however many errors are left outside."""
USUAL_QUANTILE = 0.99
LEAST_PATIENTS = 20
"""Fewer don't tell what is usual."""
MOST_WRONG = 0.75
"""Share of exchanged or repeated contrasts that the limit of the distance is kept away from."""
LOOKED_AT = tuple(index for index, name in enumerate(FEATURES) if "detail" not in name)
"""Detail differs between scanners, and between them and a simulation, more than between right and wrong."""
_VARIED = 10
_FOLDS = 5
_LEAST_PROBABILITY = 1e-6


class FittedJudgement(NamedTuple):
    """What a card says of calibration and gates; give it to `Card.model_copy(update=...)` by `_asdict`."""

    temperature: float
    bias: float
    calibration: Calibration | None
    gates: Gates


def fit_judgement(
    predictions: Sequence[GradePrediction],
    statistics: Sequence[PatientStatistics],
    is_hgg: Sequence[bool | None],
    measured_on: str,
) -> FittedJudgement:
    """Calibrate on the patients with a tumour, and measure all gates.

    The predictions are those of a card without calibration; `is_hgg` is None where a patient has no tumour.
    There is no calibration unless both grades are there.
    """
    graded = [index for index, truth in enumerate(is_hgg) if truth is not None]
    truth = np.array([bool(is_hgg[index]) for index in graded], bool)
    with_tumour = [predictions[index] for index in graded]
    platt, calibration = UNCALIBRATED, None
    if truth.any() and not truth.all():
        platt = fit_platt(with_tumour, truth)
        calibration = _describe(with_tumour, platt, truth, measured_on)
    calibrated = [
        replace(each, probability=platt.apply(prediction).probability)
        for prediction, each in zip(predictions, statistics, strict=True)
    ]
    threshold = predictions[0].threshold
    gates = fit_gates(calibrated, is_hgg, threshold, measured_on)
    return FittedJudgement(platt.temperature, platt.bias, calibration, gates)


def fit_gates(
    patients: Sequence[PatientStatistics],
    is_hgg: Sequence[bool | None],
    threshold: float,
    measured_on: str,
) -> Gates:
    """Measure every gate that these patients allow; None in `is_hgg` is a patient without a tumour.

    A gate whose patients are missing stays None.
    """
    has_tumour = np.array([truth is not None for truth in is_hgg], bool)
    truth = np.array([bool(each) for each in is_hgg], bool)[has_tumour]
    probability = np.array([each.probability for each in patients])[has_tumour]
    attention = np.array([each.attention_ml for each in patients])
    features = np.array([each.appearance for each in patients])
    return Gates(
        no_tumour=fit_no_tumour(attention, has_tumour, measured_on),
        indeterminate=fit_band(probability, truth, threshold, measured_on) if has_tumour.any() else None,
        appearance=fit_appearance(features, measured_on) if len(patients) >= LEAST_PATIENTS else None,
    )


def fit_no_tumour(attention_ml: Numbers, has_tumour: Flags, measured_on: str) -> NoTumourGate | None:
    """Choose the least attention that keeps `TUMOURS_KEPT` of the tumours and stops most of the rest.

    Where a gap divides the two kinds, the limit lies in its geometric middle. None unless both are there.
    """
    tumours, free = np.sort(attention_ml[has_tumour]), attention_ml[~has_tumour]
    if not (tumours.size and free.size):
        return None
    largest = float(tumours[math.floor((1 - TUMOURS_KEPT) * tumours.size)])
    below = free[free < largest]
    # every limit above the largest of these, up to `largest`, stops as many
    least = math.sqrt(max(float(below.max()), 0.01) * largest) if below.size else largest
    least = min(max(least, float(np.nextafter(below.max(initial=0.0), np.inf))), largest)
    return NoTumourGate(
        least_ml=least,
        tumours=int(tumours.size),
        tumours_kept=float((tumours >= least).mean()),
        tumour_free=int(free.size),
        tumour_free_stopped=float((free < least).mean()),
        measured_on=measured_on,
    )


def fit_band(probability: Numbers, is_hgg: Flags, threshold: float, measured_on: str) -> IndeterminateBand:
    """Choose the narrowest band about the threshold outside which `TOLERATED_ERROR` of grades are wrong.

    It is symmetrical in log-odds and holds at most `MOST_INDETERMINATE` of the patients; where that isn't
    enough, it is the band with the fewest errors outside.
    """
    distance = np.abs(_log_odds(probability) - _log_odds(np.array(threshold)))
    wrong = (probability >= threshold) != is_hgg
    widths = np.concatenate([[0.0], np.sort(distance) + 1e-9])
    inside = [distance < width for width in widths]
    allowed = [i for i, flags in enumerate(inside) if flags.mean() <= MOST_INDETERMINATE]
    errors = {i: _share(wrong[~inside[i]]) or 0.0 for i in allowed}
    good = [i for i in allowed if errors[i] <= TOLERATED_ERROR]
    chosen = good[0] if good else min(allowed, key=errors.__getitem__)
    low, high = (_probability(float(_log_odds(np.array(threshold))) + s * widths[chosen]) for s in (-1, 1))
    within = (probability >= low) & (probability < high)
    return IndeterminateBand(
        low=low,
        high=high,
        patients=len(probability),
        share_inside=float(within.mean()),
        error_inside=_share(wrong[within]),
        error_outside=_share(wrong[~within]),
        measured_on=measured_on,
    )


def fit_appearance(features: Numbers, measured_on: str) -> AppearanceGate:
    """Measure the usual appearance, all features of shape (patient, feature), and the limit of the distance.

    Patients count as they are and varied as in training. The covariance is drawn towards the diagonal after
    Ledoit and Wolf (2004). Distances are those of patients from a reference that they had no part in, in five
    folds; each is measured as it is, and as it would be with contrasts exchanged or repeated. The limit lies
    in the geometric middle between the quantile of the first and what `MOST_WRONG` of the second exceed:
    scanners differ in more ways than those trained on show, so that there is no reason to stop what is nearer
    to usual than to wrong. Where they overlap, it is the quantile.
    """
    fold = np.arange(len(features)) % _FOLDS
    usual, wrong = np.empty(len(features)), np.empty((len(features), len(appearance.WRONG_ORDERS)))
    for index in range(_FOLDS):
        reference = _reference(features[fold != index], 1.0)
        for row in np.flatnonzero(fold == index):
            usual[row] = reference.distance(tuple(features[row]))
            wrong[row] = [
                reference.distance(appearance.reorder(features[row], order))
                for order in appearance.WRONG_ORDERS
            ]
    limit = float(np.quantile(usual, USUAL_QUANTILE, method="higher"))
    lowest = float(np.quantile(wrong, 1 - MOST_WRONG))
    limit = math.sqrt(limit * max(limit, lowest))
    measured = {
        "limit": limit,
        "quantile": float((usual <= limit).mean()),
        "wrong_stopped": float((wrong > limit).mean()),
        "patients": len(features),
        "measured_on": measured_on,
    }
    return _reference(features, limit).model_copy(update=measured)


def _reference(features: Numbers, limit: float) -> AppearanceGate:
    random = np.random.default_rng(0)
    varied = [appearance.rescale(row, random) for row in features for _ in range(_VARIED)]
    seen = np.concatenate([features, np.array(varied)])[:, LOOKED_AT]
    mean, scale = seen.mean(axis=0), np.maximum(seen.std(axis=0), 1e-6)
    whitening = np.linalg.inv(np.linalg.cholesky(_shrunk((seen - mean) / scale)))
    return AppearanceGate(
        names=tuple(FEATURES[index] for index in LOOKED_AT),
        mean=_rounded(mean),
        scale=_rounded(scale),
        whitening=tuple(_rounded(row[: index + 1]) for index, row in enumerate(whitening)),
        limit=limit,
        quantile=USUAL_QUANTILE,
        patients=len(features),
        measured_on="",
    )


def _shrunk(z: Numbers) -> Numbers:
    """Draw the covariance of centred z, (patient, feature), towards its mean variance (Ledoit and Wolf)."""
    count, width = z.shape
    sample = z.T @ z / count
    target = np.trace(sample) / width * np.eye(width)
    spread = float(((sample - target) ** 2).sum())
    noise = sum(float(((np.outer(row, row) - sample) ** 2).sum()) for row in z) / count**2
    share = min(noise / spread, 1.0) if spread > 0 else 1.0
    # a feature that never changes would make a matrix without an inverse
    shrunk: Numbers = (1 - share) * sample + share * target + 1e-4 * np.eye(width)
    return shrunk


def _describe(
    predictions: Sequence[GradePrediction], platt: Platt, is_hgg: Flags, measured_on: str
) -> Calibration:
    before = np.array([each.probability for each in predictions])
    after = np.array([platt.apply(each).probability for each in predictions])
    return Calibration(
        patients=len(predictions),
        brier_before=brier_score(before, is_hgg),
        brier_after=brier_score(after, is_hgg),
        error_before=calibration_error(before, is_hgg),
        error_after=calibration_error(after, is_hgg),
        measured_on=measured_on,
    )


def _rounded(values: Numbers) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in values)


def _share(flags: Flags) -> float | None:
    return float(flags.mean()) if flags.size else None


def _log_odds(probability: Numbers) -> Numbers:
    p = np.clip(probability, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    odds: Numbers = np.log(p / (1 - p))
    return odds


def _probability(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds))
