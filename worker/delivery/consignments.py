"""What one job still has to bring to one destination, and the check before a byte of it is sent."""

import hashlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.peers.scu import InstanceKey
from worker.records.database import Delivery, Job, Result, ResultObject, Study
from worker.records.destinations import is_due
from worker.states import DeliveryState
from worker.study.indexing import header_text
from worker.study.reporting import object_path


@dataclass(frozen=True, slots=True)
class Parcel:
    """One object on its way."""

    delivery_id: int
    state: DeliveryState
    attempts: int
    sop_class_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Consignment:
    """The objects of one job that are due at one destination, in sending order.

    `patient_id` is for the check before sending and for the audit trail, never for a log.
    """

    job_id: int
    study_id: int
    study_instance_uid: str
    patient_id: str
    parcels: tuple[Parcel, ...]

    def in_state(self, *states: DeliveryState) -> list[Parcel]:
        """Parcels in one of these states."""
        return [parcel for parcel in self.parcels if parcel.state in states]

    def key(self, parcel: Parcel) -> InstanceKey:
        """What a query asks for."""
        return InstanceKey(self.study_instance_uid, parcel.series_instance_uid, parcel.sop_instance_uid)


class UnfitError(Exception):
    """An object must not be sent: it isn't what the ledger says. Trying again can't help."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def next_consignment(session: Session, destination: str) -> Consignment | None:
    """Pick the job that has waited longest for this destination."""
    job = session.execute(
        select(Job.id, Study.id.label("study_id"), Study.study_instance_uid, Study.patient_id)
        .join(Result, Result.id == Job.result_id)
        .join(Study, Study.id == Result.study_id)
        .join(ResultObject, ResultObject.result_id == Result.id)
        .join(Delivery, Delivery.result_object_id == ResultObject.id)
        .where(Delivery.destination == destination, is_due())
        .order_by(Delivery.not_before.asc().nulls_first(), Job.id)
        .limit(1)
    ).one_or_none()
    if job is None:
        return None
    rows = session.execute(
        select(
            Delivery.id,
            Delivery.state,
            Delivery.attempts,
            ResultObject.sop_class_uid,
            ResultObject.series_instance_uid,
            ResultObject.sop_instance_uid,
            ResultObject.sha256,
        )
        .join(ResultObject, ResultObject.id == Delivery.result_object_id)
        .join(Job, Job.result_id == ResultObject.result_id)
        .where(Job.id == job.id, Delivery.destination == destination, is_due())
        .order_by(ResultObject.position)
    )
    parcels = tuple(Parcel(*row) for row in rows)
    return Consignment(job.id, job.study_id, job.study_instance_uid, job.patient_id, parcels)


def check_parcel(results_folder: Path, consignment: Consignment, parcel: Parcel) -> Path:
    """Where the parcel's bytes lie, having read them: digest, object, study and patient are the ledger's.

    Raises UnfitError, whose reason is a word of ours.
    """
    path = object_path(results_folder, parcel.sha256)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UnfitError("bytes_missing") from None
    if hashlib.sha256(content).hexdigest() != parcel.sha256:
        raise UnfitError("bytes_changed")
    try:
        header = dcmread(BytesIO(content), specific_tags=["SOPInstanceUID", "StudyInstanceUID", "PatientID"])
    except (InvalidDicomError, ValueError):
        raise UnfitError("not_dicom") from None
    for keyword, expected in (
        ("SOPInstanceUID", parcel.sop_instance_uid),
        ("StudyInstanceUID", consignment.study_instance_uid),
        ("PatientID", consignment.patient_id),
    ):
        if header_text(header, keyword) != expected:
            raise UnfitError(f"other_{keyword}")
    return path
