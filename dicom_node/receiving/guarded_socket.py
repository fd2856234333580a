"""The socket of an association that takes no PDU longer than announced and waits for none without end."""

import select
import socket
import ssl
import struct
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final, Protocol

from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket

from dicom_node.association import close_connection
from dicom_node.receiving.pace import Pace

PDU_SLACK_BYTES: Final = 1024
"""Peers that count the PDU's own header, or a PDV's, into the length that we announce."""

_QUICKACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)


_SMALL_BYTES: Final = 64
"""Reads up to this length are of heads, which what they are the heads of acknowledges along with itself."""


class PduTooLongError(OSError):
    """A peer announced a PDU longer than agreed. An OSError, as pynetdicom closes the connection on those."""


class Lane(Protocol):
    """What serves the requests that don't go by way of pynetdicom."""

    def advance(self) -> bool:
        """Serve what comes until nothing does for a moment; whether something waits for pynetdicom."""


class GuardedSocket(AssociationSocket):
    """pynetdicom's socket with a length limit, deadlines, and a lane of its own for C-STORE.

    `first_pdu` is what was read from the connection before there was an association; `ended` is called once,
    when the connection is closed.
    """

    def __init__(
        self,
        association: Association,
        connection: socket.socket,
        first_pdu: bytes,
        pdu_timeout: timedelta,
        make_lane: Callable[["GuardedSocket"], Lane],
        ended: Callable[[], None],
    ) -> None:
        super().__init__(association, client_socket=connection)
        self._held = bytearray(first_pdu)
        self._error: OSError | None = None
        self._ended: Callable[[], None] | None = ended
        self._pdu_seconds = pdu_timeout.total_seconds()
        self._deadline = 0.0
        self.maximum_pdu_bytes = association.ae.maximum_pdu_size + PDU_SLACK_BYTES
        self._lane = make_lane(self)
        self._wait_all = _wait_in_the_kernel(connection, self._pdu_seconds)
        self.certificate_sha256: str | None = None
        self.pace = Pace()
        association._reactor_checkpoint = self.pace  # noqa: SLF001 (a seam, checked by a test)

    def _shutdown_socket(self) -> None:
        # pynetdicom leaves a connection that the peer has reset open until it is collected as garbage.
        if self.socket is not None:
            close_connection(self.socket)
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()

    @property
    def ready(self) -> bool:
        """Whether there is something for pynetdicom to read; what is for the lane has been served then."""
        if self._held or self._error is not None:
            return True
        if self.assoc.dul.state_machine.current_state != "Sta6":  # data transfer (PS3.8 table 9-5)
            return super().ready
        # The acceptor's thread learns a moment after this one that its acceptance has gone out.
        return self.assoc.is_established and self._lane.advance()

    def recv(self, nr_bytes: int) -> bytearray:
        """Read `nr_bytes` for pynetdicom, or fewer where the peer closes the connection.

        Raises `PduTooLongError` before a byte is read, TimeoutError where they don't come in time.
        """
        error, self._error = self._error, None
        if error is not None:
            raise error
        if nr_bytes > self.maximum_pdu_bytes:
            raise PduTooLongError(f"a PDU of {nr_bytes} bytes")
        received = self._held[:nr_bytes]
        del self._held[:nr_bytes]
        if len(received) == nr_bytes:
            return received
        kept = len(received)
        received += bytes(nr_bytes - kept)
        self.begin_pdu()
        with memoryview(received) as view:
            kept += self._fill(view[kept:])
        del received[kept:]
        return received

    def wait(self, seconds: float) -> bool:
        """Whether there is something to read, waiting for it at most so long."""
        connection = self.socket
        if connection is None:
            return False
        if isinstance(connection, ssl.SSLSocket) and connection.pending():
            return True
        try:
            return bool(select.select([connection], [], [], seconds)[0])
        except (OSError, ValueError):  # closed by another thread
            return True

    def put_back(self, read: bytes | bytearray, error: OSError | None = None) -> None:
        """Let pynetdicom read this again, then meet this error."""
        self._held += read
        self._error = error

    def begin_pdu(self) -> None:
        """Start the clock of one PDU: each byte in its time is not enough, or one an hour held a thread."""
        self._deadline = time.monotonic() + self._pdu_seconds

    def fill(self, view: memoryview) -> None:
        """Read until the view is full. Raises OSError where the connection ends or the PDU is late."""
        if self._fill(view) < len(view):
            raise ConnectionAbortedError("closed by the peer")

    def head(self, most: int) -> bytes:
        """Read what has come, one byte at least and `most` at most. Raises OSError as `fill`."""
        connection = self.socket
        received = b"" if connection is None else connection.recv(most)
        if not received:
            raise ConnectionAbortedError("closed")
        return received

    def send_all(self, data: bytes) -> None:
        """Write all of it. Raises OSError."""
        connection = self.socket
        if connection is None:
            raise ConnectionAbortedError("closed on our side")
        connection.sendall(data)

    def _fill(self, view: memoryview) -> int:
        connection = self.socket
        if connection is None:
            raise ConnectionAbortedError("closed on our side")
        count = 0
        while count < len(view):
            if _QUICKACK is not None and len(view) > _SMALL_BYTES:
                # Peers with Nagle's algorithm on hold back the rest until what came is acknowledged; Linux
                # clears the option by itself.
                connection.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
            read = connection.recv_into(view[count:], 0, self._wait_all)
            if read == 0:
                break
            count += read
            if count < len(view) and time.monotonic() > self._deadline:
                raise TimeoutError("a PDU did not come in time")
        return count


def _wait_in_the_kernel(connection: socket.socket, seconds: float) -> int:
    """Set the longest wait of a read or write; returns the flag that lets one read fetch all it wants.

    Python's own timeout would wake the process for every few segments of a PDU. A TLS connection has no such
    flag, for its bytes are not the kernel's.
    """
    if isinstance(connection, ssl.SSLSocket):
        connection.settimeout(seconds)
        return 0
    connection.settimeout(None)
    wait = struct.pack("@ll", int(seconds), int(seconds % 1 * 1_000_000))
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, option, wait)
    return socket.MSG_WAITALL
