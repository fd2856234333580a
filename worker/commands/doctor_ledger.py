"""The half of `gliograde doctor` that asks PostgreSQL: schema, clock, workers, and work that waits."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from worker.answers.findings import Finding, failed, ok, warning
from worker.records.database import (
    DestinationState,
    Heartbeat,
    Job,
    Notification,
    Study,
    StudyVersion,
    SweepState,
)
from worker.records.heartbeat import MISSED_BEATS, silent_workers
from worker.records.queries import is_newest_version
from worker.records.schema import SchemaError, check_schema
from worker.settings import Settings
from worker.states import ACTIVE, STEPS, JobState, StudyState

CLOCK_TOLERANCE = timedelta(seconds=5)
"""Beyond it, times of receiving and of the audit trail can't be laid beside those of the ledger."""
SWEEP_PATIENCE = timedelta(minutes=5)
"""A sweep that indexes a backlog may take minutes."""
INBOX_PATIENCE = timedelta(minutes=15)
WAITING_LONG = timedelta(hours=1)


def examine_ledger(engine: Engine, settings: Settings) -> Iterator[Finding]:
    """Look at the database behind an engine; raises what SQLAlchemy raises where it doesn't answer."""
    try:
        check_schema(engine)
    except SchemaError as error:
        yield failed("database", str(error), "no worker starts until the schema is its program's")
        return
    with Session(engine) as session:
        version = session.scalar(select(func.current_setting("server_version")))
        yield ok("database", f"PostgreSQL {version}, schema as this version wants it")
        yield _clock(session)
        yield from _workers(session, settings.heartbeat_interval * MISSED_BEATS)
        yield from _sweep(session, settings.sweep_interval + SWEEP_PATIENCE)
        yield from _failing_destinations(session)
        yield _held(session)
        yield _waiting(session)
        yield _notifications(session)


def _clock(session: Session) -> Finding:
    before = datetime.now(UTC)
    theirs = session.scalars(select(func.clock_timestamp())).one()
    ours = before + (datetime.now(UTC) - before) / 2
    difference = abs(theirs - ours)
    detail = f"{difference.total_seconds():.1f} s from the database's"
    if difference > CLOCK_TOLERANCE:
        return failed("clock", detail, "let this machine and the database's keep time by NTP: timedatectl")
    return ok("clock", detail)


def _workers(session: Session, silence: timedelta) -> Iterator[Finding]:
    """One line a queue: who takes from it."""
    silent = set(silent_workers(session, silence))
    alive: dict[str, list[str]] = {queue: [] for queue in dict.fromkeys(s.queue for s in STEPS.values())}
    for worker, queues in session.execute(select(Heartbeat.worker, Heartbeat.queues)):
        for queue in alive.keys() & set(queues.split(",")) if worker not in silent else ():
            alive[queue].append(worker)
    for queue, workers in alive.items():
        check = f"worker {queue}"
        if workers:
            yield ok(check, ", ".join(sorted(workers)))
            continue
        words = "the last one has fallen silent" if silent else "none has said that it lives"
        yield failed(
            check,
            f"nobody takes from the queue {queue}: {words}",
            f"start `celery -A worker worker -Q {queue}` (or `gliograde up`) and read its log; "
            "with `python -m worker.polling` there is no such worker",
        )


def _sweep(session: Session, patience: timedelta) -> Iterator[Finding]:
    now, ended, oldest = session.execute(
        select(func.now(), SweepState.ended_at, SweepState.oldest_unindexed_at)
    ).one()
    if now - ended > patience:
        yield failed(
            "sweep",
            f"none has ended since {ended:%Y-%m-%d %H:%M} UTC: what was received since is not seen",
            "start `celery -A worker beat` (or `gliograde up`); if it runs, read the cpu workers' log",
        )
    else:
        yield ok("sweep", f"the last one ended {(now - ended).total_seconds():.0f} s ago")
    if oldest is None or now - oldest < INBOX_PATIENCE:
        yield ok("inbox", "all that was received is indexed" if oldest is None else "nothing waits long")
        return
    yield warning(
        "inbox",
        f"an object received {oldest:%Y-%m-%d %H:%M} UTC is not indexed: no study has it",
        "the cpu workers' log names it and says why; have it sent again",
    )


def _failing_destinations(session: Session) -> Iterator[Finding]:
    rows = session.execute(
        select(DestinationState.name, DestinationState.failing_since, DestinationState.detail)
        .where(DestinationState.failing_since.is_not(None))
        .order_by(DestinationState.name)
    )
    for name, since, detail in rows:
        yield warning(
            f"delivery to {name}",
            f"takes nothing since {since:%Y-%m-%d %H:%M} UTC: {detail}",
            "results wait without end and are sent when it takes them; look at it and at the line between",
        )


def _held(session: Session) -> Finding:
    jobs = session.scalars(
        select(func.count())
        .select_from(Job)
        .join(StudyVersion, StudyVersion.id == Job.study_version_id)
        .join(Study, Study.id == StudyVersion.study_id)
        .where(Job.state == JobState.HELD, Study.state != StudyState.HELD, is_newest_version())
    ).one()
    studies = session.scalars(
        select(func.count()).select_from(Study).where(Study.state == StudyState.HELD)
    ).one()
    if not jobs and not studies:
        return ok("held", "nothing waits for a person")
    return warning(
        "held",
        f"{studies} studies of doubtful identity and {jobs} jobs wait for a person",
        "`gliograde status --state held` says why; `gliograde study ID` tells one study's story",
    )


def _waiting(session: Session) -> Finding:
    oldest = session.execute(
        select(StudyVersion.study_id, Job.state, Job.created_at, func.now())
        .join(StudyVersion, StudyVersion.id == Job.study_version_id)
        .where(Job.state.in_(ACTIVE), Job.state != JobState.DELIVER)
        .order_by(Job.created_at)
        .limit(1)
    ).one_or_none()
    if oldest is None:
        return ok("waiting", "no study waits")
    study_id, state, since, now = oldest
    if now - since < WAITING_LONG:
        return ok("waiting", "no study waits long")
    return warning(
        "waiting",
        f"study {study_id} waits for its grade since {since:%Y-%m-%d %H:%M} UTC",
        f"`gliograde study {study_id}` says what for, `gliograde status --state {state}` who waits too; "
        "more workers, or the logs of those there are",
    )


def _notifications(session: Session) -> Finding:
    count, detail = session.execute(
        select(func.count(), func.max(Notification.detail)).where(
            Notification.told_at.is_(None), Notification.created_at < func.now() - WAITING_LONG
        )
    ).one()
    if not count:
        return ok("notifications", "none is overdue")
    return warning(
        "notifications",
        f"{count} could not be told for more than an hour: {detail or 'nobody tries'}",
        "look at notify_url or notify_smtp, and whether a worker takes from the queue send",
    )
