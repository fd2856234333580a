"""`gliograde demo`: the whole pipe on real parts, with a simulated scanner and a stand-in PACS."""

import shutil
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psutil
from rich.console import Console
from rich.live import Live
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.installation import open_installation
from dicom_node.peers.scu import Destination
from dicom_node.peers.stand_in_pacs import StandInPacs, StoredInstance
from dicom_node.quiet import silence_libraries
from dicom_node.settings import AllowedPeer
from model.card import read_card
from worker.demonstration.demo_cases import CASES, ScannedStudy, scan_all, scanner_pool
from worker.demonstration.demo_output import export_study
from worker.demonstration.demo_study import DemoStudy
from worker.demonstration.demo_table import render_demo
from worker.node import checkpoint_in_use
from worker.records.queries import study_standings
from worker.running.processes import Processes
from worker.running.services import open_engine, run_services
from worker.settings import Settings
from worker.study.incoming import read_studies

SCANNER = "SCANNER"
HOST = "127.0.0.1"
PATIENCE = timedelta(minutes=10)


class DemoFolderError(Exception):
    """The demo's folder can't be used; the message says what to do."""


class DemoTimeoutError(Exception):
    """Not every study came to an end in time; the logs say why."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the command line may say."""

    folder: Path
    study_folder: Path | None = None
    port: int | None = None
    keep: bool = False


def run_demo(options: DemoOptions, console: Console) -> bool:
    """Run the demo and leave its results in `options.folder`; returns whether all went as expected."""
    silence_libraries()
    studies, scans = [], []
    if options.study_folder is not None:
        studies = _studies_of_folder(options.study_folder)
    folder = _empty_folder(options.folder)
    with ExitStack() as stack:
        if not studies:
            studies = [
                DemoStudy(
                    case.title,
                    case.truth or "none",
                    case.study_header.study_instance_uid,
                    case.expected,
                    is_scanned=False,
                )
                for case in CASES
            ]
            scans = scan_all(CASES, folder / "scanner", stack.enter_context(scanner_pool()))
        pacs = stack.enter_context(StandInPacs(folder / "pacs"))
        settings = _settings(folder, options.port or _free_port(), pacs.port)
        console.print(f"starting PostgreSQL, Valkey, the DICOM node and the workers in {folder} …")
        settings, processes = stack.enter_context(run_services(settings))
        engine = stack.enter_context(open_engine(settings))
        node = Destination(
            name="node",
            ae_title=settings.ae_title,
            address=HOST,
            port=settings.dicom_port,
            calling_ae_title=SCANNER,
        )
        statement = read_card(checkpoint_in_use(settings)).training_statement
        with ThreadPoolExecutor(2) as scanner, Live(console=console, refresh_per_second=4) as live:
            _run(
                studies,
                scans,
                pump=lambda study: study.send_next(node, scanner),
                sessions=sessionmaker(engine),
                pacs=pacs,
                processes=processes,
                show=lambda activity: live.update(render_demo(studies, statement, activity)),
            )
        _report(studies, pacs, folder, console)
        if options.keep:
            with suppress(KeyboardInterrupt):
                _keep(settings, pacs, processes, console)
    return all(study.went_as_expected for study in studies)


def _run(
    studies: Sequence[DemoStudy],
    scans: Sequence[Future[ScannedStudy]],
    *,
    pump: Callable[[DemoStudy], None],
    sessions: sessionmaker[Session],
    pacs: StandInPacs,
    processes: Processes,
    show: Callable[[str], None],
) -> None:
    """Send, watch and show until every study is finished."""
    deadline = time.monotonic() + PATIENCE.total_seconds()
    while True:
        processes.check()
        _take_scans(studies, scans)
        for study in studies:
            pump(study)
        _observe(studies, sessions, pacs)
        finished = sum(study.is_finished for study in studies)
        if finished == len(studies):
            show("")
            return
        show(f"{finished} of {len(studies)} studies finished")
        if time.monotonic() > deadline:
            raise DemoTimeoutError(
                f"{len(studies) - finished} studies did not finish within {PATIENCE}; see the logs"
            )
        time.sleep(0.25)


