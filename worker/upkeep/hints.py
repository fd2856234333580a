"""Offering work to the queue. A lost hint costs time, never work: the sweep offers it again."""

import logging

from celery import Celery
from kombu.exceptions import OperationalError

from dicom_node.logs import about
from worker.records.ledger import Hint
from worker.states import STEPS

logger = logging.getLogger(__name__)


SEND_TASK = "worker.tasks.send"


def send_hint(app: Celery, hint: Hint) -> None:
    """Tell a queue that a job waits there."""
    step = STEPS[hint.state]
    try:
        app.send_task(step.task, args=[hint.job_id], queue=step.queue, retry=False, ignore_result=True)
    except OperationalError:
        with about(job_id=hint.job_id):
            logger.warning(
                "job %d: the broker is away; the sweep will offer %s again", hint.job_id, hint.state
            )


def send_destination_hint(app: Celery, destination_id: int) -> None:
    """Tell the queue that something waits for a destination."""
    try:
        app.send_task(SEND_TASK, args=[destination_id], queue="send", retry=False, ignore_result=True)
    except OperationalError:
        logger.warning("destination %d: the broker is away; the sweep will offer it again", destination_id)
