"""One sender at one destination: what is due there, job after job, until nothing is or the line is dead.

The same bytes are sent every time. An object whose answer was lost is asked for before it is sent again.
"""

import logging
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import func, select, update

from dicom_node.audit import AuditEvent, AuditEventId, AuditOutcome
from dicom_node.logs import about
from dicom_node.peers.scu import (
    AssociationError,
    Destination,
    NothingAcceptedError,
    ScuError,
    SendOutcome,
    Sent,
)
from dicom_node.peers.sending import find_instances, send
from worker.delivery.committing import ask_for_commitment
from worker.delivery.consignments import Consignment, Parcel, UnfitError, check_parcel, next_consignment
from worker.delivery.delivering import settle_job
from worker.delivery.fallback import fall_back, has_fallback
from worker.delivery.outcomes import Judged, Line, mark_sending, record
from worker.delivery.verdicts import ARRIVED, LATER, REFUSED, describe, judge
from worker.node import Node
from worker.records.database import Delivery, Job
from worker.records.destinations import (
    DestinationClaim,
    claim_destination,
    hold_destination,
    note_failure,
    release_destination,
)
from worker.records.heartbeat import own_name
from worker.records.lease import LeaseKeeper
from worker.records.ledger import StaleClaimError
from worker.states import UNDELIVERED, DeliveryState, JobState

logger = logging.getLogger(__name__)

WRITE_EVERY_S = 1.0
"""Outcomes are written together at least this often; those lost in a crash are UNKNOWN and asked for."""


def send_due(node: Node, destination_id: int) -> None:
    """Serve one destination, if nobody else does."""
    with node.sessions.begin() as session:
        claim = claim_destination(session, destination_id, own_name(), node.settings.lease)
    if claim is None:
        return
    by_name = {destination.name: destination for destination in node.settings.destinations}
    try:
        if claim.name in by_name:
            _serve(Line(node, by_name[claim.name], claim))
        else:
            _give_up(node, claim)
    except StaleClaimError as error:
        logger.warning("%s: what was sent meanwhile is asked for by the next sender", error)


def _serve(line: Line) -> None:
    def renew() -> None:
        with line.node.sessions.begin() as session:
            line.hold(session)

    with LeaseKeeper(line.claim.name, line.node.settings.lease, renew):
        while True:
            with line.node.sessions() as session:
                consignment = next_consignment(session, line.claim.name)
            if consignment is None:
                break
            try:
                with about(job_id=consignment.job_id):
                    _bring(line, consignment)
            except AssociationError as error:
                _wait(line, error)
                break
            finally:
                settle_job(line.node, consignment.job_id)
    with line.node.sessions.begin() as session:
        release_destination(session, line.claim)


def _bring(line: Line, consignment: Consignment) -> None:
    """Bring one job's objects; raises AssociationError where there is no line, with nothing left SENDING."""
    lost = consignment.in_state(DeliveryState.UNKNOWN)
    found = _ask(line, consignment, lost)
    record(line, [Judged(parcel, ARRIVED, "found by a query") for parcel in lost if parcel in found])
    outstanding = consignment.in_state(DeliveryState.PENDING, DeliveryState.UNKNOWN)
    files = _fit(line, consignment, [parcel for parcel in outstanding if parcel not in found])
    if files:
        _send(line, consignment, files)
    uncommitted = consignment.in_state(DeliveryState.UNCOMMITTED)
    if not isinstance(line.destination, Destination):
        record(line, [Judged(parcel, LATER, "DICOMweb knows no commitment") for parcel in uncommitted])
    elif uncommitted:
        ask_for_commitment(line.node, line.destination, line.claim, uncommitted)


def _ask(line: Line, consignment: Consignment, lost: Sequence[Parcel]) -> list[Parcel]:
    """Those of the lost that the destination says it has; none where it can't be asked."""
    if not lost or not line.destination.verify_by_query:
        return []
    try:
        held = find_instances(line.destination, [consignment.key(parcel) for parcel in lost])
    except NothingAcceptedError:
        return []
    except AssociationError:
        raise
    except ScuError as error:
        logger.warning("%s; %d objects are sent again", error, len(lost))
        return []
    return [parcel for parcel in lost if parcel.sop_instance_uid in held]