def _take_scans(studies: Sequence[DemoStudy], scans: Sequence[Future[ScannedStudy]]) -> None:
    for study, scan in zip(studies, scans, strict=False):
        if not study.is_scanned and scan.done():
            scanned = scan.result()
            study.waves = [wave for wave in (scanned.sent_first(), scanned.sent_late()) if wave]
            study.is_scanned = True


def _observe(studies: Sequence[DemoStudy], sessions: sessionmaker[Session], pacs: StandInPacs) -> None:
    with sessions() as session:
        standings = {standing.study_instance_uid: standing for standing in study_standings(session)}
    for study in studies:
        study.standing = standings.get(study.study_instance_uid)
        study.objects_at_pacs = len(_instances_of(pacs, study))


def _instances_of(pacs: StandInPacs, study: DemoStudy) -> list[StoredInstance]:
    return [
        instance for instance in pacs.instances if instance.study_instance_uid == study.study_instance_uid
    ]


def _studies_of_folder(folder: Path) -> list[DemoStudy]:
    return [
        DemoStudy(
            title=f"{'/'.join(study.modalities)} study {number}",
            truth="",
            study_instance_uid=study.study_instance_uid,
            waves=[study.files],
        )
        for number, study in enumerate(read_studies(folder), start=1)
    ]


def _settings(folder: Path, port: int, pacs_port: int) -> Settings:
    return Settings(
        data_folder=folder / "node",
        database_url=None,
        redis_url=None,
        dicom_port=port,
        peers=(AllowedPeer(ae_title=SCANNER, address=HOST),),
        destinations=(Destination(name="pacs", ae_title="PACS", address=HOST, port=pacs_port),),
        quiet_period=timedelta(seconds=3),
        series_wait=timedelta(0),
        sweep_interval=timedelta(seconds=1),
    )


def _report(studies: Sequence[DemoStudy], pacs: StandInPacs, folder: Path, console: Console) -> None:
    for number, study in enumerate(studies, start=1):
        export_study(study, number, _instances_of(pacs, study), folder / "results")
    unexpected = [study.title for study in studies if not study.went_as_expected]
    console.print(f"reports and attention images: {folder / 'results'}", soft_wrap=True)
    if unexpected:
        console.print(
            f"not as expected: {', '.join(unexpected)}; logs: {folder / 'node' / 'logs'}", soft_wrap=True
        )
    else:
        console.print("all went as expected")


def _keep(settings: Settings, pacs: StandInPacs, processes: Processes, console: Console) -> None:
    console.print(
        f"still up: send to {settings.ae_title} at {HOST}:{settings.dicom_port} as {SCANNER}, "
        f"results go to PACS at {HOST}:{pacs.port}; in another terminal "
        f"GLIOGRADE_DATA_FOLDER={settings.data_folder} gliograde status; Ctrl-C ends it",
        soft_wrap=True,
    )
    while True:
        processes.check()
        time.sleep(1)


def _empty_folder(folder: Path) -> Path:
    """Clear what an earlier demo left; raises DemoFolderError or DataFolderError for any other folder."""
    folder = folder.expanduser().absolute()
    if folder.exists() and any(folder.iterdir()):
        if not (folder / "node").is_dir():
            raise DemoFolderError(
                f"{folder} isn't empty and no demo ran there; name another folder with --folder"
            )
        open_installation(folder / "node")
        if _is_postgres_running(folder / "node"):
            raise DemoFolderError(
                f"a demo is running in {folder}; end it, or name another folder with --folder"
            )
        for part in ("node", "scanner", "pacs", "results"):
            shutil.rmtree(folder / part, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _is_postgres_running(data_folder: Path) -> bool:
    marker = data_folder / "postgres" / "postmaster.pid"
    return marker.exists() and psutil.pid_exists(int(marker.read_text().split()[0]))


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])
