"""The command `gliograde`: a composition root. Settings are read here and handed down."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError
from rich.console import Console
from rich.live import Live
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from dicom_node.audit import BrokenChainError
from dicom_node.installation import DataFolderError, open_installation
from dicom_node.peers.scu import AssociationError, Destination
from dicom_node.reading.mr_study import (
    NoVolumesError,
    PatientIdentity,
    StudyHeader,
    build_study_from_folder,
    save_study,
)
from dicom_node.results.show import ShowError, show_report
from dicom_node.settings import AllowedPeer, settings_line
from model.card import CheckpointError
from model.cohorts.brats_names import CohortError
from model.grade import Grade
from worker.answers.parquet import ParquetError, write_parquet
from worker.answers.story_page import story_json, story_page
from worker.answers.study_story import tell_story
from worker.answers.tables import (
    findings_page,
    result_records,
    results_table,
    roles_table,
    status_table,
    to_csv,
    to_json,
)
from worker.commands.checkpoints import app as checkpoint_commands
from worker.commands.conformance import conformance_statement
from worker.commands.doctor import examine, is_well
from worker.commands.feedback import feedback
from worker.commands.ledger import note_decision, open_ledger
from worker.commands.model import cross_validate, evaluate, train
from worker.commands.peers import app as peer_commands
from worker.commands.purge import purge
from worker.commands.replay import replay_studies
from worker.commands.simulate import simulate
from worker.commands.web import users as user_commands
from worker.commands.web import web
from worker.demonstration.demo import DemoFolderError, DemoOptions, DemoTimeoutError, run_demo
from worker.demonstration.demo_study import SendingError
from worker.node import MissingServiceError
from worker.records.queries import state_counts, study_standings
from worker.records.schema import SchemaError, readers_may_read, upgrade_schema
from worker.records.wanted import Standing, Wanted
from worker.running.embedded import EmbeddedServerError
from worker.running.processes import NotReadyError, ProcessEndedError
from worker.running.services import open_database, open_engine, run_services
from worker.settings import Settings
from worker.study.decisions import (
    RolesError,
    decide_roles,
    find_study,
    own_name,
    parse_roles,
    series_standings,
)
from worker.study.incoming import NoDicomError
from worker.study.interventions import InterventionError, release_study, retry_study
from worker.upkeep.audit import verify_audit_trail
from worker.upkeep.purging import NotPurgeableError
from worker.upkeep.watching import make_watch_server
from worker.version import VERSION
from worker.web.address import WebAddressError, url_of
from worker.web.users import UserError

EXPECTED_ERRORS = (
    AssociationError,
    CheckpointError,
    CohortError,
    DataFolderError,
    DemoFolderError,
    DemoTimeoutError,
    EmbeddedServerError,
    InterventionError,
    MissingServiceError,
    NoDicomError,
    NotPurgeableError,
    NotReadyError,
    NoVolumesError,
    ParquetError,
    ProcessEndedError,
    RolesError,
    SchemaError,
    SendingError,
    ShowError,
    UserError,
    WebAddressError,
)
"""What a person can mend: told in one line, without a traceback."""

READER_ADVICE = (
    "analysts can't read the views yet: let an administrator of the database run "
    "CREATE ROLE gliograde_reader; GRANT SELECT ON v_results, v_turnaround, v_failures, v_model_agreement, "
    "v_known_grades TO gliograde_reader"
)

app = typer.Typer(
    help="Grade gliomas in brain MR studies, beside a PACS. Research use only.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(evaluate)
app.command()(train)
app.command()(simulate)
app.command()(web)
app.command()(cross_validate)
app.command("replay")(replay_studies)
app.command()(purge)
app.add_typer(peer_commands, name="peers")
app.add_typer(checkpoint_commands, name="model")
app.add_typer(user_commands, name="user")
# a log file or a pipe has no width of its own
console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120)


StudyName = Annotated[
    str, typer.Argument(metavar="STUDY", help="Number of the study, as `status` shows it, or its UID.")
]
DecidedBy = Annotated[str | None, typer.Option("--by", help="Who says so; by default the user's name.")]


class Format(StrEnum):
    """How `results` are printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


@app.command()
def demo(
    folder: Annotated[
        Path, typer.Option(help="Where the demo works and leaves its results; emptied of an earlier demo.")
    ] = Path("gliograde-demo"),
    study: Annotated[
        Path | None, typer.Option(help="Send this folder of DICOM files instead of simulated studies.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port of the DICOM node; any free one by default.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything up until Ctrl-C.")] = False,
) -> None:
    """Run the whole pipe on this machine: scanner, node, workers, stand-in PACS. Exit 0: all as expected."""
    as_expected = run_demo(DemoOptions(folder, study, port, keep), console)
    raise typer.Exit(0 if as_expected else 1)


