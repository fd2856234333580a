from concurrent.futures import Executor

import numpy as np
import pytest

from model.card import read_card
from model.simulation.samples import Samples, draw_samples
from model.simulation.simulated_cohort import (
    TEST_SEEDS,
    some_of,
    training_seeds,
    validation_seeds,
)
from model.training.train import Draw, Plan, build_card, main, train


def test_training_validation_and_test_patients_never_meet():
    sides = [set(training_seeds(7, 200)), set(validation_seeds(7, 100)), set(TEST_SEEDS)]
    assert [len(side) for side in sides] == [200, 100, 444]
    assert len(set().union(*sides)) == 744


def test_card_says_what_it_is():
    patients = Draw.parse("7:200"), Draw.parse("8:100:0.5")
    card = build_card(Plan("8", patients, epochs=1, minutes=1), 64, 4, 1.0)
    assert card.is_simulated
    assert card.version == "8"
    assert "seeds 7000000 to 7000199; 8000000 to 8000099, 50% of them made hard" in card.training.description
    assert (card.training.cases, card.training.seed) == (300, 8)
    assert card.training.steps == 4


@pytest.mark.parametrize(
    "text", ["7", "7:x", "7:1:0:0", "7:0", "7:500001", "-1:10", "700:10", "7:10:2", "7:10:-0.1", "7:10:nan"]
)
def test_patients_that_no_plan_can_mean(text):
    with pytest.raises(ValueError, match=r"such as|nobody|from 0 to 1"):
        Draw.parse(text)


@pytest.mark.parametrize(
    ("version", "patients", "why"),
    [
        ("8", ["7:0"], "or nobody"),
        ("8", ["7:200", "7:100"], "named twice"),
        ("8 beta", ["7:200"], "letters, digits"),
        ("", ["7:200"], "letters, digits"),
    ],
)
def test_a_refused_plan_says_why(version, patients, why, capsys):
    with pytest.raises(SystemExit):
        main(["--out", "nowhere", "--version", version, "--patients", *patients])
    assert why in capsys.readouterr().err


def test_some_of_the_test_patients():
    assert some_of(TEST_SEEDS, None) == TEST_SEEDS
    assert some_of(TEST_SEEDS, None, 440) == TEST_SEEDS[440:]
    assert some_of(TEST_SEEDS, 140, 200) == range(TEST_SEEDS.start + 200, TEST_SEEDS.start + 340)


@pytest.mark.parametrize(("patients", "skip"), [(0, 0), (445, 0), (5, 440), (None, 444), (1, -1), (-1, 0)])
def test_test_patients_that_there_are_not(patients, skip):
    with pytest.raises(ValueError, match="444"):
        some_of(TEST_SEEDS, patients, skip)


class Drawn(Executor):
    """Stands in for the processes that simulate: slices of noise, and what was asked for."""

    def __init__(self):
        self.asked = []

    def map(self, fn, *iterables, **_):
        assert fn is draw_samples
        for asked in zip(*iterables, strict=False):
            self.asked.append(asked)
            slices = np.random.default_rng(asked[0]).normal(size=(1, 3, 224, 224)).astype(np.float16)
            everywhere = np.ones((1, 224, 224), bool)
            yield Samples(slices, everywhere, everywhere, np.array([asked[0] % 2]))


def test_a_training_draws_what_its_plan_says(saved_checkpoint, tmp_path):
    plan = Plan("8", (Draw(7, 2), Draw(8, 1, 0.7)), epochs=1, minutes=5, start=saved_checkpoint)
    executor = Drawn()
    card = train(plan, tmp_path, executor)
    assert executor.asked == [(7_000_000, 12, 4, 0.0), (7_000_001, 12, 4, 0.0), (8_000_000, 12, 4, 0.7)]
    assert read_card(tmp_path) == card
    assert (card.version, card.training.samples, card.training.steps) == ("8", 3, 1)
