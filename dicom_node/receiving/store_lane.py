"""The short way of a C-STORE: from the socket to the disk, past pynetdicom's reactors.

pynetdicom copies every fragment several times, hands it from thread to thread, looks for it every
millisecond, and builds each response as a data set. Here the thread that owns the socket reads the fragments
of a request into one buffer, passes them on as they come, and writes the response itself: nothing of an
object is kept in memory. Whatever isn't a C-STORE on an accepted storage context is put back unread for
pynetdicom, which stays the owner of the association: its state machine, negotiation, release, abort and every
other service.

    GuardedSocket.ready ─▶ StoreLane.advance ─▶ C-STORE ─▶ ObjectReception.write … .finish ─▶ response
                                             └▶ any other PDU ─▶ put back ─▶ pynetdicom
"""

import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, Protocol

from pynetdicom.association import Association

from dicom_node.receiving.guarded_socket import GuardedSocket
from dicom_node.receiving.pace import IDLE_SECONDS
from dicom_node.receiving.store_message import StoreRequest, parse_store_request

MAXIMUM_COMMAND_BYTES: Final = 16_384
MAXIMUM_OTHER_BYTES: Final = 8 * 1024 * 1024
"""Of one message that isn't a C-STORE; pynetdicom keeps it in memory."""

_PDU_HEAD: Final = struct.Struct(">BxL")
_PDV_HEAD: Final = struct.Struct(">LBB")
_P_DATA: Final = 0x04
_IS_COMMAND, _IS_LAST = 0x01, 0x02
_BUFFER_BYTES: Final = 131_072


class Incoming(Protocol):
    """One data set on its way in. `write` never raises: what went wrong is what `finish` answers."""

    def write(self, chunk: memoryview) -> None:
        """Take the next bytes; the view is valid during the call only."""

    def finish(self) -> int:
        """End with the status that the sender hears."""

    def abandon(self) -> None:
        """End without: the sender has gone."""


Begin = Callable[[Association, StoreRequest, str], Incoming]
"""Called with each request and the transfer syntax of its context, on the association's own socket thread."""


@dataclass(frozen=True, slots=True)
class Storage:
    """What takes the data sets of C-STORE requests, and of which SOP classes."""

    begin: Begin
    sop_classes: Collection[str]


class _MalformedError(Exception):
    """Fragments that don't follow PS3.8 annex E."""


class _ForeignError(Exception):
    """Another PDU than P-DATA-TF, in the middle of a data set."""


