"""A small real PACS for the demo and the tests: it stores, answers C-ECHO and C-FIND, and keeps files."""

import hashlib
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EncapsulatedPDFStorage,
    EnhancedSRStorage,
    KeyObjectSelectionDocumentStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)
from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at import time
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)
from pynetdicom.transport import ThreadedAssociationServer

from dicom_node.association import (
    MAXIMUM_PDU_BYTES,
    MR_STORAGE_CLASSES,
    RECEIVED_TRANSFER_SYNTAXES,
    acknowledge_quickly,
    configure_pynetdicom,
    disable_nagle,
)

STORED_CLASSES: Final[tuple[UID, ...]] = (
    *MR_STORAGE_CLASSES,
    SecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    BasicTextSRStorage,
    EnhancedSRStorage,
    ComprehensiveSRStorage,
    Comprehensive3DSRStorage,
    KeyObjectSelectionDocumentStorage,
    ParametricMapStorage,
    SegmentationStorage,
    EncapsulatedPDFStorage,
)

_LEVELS: Final = {"STUDY": "study_instance_uid", "SERIES": "series_instance_uid", "IMAGE": "sop_instance_uid"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredInstance:
    """One object that the PACS holds."""

    path: Path
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    modality: str
    patient_id: str


class Fault(Enum):
    """What a PACS can do instead of answering an object."""

    CUT_BEFORE_STORING = auto()
    CUT_AFTER_STORING = auto()
    """Keeps the object and closes the connection: its sender can't know."""
    HANG = auto()
    """Answers nothing until it stops."""
    NO_STATUS = auto()
    """Keeps the object and answers without the mandatory Status (0000,0900)."""


StatusHook = Callable[[StoredInstance], int | Fault | None]
"""May answer an object with another C-STORE status or a fault, None leaves Success; a failure is not kept."""


@dataclass(frozen=True, slots=True)
class CommitmentRequest:
    """One request for storage commitment as it came (PS3.4 J.3.2)."""

    transaction_uid: str
    sop_instance_uids: tuple[str, ...]


class StandInPacs:
    """A Storage and Query SCP that listens while its context is open; anyone may call it.

    Of two objects with one SOP Instance UID the first is kept; `receptions` counts all of them.
    Objects are named by the SHA-256 of their data set. The index lives in memory only.
    """

    def __init__(
        self,
        folder: Path,
        ae_title: str = "PACS",
        address: str = "127.0.0.1",
        port: int = 0,
        status_hook: StatusHook | None = None,
        stored_classes: Sequence[UID] = STORED_CLASSES,
        answers_queries: bool = True,
    ) -> None:
        self.ae_title = ae_title
        self.receptions: Counter[str] = Counter()
        self.folder = folder
        self._address = (address, port)
        self._status_hook = status_hook
        self._stored_classes = stored_classes
        self._answers_queries = answers_queries
        self._stopping = threading.Event()
        self.commitment_requests: list[CommitmentRequest] = []
        self._instances: dict[str, StoredInstance] = {}
        self._lock = threading.Lock()
        self._server: ThreadedAssociationServer | None = None

    @property
    def port(self) -> int:
        """The port listened on; the operating system's choice where 0 was asked for."""
        return self._address[1] if self._server is None else int(self._server.server_address[1])

    @property
    def instances(self) -> Sequence[StoredInstance]:
        """What it holds, in order of arrival."""
        with self._lock:
            return tuple(self._instances.values())

    def __enter__(self) -> Self:
        """Listen. Raises OSError where the port is taken."""
        configure_pynetdicom()
        self.folder.mkdir(parents=True, exist_ok=True)
        entity = AE(ae_title=self.ae_title)
        entity.maximum_pdu_size = MAXIMUM_PDU_BYTES
        entity.add_supported_context(Verification)
        entity.add_supported_context(StorageCommitmentPushModel)
        if self._answers_queries:
            entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        for sop_class in self._stored_classes:
            entity.add_supported_context(sop_class, list(RECEIVED_TRANSFER_SYNTAXES))
        self._server = entity.start_server(
            self._address,
            block=False,
            evt_handlers=[
                (evt.EVT_CONN_OPEN, disable_nagle),
                (evt.EVT_DATA_RECV, acknowledge_quickly),
                (evt.EVT_C_STORE, self._store),
                (evt.EVT_C_FIND, self._find),
                (evt.EVT_N_ACTION, self._commit),
            ],
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        if self._server is not None:
            self._server.shutdown()
            for association in self._server.active_associations:
                association.abort()
            self._server = None

    def _store(self, event: evt.Event) -> int:
        encoded = event.encoded_dataset()
        path = self.folder / f"{hashlib.sha256(encoded).hexdigest()}.dcm"
        instance = _describe(path, dcmread(BytesIO(encoded), stop_before_pixels=True))
        answer = self._status_hook(instance) if self._status_hook is not None else None
        with self._lock:
            self.receptions[instance.sop_instance_uid] += 1
            if _is_kept(answer) and instance.sop_instance_uid not in self._instances:
                path.write_bytes(encoded)
                self._instances[instance.sop_instance_uid] = instance
        if isinstance(answer, Fault):
            self._fail(event, answer)
        return answer if isinstance(answer, int) else 0x0000

    def _fail(self, event: evt.Event, fault: Fault) -> None:
        if fault is Fault.HANG:
            self._stopping.wait()
        elif fault is Fault.NO_STATUS:
            request = event.request
            assert isinstance(request, C_STORE)
            response = C_STORE()
            response.MessageIDBeingRespondedTo = request.MessageID
            response.AffectedSOPClassUID = request.AffectedSOPClassUID
            response.AffectedSOPInstanceUID = request.AffectedSOPInstanceUID
            event.assoc.dimse.send_msg(response, event.context.context_id)
        else:
            wrapper = event.assoc.dul.socket
            if wrapper is not None and wrapper.socket is not None:
                wrapper.socket.shutdown(socket.SHUT_RDWR)

    def _commit(self, event: evt.Event) -> tuple[int, None]:
        """Take a request for storage commitment; whoever runs the PACS answers it."""
        information: Dataset = event.action_information
        items = information.ReferencedSOPSequence
        uids = tuple(str(item.ReferencedSOPInstanceUID) for item in items)
        self.commitment_requests.append(CommitmentRequest(str(information.TransactionUID), uids))
        return 0x0000, None

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        identifier: Dataset = event.identifier
        level = identifier.get("QueryRetrieveLevel")
        if level not in _LEVELS:
            yield 0xA900, None
            return
        matches = [instance for instance in self.instances if _matches(instance, identifier)]
        for key in dict.fromkeys(getattr(instance, _LEVELS[level]) for instance in matches):
            group = [instance for instance in matches if getattr(instance, _LEVELS[level]) == key]
            yield 0xFF00, _answer(level, group)


def _is_kept(status: int | Fault | None) -> bool:
    if isinstance(status, Fault):
        return status in (Fault.CUT_AFTER_STORING, Fault.NO_STATUS)
    return status is None or status == 0x0000 or status >> 12 == 0xB


def _describe(path: Path, header: Dataset) -> StoredInstance:
    return StoredInstance(
        path=path,
        study_instance_uid=str(header.StudyInstanceUID),
        series_instance_uid=str(header.SeriesInstanceUID),
        sop_instance_uid=str(header.SOPInstanceUID),
        sop_class_uid=str(header.SOPClassUID),
        modality=str(header.get("Modality", "")),
        patient_id=str(header.get("PatientID", "")),
    )


def _matches(instance: StoredInstance, identifier: Dataset) -> bool:
    """Single value and list of UID matching (PS3.4 C.2.2.2); an empty key matches all."""
    for keyword, value in (
        ("StudyInstanceUID", instance.study_instance_uid),
        ("SeriesInstanceUID", instance.series_instance_uid),
        ("SOPInstanceUID", instance.sop_instance_uid),
        ("PatientID", instance.patient_id),
    ):
        wanted = identifier.get(keyword)
        if wanted and value not in ([wanted] if isinstance(wanted, str) else wanted):
            return False
    return True


def _answer(level: str, group: Sequence[StoredInstance]) -> Dataset:
    """Build what is answered for the instances below one match."""
    first = group[0]
    answer = Dataset()
    answer.QueryRetrieveLevel = level
    answer.PatientID = first.patient_id
    answer.StudyInstanceUID = first.study_instance_uid
    if level == "STUDY":
        answer.NumberOfStudyRelatedInstances = len(group)
        answer.NumberOfStudyRelatedSeries = len({instance.series_instance_uid for instance in group})
        answer.ModalitiesInStudy = sorted({instance.modality for instance in group})
        return answer
    answer.SeriesInstanceUID = first.series_instance_uid
    answer.Modality = first.modality
    if level == "SERIES":
        answer.NumberOfSeriesRelatedInstances = len(group)
        return answer
    answer.SOPInstanceUID = first.sop_instance_uid
    answer.SOPClassUID = first.sop_class_uid
    return answer
