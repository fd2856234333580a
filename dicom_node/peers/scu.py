"""Service class user: send objects, ask whether they arrived.

ScuError
└── AssociationError          none could be made; `transient` says whether waiting can help
    └── NothingAcceptedError  the peer takes none of the SOP classes offered
"""

import ssl
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from pydantic import ConfigDict
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.events import EventHandlerType
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at import time
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)
from pynetdicom.status import code_to_category

from dicom_node.association import (
    MAXIMUM_PDU_BYTES,
    MESSAGE_TRANSFER_SYNTAXES,
    answer_to_request,
    close_when_cut,
    configure_pynetdicom,
    disable_nagle,
)
from dicom_node.prompt_socket import acknowledge_within_reads
from dicom_node.results.result_kind import DEFAULT_KINDS, ResultKind, check_kinds
from dicom_node.tls import TlsError, TlsFiles, client_context
from dicom_node.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

CONNECTION_TIMEOUT: Final = timedelta(seconds=15)
RESPONSE_TIMEOUT: Final = timedelta(seconds=60)


class ScuError(Exception):
    """Something asked of a peer didn't come about; the subclass says whether asking again can help."""


class AssociationError(ScuError):
    """No association was made. Trying again can help where `transient`; else a setting must change first."""

    def __init__(self, message: str, *, transient: bool) -> None:
        super().__init__(message)
        self.transient = transient


class NothingAcceptedError(AssociationError):
    """The peer takes none of the SOP classes and transfer syntaxes offered; waiting doesn't change that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A peer that we send to.

    With `tls`, its certificate must name `tls_name`, or the address where that is empty.
    `verify_by_query`: ask by C-FIND for an object whose answer was lost, before it is sent again.
    `storage_commitment`: an object counts as delivered only when the peer has committed to it; the peer
    reports that to our own AE, so it needs a row in the allow-list.
    `response_timeout`: how long one answer is waited for.
    `objects`: the kinds of object that it gets; images and report by default.
    """

    # a key that the settings misspell is refused
    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    ae_title: str
    address: str
    port: int
    calling_ae_title: str = "GLIOGRADE"
    tls: TlsFiles | None = None
    tls_name: str = ""
    verify_by_query: bool = True
    storage_commitment: bool = False
    response_timeout: timedelta = RESPONSE_TIMEOUT
    objects: tuple[ResultKind, ...] = DEFAULT_KINDS

    def __post_init__(self) -> None:
        check_kinds(self.objects)

    @property
    def label(self) -> str:
        """How the audit trail names it."""
        return self.ae_title

    @property
    def place(self) -> str:
        """Where it is, for a person."""
        return f"{self.ae_title}@{self.address}:{self.port}"

    @property
    def uses_tls(self) -> bool:
        """Whether what is sent is encrypted."""
        return self.tls is not None

    @property
    def tls_arguments(self) -> tuple[ssl.SSLContext, str] | None:
        """What pynetdicom wants to know for TLS; None where it is off. Raises `AssociationError`."""
        if self.tls is None:
            return None
        try:
            return client_context(self.tls), self.tls_name or self.address
        except TlsError as error:
            raise AssociationError(f"{self.name}: TLS: {error}", transient=False) from error


class Sent(StrEnum):
    """What became of one object."""

    SENT = "sent"
    SENT_WARNING = "sent_warning"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    NOT_SENT = "not_sent"
    NOT_ACCEPTED = "not_accepted"


@dataclass(frozen=True, slots=True)
class SendOutcome:
    """One object's outcome; `status` is the C-STORE status, or STOW-RS's reason, where the peer gave one.

    UNKNOWN: the line was cut before an answer came, so the peer may hold the object or not.
    NOT_SENT: the line was cut while an earlier object was sent.
    NOT_ACCEPTED: the peer takes no objects of this SOP class in this transfer syntax.
    """

    path: Path
    sop_instance_uid: str
    outcome: Sent
    status: int | None = None
    http_status: int | None = None


@dataclass(frozen=True, slots=True)
class _Instance:
    path: Path
    sop_class_uid: UID
    sop_instance_uid: UID
    transfer_syntax_uid: UID
    meta_is_true: bool


