"""Claims on jobs, and the only way a job changes its state.

A claim raises the job's fence. Each write-back names the fence it was claimed with, so that a worker which
stalled past its lease finds that nothing of its own is left to write (the row has moved on).
Every time is PostgreSQL's own `now()`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import CursorResult, and_, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from worker.records.database import Delivery, Job, ResultObject, StepRun, StudyVersion
from worker.states import ACTIVE, JOB_TRANSITIONS, DeliveryState, JobState, StepOutcome


class StaleClaimError(Exception):
    """Another worker has taken the job, or it ended. Trying again can't help: throw the work away."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to write the outcome of one step of one job, until the lease ends."""

    job_id: int
    state: JobState
    fence: int


@dataclass(frozen=True, slots=True)
class Hint:
    """What the queue is told: this job may be claimed in this state."""

    job_id: int
    state: JobState


def claim_job(
    session: Session, job_id: int, state: JobState, claimed_by: str, lease: timedelta, maximum_attempts: int
) -> Claim | None:
    """Take the job if it waits for this step; None where someone else has it or it has moved on."""
    row = session.execute(
        update(Job)
        .where(
            Job.id == job_id,
            Job.state == state,
            Job.attempts < maximum_attempts,
            or_(Job.lease_until.is_(None), Job.lease_until < func.now()),
            or_(Job.not_before.is_(None), Job.not_before <= func.now()),
        )
        .values(
            fence=Job.fence + 1,
            attempts=Job.attempts + 1,
            claimed_by=claimed_by,
            lease_until=func.now() + lease,
            not_before=None,
        )
        .returning(Job.fence)
    ).one_or_none()
    if row is None:
        return None
    session.add(StepRun(job_id=job_id, fence=row.fence, step=state, claimed_by=claimed_by))
    return Claim(job_id, state, row.fence)


def jobs_waiting_beside(session: Session, job_id: int, state: JobState, limit: int) -> Sequence[int]:
    """Up to `limit` other jobs that wait for this step, oldest first, none where one has failed at it.

    What has failed is tried by itself, so that it can take no other with it a second time.
    """
    first = select(Job.attempts).where(Job.id == job_id).scalar_subquery()
    return session.scalars(
        select(Job.id)
        .where(
            Job.id != job_id,
            Job.state == state,
            Job.attempts == 0,
            first == 0,
            Job.lease_until.is_(None),
            or_(Job.not_before.is_(None), Job.not_before <= func.now()),
        )
        .order_by(Job.id)
        .limit(limit)
    ).all()


def renew_lease(session: Session, claim: Claim, lease: timedelta) -> None:
    """Keep the claim for another lease; raises StaleClaimError where it is lost."""
    _write_back(session, claim, lease_until=func.now() + lease)


def advance_job(session: Session, claim: Claim, to_state: JobState, **values: Any) -> None:  # noqa: ANN401 - column values
    """Move the job on in the caller's transaction, with further column values; raises StaleClaimError."""
    if to_state not in JOB_TRANSITIONS[claim.state]:
        raise ValueError(f"a job doesn't go from {claim.state} to {to_state}")
    if not JOB_TRANSITIONS[to_state]:
        values["ended_at"] = func.now()
    else:
        values["hinted_at"] = func.now()
    values = {"reason_code": None, "reason": None} | values
    _write_back(session, claim, state=to_state, attempts=0, lease_until=None, not_before=None, **values)
    _end_step_run(session, claim, StepOutcome.DONE, values.get("reason_code"))


def postpone_job(
    session: Session, claim: Claim, delay: timedelta, detail: str, reason_code: str | None = None
) -> None:
    """Give the job back until `delay` has passed, without counting an attempt: the fault lies elsewhere.

    With a `reason_code` the job shows, while it waits, what it waits for.
    """
    _write_back(
        session,
        claim,
        attempts=0,
        lease_until=None,
        hinted_at=None,
        not_before=func.now() + delay,
        reason_code=reason_code,
        reason=detail if reason_code else None,
    )
    _end_step_run(session, claim, StepOutcome.FAILED, detail)


def fail_step(
    session: Session,
    claim: Claim,
    detail: str,
    maximum_attempts: int,
    retry_delay: timedelta = timedelta(seconds=10),
) -> None:
    """Give the job back after a failure, for longer each time; after the last attempt hold it."""
    attempts = session.scalars(select(Job.attempts).where(Job.id == claim.job_id)).one()
    if attempts >= maximum_attempts:
        _write_back(
            session,
            claim,
            state=JobState.HELD,
            lease_until=None,
            reason_code=f"{claim.state}_failed",
            reason=f"{claim.state} failed {attempts} times, last with {detail}; see the worker's log",
            ended_at=func.now(),
        )
    else:
        delay = retry_delay * 2 ** (attempts - 1)
        _write_back(session, claim, lease_until=None, hinted_at=None, not_before=func.now() + delay)
    _end_step_run(session, claim, StepOutcome.FAILED, detail)


