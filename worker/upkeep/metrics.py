"""What Prometheus is told of the service, read from the ledger and the disk when it asks.

Numbers and words of ours only: states, queues and the names of destinations, nothing of a patient. No query
reads what ended well long ago, so that a scrape takes no longer with the years.
"""

import shutil
from collections.abc import Iterator, Mapping
from datetime import timedelta
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
    SweepState,
)
from worker.records.heartbeat import MISSED_BEATS, silent_workers
from worker.records.queries import is_newest_version, live_results
from worker.settings import Settings
from worker.states import ACTIVE, STEPS, UNDELIVERED, UNSETTLED, DeliveryState, JobState, StudyState

ARRIVING = (StudyState.OPEN, StudyState.HELD)
WAITING = (*ACTIVE, JobState.HELD)
"""States whose jobs wait for something: the others have ended well, or as well as they could."""
ENDED = tuple(state for state in JobState if state not in WAITING)
ENDED_LATELY = timedelta(hours=1)
TURNAROUND_OVER = timedelta(days=1)
QUANTILES = (0.5, 0.95)
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
        yield from _sweep(session)
        yield from _studies(session)
        yield from _jobs(session)
        yield from _turnaround(session)
        yield from _deliveries(session)
        yield from _destinations(session)
        yield from _workers(session, self._settings.heartbeat_interval * MISSED_BEATS)


def _sweep(session: Session) -> Iterator[GaugeMetricFamily]:
    ended, oldest = session.execute(
        select(_age(SweepState.ended_at), _age(SweepState.oldest_unindexed_at))
    ).one()
    yield _gauge("sweep_age_seconds", "Since a sweep last ended: without one nothing received is seen", ended)
    words = "Since the oldest object was received that the last sweep left unindexed; 0: there is none"
    yield _gauge("unindexed_oldest_age_seconds", words, oldest)


def _studies(session: Session) -> Iterator[GaugeMetricFamily]:
    rows = session.execute(
        select(Study.state, func.count(), _age(func.min(Study.opened_at)))
        .where(Study.state.in_(ARRIVING))
        .group_by(Study.state)
    ).all()
    counts = {state: count for state, count, _ in rows}
    ages = {state: age for state, _, age in rows}
    words = "Studies that still arrive or wait for a person, by state"
    yield _by("state", "studies", words, {word: counts.get(word, 0) for word in ARRIVING})
    yield _gauge(
        "study_open_age_seconds", "Since the longest open study became open", ages.get(StudyState.OPEN, 0)
    )


def _jobs(session: Session) -> Iterator[GaugeMetricFamily]:
    # each of the two has an index of its own
    waiting = [
        row
        for condition in (Job.state.in_(ACTIVE), Job.state == JobState.HELD)
        for row in session.execute(
            select(Job.state, func.count(), _age(func.min(Job.created_at)))
            .join(StudyVersion, StudyVersion.id == Job.study_version_id)
            .where(condition, is_newest_version())
            .group_by(Job.state)
        )
    ]
    counts = {state: count for state, count, _ in waiting}
    ages = {state: age for state, _, age in waiting}
    words = "Jobs that wait, of the newest version of each study, by state"
    yield _by("state", "jobs", words, {word: counts.get(word, 0) for word in WAITING})
    words = "Since the oldest of these jobs was queued; 0: there is none"
    yield _by("state", "job_oldest_age_seconds", words, {word: ages.get(word, 0) for word in WAITING})
    rows = session.execute(
        select(Job.state, func.count())
        .where(Job.ended_at > func.now() - ENDED_LATELY, Job.state.in_(ENDED))
        .group_by(Job.state)
    ).all()
    counts = {state: count for state, count in rows}  # noqa: C416 - rows aren't tuples to a type checker
    words = "Jobs that ended in the last hour, by how"
    yield _by("state", "jobs_ended_last_hour", words, {word: counts.get(word, 0) for word in ENDED})


def _turnaround(session: Session) -> Iterator[GaugeMetricFamily]:
    """No sample where nothing was delivered; a version that a person's word made is none of the machine's."""
    arrived = func.max(Delivery.sent_at)
    seconds = cast(func.extract("epoch", arrived - StudyVersion.received_at), Double).label("seconds")
    taken = (
        select(seconds)
        .select_from(Job)
        .join(StudyVersion, StudyVersion.id == Job.study_version_id)
        .join(ResultObject, ResultObject.result_id == Job.result_id)
        .join(Delivery, Delivery.result_object_id == ResultObject.id)
        .where(Job.state == JobState.DONE, Job.ended_at > func.now() - TURNAROUND_OVER)
        .group_by(Job.id, StudyVersion.received_at)
        # what was sent before the last object came was sent for an earlier version
        .having(arrived > StudyVersion.received_at)
        .subquery()
    )
    values = session.execute(
        select(*(func.percentile_cont(share).within_group(taken.c.seconds) for share in QUANTILES))
    ).one()
    words = "From the last object of a study to its last result delivered, quantiles of the last day"
    told = {str(share): value for share, value in zip(QUANTILES, values, strict=True) if value is not None}
    yield _by("quantile", "turnaround_seconds", words, told)


def _deliveries(session: Session) -> Iterator[GaugeMetricFamily]:
    # each of the two has an index of its own
    counts = dict.fromkeys(product(session.scalars(select(DestinationState.name)), UNSETTLED), 0) | {
        (name, state): count
        for unsent in (Delivery.state.in_(UNDELIVERED), Delivery.state == DeliveryState.FAILED)
        for name, state, count in session.execute(
            select(Delivery.destination, Delivery.state, func.count())
            .join(ResultObject, ResultObject.id == Delivery.result_object_id)
            .where(unsent, ResultObject.result_id.in_(live_results()))
            .group_by(Delivery.destination, Delivery.state)
        )
    }
    words = "Objects that are not where they should be, by destination and state"
    family = GaugeMetricFamily("gliograde_deliveries", words, labels=["destination", "state"])
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
        .outerjoin(Result, (Result.id == ResultObject.result_id) & Result.id.in_(live_results()))
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


def _age(since: ColumnElement[Any] | InstrumentedAttribute[Any]) -> ColumnElement[float]:
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
