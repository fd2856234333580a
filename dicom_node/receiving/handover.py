"""What a receiving process and its parent say to each other (`dispatcher` is the parent's side).

Two sequenced-packet sockets, so that messages keep their borders:

    connections   parent → child   one byte, with a connection's descriptor (SCM_RIGHTS)
                  child → parent   one byte for each connection that is over
    gate          child → parent   {"number", "caller"}   may this caller have an association?
                                   {"left"}               a caller's association has ended
                  parent → child   {"number", "refusal"}
"""

import contextlib
import errno
import json
import os
import signal
import socket
from dataclasses import asdict
from typing import Final

from dicom_node.receiving.admission import Caller, Refusal

MESSAGE_BYTES: Final = 4096
_ANSWER_PATIENCE: Final = 5.0


class Handover:
    """The child's side: where its connections come from, and its gate."""

    def __init__(self, connections: socket.socket, gate: socket.socket) -> None:
        self.connections = connections
        self._gate = gate
        self._gate.settimeout(_ANSWER_PATIENCE)
        self._number = 0

    def take_connection(self) -> tuple[socket.socket, tuple[str, int]]:
        """Take a connection and its peer's address. Raises OSError where its peer has left already."""
        message, descriptors, _, _ = socket.recv_fds(self.connections, 1, 1)
        if not message:
            # The parent is gone, and with it the port: end as on its signal.
            os.kill(os.getpid(), signal.SIGTERM)
            raise ConnectionAbortedError("the parent process has ended")
        if not descriptors:
            self.ended()
            raise OSError(errno.EMFILE, "no descriptor left")
        connection = socket.socket(fileno=descriptors[0])
        try:
            host, port = connection.getpeername()[:2]
        except OSError:
            connection.close()
            self.ended()
            raise
        return connection, (host, port)

    def ended(self) -> None:
        """Tell the parent that a connection is over."""
        with contextlib.suppress(OSError):
            self.connections.send(b"-")

    def admit(self, caller: Caller) -> Refusal | None:
        """Ask the parent, who knows the associations of all its children."""
        self._number += 1
        try:
            self._gate.send(json.dumps({"number": self._number, "caller": asdict(caller)}).encode())
            while True:
                answer = json.loads(self._gate.recv(MESSAGE_BYTES) or "null")
                if answer is None:
                    return Refusal.LOCAL_LIMIT
                if answer["number"] == self._number:  # not one that came too late
                    return None if answer["refusal"] is None else Refusal(answer["refusal"])
        except OSError:
            return Refusal.LOCAL_LIMIT

    def leave(self, caller: Caller) -> None:
        """Tell the parent that a caller's association has ended."""
        with contextlib.suppress(OSError):
            self._gate.send(json.dumps({"left": asdict(caller)}).encode())
