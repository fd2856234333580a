"""The socket of an association that takes no PDU longer than announced and waits for none without end."""

import socket
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket

from dicom_node.association import close_connection

PDU_SLACK_BYTES: Final = 1024
"""Peers that count the PDU's own header, or a PDV's, into the length that we announce."""


class PduTooLongError(OSError):
    """A peer announced a PDU longer than agreed. An OSError, as pynetdicom closes the connection on those."""


class GuardedSocket(AssociationSocket):
    """pynetdicom's socket with a length limit and deadlines.

    `first_pdu` is what was read from the connection before there was an association; `ended` is called once,
    when the connection is closed.
    """

    def __init__(
        self,
        association: Association,
        connection: socket.socket,
        first_pdu: bytes,
        pdu_timeout: timedelta,
        ended: Callable[[], None],
    ) -> None:
        super().__init__(association, client_socket=connection)
        self._first_pdu = bytearray(first_pdu)
        self._ended: Callable[[], None] | None = ended
        self._pdu_seconds = pdu_timeout.total_seconds()
        self._maximum_bytes = association.ae.maximum_pdu_size + PDU_SLACK_BYTES
        connection.settimeout(self._pdu_seconds)

    def _shutdown_socket(self) -> None:
        # pynetdicom leaves a connection that the peer has reset open until it is collected as garbage.
        if self.socket is not None:
            close_connection(self.socket)
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()

    @property
    def ready(self) -> bool:
        """Whether there is something to read."""
        return bool(self._first_pdu) or super().ready

    def recv(self, nr_bytes: int) -> bytearray:
        """Read `nr_bytes`, or fewer where the peer closes the connection.

        Raises `PduTooLongError` before a byte is read, TimeoutError where they don't come in time: each
        byte in its time is not enough, or one an hour would hold a thread for ever.
        """
        if self._first_pdu:
            held, self._first_pdu = self._first_pdu[:nr_bytes], self._first_pdu[nr_bytes:]
            return held
        if nr_bytes > self._maximum_bytes:
            raise PduTooLongError(f"a PDU of {nr_bytes} bytes")
        connection = self.socket
        if connection is None:
            raise ConnectionAbortedError("closed on our side")
        received = bytearray(nr_bytes)
        count = 0
        deadline = time.monotonic() + self._pdu_seconds
        with memoryview(received) as view:
            while count < nr_bytes:
                read = connection.recv_into(view[count:])
                if read == 0:
                    break
                count += read
                if count < nr_bytes and time.monotonic() > deadline:
                    raise TimeoutError("a PDU did not come in time")
        del received[count:]
        return received
