"""What Prometheus is told of the service, read from the ledger and the disk when it asks.

Numbers and words of ours only: states, queues and the names of destinations, nothing of a patient.
"""

import shutil
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from itertools import product
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import ColumnElement, Double, Engine, cast, func, select
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.orm import InstrumentedAttribute, Session

from worker.records.database import (
    Delivery,
    DestinationState,
    Heartbeat,
    Job,
    Result,
    ResultObject,
    Study,
    StudyVersion,
)
from worker.records.heartbeat import MISSED_BEATS, silent_workers
from worker.records.queries import is_newest_version
from worker.settings import Settings
from worker.states import STEPS, UNDELIVERED, DeliveryState, JobState, StudyState

AGED = (JobState.PREPARE, JobState.GRADE, JobState.REPORT, JobState.DELIVER, JobState.HELD)
"""States whose oldest job is of interest: the others have ended well, or as well as they could."""
QUEUES = tuple(dict.fromkeys(step.queue for step in STEPS.values()))


class LedgerCollector(Collector):
    """Reads the ledger at each scrape; where it can't be read, says so and tells of the disk alone."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Make the metrics of one scrape."""
        try:
            with Session(self._engine) as session:
                families = list(self._of_ledger(session))
        # another schema than this program's is as unreadable as no database
        except (OperationalError, ProgrammingError):
            families = []
        yield _gauge("database_up", "Whether the ledger could be read", 1 if families else 0)
        yield from families
        yield from self._of_disk()

    def _of_disk(self) -> Iterator[GaugeMetricFamily]:
        folder = self._settings.data_folder
        if folder.is_dir():
            usage = shutil.disk_usage(folder)
            yield _gauge("spool_free_bytes", "Free space on the file system of the data folder", usage.free)
            yield _gauge("spool_total_bytes", "Size of that file system", usage.total)
        limit = self._settings.minimum_free_bytes
        yield _gauge("spool_minimum_free_bytes", "Free space under which objects are refused", limit)

    def _of_ledger(self, session: Session) -> Iterator[GaugeMetricFamily]:
        yield from _studies(session)
        yield from _jobs(session)
        yield from _deliveries(session)
        yield from _destinations(session)
        yield from _workers(session, self._settings.heartbeat_interval * MISSED_BEATS)


def _studies(session: Session) -> Iterator[GaugeMetricFamily]:
    rows = session.execute(
        select(Study.state, func.count(), _age(func.min(Study.opened_at))).group_by(Study.state)
    ).all()
    counts = {state: count for state, count, _ in rows}
    ages = {state: age for state, _, age in rows}
    yield _by("state", "studies", "Studies by state", {word: counts.get(word, 0) for word in StudyState})
    yield _gauge(
        "study_open_age_seconds", "Since the longest open study became open", ages.get(StudyState.OPEN, 0)
    )


def _jobs(session: Session) -> Iterator[GaugeMetricFamily]:
    rows = session.execute(
        select(Job.state, func.count(), _age(func.min(Job.created_at)))
        .join(StudyVersion, StudyVersion.id == Job.study_version_id)
        .where(is_newest_version())
        .group_by(Job.state)
    ).all()
    counts = {state: count for state, count, _ in rows}
    ages = {state: age for state, _, age in rows}
    words = "Jobs of the newest version of each study, by state"
    yield _by("state", "jobs", words, {word: counts.get(word, 0) for word in JobState})
    words = "Since the oldest of these jobs was queued; 0: there is none"
    yield _by("state", "job_oldest_age_seconds", words, {word: ages.get(word, 0) for word in AGED})


def _deliveries(session: Session) -> Iterator[GaugeMetricFamily]:
    counts = dict.fromkeys(product(session.scalars(select(DestinationState.name)), DeliveryState), 0) | {
        (name, state): count
        for name, state, count in session.execute(
            select(Delivery.destination, Delivery.state, func.count()).group_by(
                Delivery.destination, Delivery.state
            )
        )
    }
    family = GaugeMetricFamily(
        "gliograde_deliveries", "Objects by destination and state", labels=["destination", "state"]
    )
    for labels, count in counts.items():
        family.add_metric(labels, count)
    yield family


def _destinations(session: Session) -> Iterator[GaugeMetricFamily]:
    undelivered = (Delivery.destination == DestinationState.name) & Delivery.state.in_(UNDELIVERED)
    rows = session.execute(
        select(
            DestinationState.name,
            _age(func.min(Result.created_at)),
            _age(func.min(DestinationState.failing_since)),
        )
        .outerjoin(Delivery, undelivered)
        .outerjoin(ResultObject, ResultObject.id == Delivery.result_object_id)
        .outerjoin(Result, Result.id == ResultObject.result_id)
        .group_by(DestinationState.name)
    ).all()
    words = "Since the oldest result that it lacks was made; 0: it lacks none"
    yield _by("destination", "delivery_oldest_age_seconds", words, {name: age for name, age, _ in rows})
    words = "Since when it takes nothing; 0: it does"
    yield _by("destination", "destination_failing_seconds", words, {name: age for name, _, age in rows})


def _workers(session: Session, silence: timedelta) -> Iterator[GaugeMetricFamily]:
    silent = set(silent_workers(session, silence))
    rows = session.execute(select(Heartbeat.worker, Heartbeat.queues, _age(Heartbeat.beaten_at))).all()
    alive, ages = {}, {}
    for queue in QUEUES:
        own = {worker: age for worker, queues, age in rows if queue in queues.split(",")}
        alive[queue] = len(own.keys() - silent)
        if own:
            ages[queue] = min(own.values())
    yield _by("queue", "workers", "Workers that live, by the queue they take from", alive)
    words = "Since the newest heartbeat of a queue; a solo worker that is busy doesn't beat"
    yield _by("queue", "heartbeat_age_seconds", words, ages)


def _age(since: ColumnElement[Any] | InstrumentedAttribute[datetime]) -> ColumnElement[float]:
    """Seconds by PostgreSQL's clock; 0 where there is no time."""
    seconds = func.extract("epoch", func.now() - since)
    return func.coalesce(cast(seconds, Double), 0.0)


def _gauge(name: str, words: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"gliograde_{name}", words, value=value)


def _by(label: str, name: str, words: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"gliograde_{name}", words, labels=[label])
    for word, value in values.items():
        family.add_metric([word], value)
    return family
