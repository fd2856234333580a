import csv
from concurrent.futures import Executor

import numpy as np
import pytest

from model.assessment.evaluation_plots import RELIABILITY, RISK
from model.assessment.simulated import assess, patient_and_control
from model.assessment.simulated_outcomes import calibrate, measure_simulated, metrics_of, write_outcomes
from model.card import read_card
from model.grade import Contrast, Grade
from model.predict import Predictor
from model.simulation.samples import SimulatedPatient
from model.simulation.simulate import Parameters
from model.simulation.simulated_cohort import TEST_SEEDS
from model.space.stack import Stack, stack_affine

SEEDS = range(24)
T2 = list(Contrast).index(Contrast.T2)


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
    drawn: Parameters = {"grade": grade, "form": "single"} if grade else {"grade": "none"}
    without = Stack(array.clip(-1, 1) * mask[:, None], mask, stack_affine()) if grade else None
    return SimulatedPatient(stack, tumour, drawn, without)


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
    assert metrics["AUC with the tumour replaced by its mirror image"].n == 16
    assert metrics["tumours that pass the no-tumour gate"].n == 16
    assert metrics["tumour-free brains that it stops"].n == 8
    assert metrics["attention: chance"].value == pytest.approx(900 / 140**2, rel=0.01)
    write_outcomes(tmp_path / "outcomes.csv", card, outcomes)
    with (tmp_path / "outcomes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["grade"] for row in rows[:3]] == ["HGG", "LGG", "none"]
    assert all(0 <= float(row["probability"]) <= 1 for row in rows)
    assert [bool(row["without"]) for row in rows[:3]] == [True, True, False]


def test_the_control_is_graded_as_it_is(outcomes, saved_checkpoint):
    patient = _patient(0)
    assert patient.without is not None
    said = Predictor(saved_checkpoint, "cpu").predict(patient.without).grade_prediction
    assert outcomes[0].without is not None
    assert outcomes[0].without.probability == pytest.approx(said.probability)
    assert outcomes[0].without.probability != pytest.approx(outcomes[0].prediction.probability)


def test_no_figure_of_a_control_without_it(outcomes, saved_checkpoint):
    half = [each._replace(without=None) if each.seed == 0 else each for each in outcomes]
    card = calibrate(read_card(saved_checkpoint), half, "boxes")
    assert not [metric for metric in metrics_of(card, half, "boxes") if "mirror" in metric.name]


def test_the_control_of_a_test_patient_lacks_its_tumour():
    patient = patient_and_control(TEST_SEEDS.start)
    assert patient.without is not None
    brain = patient.stack.mask & ~patient.tumour
    with_it, without = (
        stack.array[:, T2][patient.tumour].mean() - stack.array[:, T2][brain].mean()
        for stack in (patient.stack, patient.without)
    )
    assert with_it > 1
    assert abs(without) < 0.3


class Here(Executor):
    """Stands in for the processes that simulate; a control is given where one is asked for."""

    def map(self, fn, *iterables, **_):
        patients = map(_patient, iterables[0])
        return patients if fn is patient_and_control else (each._replace(without=None) for each in patients)


def test_an_assessment_leaves_a_complete_checkpoint_and_what_it_rests_on(saved_checkpoint, tmp_path):
    card = assess(saved_checkpoint, tmp_path, SEEDS, range(30, 54), Here())
    assert read_card(tmp_path) == card
    assert card.gates is not None
    assert card.metrics
    assert all("seeds 30 to 53" in metric.measured_on for metric in card.metrics)
    for name, controls in (("validation.csv", 0), ("test.csv", 16)):
        with (tmp_path / name).open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 24
        assert sum(bool(row["without"]) for row in rows) == controls
    for name in (RELIABILITY, RISK):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
