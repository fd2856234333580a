"""What is ours in Celery's consumer: its heartbeat row, and how soon it comes back to a lost broker."""

import logging
from datetime import timedelta
from typing import Any

from celery import bootsteps
from celery.app.amqp import AMQP
from kombu import Connection
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from worker.heartbeat import beat, own_name, retire

logger = logging.getLogger(__name__)

RECONNECT_SECONDS = 5
"""Longest pause between two attempts to reach the broker; Celery's own grows to 30 s."""


class EagerConnection(Connection):
    """A broker connection that is tried again every few seconds, without end."""

    def ensure_connection(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - kombu's signature
        """Connect, waiting `RECONNECT_SECONDS` at most between attempts."""
        kwargs.setdefault("interval_max", RECONNECT_SECONDS)
        return super().ensure_connection(*args, **kwargs)


class EagerAMQP(AMQP):
    """Celery's broker interface with connections of ours."""

    Connection = EagerConnection


class HeartbeatStep(bootsteps.StartStopStep):
    """Beats from the consumer's own timer, so that a consumer that has stopped falls silent."""

    requires = ("celery.worker.consumer.tasks:Tasks",)
    sessions: sessionmaker[Session]
    interval: timedelta

    def __init__(self, parent: Any, **options: Any) -> None:  # noqa: ANN401 - Celery's signature
        self._timer: Any = None
        super().__init__(parent, **options)

    def start(self, parent: Any) -> None:  # noqa: ANN401 - Celery's consumer
        """Begin to beat; called again after each loss of the broker."""
        self._beat(parent)
        self._timer = parent.timer.call_repeatedly(self.interval.total_seconds(), self._beat, (parent,))

    def stop(self, parent: Any) -> None:  # noqa: ANN401 - Celery's consumer
        """Stop beating."""
        del parent
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def shutdown(self, parent: Any) -> None:  # noqa: ANN401 - Celery's consumer
        """Take the row back: the worker ends as it should."""
        self.stop(parent)
        try:
            with self.sessions.begin() as session:
                retire(session, own_name())
        except OperationalError:
            logger.warning("PostgreSQL is away, the heartbeat row stays")

    def _beat(self, parent: Any) -> None:  # noqa: ANN401 - Celery's consumer
        queues = ",".join(sorted(queue.name for queue in parent.task_consumer.queues))
        try:
            with self.sessions.begin() as session:
                beat(session, own_name(), queues)
        except OperationalError:
            logger.warning("PostgreSQL is away, no heartbeat")
