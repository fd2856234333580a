import csv
from concurrent.futures import Executor

import numpy as np
import pytest

from model.assessment.evaluation_plots import RELIABILITY, RISK
from model.assessment.simulated import assess
from model.assessment.simulated_outcomes import calibrate, measure_simulated, metrics_of, write_outcomes
from model.card import read_card
from model.grade import Grade
from model.predict import Predictor
from model.space.stack import Stack, stack_affine

SEEDS = range(24)


def _patient(seed):
    """A brain of noise; with a tumour that is brighter in the HGG, or without one."""
    random = np.random.default_rng(seed)
    array = random.normal(0, 1, (2, 3, 224, 224)).astype(np.float32)
    mask = np.zeros((2, 224, 224), bool)
    mask[:, 40:180, 40:180] = True
    tumour = np.zeros_like(mask)
    grade = (Grade.HGG, Grade.LGG, None)[seed % 3]
    if grade is not None:
        tumour[:, 60:90, 60:90] = True
        array[np.broadcast_to(tumour[:, None], array.shape)] += 5 if grade is Grade.HGG else 1
    stack = Stack(array * mask[:, None], mask, stack_affine())
    return stack, tumour, {"grade": grade, "form": "single"} if grade else {"grade": "none"}


@pytest.fixture(scope="module")
def outcomes(saved_checkpoint):
    return measure_simulated(Predictor(saved_checkpoint, "cpu"), SEEDS, map(_patient, SEEDS))


def test_each_patient_has_an_outcome(outcomes):
    assert [each.seed for each in outcomes] == list(SEEDS)
    assert [each.grade for each in outcomes[:3]] == [Grade.HGG, Grade.LGG, None]
    assert all((each.scores is None) == (each.grade is None) for each in outcomes)
    bright = [each.bright for each in outcomes]
    assert min(bright[0::3]) > max(bright[1::3])


def test_the_card_learns_calibration_and_gates_and_tells_its_metrics(outcomes, saved_checkpoint, tmp_path):
    card = calibrate(read_card(saved_checkpoint), outcomes, "boxes")
    assert card.calibration is not None
    assert card.calibration.patients == 16
    assert card.gates is not None
    assert card.gates.no_tumour is not None
    metrics = {metric.name: metric for metric in metrics_of(card, outcomes, "boxes")}
    assert metrics["AUC of bright pixels, no learning"].value == 1
    assert metrics["AUC of bright pixels, no learning"].n == 16
    assert metrics["tumours that pass the no-tumour gate"].n == 16
    assert metrics["tumour-free brains that it stops"].n == 8
    assert metrics["attention: chance"].value == pytest.approx(900 / 140**2, rel=0.01)
    write_outcomes(tmp_path / "outcomes.csv", card, outcomes)
    with (tmp_path / "outcomes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["grade"] for row in rows[:3]] == ["HGG", "LGG", "none"]
    assert all(0 <= float(row["probability"]) <= 1 for row in rows)


class Here(Executor):
    """Stands in for the processes that simulate."""

    def map(self, fn, *iterables, **_):  # noqa: ARG002 - the base's
        return map(_patient, iterables[0])


def test_an_assessment_leaves_a_complete_checkpoint_and_what_it_rests_on(saved_checkpoint, tmp_path):
    card = assess(saved_checkpoint, tmp_path, SEEDS, range(30, 54), Here())
    assert read_card(tmp_path) == card
    assert card.gates is not None
    assert card.metrics
    assert all("seeds 30 to 53" in metric.measured_on for metric in card.metrics)
    for name in ("validation.csv", "test.csv"):
        with (tmp_path / name).open() as file:
            assert len(list(csv.DictReader(file))) == 24
    for name in (RELIABILITY, RISK):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