@app.command()
def up(
    allow: Annotated[
        list[str] | None,
        typer.Option(help="Who may send: AE_TITLE@ADDRESS. Repeat for more.", metavar="AE@ADDRESS"),
    ] = None,
    send_to: Annotated[
        list[str] | None,
        typer.Option(
            help="Where results go: AE_TITLE@ADDRESS:PORT. Repeat for more.", metavar="AE@ADDRESS:PORT"
        ),
    ] = None,
    with_web: Annotated[bool, typer.Option("--web", help="Serve the web page too.")] = False,
) -> None:
    """Run the service in the foreground until Ctrl-C; data stay in the data folder."""
    settings = Settings()
    if allow:
        settings = settings.model_copy(update={"peers": tuple(_peer(text) for text in allow)})
    if send_to:
        destinations = tuple(_destination(text, settings.ae_title) for text in send_to)
        settings = settings.model_copy(update={"destinations": destinations})
    with (
        suppress(KeyboardInterrupt),
        run_services(settings, with_web=with_web) as (
            running,
            processes,
        ),
    ):
        console.print(
            f"{running.ae_title} listens on {running.bind_address}:{running.dicom_port}; "
            f"data and logs: {running.data_folder}; Ctrl-C ends it",
            soft_wrap=True,
        )
        if with_web:
            console.print(f"the web page is {url_of(running)}", soft_wrap=True)
        while True:
            processes.check()
            time.sleep(1)


@app.command()
def status(
    once: Annotated[bool, typer.Option("--once", help="Print once instead of live until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print once, as JSON.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Newest studies to show.")] = 20,
) -> None:
    """Show where each study stands."""
    with open_ledger() as session:
        if as_json:
            counts = {str(state): count for state, count in state_counts(session).items()}
            studies = result_records(study_standings(session, limit))
            sys.stdout.write(json.dumps({"jobs": counts, "studies": studies}, indent=2) + "\n")
            return
        if once or not console.is_terminal:
            console.print(status_table(study_standings(session, limit)))
            return
        with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False, screen=True) as live:
            while True:
                live.update(status_table(study_standings(session, limit)), refresh=True)
                session.rollback()
                time.sleep(timedelta(seconds=1).total_seconds())


@app.command()
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
        _refuse("Parquet goes into a file: name it with --out FILE")
    if output is Format.TABLE and out is not None:
        _refuse("a table is for the eye: --out needs --format csv, json or parquet")
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


@app.command()
def roles(
    study: StudyName,
    set_to: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="CONTRAST=SERIES",
            help="Take a series, by number or UID, for flair, t1ce or t2, and grade anew. Repeat for more.",
        ),
    ] = None,
    decided_by: DecidedBy = None,
) -> None:
    """Show what each series of a study was taken for and why, or say which series to take."""
    named = parse_roles(set_to or [])
    with open_ledger() as session:
        found = find_study(session, study)
        study_id = found.id
        if named:
            person = decided_by or own_name()
            version = decide_roles(session, study_id, named, person)
            session.commit()
            note_decision("roles set", person, found.study_instance_uid)
            words = f"is graded anew as version {version}"
            if version is None:
                words = "is still arriving and will be graded with these roles"
            console.print(f"study {study_id} {words}", soft_wrap=True)
            return
        console.print(roles_table(study_id, series_standings(session, study_id)))


@app.command()
def retry(study: StudyName, decided_by: DecidedBy = None) -> None:
    """Grade a study anew whose job was held or not gradable, once the cause is gone."""
    _intervene(retry_study, "retried", study, decided_by)


@app.command()
def release(study: StudyName, decided_by: DecidedBy = None) -> None:
    """Take a study as it is that is held as incomplete. A doubt about identity can't be released."""
    _intervene(release_study, "released", study, decided_by)


