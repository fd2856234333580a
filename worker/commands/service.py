"""Running the service and looking after it: `demo`, `up`, `migrate`, `doctor`, `metrics`."""

import json
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.installation import open_installation
from dicom_node.peers.scu import Destination
from dicom_node.settings import AllowedPeer
from worker.answers.tables import findings_page
from worker.commands.doctor import examine, is_well
from worker.commands.terminal import console, refuse
from worker.demonstration.demo import DemoOptions, run_demo
from worker.records.schema import readers_may_read, upgrade_schema
from worker.running.in_force import settings_in_force
from worker.running.services import open_database, open_engine, run_services
from worker.settings import Settings
from worker.upkeep.watching import make_watch_server
from worker.web.address import url_of

READER_ADVICE = (
    "analysts can't read the views yet: let an administrator of the database run "
    "CREATE ROLE gliograde_reader; GRANT SELECT ON v_results, v_turnaround, v_failures, v_model_agreement, "
    "v_known_grades TO gliograde_reader"
)


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


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Look at everything the service needs and say what to do. Changes nothing. Exit 1: something failed."""
    findings = examine(settings_in_force())
    if as_json:
        sys.stdout.write(json.dumps([asdict(finding) for finding in findings], indent=2) + "\n")
    else:
        console.print(findings_page(findings), soft_wrap=True)
    raise typer.Exit(0 if is_well(findings) else 1)


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
            refuse(f"can't listen on {address}:{port}: {error.strerror}")
        with server:
            console.print(f"metrics on http://{address}:{server.server_port}/metrics", soft_wrap=True)
            server.serve_forever()


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
