"""The claim on sending to one destination, and how a failing one is waited for.

One sender at a time serves a destination, and no destination waits for another. The claim is fenced as a
job's is (`worker.records.ledger`): each write of a sender names the fence it was claimed with.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, CursorResult, and_, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from dicom_node.peers.scu import AssociationError
from worker.records.database import Delivery, DestinationState, Job, ResultObject
from worker.records.ledger import StaleClaimError
from worker.settings import Settings
from worker.states import UNDELIVERED, DeliveryState, JobState

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DestinationClaim:
    """The right to send to one destination, until the lease ends."""

    destination_id: int
    name: str
    fence: int


def ensure_destinations(session: Session, names: Iterable[str]) -> None:
    """Add rows for destinations that have none yet; in a fixed order, so that two callers don't deadlock."""
    rows = [{"name": name} for name in sorted(set(names))]
    if rows:
        session.execute(insert(DestinationState).on_conflict_do_nothing(), rows)


def claim_destination(
    session: Session, destination_id: int, claimed_by: str, lease: timedelta
) -> DestinationClaim | None:
    """Take a destination; None while someone else sends to it, or it is waited for.

    What an earlier sender was lost with becomes UNKNOWN: it may have arrived.
    """
    row = session.execute(
        update(DestinationState)
        .where(DestinationState.id == destination_id, _is_free())
        .values(fence=DestinationState.fence + 1, claimed_by=claimed_by, lease_until=func.now() + lease)
        .returning(DestinationState.name, DestinationState.fence)
    ).one_or_none()
    if row is None:
        return None
    session.execute(
        update(Delivery)
        .where(Delivery.destination == row.name, Delivery.state == DeliveryState.SENDING)
        .values(state=DeliveryState.UNKNOWN, detail="the sender was lost")
    )
    return DestinationClaim(destination_id, row.name, row.fence)


def hold_destination(session: Session, claim: DestinationClaim, lease: timedelta) -> None:
    """Renew the claim and lock its row for this transaction; raises StaleClaimError where it is lost."""
    _write_back(session, claim, lease_until=func.now() + lease)


def release_destination(session: Session, claim: DestinationClaim) -> None:
    """Give the destination back; raises StaleClaimError."""
    _write_back(session, claim, lease_until=None, hinted_at=None)


def take_due_destinations(session: Session, rehint_after: timedelta) -> Sequence[int]:
    """Destinations that something waits for and nobody serves; marks them as offered now."""
    due = (
        select(Delivery.id)
        .join(ResultObject, ResultObject.id == Delivery.result_object_id)
        .join(Job, Job.result_id == ResultObject.result_id)
        .where(Delivery.destination == DestinationState.name, is_due())
    )
    return session.scalars(
        update(DestinationState)
        .where(
            _is_free(),
            or_(DestinationState.hinted_at.is_(None), DestinationState.hinted_at < func.now() - rehint_after),
            due.exists(),
        )
        .values(hinted_at=func.now())
        .returning(DestinationState.id)
    ).all()


def destinations_of_job(session: Session, job_id: int) -> Sequence[int]:
    """Destinations that something of this job waits for."""
    return session.scalars(
        select(DestinationState.id)
        .distinct()
        .join(Delivery, Delivery.destination == DestinationState.name)
        .join(ResultObject, ResultObject.id == Delivery.result_object_id)
        .join(Job, Job.result_id == ResultObject.result_id)
        .where(Job.id == job_id, Delivery.state.in_(UNDELIVERED))
    ).all()


def is_due() -> ColumnElement[bool]:
    """A delivery that may be worked on now. Its job's state is the switch: a held job sends nothing."""
    return and_(
        Job.state == JobState.DELIVER,
        Delivery.state.in_(UNDELIVERED),
        or_(Delivery.not_before.is_(None), Delivery.not_before <= func.now()),
    )


def note_success(session: Session, claim: DestinationClaim) -> None:
    """The destination took something: its failures are over."""
    _write_back(session, claim, failures=0, failing_since=None, alerted_at=None, detail=None)


def note_failure(
    session: Session, claim: DestinationClaim, detail: str, settings: Settings, error: AssociationError | None
) -> None:
    """Count a failure and alert once when failures have lasted.

    Where there was no association, nothing is sent before a delay has passed: doubling, or long (with an
    alert at once) where the destination says that waiting won't help.
    """
    refused = error is not None and not error.transient
    _write_back(
        session,
        claim,
        failures=DestinationState.failures + 1,
        failing_since=func.coalesce(DestinationState.failing_since, func.now()),
        detail=detail,
    )
    if error is not None:
        failures = session.scalars(
            select(DestinationState.failures).where(DestinationState.id == claim.destination_id)
        ).one()
        delay = settings.send_refused_delay if refused else back_off(settings, failures)
        _write_back(session, claim, not_before=func.now() + delay)
    patience = timedelta(0) if refused else settings.send_alert_after
    failing_since = session.scalars(
        update(DestinationState)
        .where(
            DestinationState.id == claim.destination_id,
            DestinationState.alerted_at.is_(None),
            DestinationState.failing_since <= func.now() - patience,
        )
        .values(alerted_at=func.now())
        .returning(DestinationState.failing_since)
    ).one_or_none()
    if failing_since is not None:
        logger.error("ALERT destination %s takes nothing since %s: %s", claim.name, failing_since, detail)


def back_off(settings: Settings, attempts: int) -> timedelta:
    """How long to wait after so many attempts: doubling, capped, without end."""
    doublings = min(max(attempts - 1, 0), 20)
    return min(settings.send_longest_delay, settings.send_first_delay * (1 << doublings))


def _is_free() -> ColumnElement[bool]:
    return and_(
        or_(DestinationState.lease_until.is_(None), DestinationState.lease_until < func.now()),
        or_(DestinationState.not_before.is_(None), DestinationState.not_before <= func.now()),
    )


def _write_back(session: Session, claim: DestinationClaim, **values: object) -> None:
    result = session.execute(
        update(DestinationState)
        .where(DestinationState.id == claim.destination_id, DestinationState.fence == claim.fence)
        .values(**values)
    )
    assert isinstance(result, CursorResult)
    if result.rowcount != 1:
        raise StaleClaimError(f"destination {claim.name}: claim {claim.fence} is no longer held")
