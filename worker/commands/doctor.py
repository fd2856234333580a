"""`gliograde doctor`: looks at everything the service needs, changes nothing, and says what to do.

It uses the settings of the process that asks, and what a running `gliograde up` was told: run it with the
environment of the service, as its user.
"""

import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import OperationalError, ProgrammingError

from dicom_node.peers.scu import AssociationError, Destination, ScuError
from dicom_node.peers.sending import echo
from dicom_node.peers.stow import WebDestination
from dicom_node.settings import unknown_variables
from model.card import CheckpointError, verify
from worker.answers.findings import Finding, Verdict, failed, ok, warning
from worker.commands.doctor_ledger import examine_ledger
from worker.node import checkpoint_in_use
from worker.records.database import DatabaseUrlError, is_unreachable
from worker.running.embedded import EmbeddedServerError
from worker.running.services import open_database, open_engine
from worker.settings import Settings

CONNECT_PATIENCE = timedelta(seconds=5)
LOW_SPACE_FACTOR = 5
"""Free space under this many times the limit, at which objects are refused, is a warning."""


def examine(settings: Settings) -> list[Finding]:
    """Look at this machine, then at the peers, then at the ledger."""
    return [
        *_data_folder(settings.data_folder),
        *_disk_space(settings),
        _settings(settings),
        _checkpoint(settings),
        _gpu(settings),
        _allow_list(settings),
        _receiver(settings),
        _broker(settings),
        *examine_peers(settings),
        *_database(settings),
    ]


def _data_folder(folder: Path) -> Iterator[Finding]:
    check = "data folder"
    if not (folder / "gliograde.json").is_file():
        yield failed(
            check,
            f"{folder} is no gliograde data folder",
            "set GLIOGRADE_DATA_FOLDER to the service's, or start the service once to make it",
        )
        return
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-"):
            pass
    except OSError as error:
        yield failed(
            check,
            f"{folder} can't be written to ({error.strerror})",
            f"run as the service's user, or give the folder to this one: chown -R $(id -un) {folder}",
        )
        return
    if opened := [str(path) for path in _private_folders(folder) if path.stat().st_mode & stat.S_IRWXO]:
        yield warning(
            check,
            f"{folder} holds patients' data and is open to every user of this machine",
            f"chmod o-rwx {' '.join(opened)}",
        )
    else:
        yield ok(check, f"{folder} is ours to write to")


def _private_folders(folder: Path) -> list[Path]:
    """Folders that nobody else needs to enter: the data folder itself, unless PostgreSQL has to pass it.

    Started by root, the embedded PostgreSQL runs as a user of its own.
    """
    postgres = folder / "postgres"
    if not postgres.is_dir() or postgres.stat().st_uid == folder.stat().st_uid:
        return [folder]
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and path != postgres]


def _disk_space(settings: Settings) -> Iterator[Finding]:
    check, folder = "disk space", settings.data_folder
    if not folder.is_dir():
        return
    free, limit = shutil.disk_usage(folder).free, settings.minimum_free_bytes
    detail = f"{free / 1e9:.1f} GB free, objects are refused under {limit / 1e9:.1f} GB"
    if free < limit:
        yield failed(
            check, detail, f"make room on the file system of {folder}: senders are told to come back"
        )
    elif free < LOW_SPACE_FACTOR * limit:
        yield warning(check, detail, f"make room on the file system of {folder} before it fills")
    else:
        yield ok(check, detail)


def _settings(settings: Settings) -> Finding:
    if unknown := ", ".join(unknown_variables(settings)):
        return warning(
            "settings",
            f"there is no such setting: {unknown}",
            "mend the name, or take the variable away; docs/settings.md lists them all",
        )
    return ok("settings", "each name in the file and in the environment is that of a setting")


def _checkpoint(settings: Settings) -> Finding:
    try:
        card = verify(checkpoint_in_use(settings))
    except CheckpointError as error:
        return failed("checkpoint", str(error), "no worker starts until the checkpoint is as its card says")
    note = f"; {card.training_statement}" if card.is_simulated else ""
    return ok("checkpoint", f"{card.label}, digest as its card says{note}")


def _gpu(settings: Settings) -> Finding:
    if settings.device == "cpu":
        return ok("gpu", "not wanted: the setting `device` is cpu")
    try:
        import torch  # noqa: PLC0415 - slow, and absent on a machine that only receives
    except ImportError:
        return Finding("gpu", Verdict.SKIPPED, "torch isn't installed on this machine")
    if torch.cuda.is_available():
        return ok("gpu", torch.cuda.get_device_name())
    if settings.device == "cuda":
        return failed(
            "gpu",
            "the setting `device` is cuda and no CUDA device is usable here",
            "look at nvidia-smi and the driver; or set `device` to auto. On a machine without "
            "gpu worker this is as it should be",
        )
    return ok("gpu", "none usable here; studies are graded on the processor")