@app.command("study")
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


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Look at everything the service needs and say what to do. Changes nothing. Exit 1: something failed."""
    findings = examine(Settings())
    if as_json:
        sys.stdout.write(json.dumps([asdict(finding) for finding in findings], indent=2) + "\n")
    else:
        console.print(findings_page(findings), soft_wrap=True)
    raise typer.Exit(0 if is_well(findings) else 1)


@app.command()
def metrics(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 9464,
    address: Annotated[str, typer.Option(help="Address to listen on; it has no login.")] = "127.0.0.1",
) -> None:
    """Serve /metrics for Prometheus, /live and /ready until Ctrl-C."""
    settings = Settings()
    with suppress(KeyboardInterrupt), open_database(settings) as complete, open_engine(complete) as engine:
        try:
            server = make_watch_server(engine, settings, address, port)
        except OSError as error:
            _refuse(f"can't listen on {address}:{port}: {error.strerror}")
        with server:
            console.print(f"metrics on http://{address}:{server.server_port}/metrics", soft_wrap=True)
            server.serve_forever()


@app.command()
def migrate() -> None:
    """Bring the database to this version's schema."""
    settings = Settings()
    open_installation(settings.data_folder)
    with open_database(settings) as complete, open_engine(complete) as engine:
        upgrade_schema(engine)
        readable = readers_may_read(engine)
    console.print("the database has this version's schema")
    if not readable:
        console.print(READER_ADVICE, soft_wrap=True)


app.command()(feedback)


@app.command()
def audit() -> None:
    """Check that no event of the audit trail was changed, removed or put in. Exit 1: one was."""
    with open_ledger() as session:
        try:
            count = verify_audit_trail(session)
        except BrokenChainError as error:
            console.print(f"the audit trail was tampered with: {error}", soft_wrap=True)
            raise typer.Exit(1) from error
    console.print(f"{count} audit events, none changed")


@app.command("make-study")
def make_study(
    nifti_folder: Annotated[Path, typer.Argument(help="NIfTI files whose names say flair, t1, t1ce or t2.")],
    output_folder: Annotated[Path, typer.Argument(help="Where the DICOM files go.")],
    patient_id: Annotated[str, typer.Option(help="Patient ID to write.")] = "NIFTI",
) -> None:
    """Turn a folder of NIfTI volumes into a DICOM MR study with honest headers."""
    patient = PatientIdentity(patient_id=patient_id, patient_name=f"{patient_id}^From NIfTI")
    paths = save_study(build_study_from_folder(nifti_folder, StudyHeader(patient=patient)), output_folder)
    console.print(f"{len(paths)} DICOM files in {output_folder}", soft_wrap=True)


@app.command()
def show(
    file: Annotated[Path, typer.Argument(help="A Structured Report of ours.", exists=True, dir_okay=False)],
) -> None:
    """Print what one of our Structured Reports says."""
    sys.stdout.write(show_report(file))


@app.command()
def conformance() -> None:
    """Print the DICOM conformance statement of the configuration in force."""
    sys.stdout.write(conformance_statement(Settings()))


@app.command()
def version() -> None:
    """Print the version."""
    sys.stdout.write(f"{VERSION}\n")


def main() -> None:
    """Entry point: every error that a person can mend ends in one line and exit code 2."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        app()
    except EXPECTED_ERRORS as error:
        _refuse(str(error))
    except (ValidationError, SettingsError) as error:
        _refuse(settings_line(error))
    except OperationalError as error:
        _refuse(f"PostgreSQL can't be reached: {error.orig}")


def _write(text: str, out: Path | None) -> None:
    if out is None:
        sys.stdout.write(text)
        return
    try:
        out.write_text(text)
    except OSError as error:
        _refuse(f"{out} can't be written: {error.strerror}")


def _refuse(sentence: str) -> NoReturn:
    sys.stderr.write(f"gliograde: {sentence}\n")
    sys.exit(2)


def _intervene(
    decide: Callable[[Session, int, str], int], word: str, study: str, decided_by: str | None
) -> None:
    person = decided_by or own_name()
    with open_ledger() as session:
        found = find_study(session, study)
        version = decide(session, found.id, person)
        session.commit()
        note_decision(word, person, found.study_instance_uid)
        console.print(f"study {found.id} is {word} and graded anew as version {version}", soft_wrap=True)


def _peer(text: str) -> AllowedPeer:
    ae_title, _, address = text.partition("@")
    if not ae_title or not address:
        raise typer.BadParameter(f"{text}: say AE_TITLE@ADDRESS", param_hint="--allow")
    return AllowedPeer(ae_title=ae_title, address=address)


def _destination(text: str, calling_ae_title: str) -> Destination:
    ae_title, _, place = text.partition("@")
    address, _, port = place.rpartition(":")
    if not ae_title or not address or not port.isdecimal():
        raise typer.BadParameter(f"{text}: say AE_TITLE@ADDRESS:PORT", param_hint="--send-to")
    return Destination(
        name=text, ae_title=ae_title, address=address, port=int(port), calling_ae_title=calling_ae_title
    )


if __name__ == "__main__":
    main()