def send(files: Sequence[Path], destination: Destination) -> Iterator[SendOutcome]:
    """Send DICOM files byte for byte in one association, in order; yields as the peer answers.

    A file whose meta information names another object than its data set is encoded anew. Raises
    `AssociationError` before the first outcome, pydicom's InvalidDicomError where a file is no DICOM.
    """
    instances = [_instance(path) for path in files]
    contexts = sorted({(instance.sop_class_uid, instance.transfer_syntax_uid) for instance in instances})
    try:
        with associated(destination, contexts) as association:
            cut = False
            for message_id, instance in enumerate(instances, start=1):
                outcome = (
                    _outcome(instance, Sent.NOT_SENT)
                    if cut
                    else _send_one(association, instance, message_id % 65536)
                )
                cut = cut or outcome.outcome is Sent.UNKNOWN
                yield outcome
    except NothingAcceptedError:
        yield from (_outcome(instance, Sent.NOT_ACCEPTED) for instance in instances)


def _send_one(association: Association, instance: _Instance, message_id: int) -> SendOutcome:
    context = (instance.sop_class_uid, instance.transfer_syntax_uid)
    if all((c.abstract_syntax, c.transfer_syntax[0]) != context for c in association.accepted_contexts):
        return _outcome(instance, Sent.NOT_ACCEPTED)
    # pynetdicom takes a file's UIDs from its meta information, which anonymisers forget to change.
    message = instance.path if instance.meta_is_true else dcmread(instance.path)
    try:
        status = association.send_c_store(message, msg_id=message_id).get("Status")
    except RuntimeError:  # pynetdicom's word for an association that has ended
        return _outcome(instance, Sent.NOT_SENT)
    if status is None:
        return _outcome(instance, Sent.UNKNOWN)
    outcome = {"Success": Sent.SENT, "Warning": Sent.SENT_WARNING}.get(code_to_category(status), Sent.REFUSED)
    return _outcome(instance, outcome, status)


def echo(destination: Destination) -> None:
    """C-ECHO. Raises `AssociationError`, or `ScuError` where the peer's answer isn't success."""
    with associated(destination, [(Verification, None)]) as association:
        status = association.send_c_echo().get("Status")
    if status != 0x0000:
        raise ScuError(f"{destination.name} did not answer C-ECHO with success")


