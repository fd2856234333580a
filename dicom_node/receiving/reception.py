"""One C-STORE from its first byte to its answer: what is kept, refused or quarantined, and who is told."""

import logging
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from pynetdicom.association import Association

from dicom_node.audit import AuditSpool
from dicom_node.receiving.audit_transfers import ReceivedTransfers
from dicom_node.receiving.guarded_socket import GuardedSocket
from dicom_node.receiving.header import check_command, read_header
from dicom_node.receiving.open_associations import OpenAssociations
from dicom_node.receiving.spool import Part, Spool, SpoolError
from dicom_node.receiving.spool_file import Reception
from dicom_node.receiving.store_message import StoreRequest
from dicom_node.receiving.store_status import RefusedError, StoreStatus

logger = logging.getLogger(__name__)

_SPACE_EVERY_BYTES: Final = 64 * 1024 * 1024


class StorageAlarm:
    """Tells once that objects are refused for want of a disk, and once that it is over."""

    def __init__(self) -> None:
        self._is_raised = False

    def failed(self, error: SpoolError) -> None:
        """Note that an object could not be kept."""
        if not self._is_raised:
            self._is_raised = True
            logger.error("ALERT objects are refused: %s", error)

    def stored(self) -> None:
        """Note that an object was kept."""
        if self._is_raised:
            self._is_raised = False
            logger.warning("objects are stored again")


@dataclass(frozen=True, slots=True)
class ReceivingDesk:
    """What every reception of this process needs."""

    spool: Spool
    audit: AuditSpool
    transfers: ReceivedTransfers
    open_associations: OpenAssociations
    maximum_object_bytes: int
    alarm: StorageAlarm = field(default_factory=StorageAlarm)

    def begin(
        self, association: Association, request: StoreRequest, transfer_syntax_uid: str
    ) -> "ObjectReception":
        """Begin to take one data set; the free space is looked at before a byte of it is."""
        return ObjectReception(self, association, request, transfer_syntax_uid)


class ObjectReception:
    """Takes one data set (`dicom_node.receiving.store_lane.Incoming`).

    Once it is clear that the object can't be kept its further bytes are let go, for the sender hears of it
    only when it has sent them all.
    """

    def __init__(
        self, desk: ReceivingDesk, association: Association, request: StoreRequest, transfer_syntax_uid: str
    ) -> None:
        self._desk = desk
        self._association = association
        self._said = _reception(association, request, transfer_syntax_uid)
        self._status: StoreStatus | None = None
        self._part: Part | None = None
        self._next_look = _SPACE_EVERY_BYTES
        try:
            self._part = desk.spool.begin()
        except SpoolError as error:
            self._not_stored(error)

    def write(self, chunk: memoryview) -> None:
        """Take the next bytes."""
        part = self._part
        if part is None:
            return
        try:
            part.write(chunk)
            if part.size > self._desk.maximum_object_bytes:
                self._refuse(part, RefusedError(StoreStatus.CANNOT_UNDERSTAND, "too large an object"))
            elif part.size > self._next_look:
                self._next_look = part.size + _SPACE_EVERY_BYTES
                self._desk.spool.check_space()
        except SpoolError as error:
            self._not_stored(error)

    def finish(self) -> StoreStatus:
        """Keep it, and give the status that the sender hears; Success only for what is durable."""
        if self._part is None:
            assert self._status is not None
            return self._status
        part, said = self._part, self._said
        try:
            with part.dataset() as dataset:
                header = read_header(dataset, said.transfer_syntax_uid)
            self._said = said = replace(
                said,
                study_instance_uid=header.study_instance_uid,
                series_instance_uid=header.series_instance_uid,
            )
            check_command(header, said.sop_class_uid, said.sop_instance_uid)
            entry = part.keep(said)
        except SpoolError as error:
            return self._not_stored(error)
        except RefusedError as error:
            return self._refuse(part, error)
        self._desk.alarm.stored()
        self._desk.transfers.stored(self._association, said.study_instance_uid, said.sop_class_uid)
        self._desk.open_associations.delivered(self._association, said.study_instance_uid)
        logger.debug("stored %s as %s", entry.sop_instance_uid, entry.sha256)
        return StoreStatus.SUCCESS

    def abandon(self) -> None:
        """Keep nothing: the sender has gone in the middle."""
        if self._part is not None:
            self._part.drop()

    def _not_stored(self, error: SpoolError) -> StoreStatus:
        self._desk.alarm.failed(error)
        logger.warning("not stored, %s: %s", error, self._said.sop_instance_uid)
        return self._end(StoreStatus.OUT_OF_RESOURCES)

    def _refuse(self, part: Part, error: RefusedError) -> StoreStatus:
        said = self._said
        logger.warning("refused 0x%04X %s from %r", error.status, error.reason, said.calling_ae_title)
        with part.dataset() as dataset:
            self._desk.spool.quarantine(dataset, error.reason, said)
        self._desk.audit.alert("object_quarantined", source=said.calling_ae_title, address=said.peer_address)
        return self._end(error.status)

    def _end(self, status: StoreStatus) -> StoreStatus:
        if self._part is not None:
            self._part.drop()
        self._part, self._status = None, status
        return status


def _reception(association: Association, request: StoreRequest, transfer_syntax_uid: str) -> Reception:
    requestor, connection = association.requestor, association.dul.socket
    assert requestor.primitive is not None
    assert isinstance(connection, GuardedSocket)
    return Reception(
        sop_instance_uid=request.sop_instance_uid,
        sop_class_uid=request.sop_class_uid,
        transfer_syntax_uid=transfer_syntax_uid,
        study_instance_uid="",
        series_instance_uid="",
        calling_ae_title=requestor.ae_title.strip(),
        called_ae_title=requestor.primitive.called_ae_title.strip(),
        peer_address=requestor.address,
        association_id=f"{association.name}-{requestor.address}:{requestor.port}",
        received_at=datetime.now(UTC),
        certificate_sha256=connection.certificate_sha256,
    )