class StoreLane:
    """Serves the C-STORE requests of one association."""

    def __init__(self, socket: GuardedSocket, storage: Storage) -> None:
        self._socket = socket
        self._association = socket.assoc
        self._storage = storage
        self._contexts: dict[int, str] | None = None
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._raw = bytearray()
        self._left = 0
        self._other_bytes = 0
        self._other_goes_on = False

    def advance(self) -> bool:
        """Serve what comes until nothing does for a moment; whether something waits for pynetdicom."""
        queue = self._association.dul.to_provider_queue.queue
        while not queue:
            if not self._socket.wait(0.0 if self._socket.pace.is_quick else IDLE_SECONDS):
                return False
            try:
                if not self._message():
                    self._socket.pace.hurry()
                    return True
            except _MalformedError:
                # Evt19, an invalid PDU: the state machine aborts the association (PS3.8 table 9-10).
                self._association.dul.event_queue.put("Evt19")
                return False
        return False

    def _message(self) -> bool:
        """Read one message; False where it was put back for pynetdicom, or the connection has ended."""
        self._raw.clear()
        self._left = 0
        try:
            request = self._request()
            if request is None:
                self._socket.put_back(self._raw)
                return False
            return self._store(request)
        except OSError as error:
            # pynetdicom meets the same end at its next read, and knows what follows from it.
            self._socket.put_back(b"", error)
            return False

    def _request(self) -> StoreRequest | None:
        """Read until a whole command set is there; None where it is nothing of ours."""
        command = bytearray()
        while True:
            try:
                context_id, control, length = self._fragment()
            except _ForeignError:
                return None
            if not command and self._is_others(context_id, control, length):
                return None
            if not control & _IS_COMMAND or len(command) + length > MAXIMUM_COMMAND_BYTES:
                raise _MalformedError
            command += self._read(length)
            if control & _IS_LAST:
                return parse_store_request(context_id, bytes(command))

    def _is_others(self, context_id: int, control: int, length: int) -> bool:
        """Whether the fragment belongs to a message that pynetdicom assembles."""
        if self._contexts is None:
            self._contexts = {
                context.context_id or 0: str(context.transfer_syntax[0])
                for context in self._association.accepted_contexts
                if str(context.abstract_syntax) in self._storage.sop_classes
            }
        if context_id in self._contexts and control & _IS_COMMAND:
            return False
        if control & _IS_COMMAND and not self._other_goes_on:
            self._other_bytes = 0
        self._other_goes_on = control == _IS_COMMAND
        self._other_bytes += length + self._left
        if self._other_bytes > MAXIMUM_OTHER_BYTES:
            raise _MalformedError
        return True

    def _store(self, request: StoreRequest) -> bool:
        assert self._contexts is not None
        incoming = self._storage.begin(self._association, request, self._contexts[request.context_id])
        try:
            while True:
                self._raw.clear()
                context_id, control, length = self._fragment()
                if context_id != request.context_id or control & _IS_COMMAND:
                    raise _MalformedError  # noqa: TRY301 (every end but one abandons)
                self._pass_on(length, incoming)
                if control & _IS_LAST:
                    break
            if self._left:
                raise _MalformedError  # noqa: TRY301
        except _ForeignError:
            incoming.abandon()
            self._socket.put_back(self._raw)
            return False
        except (OSError, _MalformedError):
            incoming.abandon()
            raise
        self._socket.send_all(request.response(incoming.finish()))
        return True

    def _pass_on(self, length: int, incoming: Incoming) -> None:
        while length:
            view = self._buffer[: min(length, _BUFFER_BYTES)]
            self._socket.fill(view)
            incoming.write(view)
            length -= len(view)

    def _fragment(self) -> tuple[int, int, int]:
        """Read a fragment's head, a PDU's before it where one begins: context, control header, length.

        Raises `_ForeignError` for another PDU than P-DATA-TF, with its head in `_raw`.
        """
        if not self._left:
            self._socket.begin_pdu()
            self._association.dul._idle_timer.restart()  # noqa: SLF001 (a seam, checked by a test)
            # Both heads by one read, as senders write them.
            head = self._head(_PDU_HEAD.size, _PDU_HEAD.size + _PDV_HEAD.size)
            pdu_type, self._left = _PDU_HEAD.unpack_from(head)
            if pdu_type != _P_DATA:
                raise _ForeignError
            if self._left > self._socket.maximum_pdu_bytes:
                raise _MalformedError
        else:
            head = b""
        if self._left < _PDV_HEAD.size:
            raise _MalformedError
        head = head[_PDU_HEAD.size :]
        head += self._head(_PDV_HEAD.size - len(head), _PDV_HEAD.size - len(head))
        length, context_id, control = _PDV_HEAD.unpack(head)
        self._left -= _PDV_HEAD.size + length - 2
        if length < 2 or self._left < 0:
            raise _MalformedError
        return context_id, control, length - 2

    def _head(self, least: int, most: int) -> bytes:
        """Read `least` bytes, and up to `most` where they are there; they may have to be put back."""
        head = b""
        while len(head) < least:
            head += self._socket.head(most - len(head))
        self._raw += head
        return head

    def _read(self, count: int) -> bytes:
        """Read bytes that may have to be put back."""
        view = memoryview(bytearray(count))
        self._socket.fill(view)
        self._raw += view
        return bytes(view)
