"""Calibrated probabilities: a temperature and a bias of each slice's logit, after Platt (1999).

Both act on the slices, before they are weighed against each other, so that the patient's probability stays
the weighted mean of what is told of the slices.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, logit

from model.grade import GradePrediction

Numbers = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_LEAST = 1e-12
_TEMPERATURES = (0.1, 10.0)
_LARGEST_BIAS = 5.0


class Platt(NamedTuple):
    """A slice's probability of HGG is the logistic function of margin / temperature + bias."""

    temperature: float
    bias: float

    def probabilities(self, margins: Numbers) -> Numbers:
        """Give calibrated probabilities of HGG; `margins` are the logits of HGG less those of LGG."""
        calibrated: Numbers = expit(margins / self.temperature + self.bias)
        return calibrated

    def apply(self, prediction: GradePrediction) -> GradePrediction:
        """Calibrate a prediction that was made without calibration."""
        probabilities = self.probabilities(_margins(prediction))
        return GradePrediction(
            probability=float(np.clip(probabilities @ np.array(prediction.slice_weights), 0, 1)),
            threshold=prediction.threshold,
            slice_probabilities=tuple(probabilities.tolist()),
            slice_weights=prediction.slice_weights,
        )


UNCALIBRATED = Platt(1.0, 0.0)


def fit_platt(predictions: Sequence[GradePrediction], is_hgg: Flags) -> Platt:
    """Give temperature and bias with the least log loss of patients whose predictions are uncalibrated.

    The truth is drawn towards the middle as Platt does, (n + 1) / (n + 2) for n patients of a class, so that
    patients told apart without a fault don't make a probability of 1. What few patients can't tell from
    chance stays out, the bias first, then the temperature: by Schwarz's criterion (1978), for each of the two
    that is kept, twice the gain in log likelihood exceeds the logarithm of the number of patients. Raises
    ValueError unless both classes are there.
    """
    hgg, lgg = int(is_hgg.sum()), int((~is_hgg).sum())
    if not (hgg and lgg and hgg + lgg == len(predictions)):
        raise ValueError(f"a calibration needs patients of both grades, not {hgg} HGG and {lgg} LGG")
    targets = np.where(is_hgg, (hgg + 1) / (hgg + 2), 1 / (lgg + 2))
    seen = [(_margins(each), np.array(each.slice_weights)) for each in predictions]

    def loss(parameters: Numbers) -> float:
        platt = Platt(float(np.exp(parameters[0])), float(parameters[1]))
        p = np.array([platt.probabilities(margins) @ weights for margins, weights in seen])
        p = np.clip(p, _LEAST, 1 - _LEAST)
        return float(-(targets * np.log(p) + (1 - targets) * np.log(1 - p)).mean())

    best, least = UNCALIBRATED, 2 * len(seen) * loss(np.zeros(2))
    for count, bias_bounds in ((1, (0.0, 0.0)), (2, (-_LARGEST_BIAS, _LARGEST_BIAS))):
        bounds = [tuple(np.log(_TEMPERATURES)), bias_bounds]
        found = minimize(loss, np.zeros(2), method="L-BFGS-B", bounds=bounds)
        criterion = 2 * len(seen) * loss(found.x) + count * np.log(len(seen))
        if criterion < least:
            best, least = Platt(float(np.exp(found.x[0])), float(found.x[1])), criterion
    return best


def _margins(prediction: GradePrediction) -> Numbers:
    margins: Numbers = logit(np.clip(np.array(prediction.slice_probabilities), _LEAST, 1 - _LEAST))
    return margins
