"""The Celery application that `celery -A worker` finds: a composition root.

Redis carries hints only. Messages hold one integer, results are not kept, nothing is scheduled by Redis.
"""

import logging
import sys
from datetime import timedelta
from functools import cache
from typing import Any

from celery import Celery
from celery.signals import (
    after_setup_logger,
    after_setup_task_logger,
    beat_init,
    celeryd_init,
    worker_ready,
    worker_shutdown,
)
from pydantic import ValidationError
from pydantic_settings import SettingsError
from sqlalchemy.exc import OperationalError

from dicom_node.audit import AuditSpool
from dicom_node.installation import DataFolderError
from dicom_node.logs import log_warnings, make_formatter
from dicom_node.quiet import silence_libraries
from dicom_node.settings import settings_line
from model.card import CheckpointError
from worker.log_privacy import hide_messages_of_tasks
from worker.node import MissingServiceError, Node, open_node
from worker.records.database import DatabaseUrlError, create_ledger_engine
from worker.records.schema import SchemaError, check_schema
from worker.settings import Settings
from worker.study.inference import Inference
from worker.study.second_readings import Reader, open_shadow
from worker.upkeep.consumer import EagerAMQP, HeartbeatStep
from worker.upkeep.notifications import channels_of

logger = logging.getLogger(__name__)

CENSUS_INTERVAL = timedelta(hours=1)


@cache
def current_settings() -> Settings:
    """Settings of this process, read once from the environment."""
    return Settings()


@cache
def current_node() -> Node:
    """Open resources of this process; made after the fork, so that no connection is shared."""
    return open_node(current_settings())


@cache
def current_inference() -> Inference:
    """Where this process has its studies graded."""
    node = current_node()
    return Inference(
        node.checkpoint_folder,
        node.settings.device,
        node.settings.inference_timeout,
        node.settings.precision,
    )


@cache
def current_shadow() -> Reader | None:
    """Who reads each graded study once more in this process; None where nobody is to."""
    reader = open_shadow(current_settings())
    same = reader is not None and reader.card.weights_sha256 == current_node().card.weights_sha256
    return None if same else reader


_FORWARDING = {
    "forward-audit": {
        "task": "worker.tasks.forward_audit",
        "schedule": timedelta(seconds=10),
        "options": {"queue": "send", "expires": 10},
    }
}


_NOTIFYING = {
    "notify": {
        "task": "worker.tasks.notify",
        "schedule": timedelta(seconds=10),
        "options": {"queue": "send", "expires": 10},
    }
}


def _make_app() -> Celery:
    silence_libraries()
    hide_messages_of_tasks()
    try:
        settings = current_settings()
    except (ValidationError, SettingsError) as error:
        sys.exit(settings_line(error))
    log_warnings(settings.log_format)
    made = Celery("gliograde", include=["worker.tasks"], amqp=EagerAMQP)
    made.conf.update(
        broker_url=settings.redis_url.get_secret_value() if settings.redis_url else "",
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={"socket_timeout": 10, "socket_connect_timeout": 5},
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        task_default_queue="cpu",
        enable_utc=True,
        beat_schedule={
            "sweep": {
                "task": "worker.tasks.sweep",
                "schedule": settings.sweep_interval,
                "options": {"queue": "cpu", "expires": settings.sweep_interval.total_seconds()},
            },
            **(_FORWARDING if settings.audit_forward_url else {}),
            **(_NOTIFYING if channels_of(settings) else {}),
            "census": {
                "task": "worker.tasks.census",
                "schedule": CENSUS_INTERVAL,
                "options": {"queue": "cpu", "expires": CENSUS_INTERVAL.total_seconds()},
            },
        },
    )
    made.steps["consumer"].add(HeartbeatStep)
    return made


app = _make_app()


@after_setup_logger.connect
@after_setup_task_logger.connect
def log_as_set(logger: logging.Logger, **_: object) -> None:
    """Let what Celery has set up, its level and its file, write JSON where the settings say so."""
    if current_settings().log_format == "json":
        for handler in logger.handlers:
            handler.setFormatter(make_formatter("json"))


@celeryd_init.connect
def drop_banner(instance: Any, **_: object) -> None:  # noqa: ANN401 - a Worker, whose types lack it
    """Keep the banner, which no program can read, out of a log of JSON; `celery --quiet` does it for beat."""
    if current_settings().log_format == "json":
        instance.quiet = True


@worker_ready.connect
def note_start(**_: object) -> None:
    """Write into the audit trail that a worker runs."""
    _note_activity("started")


@worker_shutdown.connect
def note_stop(**_: object) -> None:
    """Write into the audit trail that a worker ends."""
    _note_activity("stopped")


def _note_activity(detail: str) -> None:
    settings = current_settings()
    AuditSpool(settings.audit_folder).activity(detail, settings.ae_title)


@celeryd_init.connect
def refuse_to_start_unready(*, needs_broker: bool = True, **_: object) -> None:
    """Fail closed before the first task: settings, data folder, checkpoint and schema are checked here."""
    if needs_broker and current_settings().redis_url is None:
        sys.exit("set GLIOGRADE_REDIS_URL, or let `gliograde up` start everything")
    try:
        node = open_node(current_settings())
        check_schema(node.sessions.kw["bind"])
    except (DataFolderError, MissingServiceError, DatabaseUrlError, CheckpointError, SchemaError) as error:
        sys.exit(str(error))
    node.sessions.kw["bind"].dispose()
    # the consumer's own connections; a forked child never beats
    HeartbeatStep.sessions = node.sessions
    HeartbeatStep.interval = node.settings.heartbeat_interval


@beat_init.connect
def refuse_to_beat_for_another_schema(**_: object) -> None:
    """Fail closed as a worker does; but beat itself needs no database, so one that is away is no obstacle."""
    url = current_settings().database_url
    if url is None:
        return
    try:
        engine = create_ledger_engine(url.get_secret_value())
    except DatabaseUrlError as error:
        sys.exit(str(error))
    try:
        check_schema(engine)
    except SchemaError as error:
        sys.exit(str(error))
    except OperationalError:
        logger.warning("PostgreSQL is away; whether its schema is ours is for the workers to say")
    finally:
        engine.dispose()
