"""`gliograde model`: add a checkpoint, list them, choose the one in use."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from dicom_node.installation import open_installation
from worker.answers.agreement import agreement_table, measure_agreement
from worker.checkpoints import add_checkpoint, list_checkpoints, read_choice, use_checkpoint
from worker.commands.ledger import open_ledger
from worker.commands.terminal import console
from worker.settings import Settings

app = typer.Typer(help="Add, list and choose checkpoints.", no_args_is_help=True)


@app.command()
def add(
    folder: Annotated[Path, typer.Argument(help="Folder with card.json and model.safetensors.")],
) -> None:
    """Check a checkpoint and copy it into the data folder; it isn't used until `model use` says so."""
    settings = Settings()
    open_installation(settings.data_folder)
    added = add_checkpoint(folder, settings.data_folder)
    console.print(f"added {added.name}. {added.card.training_statement}.", soft_wrap=True)
    console.print(f"gliograde model use {added.name} puts it to use", soft_wrap=True)


@app.command("list")
def list_all() -> None:
    """Show all checkpoints and which one is in use."""
    settings = Settings()
    choice = read_choice(settings.data_folder)
    table = Table("name", "architecture", "trained on", "", title="Checkpoints")
    for each in list_checkpoints(settings.data_folder):
        words = {choice.in_use: "in use", choice.previous: "previous"}.get(each.name, "")
        trained_on = f"{each.card.training.cases} {each.card.training.kind} patients"
        table.add_row(each.name, each.card.architecture, trained_on, words)
    console.print(table)
    if settings.checkpoint_folder is not None:
        console.print(f"the setting checkpoint_folder overrides this: {settings.checkpoint_folder}")


@app.command()
def use(
    name: Annotated[str, typer.Argument(help="Name that `model list` shows; `shipped` is gliograde's own.")],
) -> None:
    """Choose the checkpoint that studies are graded with from the workers' next start on."""
    settings = Settings()
    open_installation(settings.data_folder)
    choice = use_checkpoint(name, settings.data_folder)
    console.print(f"{choice.in_use} is in use once the workers are started again", soft_wrap=True)
    if choice.previous:
        console.print(f"gliograde model use {choice.previous} goes back", soft_wrap=True)
    if settings.checkpoint_folder is not None:
        console.print(f"the setting checkpoint_folder still overrides it: {settings.checkpoint_folder}")


@app.command()
def agreement(
    since: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Count what the newer one read on this day (UTC) or later."),
    ] = None,
) -> None:
    """Compare checkpoints on the studies that both have read: by replay, in shadow, or in turn."""
    with open_ledger() as session:
        measured = measure_agreement(session, since and since.date())
    console.print(agreement_table(measured))
