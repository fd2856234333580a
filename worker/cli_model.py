"""Commands about the classifier itself: `gliograde evaluate`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from model.card import default_checkpoint_folder


def evaluate(
    data: Annotated[Path, typer.Argument(help="Folder with patients as BraTS 2018-2021 lays them out.")],
    model: Annotated[
        Path | None, typer.Option(help="Folder of the checkpoint; the shipped one by default.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="CSV with the columns name and grade, and source where it is known.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for report.md, results and patients.")] = Path(
        "evaluation"
    ),
) -> None:
    """Measure a checkpoint on patients that it never saw, beside its baselines and the paper's table."""
    from model import evaluation  # noqa: PLC0415 - torch only where a network runs
    from model.brats import read_patients  # noqa: PLC0415 - the command line starts without torch
    from model.evaluation_report import report, write_evaluation  # noqa: PLC0415
    from model.predict import OutOfDeviceMemoryError, Predictor  # noqa: PLC0415

    patients = read_patients(data, labels)
    predictor = Predictor(model or default_checkpoint_folder())
    try:
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task("patients", total=len(patients))
            measured = evaluation.measure(predictor, patients, lambda: progress.advance(task))
    except OutOfDeviceMemoryError as error:
        typer.echo(
            f"gliograde: {error}; end what else runs there, or hide it: CUDA_VISIBLE_DEVICES=", err=True
        )
        raise typer.Exit(2) from error
    evaluated = evaluation.evaluate(predictor.card, patients, measured)
    write_evaluation(out, predictor.card, patients, measured, evaluated)
    typer.echo(report(predictor.card, evaluated))