def hold_exhausted_jobs(session: Session, maximum_attempts: int) -> Sequence[int]:
    """Hold the jobs whose worker vanished in the last allowed attempt; returns their ids."""
    return session.scalars(
        update(Job)
        .where(Job.state.in_(ACTIVE), Job.attempts >= maximum_attempts, Job.lease_until < func.now())
        .values(
            _ended_from_outside(
                JobState.HELD,
                "worker_lost",
                f"the worker was lost {maximum_attempts} times in the same step; see the workers' logs",
            )
        )
        .returning(Job.id)
    ).all()


def take_due_hints(session: Session, rehint_after: timedelta) -> list[Hint]:
    """Jobs that wait for a worker and weren't offered lately; marks them as offered now.

    Several sweeps may ask at once: a row that one of them, or a worker, has locked is left to the next time.
    """
    due = (
        select(Job.id)
        .where(
            Job.state.in_(ACTIVE),
            or_(Job.lease_until.is_(None), Job.lease_until < func.now()),
            or_(Job.not_before.is_(None), Job.not_before <= func.now()),
            or_(Job.hinted_at.is_(None), Job.hinted_at < func.now() - rehint_after),
        )
        .with_for_update(skip_locked=True)
    )
    rows = session.execute(
        update(Job).where(Job.id.in_(due)).values(hinted_at=func.now()).returning(Job.id, Job.state)
    )
    return sorted((Hint(job_id, state) for job_id, state in rows), key=lambda hint: hint.job_id)


def supersede_jobs(session: Session, job_ids: Sequence[int]) -> None:
    """End jobs that a newer version of their study replaces, before they made a result."""
    session.execute(
        update(Job)
        .where(
            Job.id.in_(job_ids),
            Job.state.in_([JobState.PREPARE, JobState.GRADE, JobState.REPORT]),
        )
        .values(_ended_from_outside(JobState.SUPERSEDED, "newer_version", "more of the study arrived"))
    )


def cancel_unsent(session: Session, study_id: int, version_number: int) -> Sequence[int]:
    """Call off the older jobs of a study of whose result no destination can have anything; returns their ids.

    For the transaction in which a newer version's input turns out to differ. The fence stops a sender that
    has taken the job and not started. A job that is being delivered is let be: its result may be out, and
    the newer one names it as its predecessor.
    """
    begun = (
        select(Delivery.id)
        .join(ResultObject, ResultObject.id == Delivery.result_object_id)
        .where(ResultObject.result_id == Job.result_id, Delivery.state != DeliveryState.PENDING)
        .correlate(Job)
    )
    older = select(StudyVersion.id).where(
        StudyVersion.study_id == study_id, StudyVersion.number < version_number
    )
    # first the rows, which a beginning sender locks too; what it wrote is seen by the statement after that
    session.execute(
        select(Job.id)
        .where(Job.study_version_id.in_(older), Job.state == JobState.DELIVER)
        .order_by(Job.id)
        .with_for_update()
    )
    return session.scalars(
        update(Job)
        .where(
            Job.study_version_id.in_(older),
            Job.state == JobState.DELIVER,
            or_(Job.lease_until.is_(None), Job.lease_until < func.now()),
            ~begun.exists(),
        )
        .values(
            _ended_from_outside(
                JobState.SUPERSEDED, "newer_version", "the study changed before this result was sent"
            )
        )
        .returning(Job.id)
    ).all()


def hold_jobs_of_study(session: Session, study_id: int, reason: str) -> None:
    """Stop all work on a study whose identity came into doubt."""
    versions = select(StudyVersion.id).where(StudyVersion.study_id == study_id).scalar_subquery()
    session.execute(
        update(Job)
        .where(Job.study_version_id.in_(versions), Job.state.in_(ACTIVE))
        .values(_ended_from_outside(JobState.HELD, "study_held", reason))
    )


def ensure_job(session: Session, study_version_id: int) -> None:
    """Queue the work on a study version, once."""
    session.execute(insert(Job).values(study_version_id=study_version_id).on_conflict_do_nothing())


def _ended_from_outside(state: JobState, reason_code: str, reason: str) -> dict[str, Any]:
    """Columns of a job that someone else than its holder ends; the fence shuts the holder out."""
    return {
        "state": state,
        "fence": Job.fence + 1,
        "lease_until": None,
        "reason_code": reason_code,
        "reason": reason,
        "ended_at": func.now(),
    }


def _write_back(session: Session, claim: Claim, **values: Any) -> None:  # noqa: ANN401 - column values
    result = session.execute(
        update(Job)
        .where(and_(Job.id == claim.job_id, Job.fence == claim.fence, Job.state == claim.state))
        .values(**values)
    )
    assert isinstance(result, CursorResult)
    if result.rowcount != 1:
        raise StaleClaimError(f"job {claim.job_id}: claim {claim.fence} on {claim.state} is no longer held")


def _end_step_run(session: Session, claim: Claim, outcome: StepOutcome, detail: str | None) -> None:
    session.execute(
        update(StepRun)
        .where(StepRun.job_id == claim.job_id, StepRun.fence == claim.fence)
        .values(finished_at=func.clock_timestamp(), outcome=outcome, detail=detail)
    )
