import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.evaluate import area_under_curve, balanced_accuracy, dice, interval_over_patients, pointing


def test_the_papers_confusion_matrix_has_the_balanced_accuracy_it_implies():
    is_hgg = np.array([True] * 42 + [False] * 15)
    called = np.array([True] * 41 + [False] + [True] * 7 + [False] * 8)
    assert balanced_accuracy(called, is_hgg) == pytest.approx((41 / 42 + 8 / 15) / 2)


def test_area_counts_pairs_and_half_of_ties():
    probability = np.array([0.9, 0.5, 0.5, 0.1])
    assert area_under_curve(probability, np.array([True, True, False, False])) == pytest.approx(3.5 / 4)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30))
def test_area_of_the_negated_score_is_the_rest_of_one(values):
    probability = np.array(values)
    is_hgg = np.arange(len(values)) % 2 == 0
    both = area_under_curve(probability, is_hgg) + area_under_curve(-probability, is_hgg)
    assert both == pytest.approx(1)


def test_interval_holds_the_value_and_narrows_with_patients():
    random = np.random.default_rng(0)
    widths = []
    for patients in (20, 200):
        is_hgg = np.arange(patients) % 2 == 0
        estimate = interval_over_patients(area_under_curve, random.normal(is_hgg * 1.0, 1.0), is_hgg)
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
        widths.append(estimate.high - estimate.low)
    assert widths[1] < widths[0] / 2


def test_pointing_asks_only_slices_with_tumour():
    tumour = np.zeros((3, 4, 4), bool)
    tumour[:2, 1, 1] = True
    attention = np.zeros((3, 4, 4), np.float32)
    attention[0, 1, 1] = attention[1, 2, 2] = attention[2, 3, 3] = 1
    assert pointing(attention, tumour) == 0.5


def test_dice_of_the_half_covered_tumour():
    tumour = np.zeros((2, 4, 4), bool)
    tumour[0, 1, :2] = True
    attention = np.zeros((2, 4, 4), np.float32)
    attention[0, 1, 0] = 0.6
    attention[0, 3, 3] = 0.4
    assert dice(attention, tumour) == pytest.approx(2 / 3)
