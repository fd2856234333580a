"""One port, several receiving processes: the parent accepts, the least busy child gets the connection.

Python runs one thread at a time, so that a second process is what a second processor needs. The children
share the spool. Limits of associations are the parent's, for it alone sees all of them. A child that dies is
replaced; its peers send again what it had not acknowledged. A parent that dies takes its children along.
"""

import contextlib
import json
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, NoReturn

from dicom_node.receiving.admission import AllowList, Caller
from dicom_node.receiving.handover import MESSAGE_BYTES, Handover

logger = logging.getLogger(__name__)

STOP_SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGINT})
_BACKLOG: Final = 128
_TICK: Final = 1.0
_GRACE: Final = timedelta(seconds=10)

Serve = Callable[[Handover], None]
"""Receives in a child until SIGTERM, with the stop signals blocked."""


@dataclass(slots=True, eq=False)
class _Child:
    pid: int
    connections: socket.socket
    gate: socket.socket
    busy: int = 0
    present: list[Caller] = field(default_factory=list)


class Dispatcher:
    """Owns the port and the children until a stop signal comes.

    Made before the process has any thread, for its children are forked. Raises OSError where the address
    can't be listened on.
    """

    def __init__(self, address: tuple[str, int], processes: int, allow_list: AllowList, serve: Serve) -> None:
        self._listening = socket.create_server(address, backlog=_BACKLOG)
        self._listening.setblocking(False)
        self._processes = processes
        self._allow_list = allow_list
        self._serve = serve
        self._children: list[_Child] = []
        self._selector = selectors.DefaultSelector()

    def run(self, ready: Callable[[], None], drain: timedelta) -> signal.Signals:
        """Serve until a stop signal comes; then let the children end for at most `drain` and a grace."""
        bell, ringer = socket.socketpair()
        ringer.setblocking(False)
        for number in STOP_SIGNALS:
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(ringer.fileno())
        with bell, ringer, self._listening, self._selector:
            self._selector.register(bell, selectors.EVENT_READ)
            self._fill_up()
            self._selector.register(self._listening, selectors.EVENT_READ, self._accept)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
            ready()
            while True:
                for key, _ in self._selector.select(_TICK):
                    if key.fileobj is bell:
                        number = signal.Signals(bell.recv(1)[0])
                        self._stop(drain)
                        return number
                    key.data()
                self._fill_up()

    def _accept(self) -> None:
        try:
            connection, _ = self._listening.accept()
        except OSError:  # it has left, or there are no descriptors left: the next round tries again
            return
        with connection:
            for child in sorted(self._children, key=lambda child: child.busy):
                with contextlib.suppress(OSError):
                    socket.send_fds(child.connections, [b"+"], [connection.fileno()])
                    child.busy += 1
                    return

    def _fill_up(self) -> None:
        while len(self._children) < self._processes:
            self._fork()

    def _fork(self) -> None:
        (connections, their_connections), (gate, their_gate) = (
            socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)
        )
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        pid = os.fork()
        if pid == 0:
            self._become_child(Handover(their_connections, their_gate), [connections, gate])
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        their_connections.close()
        their_gate.close()
        child = _Child(pid, connections, gate)
        self._children.append(child)
        for channel, handle in ((connections, self._note_end), (gate, self._answer)):
            channel.setblocking(False)
            self._selector.register(channel, selectors.EVENT_READ, lambda handle=handle: handle(child))

    def _become_child(self, handover: Handover, not_ours: list[socket.socket]) -> NoReturn:
        """Go on as a child: leave the parent's descriptors and signals behind, serve, and end."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            self._selector.close()
            self._listening.close()
            for child in self._children:
                not_ours += [child.connections, child.gate]
            for channel in not_ours:
                channel.close()
            self._serve(handover)
            code = 0
        finally:
            logging.shutdown()
            os._exit(code)

    def _note_end(self, child: _Child) -> None:
        message = self._receive(child, child.connections)
        if message is not None:
            child.busy -= 1

    def _answer(self, child: _Child) -> None:
        message = self._receive(child, child.gate)
        if message is None:
            return
        said: dict[str, Any] = json.loads(message)
        if "left" in said:
            with contextlib.suppress(ValueError):
                child.present.remove(Caller(**said["left"]))
            return
        caller = Caller(**said["caller"])
        present = [caller for child in self._children for caller in child.present]
        refusal = self._allow_list.refusal(caller, present)
        if refusal is None:
            child.present.append(caller)
        with contextlib.suppress(OSError):
            child.gate.send(json.dumps({"number": said["number"], "refusal": refusal}).encode())

    def _receive(self, child: _Child, channel: socket.socket) -> bytes | None:
        """Read one message of a child; None where it has ended."""
        if child not in self._children:
            return None
        try:
            message = channel.recv(MESSAGE_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            message = b""
        if message:
            return message
        self._bury(child)
        return None

    def _bury(self, child: _Child) -> None:
        self._children.remove(child)
        for channel in (child.connections, child.gate):
            self._selector.unregister(channel)
            channel.close()
        _, status = os.waitpid(child.pid, 0)
        logger.error(
            "receiving process %d ended with %d; another takes its place",
            child.pid,
            os.waitstatus_to_exitcode(status),
        )
        # Not faster than this, should each of them end at once.
        time.sleep(0.2)

    def _stop(self, drain: timedelta) -> None:
        self._listening.close()
        for child in self._children:
            os.kill(child.pid, signal.SIGTERM)
        deadline = time.monotonic() + (drain + _GRACE).total_seconds()
        waiting = {child.pid for child in self._children}
        while waiting and time.monotonic() < deadline:
            waiting -= {pid for pid in waiting if os.waitpid(pid, os.WNOHANG)[0]}
            time.sleep(0.02)
        for pid in waiting:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
