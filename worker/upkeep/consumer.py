"""What is ours in Celery's consumer: its heartbeat row, and how it comes back to a lost broker."""

import logging
from datetime import timedelta
from typing import Any

from celery import bootsteps
from celery.app.amqp import AMQP
from celery.worker import state
from kombu import Connection
from redis.exceptions import ConnectionError as BrokerLostError
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from worker.records.heartbeat import beat, own_name, retire

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
        _check_credit(parent)
        queues = ",".join(sorted(queue.name for queue in parent.task_consumer.queues))
        try:
            with self.sessions.begin() as session:
                beat(session, own_name(), queues)
        except OperationalError:
            logger.warning("PostgreSQL is away, no heartbeat")


def _check_credit(parent: Any) -> None:  # noqa: ANN401 - Celery's consumer
    """Raise BrokerLostError, upon which the consumer connects anew, where it would never take work again.

    A message whose acknowledgement is lost with the broker counts as unacknowledged for good in kombu 5.7.
    When the broker is away at the end of a task, that is all of a solo worker's prefetch credit: it would go
    on beating and ask for nothing.
    """
    if not state.reserved_requests and not parent.task_consumer.channel.qos.can_consume():
        raise BrokerLostError("an acknowledgement was lost with the broker")