def _allow_list(settings: Settings) -> Finding:
    if not settings.peers:
        if settings.receiver_address is not None:
            return Finding("allow-list", Verdict.SKIPPED, "none here: the receiver runs on another machine")
        return failed(
            "allow-list",
            "nobody may send: `peers` is empty and the DICOM node refuses to start",
            "name the PACS in `peers` of the settings file, or `gliograde up --allow AE@ADDRESS`",
        )
    rows = ", ".join(f"{peer.ae_title}@{peer.address}" for peer in settings.peers)
    return ok("allow-list", f"{rows} may send")


def _receiver(settings: Settings) -> Finding:
    """Whether something listens on the receiver's port; nothing is said to it, so no alert is raised."""
    wildcard = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not bound to
    where = settings.receiver_address or f"{settings.bind_address}:{settings.dicom_port}"
    host, _, port = where.rpartition(":")
    host = wildcard.get(host, host.strip("[]"))
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_PATIENCE.total_seconds()).close()
    except OSError as error:
        start = "start `python -m dicom_node` (or `gliograde up`) and read the last line of its log"
        elsewhere = "; where it runs on another machine, name that in `receiver_address`"
        return failed(
            "receiver",
            f"nothing listens on {where} ({error.strerror or 'no answer'})",
            start if settings.receiver_address else start + elsewhere,
        )
    return ok("receiver", f"listens on {where}")


def _broker(settings: Settings) -> Finding:
    check = "broker"
    if settings.redis_url is None:
        return Finding(check, Verdict.SKIPPED, "embedded: it runs inside `gliograde up`")
    # Celery has a word of its own for a Unix socket
    url = settings.redis_url.get_secret_value().replace("redis+socket://", "unix://", 1)
    advice = "start Redis, or mend GLIOGRADE_REDIS_URL; nothing is lost meanwhile, work waits in PostgreSQL"
    seconds = CONNECT_PATIENCE.total_seconds()
    try:
        with Redis.from_url(url, socket_timeout=seconds, socket_connect_timeout=seconds) as client:
            client.ping()
    except ValueError:
        return failed(check, "GLIOGRADE_REDIS_URL isn't a Redis URL", "write it as redis://host:6379/0")
    except RedisError as error:
        return failed(check, f"doesn't answer ({type(error).__name__})", advice)
    return ok(check, "answers")


def examine_peers(settings: Settings) -> list[Finding]:
    """C-ECHO every destination and every source."""
    findings: list[Finding] = []
    if not settings.destinations:
        findings.append(
            warning(
                "destinations",
                "none: results stay in the database",
                "name the PACS in `destinations` of the settings file, or `gliograde up --send-to`",
            )
        )
    asked = [
        *((f"destination {peer.name}", peer) for peer in settings.destinations),
        *((f"source {peer.name}", peer) for peer in settings.sources),
    ]
    with ThreadPoolExecutor(max_workers=16) as threads:
        return findings + list(threads.map(lambda pair: _echo(*pair), asked))


def _echo(check: str, peer: Destination | WebDestination) -> Finding:
    where, service = peer.place, "C-ECHO" if isinstance(peer, Destination) else "a DICOMweb query"
    try:
        echo(peer)
    except AssociationError as error:
        advice = (
            f"is it up, and does a firewall let this machine reach {where}? "
            "Results wait and are sent when it answers"
            if error.transient
            else _mend(peer)
        )
        return failed(check, f"{where}: {error}", advice)
    except ScuError as error:
        return failed(check, f"{where}: {error}", f"ask its administrator why {service} is answered so")
    return ok(check, f"{where} answers {service}")


def _mend(peer: Destination | WebDestination) -> str:
    if isinstance(peer, WebDestination):
        return "mend its URL, credentials or certificates in our settings"
    return (
        f"let it know our AE title {peer.calling_ae_title} and this machine's address, or mend "
        f"its AE title {peer.ae_title} and its TLS in our settings"
    )


def _database(settings: Settings) -> Iterator[Finding]:
    check = "database"
    if settings.database_url is None and not (settings.data_folder / "postgres").is_dir():
        yield failed(
            check,
            "GLIOGRADE_DATABASE_URL isn't set and the data folder holds no embedded PostgreSQL",
            "set it to the service's database, or start `gliograde up` once",
        )
        return
    try:
        with open_database(settings) as complete, open_engine(complete) as engine:
            yield from examine_ledger(engine, settings)
    except EmbeddedServerError as error:
        yield failed(check, str(error), "read the last lines of that log; is the disk full?")
    except DatabaseUrlError as error:
        yield failed(check, str(error), "in user and password write @ as %40, / as %2F, : as %3A")
    except (OperationalError, ProgrammingError) as error:
        words = " ".join(str(error.orig).split())
        if is_unreachable(error):
            yield failed(
                check,
                f"PostgreSQL can't be reached: {words}",
                "start PostgreSQL, or mend GLIOGRADE_DATABASE_URL; "
                "the receiver goes on taking studies meanwhile",
            )
        else:
            yield failed(
                check,
                f"PostgreSQL didn't do what was asked: {words}",
                "let GLIOGRADE_DATABASE_URL name the user who ran `gliograde migrate` and owns the tables; "
                "else read PostgreSQL's own log",
            )


def is_well(findings: list[Finding]) -> bool:
    """Whether nothing has failed; warnings and what could not be looked at don't count."""
    return all(finding.verdict is not Verdict.FAILED for finding in findings)
