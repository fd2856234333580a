"""All of gliograde on one machine: the databases where they aren't named, and the processes of production."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import Engine

from dicom_node.installation import open_installation
from worker.records.database import create_ledger_engine
from worker.records.schema import check_schema, upgrade_schema
from worker.running.embedded import embedded_postgres_url, embedded_redis_url
from worker.running.environment import to_environment
from worker.running.in_force import told_to_others
from worker.running.processes import Processes
from worker.settings import Settings

START_PATIENCE = timedelta(seconds=60)


@contextmanager
def open_database(settings: Settings) -> Iterator[Settings]:
    """Yield settings that name a database: the site's own, or the embedded one of the data folder."""
    with ExitStack() as stack:
        if settings.database_url is None:
            url = stack.enter_context(embedded_postgres_url(settings.data_folder))
            settings = settings.model_copy(update={"database_url": SecretStr(url)})
        yield settings


@contextmanager
def run_services(settings: Settings, *, with_web: bool = False) -> Iterator[tuple[Settings, Processes]]:
    """Start everything and wait until it is ready; yields the completed settings and the processes."""
    open_installation(settings.data_folder)
    with ExitStack() as stack:
        embedded = settings.database_url is None
        settings = stack.enter_context(open_database(settings))
        if settings.redis_url is None:
            url = stack.enter_context(embedded_redis_url(settings.data_folder))
            settings = settings.model_copy(update={"redis_url": SecretStr(url)})
        with open_engine(settings) as engine:
            if embedded:
                upgrade_schema(engine)
            check_schema(engine)
        processes = stack.enter_context(Processes(settings.logs_folder, to_environment(settings)))
        _start(processes, settings)
        if with_web:
            page = processes.start("web", ["worker.cli", "web"])
            processes.wait_for_line(page, "ready:", START_PATIENCE)
        stack.enter_context(told_to_others(settings))
        yield settings, processes


@contextmanager
def open_engine(settings: Settings) -> Iterator[Engine]:
    """Yield an engine on the database that the settings name."""
    assert settings.database_url is not None
    engine = create_ledger_engine(settings.database_url.get_secret_value())
    try:
        yield engine
    finally:
        engine.dispose()


def _start(processes: Processes, settings: Settings) -> None:
    quiet = ["--quiet"] if settings.log_format == "json" else []
    celery = ["celery", *quiet, "--app", "worker"]
    for log in settings.logs_folder.glob("*.log"):
        log.replace(log.with_suffix(".log.1"))
    node = processes.start("node", ["dicom_node"])
    # before the others start: most of what can be wrong with a site's settings shows here
    processes.wait_for_line(node, "ready:", START_PATIENCE)
    cpu = processes.start(
        "cpu",
        [*celery, "worker", "--queues", "cpu", "--concurrency", "2", "--hostname", "cpu@%h", *_PLAIN],
    )
    # a thread for each destination, so that a hanging one never takes the last; and one each for
    # the audit trail and for notifications
    threads = str(len(settings.destinations) + 3)
    send = processes.start(
        "send",
        [
            *(*celery, "worker", "--queues", "send", "--pool", "threads", "--concurrency", threads),
            *("--hostname", "send@%h", *_PLAIN),
        ],
    )
    gpu = processes.start(
        "gpu", [*celery, "worker", "--queues", "gpu", "--pool", "solo", "--hostname", "gpu@%h", *_PLAIN]
    )
    schedule: Path = settings.data_folder / "beat-schedule"
    processes.start(
        "beat", [*celery, "beat", "--schedule", str(schedule), "--pidfile=", "--loglevel", "INFO"]
    )
    for child in (cpu, gpu, send):
        processes.wait_for_line(child, "ready.", START_PATIENCE)


_PLAIN = ["--without-gossip", "--without-mingle", "--loglevel", "INFO"]
