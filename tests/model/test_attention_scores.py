import math

import numpy as np
import pytest

from model.attention_scores import dice, pointing, score_attention

BRAIN = np.ones((3, 8, 8), bool)


@pytest.fixture
def tumour():
    mask = np.zeros((3, 8, 8), bool)
    mask[:2, 2:4, 2:6] = True
    return mask


def test_attention_on_the_tumour_scores_one_and_inverted_attention_nothing(tumour):
    on_it = score_attention(tumour.astype(np.float32), tumour, BRAIN)
    assert on_it[:-1] == (1, 1, 1, 1, 1)
    assert on_it.chance == pytest.approx(8 / 64)
    beside = score_attention((~tumour).astype(np.float32), tumour, BRAIN)
    assert (beside.pointing, beside.energy, beside.dice, beside.jaccard, beside.sign) == (0, 0, 0, 0, 0)


def test_even_attention_scores_chance(tumour):
    even = score_attention(np.full(tumour.shape, 0.3, np.float32), tumour, BRAIN)
    assert even.energy == pytest.approx(even.chance)
    assert even.sign == 0.5


def test_attention_outside_the_brain_does_not_count(tumour):
    attention = tumour.astype(np.float32)
    brain = BRAIN.copy()
    brain[:, 6:] = False
    attention[:, 6:] = 5
    assert score_attention(attention, tumour, brain).energy == 1


def test_a_patient_without_tumour_has_no_score():
    scores = score_attention(np.ones((3, 8, 8), np.float32), np.zeros((3, 8, 8), bool), BRAIN)
    assert all(math.isnan(each) for each in scores)


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
