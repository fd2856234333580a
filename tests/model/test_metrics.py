import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from model.metrics import (
    PUBLISHED,
    PUBLISHED_STATED,
    Confusion,
    area_under_curve,
    balanced_accuracy,
    brier_score,
    calibration_bins,
    calibration_error,
    estimate_all,
    interval_over_patients,
    measure,
    risk_coverage,
    roc_curve,
)

PROBABILITIES = st.lists(st.floats(0, 1), min_size=2, max_size=30)


def every_second(values):
    return np.array(values), np.arange(len(values)) % 2 == 0


def test_what_the_papers_confusion_matrix_implies():
    assert PUBLISHED.accuracy == pytest.approx(0.8596, abs=5e-5)
    assert PUBLISHED.precision == pytest.approx(0.8542, abs=5e-5)
    assert PUBLISHED.sensitivity == pytest.approx(0.9762, abs=5e-5)
    assert PUBLISHED.f1_hgg == pytest.approx(0.9111, abs=5e-5)
    assert PUBLISHED.balanced_accuracy == pytest.approx(0.755, abs=5e-4)
    assert PUBLISHED.f1_lgg == pytest.approx(0.667, abs=5e-4)
    assert PUBLISHED.mcc == pytest.approx(0.615, abs=5e-4)


def test_the_papers_f1_is_not_that_of_its_matrix_the_rest_is():
    follows = {
        "accuracy": PUBLISHED.accuracy,
        "precision": PUBLISHED.precision,
        "sensitivity": PUBLISHED.sensitivity,
        "F1 of HGG": PUBLISHED.f1_hgg,
    }
    wrong = {name for name, stated in PUBLISHED_STATED.items() if abs(follows[name] - stated) > 5e-5}
    assert wrong == {"F1 of HGG"}


def test_patients_are_counted_into_the_matrix():
    is_hgg = np.array([True] * 42 + [False] * 15)
    called = np.array([True] * 41 + [False] + [True] * 7 + [False] * 8)
    assert Confusion.count(called, is_hgg) == PUBLISHED
    assert balanced_accuracy(called, is_hgg) == pytest.approx((41 / 42 + 8 / 15) / 2)


def test_calling_all_hgg_looks_good_in_one_number_only():
    everyone = Confusion(42, 15, 0, 0)
    assert everyone.f1_hgg == pytest.approx(0.8485, abs=5e-5)
    assert (everyone.balanced_accuracy, everyone.f1_lgg, everyone.mcc) == (0.5, 0, 0)


def test_area_counts_pairs_and_half_of_ties():
    probability = np.array([0.9, 0.5, 0.5, 0.1])
    assert area_under_curve(probability, np.array([True, True, False, False])) == pytest.approx(3.5 / 4)


@given(PROBABILITIES)
def test_area_of_the_negated_score_is_the_rest_of_one(values):
    probability, is_hgg = every_second(values)
    both = area_under_curve(probability, is_hgg) + area_under_curve(-probability, is_hgg)
    assert both == pytest.approx(1)


@given(PROBABILITIES, st.randoms(use_true_random=False))
def test_the_order_of_patients_does_not_count(values, random):
    probability, is_hgg = every_second(values)
    order = list(range(len(values)))
    random.shuffle(order)
    assert measure(probability[order], is_hgg[order], 0.5) == pytest.approx(
        measure(probability, is_hgg, 0.5), nan_ok=True
    )


@given(PROBABILITIES)
def test_every_number_keeps_within_its_bounds(values):
    probability, is_hgg = every_second(values)
    for name, value in measure(probability, is_hgg, 0.5).items():
        assert math.isnan(value) or -(name == "MCC") - 1e-9 <= value <= 1 + 1e-9, name


def test_one_grade_alone_leaves_the_others_numbers_open():
    values = measure(np.array([0.2, 0.9]), np.array([True, True]), 0.5)
    assert values["sensitivity"] == 0.5
    assert all(math.isnan(values[name]) for name in ("AUC", "specificity", "balanced accuracy"))


def test_brier_and_calibration_of_what_is_known():
    is_hgg = np.array([True] * 30 + [False] * 10)
    constant = np.full(40, 0.75)
    assert brier_score(constant, is_hgg) == pytest.approx(0.75 * 0.25)
    assert calibration_error(constant, is_hgg) == pytest.approx(0)
    assert calibration_error(np.full(40, 0.35), is_hgg) == pytest.approx(0.4)


def test_overconfidence_cancels_between_no_bins():
    probability = np.repeat([0.0, 1.0], 20)
    is_hgg = np.tile([True, False], 20)
    assert calibration_error(probability, is_hgg) == pytest.approx(0.5)


def test_risk_falls_where_the_uncertain_are_left_out():
    probability = np.array([0.99, 0.9, 0.6, 0.45])
    curve = risk_coverage(probability, np.array([True, True, False, True]), 0.5)
    assert curve.coverage.tolist() == [0.25, 0.5, 0.75, 1]
    assert curve.risk == pytest.approx([0, 0, 1 / 3, 1 / 2])
    assert curve.area == pytest.approx(5 / 24)


def test_interval_holds_the_value_and_narrows_with_patients():
    random = np.random.default_rng(0)
    widths = []
    for patients in (20, 200):
        is_hgg = np.arange(patients) % 2 == 0
        estimate = interval_over_patients(area_under_curve, random.normal(is_hgg * 1.0, 1.0), is_hgg)
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
        widths.append(estimate.high - estimate.low)
    assert widths[1] < widths[0] / 2


def test_all_estimates_are_the_single_ones():
    probability, is_hgg = every_second(np.random.default_rng(1).random(40))
    every = estimate_all(probability, is_hgg, 0.5, resamples=200)
    assert {name: each.value for name, each in every.items()} == measure(probability, is_hgg, 0.5)
    assert all(each.low <= each.value <= each.high for name, each in every.items() if name != "ECE")
    assert estimate_all(probability, is_hgg, 0.5, resamples=200) == every


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40))
def test_the_area_of_the_roc_curve_is_that_of_the_ranks(cases):
    p = np.array([value / 6 for value, _ in cases])
    is_hgg = np.array([truth for _, truth in cases])
    assume(is_hgg.any() and not is_hgg.all())
    x, y = roc_curve(p, is_hgg)
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(y, x) == pytest.approx(area_under_curve(p, is_hgg))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=45, unique=True), st.integers(0, 9))
def test_calibration_bins_give_the_calibration_error(values, seed):
    p = np.array(values)
    is_hgg = np.random.default_rng(seed).random(len(p)) < 0.5
    bins = calibration_bins(p, is_hgg)
    assert bins.patients.sum() == len(p)
    assert bins.patients.max() - bins.patients.min() <= 1
    gaps = np.abs(bins.probability - bins.share) @ bins.patients / len(p)
    assert gaps == pytest.approx(calibration_error(p, is_hgg))
