"""`python -m worker.polling`: all the work of the service in one process, without Redis.

It takes from PostgreSQL what it finds there, one job at a time, and may run beside Celery's workers: claims
keep them apart. For a site whose Redis is away for long, and for one that wants none.
"""

import logging
import signal
import sys
from threading import Event

from celery.exceptions import WorkerShutdown
from sqlalchemy.exc import OperationalError

from dicom_node.logs import configure_logging
from worker.celery import current_node, current_settings, refuse_to_start_unready
from worker.delivery.sending import send_due
from worker.node import Node
from worker.states import JobState
from worker.tasks import run_step
from worker.upkeep.notifications import notify
from worker.upkeep.sweep import keep_up

logger = logging.getLogger(__name__)


def main() -> int:
    """Work until SIGTERM or SIGINT; 1 when this machine can't grade."""
    configure_logging(current_settings().log_format)
    refuse_to_start_unready(needs_broker=False)
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    node = current_node()
    logger.info("ready: polling every %s", node.settings.sweep_interval)
    while not stop.is_set():
        try:
            drain(node, stop)
            notify(node)
        except OperationalError:
            logger.warning("PostgreSQL is away")
        except WorkerShutdown:
            return 1
        stop.wait(node.settings.sweep_interval.total_seconds())
    return 0


def drain(node: Node, stop: Event) -> None:
    """Do all that is due, each job as far as it goes."""
    due = keep_up(node)
    for hint in due.hints:
        state: JobState | None = hint.state
        while state is not None and not stop.is_set():
            state = run_step(hint.job_id, state)
    for destination_id in due.destination_ids:
        send_due(node, destination_id)


if __name__ == "__main__":
    sys.exit(main())