def _fit(line: Line, consignment: Consignment, parcels: Sequence[Parcel]) -> list[tuple[Parcel, Path]]:
    """Check each object against the ledger; one that doesn't fit fails for good and is told."""
    files, unfit = [], []
    for parcel in parcels:
        try:
            files.append((parcel, check_parcel(line.node.settings.results_folder, consignment, parcel)))
        except UnfitError as error:
            logger.critical("job %d: %s: %s", consignment.job_id, parcel.sop_instance_uid, error.reason)
            line.node.audit.alert(f"not sent: {error.reason}", target=line.destination.label)
            unfit.append(Judged(parcel, REFUSED, f"not sent: {error.reason}"))
    record(line, unfit)
    return files


def _send(line: Line, consignment: Consignment, files: Sequence[tuple[Parcel, Path]]) -> None:
    if not mark_sending(line, consignment, [parcel for parcel, _ in files]):
        return
    _audit(line, consignment, AuditEventId.BEGIN_TRANSFERRING, [])
    judged: list[Judged] = []
    others: list[Parcel] = []
    written, last = 0, time.monotonic()
    try:
        outcomes = send([path for _, path in files], line.destination)
        for (parcel, _), outcome in zip(files, outcomes, strict=True):
            if outcome.outcome is Sent.NOT_ACCEPTED and has_fallback(parcel):
                others.append(parcel)
                continue
            judged.append(_judge(line, consignment, parcel, outcome))
            if time.monotonic() - last > WRITE_EVERY_S:
                record(line, judged[written:])
                written, last = len(judged), time.monotonic()
    except AssociationError:
        record(line, [Judged(parcel, LATER, "no association", on_the_line=False) for parcel, _ in files])
        _audit(line, consignment, AuditEventId.INSTANCES_TRANSFERRED, [])
        raise
    record(line, judged[written:])
    for parcel in others:
        fall_back(line, parcel)
    _audit(line, consignment, AuditEventId.INSTANCES_TRANSFERRED, judged)


def _judge(line: Line, consignment: Consignment, parcel: Parcel, outcome: SendOutcome) -> Judged:
    verdict, detail = judge(outcome), describe(outcome)
    if verdict.alert:
        logger.error(
            "ALERT job %d: destination %s, %s: %s",
            consignment.job_id,
            line.destination.name,
            parcel.sop_instance_uid,
            detail,
        )
    return Judged(parcel, verdict, detail, outcome.status)


def _wait(line: Line, error: AssociationError) -> None:
    """Leave the destination alone for a while."""
    logger.warning("destination %s: %s", line.destination.name, error)
    with line.node.sessions.begin() as session:
        line.hold(session)
        note_failure(session, line.claim, str(error), line.node.settings, error)


def _give_up(node: Node, claim: DestinationClaim) -> None:
    """End the deliveries to a destination that is no longer in the settings."""
    logger.error("ALERT destination %s has deliveries but is not in the settings", claim.name)
    with node.sessions.begin() as session:
        hold_destination(session, claim, node.settings.lease)
        session.execute(
            update(Delivery)
            .where(Delivery.destination == claim.name, Delivery.state.in_(UNDELIVERED))
            .values(
                state=DeliveryState.FAILED,
                failed_at=func.now(),
                detail="the destination is no longer in the settings",
            )
        )
        jobs = session.scalars(select(Job.id).where(Job.state == JobState.DELIVER)).all()
        release_destination(session, claim)
    for job_id in jobs:
        settle_job(node, job_id)


def _audit(line: Line, consignment: Consignment, event_id: AuditEventId, judged: Sequence[Judged]) -> None:
    states = {item.verdict.state for item in judged}
    arrived = [item.parcel.sop_class_uid for item in judged if item.verdict.has_arrived]
    outcome = AuditOutcome.SUCCESS
    if DeliveryState.FAILED in states:
        outcome = AuditOutcome.SERIOUS_FAILURE
    elif event_id is AuditEventId.INSTANCES_TRANSFERRED and (not judged or len(arrived) < len(judged)):
        outcome = AuditOutcome.MINOR_FAILURE
    line.node.audit.write(
        AuditEvent(
            event_id=event_id,
            outcome=outcome,
            detail="sent",
            source=line.destination.calling_ae_title,
            target=line.destination.label,
            study_instance_uid=consignment.study_instance_uid,
            patient_id=consignment.patient_id,
            instances=dict(Counter(arrived)),
        )
    )
