"""The listening side of our Storage SCP, hardened: pynetdicom's server with its accept loop replaced.

One thread accepts, shakes hands and reads association requests, none of them blocking. Only who is on the
allow-list and within the limits is handed to pynetdicom, which spends two threads on each association:

    accept ─▶ address? ─▶ TLS handshake ─▶ A-ASSOCIATE-RQ ─▶ row of the allow-list? room left? ─▶ pynetdicom
              else close   └── within `request_timeout` ──┘   else A-ASSOCIATE-RJ

pynetdicom by itself gives each connection its threads at once, reads PDUs of any announced length, and shakes
hands in the accept loop, where one silent peer stops the server for good.
"""

import contextlib
import errno
import logging
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final

import pynetdicom
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.transport import AssociationServer, RequestHandler

from dicom_node.receiving.admission import (
    AllowList,
    Caller,
    Gate,
    LocalGate,
    Refusal,
    parse_caller,
    rejection,
)
from dicom_node.receiving.arrivals import Arrival, ArrivalError
from dicom_node.receiving.guarded_socket import GuardedSocket
from dicom_node.receiving.handover import Handover
from dicom_node.receiving.store_lane import Storage, StoreLane

logger = logging.getLogger(__name__)

MAXIMUM_ARRIVALS: Final = 256
MAXIMUM_ARRIVALS_PER_ADDRESS: Final = 64
"""Beyond these the oldest goes: who asks at once is served, whatever number of silent ones are there."""

_TICK: Final = 1.0
_REPORT_INTERVAL: Final = 10.0
_ABORT_GRACE: Final = timedelta(seconds=2)
_NO_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

Report = Callable[[Refusal, Caller], None]
"""Told of a refusal, on the accepting thread; the same one at most once in ten seconds."""


