"""What people ask: `status`, `results`, `study`, `audit`."""

import json
import sys
import time
from contextlib import suppress
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.live import Live

from dicom_node.audit import BrokenChainError
from model.grade import Grade
from worker.answers.parquet import write_parquet
from worker.answers.story_page import story_json, story_page
from worker.answers.study_story import tell_story
from worker.answers.tables import result_records, results_table, status_table, to_csv, to_json
from worker.commands.ledger import open_ledger
from worker.commands.terminal import StudyName, console, refuse
from worker.records.queries import state_counts, study_standings
from worker.records.wanted import Standing, Wanted
from worker.study.decisions import find_study
from worker.upkeep.audit import verify_audit_trail


class Format(StrEnum):
    """How `results` are printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def status(
    once: Annotated[bool, typer.Option("--once", help="Print once instead of live until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print once, as JSON.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Newest studies to show.")] = 20,
    state: Annotated[Standing | None, typer.Option(help="Only studies that stand there.")] = None,
) -> None:
    """Show where each study stands, and why."""
    wanted = Wanted(state=state)
    with open_ledger() as session:
        if as_json:
            counts = {str(state): count for state, count in state_counts(session).items()}
            studies = result_records(study_standings(session, limit, wanted))
            sys.stdout.write(json.dumps({"jobs": counts, "studies": studies}, indent=2) + "\n")
            return
        if once or not console.is_terminal:
            console.print(status_table(study_standings(session, limit, wanted)))
            return
        with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False, screen=True) as live:
            while True:
                live.update(status_table(study_standings(session, limit, wanted)), refresh=True)
                session.rollback()
                time.sleep(timedelta(seconds=1).total_seconds())


def results(  # noqa: PLR0913, PLR0917 - each is an option of the command line
    output: Annotated[Format, typer.Option("--format", help="How to print them.")] = Format.TABLE,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="File to write CSV, JSON or Parquet to; Parquet needs one.")
    ] = None,
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Received on this day (UTC) or later.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Received on this day (UTC) or earlier.")
    ] = None,
    state: Annotated[Standing | None, typer.Option(help="Where the study stands.")] = None,
    grade: Annotated[Grade | None, typer.Option(help="What it was graded.", case_sensitive=False)] = None,
    model: Annotated[
        str | None, typer.Option(help='Name of the model, or "name version" as in the table.')
    ] = None,
    scanner: Annotated[
        str | None, typer.Option(help="Part of the manufacturer, model or station name of a series.")
    ] = None,
    minimum: Annotated[
        float | None, typer.Option("--min-probability", min=0, max=1, help="P(HGG) at least.")
    ] = None,
    maximum: Annotated[
        float | None, typer.Option("--max-probability", min=0, max=1, help="P(HGG) at most.")
    ] = None,
) -> None:
    """Print the result of every study, or of those that the options name."""
    output = Format.JSON if as_json else output
    if output is Format.PARQUET and out is None:
        refuse("Parquet goes into a file: name it with --out FILE")
    if output is Format.TABLE and out is not None:
        refuse("a table is for the eye: --out needs --format csv, json or parquet")
    wanted = Wanted(
        since=since and since.date(),
        until=until and until.date(),
        state=state,
        grade=grade,
        model=model,
        scanner=scanner,
        minimum_probability=minimum,
        maximum_probability=maximum,
    )
    with open_ledger() as session:
        standings = study_standings(session, wanted=wanted)
    if output is Format.PARQUET and out is not None:
        write_parquet(standings, out)
    elif output is Format.JSON:
        _write(to_json(standings) + "\n", out)
    elif output is Format.CSV:
        _write(to_csv(standings), out)
    else:
        console.print(results_table(standings))


def tell_study(
    study: StudyName,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Tell a study's whole story: received, series, steps, result, deliveries, events."""
    with open_ledger() as session:
        story = tell_story(session, find_study(session, study).id)
    if as_json:
        sys.stdout.write(story_json(story) + "\n")
    else:
        console.print(story_page(story))


def audit() -> None:
    """Check that no event of the audit trail was changed, removed or put in. Exit 1: one was."""
    with open_ledger() as session:
        try:
            count = verify_audit_trail(session)
        except BrokenChainError as error:
            console.print(f"the audit trail was tampered with: {error}", soft_wrap=True)
            raise typer.Exit(1) from error
    console.print(f"{count} audit events, none changed")


def _write(text: str, out: Path | None) -> None:
    if out is None:
        sys.stdout.write(text)
        return
    try:
        out.write_text(text)
    except OSError as error:
        refuse(f"{out} can't be written: {error.strerror}")
