import hashlib
import inspect
import logging
import selectors
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import MRImageStorage
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.events import EventHandlerType
from pynetdicom.timer import Timer
from pynetdicom.transport import AssociationServer, AssociationSocket, RequestHandler

from dicom_node.association import answer_to_request, close_when_cut
from dicom_node.peers.scu import Destination, echo
from dicom_node.receiving.acceptor import (
    MAXIMUM_ARRIVALS_PER_ADDRESS,
    UnsupportedPynetdicomError,
    check_pynetdicom,
)
from dicom_node.receiving.arrivals import MAXIMUM_REQUEST_BYTES, Arrival, ArrivalError
from dicom_node.receiving.scp import StorageScp
from dicom_node.receiving.spool import Spool
from dicom_node.settings import NodeSettings

SEAMS: dict[Callable[..., object], str] = {
    AssociationServer.__init__: "edacb98bdfb7b974",
    AssociationServer.server_bind: "cf69278a05a5c777",
    AssociationServer.server_close: "3fa1b358badbe682",
    AssociationServer.service_actions: "0a0853a3615ac7c5",
    AssociationSocket.__init__: "1f0325fdef2cc353",
    AssociationSocket.close: "c726c8db53813d55",
    AssociationSocket._shutdown_socket: "e2b2628faa81a578",
    AssociationSocket.recv: "6bc20a33b1b7cfe7",
    RequestHandler.handle: "034823fb4df3a874",
    RequestHandler._create_association: "05c8d12b79863cdb",
    AssociationSocket.send: "1ea8158c0b51faca",
    Association._run_reactor: "f28838c5559e462a",
    DULServiceProvider._process_recv_primitive: "4c0ebbb3e646e35e",
    DULServiceProvider.run_reactor: "e3a10eb3a0931e48",
    Timer.restart: "30af96b32eeff8ae",
    DULServiceProvider._read_pdu_data: "19f2d4e38c13c835",
    DULServiceProvider._is_transport_event: "8725ed03bb8fbdef",
}


@pytest.mark.parametrize("seam", SEAMS, ids=lambda seam: seam.__qualname__)
def test_pynetdicom_is_as_it_was_where_the_acceptor_replaces_it(seam: Callable[..., object]) -> None:
    """Where this fails, read what has changed there before writing the new digest."""
    assert hashlib.sha256(inspect.getsource(seam).encode()).hexdigest()[:16] == SEAMS[seam]


def test_another_pynetdicom_is_refused() -> None:
    check_pynetdicom()
    with pytest.raises(UnsupportedPynetdicomError, match=r"3\.1\.0"):
        check_pynetdicom("3.1.0")


@pytest.fixture
def hurried(node_settings: NodeSettings, spool: Spool) -> Iterator[Destination]:
    """A node with short deadlines and few associations."""
    settings = node_settings.model_copy(
        update={
            "request_timeout": timedelta(seconds=2),
            "pdu_timeout": timedelta(seconds=1),
            "maximum_associations": 2,
            "drain_timeout": timedelta(0),
        }
    )
    with StorageScp(settings, spool) as scp:
        yield Destination(
            name="node", ae_title="GLIOGRADE", address="127.0.0.1", port=scp.port, calling_ae_title="SCANNER"
        )


def connect(node: Destination) -> socket.socket:
    return socket.create_connection((node.address, node.port), timeout=30)


def associate(node: Destination) -> Association:
    entity = AE(ae_title=node.calling_ae_title)
    entity.add_requested_context(MRImageStorage)
    handlers: list[EventHandlerType] = [(evt.EVT_CONN_OPEN, close_when_cut)]
    return entity.associate(node.address, node.port, ae_title=node.ae_title, evt_handlers=handlers)


def socket_of(association: Association) -> socket.socket:
    wrapper = association.dul.socket
    assert wrapper is not None
    assert wrapper.socket is not None
    return wrapper.socket


