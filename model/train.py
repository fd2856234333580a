"""Training on simulated patients: ImageNet's blocks 1-4 kept, everything after pool-4 trained.

`python -m model.train --out FOLDER` writes a checkpoint and evaluates it on patients that it never saw.
`--start FOLDER` goes on from an earlier checkpoint instead of ImageNet, and with `--evaluate` only evaluates
that one anew.
"""

import argparse
import logging
import multiprocessing
import time
from collections.abc import Iterable
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from model.attention_scores import dice, pointing
from model.card import Card, InputDescription, Metric, Training, read_card
from model.checkpoint import load_checkpoint, save_checkpoint
from model.grade import Contrast, Grade
from model.imagenet import fetch_onnx, read_convolutions, start_from_imagenet
from model.learn import ATTENTION_LOSS_WEIGHT, BATCH, fit, keep_features
from model.metrics import area_under_curve, balanced_accuracy, interval_over_patients
from model.network import CLASS_ORDER, INPUT_SIZE, AttentionVGG16
from model.predict import Predictor
from model.samples import Mask, draw_many, grade_of, simulated_patient
from model.stack import Stack

THRESHOLD = 0.5
SLICES_WITH_TUMOUR, SLICES_WITHOUT_TUMOUR = 9, 3
HELD_OUT_OFFSET = 500_000
INPUT = InputDescription(
    contrasts=(Contrast.FLAIR, Contrast.T1CE, Contrast.T2),
    size=(INPUT_SIZE, INPUT_SIZE),
    slices="levels 50 to 105 of BraTS space, 1 mm apart",
    normalisation="median and MAD within the brain, each volume by itself, clipped",
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a training does; the same plan gives the same weights unless the time limit ends it early."""

    cases: int
    held_out: int
    epochs: int
    minutes: float
    seed: int
    start: Path | None = None
    """Checkpoint to go on from; None starts from ImageNet."""

    @property
    def training_seeds(self) -> range:
        """Seeds of the simulated patients trained on."""
        return range(self.seed * 1_000_000, self.seed * 1_000_000 + self.cases)

    @property
    def held_out_seeds(self) -> range:
        """Seeds of the simulated patients kept for evaluation only."""
        start = self.seed * 1_000_000 + HELD_OUT_OFFSET
        return range(start, start + self.held_out)


def evaluate_patients(
    predictor: Predictor, seeds: range, patients: Iterable[tuple[Stack, Mask]]
) -> tuple[Metric, ...]:
    """Grade the simulated patients of these seeds, whole, and compare the attention with their tumours."""
    probability, pointed, overlap = [], [], []
    for stack, tumour in patients:
        prediction = predictor.predict(stack)
        probability.append(prediction.grade_prediction.probability)
        pointed.append(pointing(prediction.attention.array, tumour))
        overlap.append(dice(prediction.attention.array, tumour))
    is_hgg = np.array([grade_of(seed) is Grade.HGG for seed in seeds])
    values = np.array(probability)
    threshold = predictor.card.threshold
    estimates = {
        "AUC": interval_over_patients(area_under_curve, values, is_hgg),
        "balanced accuracy": interval_over_patients(
            lambda p, truth: balanced_accuracy(p >= threshold, truth), values, is_hgg
        ),
        "attention pointing game": interval_over_patients(_mean, np.array(pointed), is_hgg),
        "attention Dice at 0.5": interval_over_patients(_mean, np.array(overlap), is_hgg),
    }
    measured_on = f"simulated patients never trained on, seeds {seeds.start} to {seeds.stop - 1}"
    return tuple(
        Metric(name=name, **estimate._asdict(), n=len(seeds), measured_on=measured_on)
        for name, estimate in estimates.items()
    )


def _mean(values: np.ndarray[tuple[int], np.dtype[np.float64]], _: object) -> float:
    return float(values.mean())


def _origin(plan: Plan) -> str:
    return "ImageNet" if plan.start is None else f"the weights of {read_card(plan.start).label}"


def build_card(plan: Plan, samples: int, steps: int, seconds: float, metrics: tuple[Metric, ...]) -> Card:
    """Say what a training made; the digest is filled in when the weights are written."""
    seeds = plan.training_seeds
    return Card(
        name="gliograde-simulated",
        version="2",
        architecture="attention-vgg16",
        classes=CLASS_ORDER,
        input=INPUT,
        pooling="attention-weighted-mean",
        temperature=1.0,
        threshold=THRESHOLD,
        training=Training(
            kind="simulated",
            description=(
                f"Briefly trained for demonstration, from {_origin(plan)} on, on simulated tumours in "
                f"simulated brains made in BraTS space (seeds {seeds.start} to {seeds.stop - 1}), "
                f"{plan.epochs} epochs planned. Blocks 1-4 are "
                "ImageNet's (Oxford VGG16) and were not trained; block 5, both attention modules and the "
                f"head were, on cross entropy and {ATTENTION_LOSS_WEIGHT} times the Dice loss of each "
                "attention map. The weights have seen no real patient."
            ),
            cases=plan.cases,
            samples=samples,
            steps=steps,
            seed=plan.seed,
            seconds=round(seconds, 1),
        ),
        metrics=metrics,
        intended_use=(
            "Shows the node at work. Research use only; says nothing reliable about a real patient's tumour."
        ),
        licence="Apache-2.0; the ImageNet start is Oxford VGG's, CC BY",
        weights_sha256="0" * 64,
    )


def train(plan: Plan, folder: Path, executor: Executor) -> Card:
    """Train, write the checkpoint, evaluate what was written, and write its card again with the metrics."""
    started = time.monotonic()
    torch.manual_seed(plan.seed)
    samples = draw_many(plan.training_seeds, SLICES_WITH_TUMOUR, SLICES_WITHOUT_TUMOUR, executor)
    _log.info(
        "%d slices of %d patients after %.0f s", len(samples.labels), plan.cases, time.monotonic() - started
    )
    if plan.start is not None:
        network = load_checkpoint(plan.start).network
    else:
        network = AttentionVGG16(batch_norm=False)
        sample = torch.from_numpy(samples.slices[:: max(1, len(samples.labels) // BATCH)]).float()
        start_from_imagenet(network, read_convolutions(fetch_onnx()), sample)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stub lacks it
    kept = keep_features(network, samples)
    _log.info("features kept after %.0f s", time.monotonic() - started)
    steps = fit(network, kept, plan.epochs, started + plan.minutes * 60)
    seconds = time.monotonic() - started
    save_checkpoint(folder, network, build_card(plan, len(samples.labels), steps, seconds, ()))
    if not plan.held_out:
        return read_card(folder)
    held_out = executor.map(simulated_patient, plan.held_out_seeds)
    metrics = evaluate_patients(Predictor(folder, "cpu"), plan.held_out_seeds, held_out)
    return save_checkpoint(folder, network, build_card(plan, len(samples.labels), steps, seconds, metrics))


def reassess(plan: Plan, start: Path, folder: Path, executor: Executor) -> Card:
    """Evaluate the weights in `start` on today's input and write them, unchanged, with a card of that."""
    card, network = load_checkpoint(start)
    held_out = executor.map(simulated_patient, plan.held_out_seeds)
    metrics = evaluate_patients(Predictor(start, "cpu"), plan.held_out_seeds, held_out)
    description = (
        f"{card.training.description} Trained as version {card.version} on the input of that version, "
        "not further since; the metrics are measured on the input that this card describes."
    )
    changed = {
        "version": f"{card.version}.1",
        "input": INPUT,
        "metrics": metrics,
        "training": card.training.model_copy(update={"description": description}),
    }
    return save_checkpoint(folder, network, card.model_copy(update=changed))


def main() -> None:
    """Read the plan from the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m model.train", description="Train on simulated patients.")
    parser.add_argument("--out", type=Path, required=True, help="folder the checkpoint is written to")
    parser.add_argument("--cases", type=int, default=160, help="simulated patients to train on")
    parser.add_argument("--held-out", type=int, default=40, help="simulated patients to evaluate on")
    parser.add_argument("--epochs", type=int, default=4, help="passes over the training slices")
    parser.add_argument("--minutes", type=float, default=35.0, help="wall time after which training stops")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=Path, help="checkpoint to go on from (default: ImageNet)")
    parser.add_argument("--processes", type=int, default=2, help="processes that simulate")
    parser.add_argument("--evaluate", action="store_true", help="train nothing, evaluate --start anew")
    arguments = parser.parse_args()
    if arguments.evaluate and arguments.start is None:
        parser.error("--evaluate needs --start")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    plan = Plan(
        arguments.cases,
        arguments.held_out,
        arguments.epochs,
        arguments.minutes,
        arguments.seed,
        arguments.start,
    )
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.processes, context, torch.set_num_threads, (1,)) as executor:
        if arguments.evaluate:
            card = reassess(plan, arguments.start, arguments.out, executor)
        else:
            card = train(plan, arguments.out, executor)
    for metric in card.metrics:
        _log.info("%s %.3f (%.3f to %.3f)", metric.name, metric.value, metric.low, metric.high)


if __name__ == "__main__":
    main()
