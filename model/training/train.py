"""Training on simulated patients: ImageNet's blocks 1 and 2 kept, everything after them trained.

`python -m model.training.train --version NAME --out FOLDER` writes a checkpoint; `--start FOLDER` goes on
from an earlier one instead of ImageNet. Then `python -m model.assessment.simulated` calibrates, sets gates
and measures.
"""

import argparse
import logging
import multiprocessing
import re
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from model.card import VERSION, Card, InputDescription, Training, read_card
from model.checkpoint import load_checkpoint, save_checkpoint
from model.grade import Contrast
from model.network import CLASS_ORDER, INPUT_SIZE, AttentionVGG16
from model.simulation.samples import Samples, draw_many
from model.simulation.simulated_cohort import OWN_SEEDS, TEST_SEEDS, VALIDATION_OFFSET, training_seeds
from model.training.imagenet import fetch_onnx, read_convolutions, start_from_imagenet
from model.training.learn import ATTENTION_LOSS_WEIGHT, BATCH, fit

THRESHOLD = 0.5
SLICES_WITH_TUMOUR, SLICES_WITHOUT_TUMOUR = 12, 4
INPUT = InputDescription(
    contrasts=(Contrast.FLAIR, Contrast.T1CE, Contrast.T2),
    size=(INPUT_SIZE, INPUT_SIZE),
    slices="levels 50 to 105 of BraTS space, 1 mm apart",
    normalisation="median and MAD within the brain, each volume by itself, clipped",
)

_log = logging.getLogger(__name__)


class Draw(NamedTuple):
    """Simulated patients to learn from: the first `cases` of a training seed."""

    seed: int
    cases: int
    hard: float = 0.0
    """Share of those with a tumour that is given a form which attention finds hard."""

    @classmethod
    def parse(cls, text: str) -> "Draw":
        """Read SEED:CASES or SEED:CASES:HARD; raises ValueError for anything else."""
        try:
            seed, cases, *hard = text.split(":")
            draw = cls(int(seed), int(cases), *map(float, hard))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{text} isn't SEED:CASES or SEED:CASES:HARD, such as 7:200:0.5") from error
        if not (0 < draw.seed < TEST_SEEDS.start // OWN_SEEDS and 0 < draw.cases <= VALIDATION_OFFSET):
            raise ValueError(f"{text}: patients that validate or test, or nobody")
        if not 0 <= draw.hard <= 1:
            raise ValueError(f"{text}: the share made hard is from 0 to 1")
        return draw

    def __str__(self) -> str:
        seeds = training_seeds(self.seed, self.cases)
        hard = (
            f", {self.hard:.0%} of them made hard: after surgery, small or infratentorial"
            if self.hard
            else ""
        )
        return f"{seeds.start} to {seeds.stop - 1}{hard}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a training does; the same plan gives the same weights unless the time limit ends it early.

    Raises ValueError where two draws have the same seed, for they would be the same patients, and for a
    version that no card may have.
    """

    version: str
    """What the checkpoint is called."""
    patients: tuple[Draw, ...]
    epochs: int
    minutes: float
    start: Path | None = None
    """Checkpoint to go on from; None starts from ImageNet."""
    device: str = "cpu"
    """Torch's name of what trains."""

    def __post_init__(self) -> None:
        """Refuse what would only fail once the training is over, and the same patients twice."""
        if not re.fullmatch(VERSION, self.version):
            raise ValueError(f"version {self.version!r}: 1 to 12 letters, digits, dots, + or -")
        if len({draw.seed for draw in self.patients}) < len(self.patients):
            raise ValueError("patients of one seed are named twice: name each seed once")

    @property
    def cases(self) -> int:
        """How many patients are learnt from."""
        return sum(draw.cases for draw in self.patients)

    @property
    def seed(self) -> int:
        """Seed of order and variation: the last draw's."""
        return self.patients[-1].seed


def _origin(plan: Plan) -> str:
    return "ImageNet" if plan.start is None else f"the weights of {read_card(plan.start).label}"


def build_card(plan: Plan, samples: int, steps: int, seconds: float) -> Card:
    """Say what a training made; the digest is filled in when the weights are written."""
    return Card(
        name="gliograde-simulated",
        version=plan.version,
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
                f"simulated brains made in BraTS space (seeds {'; '.join(map(str, plan.patients))}; two "
                f"readings of one head), {plan.epochs} epochs planned, slices varied anew in each. Blocks 1 "
                "and 2 are ImageNet's (Oxford VGG16); all after them was trained on cross entropy and "
                f"{ATTENTION_LOSS_WEIGHT} times the Dice loss and weighted cross entropy of each attention "
                "map. The weights have seen no real patient."
            ),
            cases=plan.cases,
            samples=samples,
            steps=steps,
            seed=plan.seed,
            seconds=round(seconds, 1),
        ),
        metrics=(),
        intended_use=(
            "Shows the node at work. Research use only; says nothing reliable about a real patient's tumour."
        ),
        licence="Apache-2.0; the ImageNet start is Oxford VGG's, CC BY",
        weights_sha256="0" * 64,
    )


