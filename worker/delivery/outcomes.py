"""What a sender writes into the ledger: always under its claim on the destination, many objects at a time."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from dicom_node.peers.scu import Destination
from dicom_node.peers.stow import WebDestination
from worker.delivery.consignments import Consignment, Parcel
from worker.delivery.verdicts import Verdict
from worker.node import Node
from worker.records.database import Delivery, Job
from worker.records.destinations import (
    DestinationClaim,
    back_off,
    hold_destination,
    note_failure,
    note_success,
)
from worker.states import DELIVERY_TRANSITIONS, UNDELIVERED, DeliveryState, JobState


@dataclass(frozen=True, slots=True)
class Line:
    """A sender at work: where it sends to, and its claim on that."""

    node: Node
    destination: Destination | WebDestination
    claim: DestinationClaim

    def hold(self, session: Session) -> None:
        """Renew the claim and lock it for this transaction; raises StaleClaimError where it is lost."""
        hold_destination(session, self.claim, self.node.settings.lease)


@dataclass(frozen=True, slots=True)
class Judged:
    """One object's outcome; `on_the_line` is False where no association was made."""

    parcel: Parcel
    verdict: Verdict
    detail: str
    status: int | None = None
    on_the_line: bool = True


def mark_sending(line: Line, consignment: Consignment, parcels: Sequence[Parcel]) -> bool:
    """Put the objects into our hands, unless the job was stopped in the meantime."""
    with line.node.sessions.begin() as session:
        line.hold(session)
        job = session.scalars(
            select(Job.id)
            .where(Job.id == consignment.job_id, Job.state == JobState.DELIVER)
            .with_for_update(read=True)
        ).one_or_none()
        if job is None:
            return False
        session.execute(
            update(Delivery)
            .where(Delivery.id.in_([parcel.delivery_id for parcel in parcels]))
            .values(state=DeliveryState.SENDING)
        )
    return True


def record(line: Line, judged: Sequence[Judged]) -> None:
    """Write outcomes down; raises StaleClaimError, and then nothing was written."""
    if not judged:
        return
    with line.node.sessions.begin() as session:
        line.hold(session)
        for item in judged:
            _write(session, line, item)
        states = {item.verdict.state for item in judged}
        if any(item.verdict.has_arrived for item in judged):
            note_success(session, line.claim)
        elif states & {DeliveryState.PENDING, DeliveryState.UNKNOWN} and judged[-1].on_the_line:
            note_failure(session, line.claim, judged[-1].detail, line.node.settings, None)


def _write(session: Session, line: Line, item: Judged) -> None:
    row = session.get_one(Delivery, item.parcel.delivery_id)
    state, now = item.verdict.state, func.now()
    if item.verdict.has_arrived and line.destination.storage_commitment:
        state = DeliveryState.UNCOMMITTED
    assert state in DELIVERY_TRANSITIONS[row.state], (row.state, state)
    row.state, row.detail, row.status = state, item.detail, item.status
    row.attempts += 1
    row.not_before = None
    if item.verdict.has_arrived:
        row.sent_at = now
    elif state is DeliveryState.FAILED:
        row.failed_at = now
    elif state in UNDELIVERED and item.on_the_line:
        row.not_before = now + back_off(line.node.settings, row.attempts)
