"""What a checkpoint is worth on simulated patients, and the calibration and gates that these give it.

`python -m model.assessment.simulated --start FOLDER --out FOLDER` writes the checkpoint with its card
complete, `validation.csv` and `test.csv` with a line per patient, and the plots of the test patients.
"""

import argparse
import logging
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from model.assessment.evaluation_plots import plot_calibration
from model.assessment.shortcuts import mirrored
from model.assessment.simulated_outcomes import (
    Outcome,
    calibrate,
    graded_outcomes,
    measure_simulated,
    metrics_of,
    write_outcomes,
)
from model.card import Card
from model.checkpoint import load_checkpoint, save_checkpoint
from model.metrics import Estimate, risk_coverage
from model.predict import Precision, Predictor
from model.simulation.samples import (
    SimulatedPatient,
    as_shown,
    simulate_in_space,
    simulated_patient,
    training_head,
)
from model.simulation.simulated_cohort import (
    TEST_HEAD,
    TEST_SEEDS,
    TEST_SHA256,
    labels_in_space,
    some_of,
    validation_seeds,
)
from model.simulation.template import typical_to_atlas

_AHEAD = 40
"""Patients of 80 MB each."""

_log = logging.getLogger(__name__)


def assess(
    start: Path,
    folder: Path,
    validation: range,
    test: range,
    executor: Executor,
    precision: Precision = "fp32",
) -> Card:
    """Calibrate the weights in `start` and set their gates, measure them on test patients, write both.

    `validation` are seeds of the head trained on, in both of its readings, `test` of the head kept for tests.
    """
    card, network = load_checkpoint(start)
    card = card.model_copy(update={"temperature": 1.0, "bias": 0.0, "calibration": None, "gates": None})
    save_checkpoint(folder, network, card)
    predictor = Predictor(folder, "cpu", precision=precision)
    patients = _some_at_a_time(executor, validation_patient, validation)
    seen = measure_simulated(predictor, validation, patients, _tell)
    card = calibrate(card, seen, f"simulated patients, seeds {validation.start} to {validation.stop - 1}")
    write_outcomes(folder / "validation.csv", card, seen)
    patients = _some_at_a_time(executor, patient_and_control, test)
    unseen = measure_simulated(predictor, test, patients, _tell)
    write_outcomes(folder / "test.csv", card, unseen)
    measured_on = (
        f"{len(test)} patients of the simulated test set {TEST_SHA256[:12]}, seeds {test.start} to "
        f"{test.stop - 1}, on an anatomy never trained on"
    )
    metrics = metrics_of(card, unseen, measured_on)
    probability, is_hgg = graded_outcomes(card, unseen)
    [ece] = [Estimate(each.value, each.low, each.high) for each in metrics if each.name == "ECE"]
    plot_calibration(folder, probability, is_hgg, ece, risk_coverage(probability, is_hgg, card.threshold))
    return save_checkpoint(folder, network, card.model_copy(update={"metrics": metrics}))


def _some_at_a_time(
    executor: Executor, simulate: Callable[[int], SimulatedPatient], seeds: range
) -> Iterator[SimulatedPatient]:
    """Simulate ahead of the grading, but not so far that patients fill the memory."""
    for start in range(0, len(seeds), _AHEAD):
        yield from executor.map(simulate, seeds[start : start + _AHEAD])


def validation_patient(seed: int) -> SimulatedPatient:
    """Simulate a patient of the head trained on, in one of its readings."""
    return simulated_patient(seed, training_head(seed))


def patient_and_control(seed: int) -> SimulatedPatient:
    """Simulate a patient of the test set, where it has a tumour also with its mirror image in its place."""
    case, placed = simulate_in_space(seed, TEST_HEAD)
    patient = as_shown(case, placed)
    if not patient.tumour.any():
        return patient
    labels = labels_in_space(case.segmentation.moved(typical_to_atlas())).astype(np.uint8)
    return patient._replace(without=replace(mirrored(placed, labels), intensities=None))


def _tell(outcome: Outcome) -> None:
    probability = outcome.prediction.probability
    _log.info("%d %s %s: %.3f", outcome.seed, outcome.grade or "none", outcome.form, probability)


def main() -> None:
    """Read from the command line what to assess."""
    parser = argparse.ArgumentParser(
        prog="python -m model.assessment.simulated", description="Assess a checkpoint on simulated patients."
    )
    parser.add_argument("--start", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder the complete checkpoint is written to"
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of its training")
    parser.add_argument("--validation", type=int, default=60, help="simulated patients that calibrate")
    parser.add_argument("--test", type=int, help="patients of the test set (default: all that are left)")
    parser.add_argument(
        "--skip", type=int, default=0, help="patients of the test set passed over before them"
    )
    parser.add_argument("--precision", choices=get_args(Precision), default="fp32")
    parser.add_argument("--processes", type=int, default=2, help="processes that simulate")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        test = some_of(TEST_SEEDS, arguments.test, arguments.skip)
    except ValueError as error:
        parser.error(str(error))
    seeds = validation_seeds(arguments.seed, arguments.validation), test
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.processes, context, torch.set_num_threads, (1,)) as executor:
        card = assess(arguments.start, arguments.out, *seeds, executor, arguments.precision)
    for metric in card.metrics:
        _log.info("%s %.3f (%.3f to %.3f)", metric.name, metric.value, metric.low, metric.high)


if __name__ == "__main__":
    main()