def recorded_request(node: Destination) -> bytes:
    """The bytes of a real A-ASSOCIATE-RQ PDU for a node."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        asking = threading.Thread(target=associate, args=(replace(node, port=listener.getsockname()[1]),))
        asking.start()
        connection, _ = listener.accept()
        with connection:
            request = connection.recv(65_536)
            connection.sendall(bytes.fromhex("03000000000400010101"))
            asking.join()
    return request


def test_a_request_in_pieces_is_served(hurried: Destination) -> None:
    request = recorded_request(hurried)
    with connect(hurried) as connection:
        for piece in (request[:3], request[3:7], request[7:100], request[100:]):
            connection.sendall(piece)
        assert connection.recv(1) == b"\x02"  # A-ASSOCIATE-AC


def test_associations_beyond_the_limit_wait_and_cost_no_thread(hurried: Destination) -> None:
    held = [associate(hurried), associate(hurried)]
    beyond = associate(hurried)
    answer = answer_to_request(beyond)
    assert answer is not None
    assert (answer.result, answer.result_source, answer.diagnostic) == (0x02, 0x03, 0x02)
    serving = [thread for thread in threading.enumerate() if thread.name.startswith("AcceptorThread")]
    assert len(serving) == 2
    for association in held:
        association.release()
    for thread in serving:
        thread.join(30)
    echo(hurried)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\x01\x00\x00\x00\x00\xcc\x00\x01",
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">BxL", 0x01, MAXIMUM_REQUEST_BYTES + 1),
        struct.pack(">BxL", 0x01, 10),
        struct.pack(">BxL", 0x04, 100),
    ],
)
def test_who_asks_for_nothing_is_cut_off(hurried: Destination, sent: bytes) -> None:
    with connect(hurried) as connection:
        connection.sendall(sent)
        try:
            assert connection.recv(1) == b""
        except ConnectionResetError:
            assert sent
    echo(hurried)


@pytest.mark.parametrize("sent", [b"\x04", b"\x04\x00\x00\x00\x00\x20\x00", struct.pack(">BxL", 0x04, 2**31)])
def test_a_pdu_that_does_not_end_ends_its_association(hurried: Destination, sent: bytes) -> None:
    association = associate(hurried)
    socket_of(association).sendall(sent)
    association.join(30)
    assert association.is_aborted
    echo(hurried)


def test_a_pdu_whose_bytes_trickle_ends_its_association(hurried: Destination) -> None:
    association = associate(hurried)
    connection = socket_of(association)
    stop = threading.Event()

    def trickle() -> None:
        try:
            connection.sendall(b"\x04\x00\x00\x00\x20\x00")
            while not stop.wait(0.2):
                connection.sendall(b"\0")
        except OSError:
            return

    trickling = threading.Thread(target=trickle)
    trickling.start()
    association.join(30)
    stop.set()
    trickling.join()
    assert association.is_aborted


def test_the_oldest_silent_connection_goes_first(hurried: Destination) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(connect(hurried)) for _ in range(MAXIMUM_ARRIVALS_PER_ADDRESS + 1)]
        assert silent[0].recv(1) == b""
        silent[-1].sendall(recorded_request(hurried))
        assert silent[-1].recv(1) == b"\x02"


def test_refusals_are_reported_but_not_for_every_knock(
    hurried: Destination, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "dicom_node")
    for _ in range(5):
        with connect(hurried) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            try:
                assert connection.recv(1) == b""
            except ConnectionResetError:
                continue
    assert caplog.text.count("not an association request") == 1


def test_a_stop_does_not_wait_for_the_rest_of_a_pdu(node_settings: NodeSettings, spool: Spool) -> None:
    settings = node_settings.model_copy(update={"pdu_timeout": timedelta(hours=1)})
    scp = StorageScp(settings, spool)
    scp.start()
    association = associate(
        Destination(
            name="n", ae_title="GLIOGRADE", address="127.0.0.1", port=scp.port, calling_ae_title="SCANNER"
        )
    )
    socket_of(association).sendall(b"\x04\x00\x00")
    serving = [thread for thread in threading.enumerate() if thread.name.startswith("AcceptorThread")]
    with connect(Destination(name="n", ae_title="N", address="127.0.0.1", port=scp.port)) as silent:
        scp.stop(timedelta(0))
        assert silent.recv(1) == b""
    for thread in serving:
        thread.join(30)
        assert not thread.is_alive()
    association.join(30)


def test_each_connection_s_end_is_told_once(node_settings: NodeSettings, spool: Spool) -> None:
    scp = StorageScp(node_settings, spool)
    scp.start()
    assert scp._server is not None
    told = threading.Semaphore(0)
    scp._server.ended = told.release
    node = Destination(
        name="n", ae_title="GLIOGRADE", address="127.0.0.1", port=scp.port, calling_ae_title="SCANNER"
    )
    with connect(node) as left, connect(node):
        left.close()
        echo(node)
        aborted = associate(node)
        aborted.abort()
        assert answer_to_request(associate(replace(node, calling_ae_title="STRANGER"))) is not None
        assert all(told.acquire(timeout=30) for _ in range(4))
        assert not told.acquire(blocking=False)
        scp.stop(timedelta(seconds=10))
    assert told.acquire(blocking=False)  # the one that stayed
    assert not told.acquire(blocking=False)


@given(st.lists(st.binary(min_size=1, max_size=100), max_size=8))
def test_any_bytes_are_waited_on_or_refused(pieces: list[bytes]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        arrival = Arrival(ours, ("10.0.0.1", 1), timedelta(seconds=1), None)
        for piece in pieces:
            theirs.sendall(piece)
            try:
                assert arrival.advance() in {0, selectors.EVENT_READ}
            except ArrivalError:
                return
        assert len(arrival.request) <= 6 + MAXIMUM_REQUEST_BYTES