@dataclass(frozen=True, slots=True)
class InstanceKey:
    """Where one object stands in the patient's tree."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str


def find_instances(destination: Destination, wanted: Iterable[InstanceKey]) -> frozenset[str]:
    """SOP Instance UIDs of those that the peer says it holds: C-FIND, study root, IMAGE level (PS3.4 C.6.2).

    All in one association, one query a series. Raises `AssociationError`, or `ScuError` where the peer can't
    say; asking again can help.
    """
    by_series: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for key in wanted:
        by_series[key.study_instance_uid, key.series_instance_uid].add(key.sop_instance_uid)
    found: set[str] = set()
    with associated(destination, [(StudyRootQueryRetrieveInformationModelFind, None)]) as association:
        for (study_uid, series_uid), sop_uids in by_series.items():
            found |= sop_uids & set(_held_of_series(association, destination.name, study_uid, series_uid))
    return frozenset(found)


def find_instance(destination: Destination, study_uid: str, series_uid: str, sop_uid: str) -> bool:
    """Whether the peer says that it holds an instance; errors as `find_instances`."""
    return bool(find_instances(destination, [InstanceKey(study_uid, series_uid, sop_uid)]))


def _held_of_series(association: Association, name: str, study_uid: str, series_uid: str) -> Iterator[str]:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "IMAGE"
    identifier.StudyInstanceUID = study_uid
    identifier.SeriesInstanceUID = series_uid
    identifier.SOPInstanceUID = ""
    try:
        answers = list(association.send_c_find(identifier, StudyRootQueryRetrieveInformationModelFind))
    except RuntimeError as error:  # pynetdicom's word for an association that has ended
        raise ScuError(f"{name} cut the line during a query") from error
    for status, match in answers:
        code = status.get("Status")
        if code is None or code_to_category(code) not in {"Pending", "Success"}:
            raise ScuError(f"{name} did not answer the query")
        if match is not None and match.get("SOPInstanceUID"):
            yield str(match.SOPInstanceUID)


def count_instances(source: Destination, study_uid: str) -> dict[str, int]:
    """MR instances of a study as a peer counts them: Series Instance UID → number.

    C-FIND, study root, SERIES level (PS3.4 C.6.2).

    Raises `AssociationError`, or `ScuError` where the peer can't say.
    """
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "SERIES"
    identifier.StudyInstanceUID = study_uid
    identifier.SeriesInstanceUID = ""
    identifier.Modality = ""
    identifier.NumberOfSeriesRelatedInstances = None
    model = StudyRootQueryRetrieveInformationModelFind
    counts: dict[str, int] = {}
    with associated(source, [(model, None)]) as association:
        for status, match in association.send_c_find(identifier, model):
            code = status.get("Status")
            if code is None or code_to_category(code) not in {"Pending", "Success"}:
                raise ScuError(f"{source.name} did not answer the query")
            if match is None or match.get("Modality") != "MR":
                continue
            if (number := match.get("NumberOfSeriesRelatedInstances")) is None:
                raise ScuError(f"{source.name} does not count the instances of a series")
            counts[str(match.get("SeriesInstanceUID", ""))] = int(number)
    return counts


@contextmanager
def associated(
    destination: Destination,
    contexts: Sequence[tuple[UID, UID | None]],
    handlers: Sequence[EventHandlerType] = (),
) -> Iterator[Association]:
    """Hold an association open; it is released at the end and aborted when the body raises.

    A context without a transfer syntax is proposed in `MESSAGE_TRANSFER_SYNTAXES`.

    Raises `AssociationError` where none is made.
    """
    configure_pynetdicom()
    entity = AE(ae_title=destination.calling_ae_title)
    entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.maximum_pdu_size = MAXIMUM_PDU_BYTES
    entity.connection_timeout = entity.acse_timeout = CONNECTION_TIMEOUT.total_seconds()
    entity.dimse_timeout = entity.network_timeout = destination.response_timeout.total_seconds()
    for abstract_syntax, transfer_syntax in contexts:
        offered = [transfer_syntax] if transfer_syntax else list(MESSAGE_TRANSFER_SYNTAXES)
        entity.add_requested_context(abstract_syntax, offered)
    reached = threading.Event()
    association = entity.associate(
        destination.address,
        destination.port,
        ae_title=destination.ae_title,
        tls_args=destination.tls_arguments,
        evt_handlers=[
            (evt.EVT_CONN_OPEN, disable_nagle),
            (evt.EVT_CONN_OPEN, close_when_cut),
            (evt.EVT_CONN_OPEN, acknowledge_within_reads),
            (evt.EVT_CONN_OPEN, lambda _event: reached.set()),
            *handlers,
        ],
    )
    if not association.is_established:
        if not reached.is_set():
            raise AssociationError(f"{destination.name} is not reached", transient=True)
        raise _association_error(association, destination.name)
    _keep_answers_for_the_asker(association)
    try:
        yield association
    except BaseException:
        association.abort()
        raise
    if association.is_established:
        association.release()


def _keep_answers_for_the_asker(association: Association) -> None:
    """Let only who waits for an answer take it off the queue.

    pynetdicom 3.0's reactor looks there too; the pause that a request puts it in has a gap, through which
    it may take the answer and drop it on a busy machine. We serve no requests on this association.
    """
    take = association.dimse.get_msg

    def get_msg(block: bool = False) -> Any:  # noqa: ANN401 (pynetdicom's own, which is private)
        return take(block=True) if block else (None, None)

    association.dimse.get_msg = get_msg  # type: ignore[method-assign]


def _association_error(association: Association, name: str) -> AssociationError:
    if association.rejected_contexts and not association.accepted_contexts:
        return NothingAcceptedError(f"{name} takes none of what was offered", transient=False)
    answer = answer_to_request(association)
    if answer is None or answer.result == 0x00:
        return AssociationError(f"{name} aborted the association", transient=True)
    return AssociationError(
        f"{name} rejected the association: {answer.reason_str}", transient=answer.result != 0x01
    )


def _instance(path: Path) -> _Instance:
    header = dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID", "SOPInstanceUID"])
    meta = header.file_meta
    identity = (header.SOPClassUID, header.SOPInstanceUID)
    same = identity == (meta.get("MediaStorageSOPClassUID"), meta.get("MediaStorageSOPInstanceUID"))
    return _Instance(path, *identity, meta.TransferSyntaxUID, meta_is_true=same)


def _outcome(instance: _Instance, outcome: Sent, status: int | None = None) -> SendOutcome:
    return SendOutcome(instance.path, str(instance.sop_instance_uid), outcome, status)
