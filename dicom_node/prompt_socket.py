"""Acknowledging at once inside pynetdicom's reads, for peers that have left Nagle's algorithm on.

Such a peer holds back the end of its answer until the first part is acknowledged, and Linux delays that by
40 ms. From an event handler the option comes too late (measured: 48 ms an object against 6), because the
kernel clears it between the two reads of one PDU.
"""

import socket
from typing import Final

from pynetdicom import evt
from pynetdicom.transport import AssociationSocket

_OPTION: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)


def acknowledge_within_reads(event: evt.Event) -> None:
    """Handle EVT_CONN_OPEN: from now on every read of this association acknowledges what it took."""
    wrapper = event.assoc.dul.socket
    if wrapper is not None and _OPTION is not None:
        wrapper.recv = _PromptReader(wrapper).recv  # type: ignore[method-assign]


class _PromptReader:
    """pynetdicom's `AssociationSocket.recv` with larger reads and a prompt acknowledgement."""

    def __init__(self, wrapper: AssociationSocket) -> None:
        self._wrapper = wrapper

    def recv(self, nr_bytes: int) -> bytearray:
        """Read `nr_bytes`, fewer where the connection ends."""
        connection = self._wrapper.socket
        data = bytearray()
        while connection is not None and len(data) < nr_bytes:
            block = connection.recv(min(65_536, nr_bytes - len(data)))
            if not block:
                break
            data += block
            assert _OPTION is not None
            connection.setsockopt(socket.IPPROTO_TCP, _OPTION, 1)
        return data
