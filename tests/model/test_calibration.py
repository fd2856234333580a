import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.calibration import UNCALIBRATED, Platt, fit_platt
from model.grade import GradePrediction
from model.metrics import brier_score, calibration_error


def prediction(*probabilities):
    weights = (1 / len(probabilities),) * len(probabilities)
    return GradePrediction(float(np.mean(probabilities)), 0.5, tuple(probabilities), weights)


def overconfident(patients=200, seed=0):
    """Slices that say three times what they know, and lean to HGG."""
    random = np.random.default_rng(seed)
    is_hgg = random.random(patients) < 0.5
    known = np.where(is_hgg, 1.0, -1.0) + 1.4 * random.normal(size=patients)
    margins = 3 * (known + 0.7)[:, None] + random.normal(size=(patients, 5))
    return [prediction(*(1 / (1 + np.exp(-row))).tolist()) for row in margins], is_hgg


def said(predictions, platt=UNCALIBRATED):
    return np.array([platt.apply(each).probability for each in predictions])


def test_confidence_is_taken_back_and_holds_for_other_patients():
    predictions, is_hgg = overconfident()
    platt = fit_platt(predictions, is_hgg)
    assert platt.temperature > 1.5
    assert platt.bias < 0
    others, truth = overconfident(seed=1)
    before, after = said(others), said(others, platt)
    assert brier_score(after, truth) < brier_score(before, truth)
    assert calibration_error(after, truth) < calibration_error(before, truth)


@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=2, max_size=12))
def test_a_fit_is_finite_even_where_slices_are_certain(patients):
    predictions = [prediction(*each) for each in patients]
    is_hgg = np.arange(len(predictions)) % 2 == 0
    platt = fit_platt(predictions, is_hgg)
    assert 0.09 < platt.temperature < 11
    assert -5 <= platt.bias <= 5
    assert all(0 <= p <= 1 for p in said(predictions, platt))


def test_few_patients_move_the_probabilities_only_for_a_reason():
    fair, is_hgg = overconfident(patients=40, seed=2)
    fair = [Platt(3.0, -0.7).apply(each) for each in fair]
    assert fit_platt(fair, is_hgg) == UNCALIBRATED
    confident = [Platt(1 / 3, 0.0).apply(each) for each in fair]
    platt = fit_platt(confident, is_hgg)
    assert platt.temperature > 1.5
    assert platt.bias == 0


def test_perfect_separation_makes_nobody_certain():
    predictions = [prediction(0.6, 0.7)] * 10 + [prediction(0.3, 0.4)] * 10
    p = said(predictions, fit_platt(predictions, np.arange(20) < 10))
    assert 0.7 < p.max() < 0.999
    assert 0.001 < p.min() < 0.3


def test_one_grade_alone_calibrates_nothing():
    with pytest.raises(ValueError, match="both grades"):
        fit_platt([prediction(0.4)] * 3, np.ones(3, bool))


def test_no_calibration_changes_nothing_and_a_bias_moves_every_slice():
    before = prediction(0.2, 0.7, 0.9)
    assert UNCALIBRATED.apply(before).slice_probabilities == pytest.approx(before.slice_probabilities)
    moved = Platt(1.0, -1.0).apply(before)
    assert (np.array(moved.slice_probabilities) < before.slice_probabilities).all()
    assert moved.probability == pytest.approx(np.mean(moved.slice_probabilities))
