"""Commands about the classifier itself: `gliograde evaluate`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from model.brats import read_patients
from model.card import default_checkpoint_folder


def evaluate(
    data: Annotated[Path, typer.Argument(help="Folder with patients as BraTS 2018-2021 lays them out.")],
    labels: Annotated[
        Path | None, typer.Option(help="CSV with the columns name and grade, and source where it is known.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Folder of the checkpoint; the shipped one by default.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the report, Markdown, is written.")] = Path(
        "evaluation.md"
    ),
) -> None:
    """Measure a checkpoint on a cohort, beside its baselines and the paper's table."""
    from model.evaluation import measure, report  # noqa: PLC0415 - torch only where a network runs
    from model.predict import Predictor  # noqa: PLC0415

    patients = read_patients(data, labels)
    predictor = Predictor(checkpoint or default_checkpoint_folder())
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("patients", total=len(patients))
        measured = measure(predictor, patients, lambda: progress.advance(task))
    text = report(predictor.card, patients, measured)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text)
    typer.echo(text)