def train(plan: Plan, folder: Path, executor: Executor) -> Card:
    """Train and write the checkpoint, without calibration, gates and metrics."""
    started = time.monotonic()
    torch.manual_seed(plan.seed)
    samples = Samples.join(
        [
            samples
            for draw in plan.patients
            for samples in draw_many(
                training_seeds(draw.seed, draw.cases),
                SLICES_WITH_TUMOUR,
                SLICES_WITHOUT_TUMOUR,
                draw.hard,
                executor,
            )
        ]
    )
    _log.info(
        "%d slices of %d patients after %.0f s", len(samples.labels), plan.cases, time.monotonic() - started
    )
    if plan.start is not None:
        network = load_checkpoint(plan.start).network
    else:
        network = AttentionVGG16(batch_norm=False)
        sample = torch.from_numpy(samples.slices[:: max(1, len(samples.labels) // BATCH)]).float()
        start_from_imagenet(network, read_convolutions(fetch_onnx()), sample)
    network.to(plan.device, memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stub lacks it
    steps = fit(network, samples, plan.epochs, plan.seed, started + plan.minutes * 60)
    seconds = time.monotonic() - started
    return save_checkpoint(folder, network, build_card(plan, len(samples.labels), steps, seconds))


def _draw(text: str) -> Draw:
    try:
        return Draw.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def main(words: Sequence[str] | None = None) -> None:
    """Read the plan from the command line and train."""
    parser = argparse.ArgumentParser(
        prog="python -m model.training.train", description="Train on simulated patients."
    )
    parser.add_argument("--out", type=Path, required=True, help="folder the checkpoint is written to")
    parser.add_argument("--version", required=True, help="what the checkpoint is called, such as 8")
    parser.add_argument(
        "--patients",
        type=_draw,
        nargs="+",
        default=[Draw(1, 160)],
        metavar="SEED:CASES[:HARD]",
        help="simulated patients to train on; HARD is the share given a form that attention finds hard",
    )
    parser.add_argument("--epochs", type=int, default=4, help="passes over the training slices")
    parser.add_argument("--minutes", type=float, default=35.0, help="wall time after which training stops")
    parser.add_argument("--start", type=Path, help="checkpoint to go on from (default: ImageNet)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--processes", type=int, default=2, help="processes that simulate")
    arguments = parser.parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        plan = Plan(
            arguments.version,
            tuple(arguments.patients),
            arguments.epochs,
            arguments.minutes,
            arguments.start,
            arguments.device,
        )
    except ValueError as error:
        parser.error(str(error))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.processes, context, torch.set_num_threads, (1,)) as executor:
        train(plan, arguments.out, executor)


if __name__ == "__main__":
    main()
