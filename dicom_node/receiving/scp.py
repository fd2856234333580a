"""The Storage SCP: answers C-ECHO, takes MR objects, and says Success only for what the spool holds."""

import logging
import ssl
from datetime import timedelta
from types import TracebackType
from typing import Self

from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at import time

from dicom_node.association import (
    MAXIMUM_PDU_BYTES,
    MESSAGE_TRANSFER_SYNTAXES,
    MR_STORAGE_CLASSES,
    RECEIVED_TRANSFER_SYNTAXES,
    configure_pynetdicom,
    disable_nagle,
)
from dicom_node.audit import AuditSpool
from dicom_node.peers.storage_commitment import CommitmentInbox, support_commitment_reports
from dicom_node.receiving.acceptor import (
    Deadlines,
    GuardedServer,
    UnsupportedPynetdicomError,
    check_pynetdicom,
)
from dicom_node.receiving.admission import AllowList, Caller, Limits, Refusal
from dicom_node.receiving.audit_transfers import ReceivedTransfers
from dicom_node.receiving.handover import Handover
from dicom_node.receiving.open_associations import OpenAssociations
from dicom_node.receiving.reception import ReceivingDesk
from dicom_node.receiving.spool import Spool
from dicom_node.receiving.store_lane import Storage
from dicom_node.settings import NodeSettings
from dicom_node.tls import TlsError, server_context
from dicom_node.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

logger = logging.getLogger(__name__)


class ScpError(Exception):
    """The SCP can't start. Trying again helps only after the settings or the machine have changed."""


class NoPeersError(ScpError):
    """The allow-list is empty; an open Storage SCP is never started."""


class PortInUseError(ScpError):
    """The address can't be listened on."""

    @classmethod
    def at(cls, settings: NodeSettings, error: OSError) -> Self:
        """Say which address, and why not."""
        why = error.strerror or error
        return cls(f"cannot listen on {settings.bind_address}:{settings.dicom_port}: {why}")


class TlsFilesError(ScpError):
    """A file of TLS is missing or wrong; without it nothing is listened for."""


def check_settings(settings: NodeSettings) -> None:
    """Fail closed before anything listens. Raises `NoPeersError`, `TlsFilesError`, `ScpError`."""
    if not settings.peers:
        raise NoPeersError("no peers are allowed to send: name at least one in the setting 'peers'")
    _tls_context(settings)
    try:
        check_pynetdicom()
    except UnsupportedPynetdicomError as error:
        raise ScpError(str(error)) from error


def allow_list_of(settings: NodeSettings) -> AllowList:
    """Who may associate, and how many at a time."""
    limits = Limits(settings.maximum_associations, settings.maximum_associations_per_peer)
    return AllowList(settings.peers, settings.ae_title, limits)


def _tls_context(settings: NodeSettings) -> ssl.SSLContext | None:
    try:
        return None if settings.tls is None else server_context(settings.tls)
    except TlsError as error:
        raise TlsFilesError(f"TLS: {error}") from error


class StorageScp:
    """A Storage SCP with its spool; a context manager that listens while it is open.

    With `handover` it is one of several processes on one port and gets its connections from their parent.
    """

    def __init__(
        self,
        settings: NodeSettings,
        spool: Spool,
        audit: AuditSpool | None = None,
        handover: Handover | None = None,
    ) -> None:
        check_settings(settings)
        self._settings = settings
        self._handover = handover
        self._audit = audit or AuditSpool(settings.audit_folder)
        self._transfers = ReceivedTransfers(self._audit, settings.ae_title)
        self._commitments = CommitmentInbox(settings.commitments_folder)
        self._open = OpenAssociations(settings.spool_folder)
        self._desk = ReceivingDesk(
            spool, self._audit, self._transfers, self._open, settings.maximum_object_bytes
        )
        self._server: GuardedServer | None = None

    @property
    def port(self) -> int:
        """The port listened on."""
        if self._server is None:
            return self._settings.dicom_port
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Listen. Raises `PortInUseError`, `TlsFilesError`."""
        configure_pynetdicom()
        settings = self._settings
        try:
            tls = _tls_context(settings)
            server = self._application_entity().make_server(
                (settings.bind_address, settings.dicom_port),
                ssl_context=tls,
                evt_handlers=[
                    (evt.EVT_CONN_OPEN, disable_nagle),
                    (evt.EVT_N_EVENT_REPORT, self._commitments.handle),
                    *self._transfers.handlers(),
                    (evt.EVT_CONN_CLOSE, lambda event: self._open.closed(event.assoc)),
                ],
                server_class=GuardedServer,
                allow_list=allow_list_of(settings),
                deadlines=Deadlines(request=settings.request_timeout, pdu=settings.pdu_timeout),
                storage=Storage(self._desk.begin, MR_STORAGE_CLASSES),
                report=self._report_refusal,
                handover=self._handover,
            )
        except OSError as error:
            raise PortInUseError.at(settings, error) from error
        assert isinstance(server, GuardedServer)
        server.start()
        self._server = server

    def stop(self, drain: timedelta | None = None) -> None:
        """Listen no more; let open associations end for at most `drain`, then abort them."""
        if self._server is not None:
            server, self._server = self._server, None
            server.stop(self._settings.drain_timeout if drain is None else drain)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _application_entity(self) -> AE:
        entity = AE(ae_title=self._settings.ae_title)
        entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        entity.maximum_associations = self._settings.maximum_associations
        entity.maximum_pdu_size = MAXIMUM_PDU_BYTES
        entity.network_timeout = self._settings.network_timeout.total_seconds()
        entity.acse_timeout = 30
        entity.dimse_timeout = 30
        entity.add_supported_context(Verification, list(MESSAGE_TRANSFER_SYNTAXES))
        support_commitment_reports(entity)
        for sop_class in MR_STORAGE_CLASSES:
            entity.add_supported_context(sop_class, list(RECEIVED_TRANSFER_SYNTAXES))
        return entity

    def _report_refusal(self, refusal: Refusal, caller: Caller) -> None:
        logger.warning("turned away %r from %s: %s", caller.calling_ae_title, caller.address, refusal)
        self._audit.alert(
            "association_rejected", source=caller.calling_ae_title or "", address=caller.address
        )
