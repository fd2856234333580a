"""The Storage SCP: answers C-ECHO, takes MR objects, and says Success only for what the spool holds."""

import logging
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at import time

from dicom_node.acceptor import Deadlines, GuardedServer, UnsupportedPynetdicomError
from dicom_node.admission import AllowList, Caller, Limits, Refusal
from dicom_node.association import (
    MAXIMUM_PDU_BYTES,
    MR_STORAGE_CLASSES,
    RECEIVED_TRANSFER_SYNTAXES,
    acknowledge_quickly,
    configure_pynetdicom,
    disable_nagle,
)
from dicom_node.audit import AuditSpool
from dicom_node.audit_transfers import ReceivedTransfers
from dicom_node.header import ObjectHeader, check_command, read_header
from dicom_node.open_associations import OpenAssociations
from dicom_node.settings import NodeSettings
from dicom_node.spool import Reception, Spool, SpoolError
from dicom_node.storage_commitment import CommitmentInbox, support_commitment_reports
from dicom_node.store_status import RefusedError, StoreStatus
from dicom_node.tls import TlsError, server_context
from dicom_node.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

logger = logging.getLogger(__name__)


class ScpError(Exception):
    """The SCP can't start. Trying again helps only after the settings or the machine have changed."""


class NoPeersError(ScpError):
    """The allow-list is empty; an open Storage SCP is never started."""


class PortInUseError(ScpError):
    """The address can't be listened on."""


class TlsFilesError(ScpError):
    """A file of TLS is missing or wrong; without it nothing is listened for."""


class StorageScp:
    """A Storage SCP with its spool; a context manager that listens while it is open."""

    def __init__(self, settings: NodeSettings, spool: Spool, audit: AuditSpool | None = None) -> None:
        if not settings.peers:
            raise NoPeersError("no peers are allowed to send: name at least one in the setting 'peers'")
        self._settings = settings
        self._spool = spool
        self._audit = audit or AuditSpool(settings.audit_folder)
        self._transfers = ReceivedTransfers(self._audit, settings.ae_title)
        self._commitments = CommitmentInbox(settings.commitments_folder)
        self._open = OpenAssociations(settings.spool_folder)
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
        limits = Limits(settings.maximum_associations, settings.maximum_associations_per_peer)
        try:
            tls = None if settings.tls is None else server_context(settings.tls)
            server = self._application_entity().make_server(
                (settings.bind_address, settings.dicom_port),
                ssl_context=tls,
                evt_handlers=[
                    (evt.EVT_CONN_OPEN, disable_nagle),
                    (evt.EVT_DATA_RECV, acknowledge_quickly),
                    (evt.EVT_C_STORE, self._store),
                    (evt.EVT_N_EVENT_REPORT, self._commitments.handle),
                    *self._transfers.handlers(),
                    (evt.EVT_CONN_CLOSE, lambda event: self._open.closed(event.assoc)),
                ],
                server_class=GuardedServer,
                allow_list=AllowList(settings.peers, settings.ae_title, limits),
                deadlines=Deadlines(request=settings.request_timeout, pdu=settings.pdu_timeout),
                report=self._report_refusal,
            )
        except TlsError as error:
            raise TlsFilesError(f"TLS: {error}") from error
        except UnsupportedPynetdicomError as error:
            raise ScpError(str(error)) from error
        except OSError as error:
            raise PortInUseError(
                f"cannot listen on {settings.bind_address}:{settings.dicom_port}: {error.strerror or error}"
            ) from error
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
        entity.add_supported_context(Verification)
        support_commitment_reports(entity)
        for sop_class in MR_STORAGE_CLASSES:
            entity.add_supported_context(sop_class, list(RECEIVED_TRANSFER_SYNTAXES))
        return entity

    def _report_refusal(self, refusal: Refusal, caller: Caller) -> None:
        logger.warning("turned away %r from %s: %s", caller.calling_ae_title, caller.address, refusal)
        self._audit.alert(
            "association_rejected", source=caller.calling_ae_title or "", address=caller.address
        )

    def _store(self, event: evt.Event) -> int:
        """Answer one C-STORE request with a status of `StoreStatus`."""
        request = event.request
        assert isinstance(request, C_STORE)
        assert request.DataSet is not None
        dataset_bytes = request.DataSet.getbuffer()
        reception = _reception(event, request, None)
        try:
            self._spool.check_space(len(dataset_bytes))
            header = read_header(dataset_bytes, reception.transfer_syntax_uid)
            reception = _reception(event, request, header)
            check_command(header, reception.sop_class_uid, reception.sop_instance_uid)
            entry = self._spool.store(dataset_bytes, reception)
        except SpoolError as error:
            logger.error("not stored, %s: %s", error, reception.sop_instance_uid)  # noqa: TRY400 (says it all)
            return StoreStatus.OUT_OF_RESOURCES
        except RefusedError as error:
            logger.warning(
                "refused 0x%04X %s from %r", error.status, error.reason, reception.calling_ae_title
            )
            self._spool.quarantine(dataset_bytes, error.reason, reception)
            self._audit.alert(
                "object_quarantined", source=reception.calling_ae_title, address=reception.peer_address
            )
            return error.status
        self._transfers.stored(event, reception.study_instance_uid, reception.sop_class_uid)
        self._open.delivered(event.assoc, entry.study_instance_uid)
        logger.debug("stored %s as %s", entry.sop_instance_uid, entry.sha256)
        return StoreStatus.SUCCESS


def _reception(event: evt.Event, request: C_STORE, header: ObjectHeader | None) -> Reception:
    requestor = event.assoc.requestor
    assert requestor.primitive is not None
    return Reception(
        sop_instance_uid=str(request.AffectedSOPInstanceUID),
        sop_class_uid=str(request.AffectedSOPClassUID),
        transfer_syntax_uid=str(event.context.transfer_syntax),
        study_instance_uid="" if header is None else header.study_instance_uid,
        series_instance_uid="" if header is None else header.series_instance_uid,
        calling_ae_title=requestor.ae_title.strip(),
        called_ae_title=requestor.primitive.called_ae_title.strip(),
        peer_address=requestor.address,
        association_id=f"{event.assoc.name}-{requestor.address}:{requestor.port}",
        received_at=datetime.now(UTC),
    )
