"""Liveness: a row that each worker's consumer writes itself, from the loop that takes work.

A process that is up may yet have stopped consuming; then its row grows old. A worker that is busy in its
only process (pool solo) doesn't beat meanwhile: its claim's lease shows that it lives.
"""

import os
import socket
from datetime import timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from worker.records.database import Heartbeat, Job
from worker.states import ACTIVE

FORGOTTEN_AFTER = timedelta(days=1)
MISSED_BEATS = 6
"""A worker that has not beaten for so many intervals is said to be silent."""


def own_name() -> str:
    """This process as claims and heartbeats name it."""
    return f"{socket.gethostname()}:{os.getpid()}"


def beat(session: Session, worker: str, queues: str) -> None:
    """Say that a worker lives, now."""
    session.execute(
        insert(Heartbeat)
        .values(worker=worker, queues=queues, started_at=func.now(), beaten_at=func.now())
        .on_conflict_do_update(
            index_elements=[Heartbeat.worker], set_={"queues": queues, "beaten_at": func.now()}
        )
    )


def retire(session: Session, worker: str) -> None:
    """Take back the row of a worker that stops as it should."""
    session.execute(delete(Heartbeat).where(Heartbeat.worker == worker))


def silent_workers(session: Session, silence: timedelta) -> list[str]:
    """Workers that have not beaten for `silence` and hold no live claim either."""
    busy = select(Job.claimed_by).where(
        Job.state.in_(ACTIVE), Job.lease_until > func.now(), Job.claimed_by.is_not(None)
    )
    return list(
        session.scalars(
            select(Heartbeat.worker)
            .where(Heartbeat.beaten_at < func.now() - silence, Heartbeat.worker.not_in(busy))
            .order_by(Heartbeat.worker)
        )
    )


def forget_silent(session: Session) -> None:
    """Drop the rows of workers that have been silent for a day."""
    session.execute(delete(Heartbeat).where(Heartbeat.beaten_at < func.now() - FORGOTTEN_AFTER))