class UnsupportedPynetdicomError(Exception):
    """This pynetdicom is not the one that the acceptor was written for; another must be installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """How long a peer may take for its association request, and for any one PDU."""

    request: timedelta
    pdu: timedelta


class GuardedHandler(RequestHandler):
    """Makes one association, on a `GuardedSocket`, and starts it."""

    server: "GuardedServer"

    def __init__(self, arrival: Arrival, server: "GuardedServer") -> None:
        self._arrival = arrival
        super().__init__(arrival.connection, arrival.address, server)

    def _create_association(self) -> Association:
        association = super()._create_association()
        # The first socket has announced the connection to the state machine; two would be an error there.
        association.dul.event_queue.get_nowait()
        guarded = association.dul.socket = GuardedSocket(
            association,
            self._arrival.connection,
            bytes(self._arrival.request),
            self.server.deadlines.pdu,
            partial(StoreLane, storage=self.server.storage),
            partial(self.server.connection_ended, association),
        )
        guarded.certificate_sha256 = self._arrival.certificate_sha256
        self.association = association
        return association


class GuardedServer(AssociationServer):
    """Accepts associations; made by `AE.make_server(…, server_class=GuardedServer)`.

    With `handover` it doesn't listen: its connections come from the parent process, and so does the leave to
    serve them. `ended` is told once for each connection that is over, refused or served, from any thread.
    Raises OSError where the address can't be listened on, `UnsupportedPynetdicomError`.
    """

    request_queue_size = 128

    def __init__(  # noqa: PLR0913 (the first six are pynetdicom's)
        self,
        ae: AE,
        address: tuple[str, int],
        ae_title: str,
        contexts: list[Any],
        ssl_context: ssl.SSLContext | None = None,
        evt_handlers: list[Any] | None = None,
        *,
        allow_list: AllowList,
        deadlines: Deadlines,
        storage: Storage,
        report: Report,
        handover: Handover | None = None,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        check_pynetdicom()
        self._handover = handover
        super().__init__(ae, address, ae_title, contexts, ssl_context, evt_handlers)
        self.deadlines = deadlines
        self.storage = storage
        self.ended = ended if handover is None else handover.ended
        self._allow_list = allow_list
        self._gate: Gate = LocalGate(allow_list) if handover is None else handover
        self._report = report
        self._reported: dict[tuple[Refusal, Caller], float] = {}
        self._selector = selectors.DefaultSelector()
        self._arrivals: dict[Arrival, None] = {}
        self._associations: dict[Association, Caller] = {}
        self._bell, self._ringer = socket.socketpair()
        self._thread = threading.Thread(target=self.serve_forever, name="acceptor", daemon=True)

    def server_bind(self) -> None:
        """Bind the listening socket, where there is one."""
        if self._handover is None:
            super().server_bind()

    def server_activate(self) -> None:
        """Listen, where there is a listening socket."""
        if self._handover is None:
            super().server_activate()

    def start(self) -> None:
        """Accept in a thread of its own, until `stop`."""
        self._thread.start()

    def stop(self, drain: timedelta) -> None:
        """Accept no more; let associations end for at most `drain`, then abort them, then cut them off."""
        self._ringer.send(b"\0")
        self._thread.join()
        self.server_close()
        self._wait(drain)
        for association in self.active_associations:
            association.abort(block=False)
        self._wait(_ABORT_GRACE)
        for association in self.active_associations:
            # One that waits for the rest of a PDU looks at nothing else.
            wrapper = association.dul.socket
            if wrapper is not None and wrapper.socket is not None:
                with contextlib.suppress(OSError):
                    wrapper.socket.shutdown(socket.SHUT_RDWR)

    def serve_forever(self, poll_interval: float = _TICK) -> None:
        """Accept until `stop`."""
        listening = self.socket if self._handover is None else self._handover.connections
        assert listening is not None
        listening.setblocking(False)
        with self._selector, self._bell, self._ringer:
            self._selector.register(listening, selectors.EVENT_READ, self._accept)
            self._selector.register(self._bell, selectors.EVENT_READ)
            next_tick = time.monotonic() + poll_interval
            while True:
                for key, _ in self._selector.select(max(0.0, next_tick - time.monotonic())):
                    if key.fileobj is self._bell:
                        self._forget_all()
                        return
                    key.data()
                if time.monotonic() >= next_tick:
                    next_tick = time.monotonic() + poll_interval
                    self._forget_late()
                    self._let_the_dead_leave()
                    self.service_actions()

    def _accept(self) -> None:
        try:
            assert self.socket is not None
            connection, address = (
                self.socket.accept() if self._handover is None else self._handover.take_connection()
            )
        except OSError as error:
            if error.errno in _NO_DESCRIPTORS and self._arrivals:
                self._turn_away(next(iter(self._arrivals)), Refusal.CROWDED)
            return
        if not self._allow_list.knows(address[0]):
            self._close(connection)
            self._tell(Refusal.ADDRESS, Caller("", "", address[0], None))
            return
        self._make_room(address[0])
        try:
            arrival = Arrival(connection, address, self.deadlines.request, self.ssl_context)
        except OSError:
            self._close(connection)
            return
        self._arrivals[arrival] = None
        self._selector.register(arrival.connection, selectors.EVENT_READ, lambda: self._advance(arrival))

    def _make_room(self, address: str) -> None:
        neighbours = [arrival for arrival in self._arrivals if arrival.address[0] == address]
        if len(neighbours) >= MAXIMUM_ARRIVALS_PER_ADDRESS:
            self._turn_away(neighbours[0], Refusal.CROWDED)
        elif len(self._arrivals) >= MAXIMUM_ARRIVALS:
            self._turn_away(next(iter(self._arrivals)), Refusal.CROWDED)

    def _advance(self, arrival: Arrival) -> None:
        if arrival not in self._arrivals:
            return  # turned away by an event of the same round
        try:
            events = arrival.advance()
        except ArrivalError as error:
            self._turn_away(arrival, error.refusal)
            return
        if events:
            self._selector.modify(arrival.connection, events, lambda: self._advance(arrival))
            return
        caller = parse_caller(bytes(arrival.request), arrival.address[0], arrival.certificate_sha256)
        refusal = self._gate.admit(caller)
        if refusal is None:
            self._admit(arrival, caller)
        else:
            self._turn_away(arrival, refusal, caller)

    def _admit(self, arrival: Arrival, caller: Caller) -> None:
        self._forget(arrival)
        try:
            self._associations[GuardedHandler(arrival, self).association] = caller
        except (OSError, RuntimeError) as error:  # the peer has left; no thread to be had
            logger.error("no association with %s: %s", caller.address, type(error).__name__)  # noqa: TRY400
            self._gate.leave(caller)
            self._close(arrival.connection)

    def connection_ended(self, association: Association) -> None:
        """Make room for another: an association's connection is closed."""
        self._leave(association)
        self.ended()

    def _leave(self, association: Association) -> None:
        caller = self._associations.pop(association, None)
        if caller is not None:
            self._gate.leave(caller)

    def _let_the_dead_leave(self) -> None:
        """For an association that ended without closing its connection, or before it was counted."""
        for association in list(self._associations):
            if not association.is_alive():
                self._leave(association)

    def _turn_away(self, arrival: Arrival, refusal: Refusal | None, caller: Caller | None = None) -> None:
        self._forget(arrival)
        if refusal is not None:
            self._tell(refusal, caller or Caller("", "", arrival.address[0], None))
            with contextlib.suppress(OSError):
                if answer := rejection(refusal):
                    arrival.connection.send(answer)
        self._close(arrival.connection)

    def _close(self, connection: socket.socket) -> None:
        connection.close()
        self.ended()

    def _tell(self, refusal: Refusal, caller: Caller) -> None:
        now = time.monotonic()
        self._reported = {key: at for key, at in self._reported.items() if now - at < _REPORT_INTERVAL}
        if (refusal, caller) not in self._reported and len(self._reported) < MAXIMUM_ARRIVALS:
            self._reported[refusal, caller] = now
            self._report(refusal, caller)

    def _forget(self, arrival: Arrival) -> None:
        del self._arrivals[arrival]
        self._selector.unregister(arrival.connection)

    def _forget_late(self) -> None:
        now = time.monotonic()
        for arrival in [arrival for arrival in self._arrivals if arrival.deadline < now]:
            self._turn_away(arrival, Refusal.TOO_LATE)

    def _forget_all(self) -> None:
        for arrival in list(self._arrivals):
            self._turn_away(arrival, None)

    def _wait(self, patience: timedelta) -> None:
        deadline = time.monotonic() + patience.total_seconds()
        while self.active_associations and time.monotonic() < deadline:
            time.sleep(0.02)


def check_pynetdicom(version: str = pynetdicom.__version__) -> None:
    """Refuse a pynetdicom whose inner parts are not known to be where we replace them."""
    if not version.startswith("3.0."):
        raise UnsupportedPynetdicomError(f"the acceptor needs pynetdicom 3.0, not {version}")
