"""The deliver step of a job: offered to its destinations, and ended when each has everything or refused it.

The sending itself is `worker.delivery.sending`, one sender for each destination.
"""

from datetime import timedelta

from sqlalchemy import Select, select, update
from sqlalchemy.orm import Session

from worker.node import Node
from worker.records import ledger
from worker.records.database import Delivery, Job, Result, ResultObject
from worker.records.heartbeat import own_name
from worker.records.ledger import Claim
from worker.states import UNDELIVERED, DeliveryState, JobState
from worker.study.claimed import ClaimedStep
from worker.study.reporting import ends_as

LOOK_AGAIN = timedelta(minutes=10)
"""The senders end a job; this is for one that nobody ended."""


def deliver(step: ClaimedStep) -> None:
    """End the job where nothing is left to deliver, else give it back to wait for its senders."""
    with step.node.sessions.begin() as session:
        _lock(session, step.claim.job_id)
        if not _end(session, step.claim):
            ledger.postpone_job(session, step.claim, LOOK_AGAIN, "waits for its destinations")


def settle_job(node: Node, job_id: int) -> None:
    """End the job if its last delivery has ended; any sender may call this at any time."""
    with node.sessions.begin() as session:
        if not _lock(session, job_id) or _left(session, job_id):
            return
        session.execute(update(Job).where(Job.id == job_id).values(not_before=None))
        claim = ledger.claim_job(
            session,
            job_id,
            JobState.DELIVER,
            own_name(),
            node.settings.lease,
            node.settings.maximum_attempts,
        )
        # without a claim the deliver step is at work: it waits for this lock and then sees the same
        if claim is not None:
            _end(session, claim)


def _end(session: Session, claim: Claim) -> bool:
    if _left(session, claim.job_id):
        return False
    failed = session.scalars(_deliveries(claim.job_id).where(Delivery.state == DeliveryState.FAILED)).all()
    if failed:
        reason = (
            f"{len(failed)} deliveries were refused for good, last: "
            f"{failed[-1].detail} by {failed[-1].destination}"
        )
        ledger.advance_job(session, claim, JobState.HELD, reason_code="delivery_failed", reason=reason)
        return True
    result = session.scalars(
        select(Result).join(Job, Job.result_id == Result.id).where(Job.id == claim.job_id)
    ).one()
    ledger.advance_job(session, claim, ends_as(result), reason_code=result.reason_code, reason=result.reason)
    return True


def _lock(session: Session, job_id: int) -> bool:
    """Let one at a time decide whether the job has ended; False where it isn't being delivered."""
    waiting = select(Job.id).where(Job.id == job_id, Job.state == JobState.DELIVER).with_for_update()
    return session.scalars(waiting).one_or_none() is not None


def _left(session: Session, job_id: int) -> bool:
    return (
        session.scalars(_deliveries(job_id).where(Delivery.state.in_(UNDELIVERED)).limit(1)).first()
        is not None
    )


def _deliveries(job_id: int) -> Select[Delivery]:
    return (
        select(Delivery)
        .join(ResultObject, ResultObject.id == Delivery.result_object_id)
        .join(Job, Job.result_id == ResultObject.result_id)
        .where(Job.id == job_id)
        .order_by(Delivery.id)
    )
