"""Storage commitment: asked for when a destination has taken its objects, answered by it later (PS3.4 J)."""

import logging
from collections.abc import Sequence

from pydicom.uid import generate_uid
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from dicom_node.peers.scu import AssociationError, Destination, ScuError
from dicom_node.peers.storage_commitment import CommitmentInbox, CommitmentReport, request_commitment
from worker.delivery.consignments import Parcel
from worker.delivery.delivering import settle_job
from worker.node import Node
from worker.records.database import Commitment, Delivery, Job, ResultObject
from worker.records.destinations import DestinationClaim, back_off, hold_destination
from worker.states import DeliveryState, JobState

logger = logging.getLogger(__name__)


def ask_for_commitment(
    node: Node, destination: Destination, claim: DestinationClaim, parcels: Sequence[Parcel]
) -> None:
    """Ask for these; they are due again, to be asked for anew, when no answer has come.

    Raises AssociationError.
    """
    transaction_uid = generate_uid(prefix=None)
    references = [(parcel.sop_class_uid, parcel.sop_instance_uid) for parcel in parcels]
    ids = [parcel.delivery_id for parcel in parcels]
    with node.sessions.begin() as session:
        hold_destination(session, claim, node.settings.lease)
        session.add(Commitment(transaction_uid=transaction_uid, destination=claim.name))
        due = func.now() + node.settings.commitment_retry
        session.execute(update(Delivery).where(Delivery.id.in_(ids)).values(not_before=due))
    try:
        request_commitment(destination, transaction_uid, references)
    except ScuError as error:
        with node.sessions.begin() as session:
            hold_destination(session, claim, node.settings.lease)
            session.execute(
                update(Delivery)
                .where(Delivery.id.in_(ids), Delivery.state == DeliveryState.UNCOMMITTED)
                .values(not_before=func.now() + node.settings.send_longest_delay, detail=str(error))
            )
        if isinstance(error, AssociationError) and error.transient:
            raise
        logger.error("ALERT %s", error)  # noqa: TRY400 - says it all


def apply_commitment_reports(node: Node) -> int:
    """Deal with the reports that the Storage SCP has written down; returns how many were ours."""
    ours = 0
    for path, report in CommitmentInbox(node.settings.commitments_folder).reports():
        with node.sessions.begin() as session:
            destination = _destination_of(session, node, report)
            jobs = _apply(session, node, report, destination) if destination is not None else []
        if destination is None:
            logger.error("ALERT a commitment report from %r is not an answer to us", report.calling_ae_title)
            node.audit.alert(
                "commitment report of an unknown transaction",
                source=report.calling_ae_title,
                address=report.peer_address,
            )
        path.unlink(missing_ok=True)
        ours += destination is not None
        for job_id in jobs:
            settle_job(node, job_id)
    return ours


def _destination_of(session: Session, node: Node, report: CommitmentReport) -> str | None:
    """Name the destination whose transaction this is; None where it comes from someone else."""
    name = session.scalars(
        select(Commitment.destination).where(Commitment.transaction_uid == report.transaction_uid)
    ).one_or_none()
    asked = [item for item in node.settings.destinations if isinstance(item, Destination)]
    ae_titles = {item.name: item.ae_title for item in asked}
    return name if name is not None and ae_titles.get(name) == report.calling_ae_title else None


def _apply(session: Session, node: Node, report: CommitmentReport, destination: str) -> list[int]:
    session.execute(
        update(Commitment)
        .where(Commitment.transaction_uid == report.transaction_uid)
        .values(answered_at=func.now())
    )
    rows = session.execute(
        select(Delivery, ResultObject.sop_instance_uid, Job.id.label("job_id"))
        .join(ResultObject, ResultObject.id == Delivery.result_object_id)
        .join(Job, Job.result_id == ResultObject.result_id)
        .where(
            Delivery.destination == destination,
            Delivery.state == DeliveryState.UNCOMMITTED,
            ResultObject.sop_instance_uid.in_([*report.committed, *report.failed]),
            Job.state == JobState.DELIVER,
        )
        .with_for_update(of=Delivery)
    ).all()
    failed = frozenset(report.failed)
    for delivery, sop_instance_uid, _ in rows:
        if sop_instance_uid in failed:
            logger.error("ALERT destination %s did not commit to %s", destination, sop_instance_uid)
            delivery.state, delivery.detail = DeliveryState.PENDING, "the destination did not commit to it"
            delivery.not_before = func.now() + back_off(node.settings, delivery.attempts)
        else:
            delivery.state, delivery.not_before = DeliveryState.COMMITTED, None
    return sorted({job_id for _, _, job_id in rows})
