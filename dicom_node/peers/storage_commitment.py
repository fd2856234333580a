"""Storage commitment, push model (PS3.4 annex J): we ask by N-ACTION, the peer reports by N-EVENT-REPORT.

The report comes later, on an association that the peer opens to our Storage SCP. The SCP writes it to a
folder, durable before it answers; `worker` reads the folder and knows which transactions were its own.
"""

import logging
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.dsutils import decode
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at import time
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from dicom_node.association import MESSAGE_TRANSFER_SYNTAXES
from dicom_node.durable import sync_folder, write_durably
from dicom_node.peers.scu import Destination, ScuError, associated

logger = logging.getLogger(__name__)

MAXIMUM_REPORT_BYTES: Final = 4 * 1024 * 1024
_SUCCESS, _PROCESSING_FAILURE, _NO_SUCH_EVENT_TYPE, _INVALID_ARGUMENT = 0x0000, 0x0110, 0x0113, 0x0115

Uid = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)*$", max_length=64)]


@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid"))
class CommitmentReport:
    """One N-EVENT-REPORT as it came: SOP Instance UIDs the peer committed to, and those it did not.

    Whether the transaction is one of ours is for the reader to decide.
    """

    transaction_uid: Uid
    committed: tuple[Uid, ...]
    failed: tuple[Uid, ...]
    calling_ae_title: str
    peer_address: str
    received_at: datetime


_REPORT: Final = TypeAdapter(CommitmentReport)


class CommitmentInbox:
    """A folder of reports that nobody has dealt with yet; its names are our own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def handle(self, event: evt.Event) -> tuple[int, Dataset | None]:
        """Handle EVT_N_EVENT_REPORT: keep the report on disk, then answer (PS3.4 J.3.3)."""
        try:
            report = _read(event)
        except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
            logger.warning("commitment report not understood: %s", type(error).__name__)
            return _INVALID_ARGUMENT, None
        if report is None:
            return _NO_SUCH_EVENT_TYPE, None
        try:
            self.keep(report)
        except OSError as error:
            logger.error("commitment report not kept: errno %s", error.errno)  # noqa: TRY400
            return _PROCESSING_FAILURE, None
        return _SUCCESS, None

    def keep(self, report: CommitmentReport) -> None:
        """Write one report; durable when this returns. Raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{uuid.uuid4()}.json"
        write_durably(path, path.with_suffix(".part"), [_REPORT.dump_json(report)])
        sync_folder(self._folder)

    def reports(self) -> Iterator[tuple[Path, CommitmentReport]]:
        """What waits, oldest first; the reader unlinks the path of what it has dealt with."""
        waiting = []
        for path in self._folder.glob("*.json"):
            try:
                waiting.append((path, _REPORT.validate_json(path.read_bytes())))
            except FileNotFoundError:
                continue
            except ValidationError:
                logger.error("unreadable commitment report %s", path.name)  # noqa: TRY400 (would print it)
        yield from sorted(waiting, key=lambda item: item[1].received_at)


def support_commitment_reports(entity: AE) -> None:
    """Let peers open associations in which they report (they act as SCP: PS3.4 J.3.3.1.2)."""
    syntaxes = list(MESSAGE_TRANSFER_SYNTAXES)
    entity.add_supported_context(StorageCommitmentPushModel, syntaxes, scu_role=True, scp_role=True)


def request_commitment(
    destination: Destination, transaction_uid: str, references: Sequence[tuple[str, str]]
) -> None:
    """Ask a peer to commit to (SOP class, SOP instance) pairs that it has (N-ACTION, PS3.4 J.3.2).

    Raises `AssociationError`, or `ScuError` where the peer refuses the request; asking again can help.
    """
    information = Dataset()
    information.TransactionUID = transaction_uid
    information.ReferencedSOPSequence = [_reference(*pair) for pair in references]
    with associated(destination, [(StorageCommitmentPushModel, None)]) as association:
        status, _ = association.send_n_action(
            information, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
    if status.get("Status") != _SUCCESS:
        raise ScuError(f"{destination.name} did not take the request for storage commitment")


def _reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    return item


def _read(event: evt.Event) -> CommitmentReport | None:
    """Parse the report; None for an event type that the standard doesn't know."""
    request = event.request
    assert isinstance(request, N_EVENT_REPORT)
    if request.EventTypeID not in (1, 2):
        return None
    encoded = request.EventInformation
    if encoded is None or encoded.getbuffer().nbytes > MAXIMUM_REPORT_BYTES:
        raise ValueError("no event information, or too much of it")
    transfer_syntax = event.context.transfer_syntax
    encoded.seek(0)
    information = decode(encoded, transfer_syntax.is_implicit_VR, transfer_syntax.is_little_endian)
    return CommitmentReport(
        transaction_uid=str(information.TransactionUID),
        committed=_uids(information, "ReferencedSOPSequence"),
        failed=_uids(information, "FailedSOPSequence"),
        calling_ae_title=event.assoc.requestor.ae_title.strip(),
        peer_address=event.assoc.requestor.address,
        received_at=datetime.now(UTC),
    )


def _uids(information: Dataset, keyword: str) -> tuple[str, ...]:
    return tuple(str(item.ReferencedSOPInstanceUID) for item in information.get(keyword) or ())
