"""Several receiving processes on one port, as they run in production."""

import json
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from dicom_node.peers.scu import AssociationError, Sent, echo, send
from dicom_node.receiving.admission import Caller, Refusal
from dicom_node.receiving.handover import Handover
from dicom_node.receiving.spool import Spool
from tests.dicom_node.test_store_lane import REQUEST
from tests.faults.receiver import Receiver, running_receiver

PEERS = json.dumps([{"ae_title": "SCANNER", "address": "127.0.0.1"}])


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    folder = tmp_path / "node"
    with running_receiver(folder, PEERS, receiving_processes="2", maximum_associations="3") as node:
        yield node


def children(receiver: Receiver) -> list[psutil.Process]:
    return list(receiver.process.children())


def open_association(receiver: Receiver) -> socket.socket:
    """An association that stays open; the first byte of the answer says what became of it."""
    connection = receiver.connect()
    connection.sendall(REQUEST)
    return connection


def test_connections_go_to_the_least_busy_and_limits_hold_for_all(receiver: Receiver) -> None:
    assert len(children(receiver)) == 2
    with ExitStack() as stack:
        held = [stack.enter_context(open_association(receiver)) for _ in range(3)]
        assert [connection.recv(1) for connection in held] == [b"\x02"] * 3  # A-ASSOCIATE-AC
        assert sorted(len(child.net_connections("tcp")) for child in children(receiver)) == [1, 2]
        with open_association(receiver) as beyond:
            assert beyond.recv(10) == bytes.fromhex("03000000000400020302")  # A-ASSOCIATE-RJ, local limit
    held.clear()


def test_both_processes_store_into_one_spool(receiver: Receiver, study_files: list[Path]) -> None:
    outcomes: list[Sent] = []

    def scanner(part: list[Path]) -> None:
        outcomes.extend(outcome.outcome for outcome in send(part, receiver.destination))

    threads = [threading.Thread(target=scanner, args=(study_files[start::2],)) for start in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [Sent.SENT] * len(study_files)
    assert len(list(Spool(receiver.spool_folder).entries())) == len(study_files)


def test_a_process_that_dies_is_replaced_and_its_associations_no_longer_count(
    receiver: Receiver, study_files: list[Path]
) -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(open_association(receiver)) for _ in range(3)]
        assert [connection.recv(1) for connection in held] == [b"\x02"] * 3
        with pytest.raises(AssociationError, match="Local limit exceeded"):
            echo(receiver.destination)
        first, second = children(receiver)
        for child in (first, second):
            child.send_signal(signal.SIGKILL)
        psutil.wait_procs([first, second], timeout=60)
        for connection in held:
            while connection.recv(4096):
                continue
        echo(receiver.destination)
    assert [outcome.outcome for outcome in send(study_files[:2], receiver.destination)] == [Sent.SENT] * 2
    assert len(children(receiver)) == 2
    assert receiver.log.read_text().count("another takes its place") == 2


def test_a_parent_that_dies_takes_its_children_along(receiver: Receiver) -> None:
    family = children(receiver)
    receiver.process.send_signal(signal.SIGKILL)
    gone, alive = psutil.wait_procs(family, timeout=60)
    assert len(gone) == 2
    assert alive == []


def test_a_stop_lets_open_associations_end(receiver: Receiver, study_files: list[Path]) -> None:
    with open_association(receiver) as connection:
        assert connection.recv(1) == b"\x02"
        receiver.process.send_signal(signal.SIGTERM)
        while "Connection refused" not in said_by_a_connect(receiver):
            continue
        connection.sendall(b"\x05\0\0\0\0\x04\0\0\0\0")
        answered = b""
        while block := connection.recv(4096):
            answered += block
        assert answered.endswith(b"\x06\0\0\0\0\x04\0\0\0\0")  # A-RELEASE-RP
    assert receiver.process.wait(60) == 0


def said_by_a_connect(receiver: Receiver) -> str:
    try:
        receiver.connect().close()
    except OSError as error:
        return str(error)
    return ""


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def test_a_gate_whose_parent_is_gone_lets_nobody_in() -> None:
    (connections, other), (gate, parent) = pair(), pair()
    handover = Handover(connections, gate)
    other.close()
    parent.close()
    caller = Caller("SCANNER", "GLIOGRADE", "127.0.0.1", None)
    with connections, gate:
        assert handover.admit(caller) is Refusal.LOCAL_LIMIT
        handover.leave(caller)
        handover.ended()


def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one() -> None:
    (connections, theirs), (gate, parent) = pair(), pair()
    with connections, theirs, gate, parent:
        handover = Handover(connections, gate)
        gate.settimeout(0.01)
        caller = Caller("SCANNER", "GLIOGRADE", "127.0.0.1", None)
        assert handover.admit(caller) is Refusal.LOCAL_LIMIT
        parent.send(json.dumps({"number": 1, "refusal": None}).encode())
        parent.send(json.dumps({"number": 2, "refusal": Refusal.CALLING_AE_TITLE}).encode())
        assert handover.admit(caller) is Refusal.CALLING_AE_TITLE


def test_a_connection_whose_peer_has_left_is_told_as_ended() -> None:
    (connections, parent), (gate, other) = pair(), pair()
    with connections, parent, gate, other, socket.socket() as unconnected:
        handover = Handover(connections, gate)
        socket.send_fds(parent, [b"+"], [unconnected.fileno()])
        with pytest.raises(OSError, match="not connected"):
            handover.take_connection()
        assert parent.recv(1) == b"-"
        parent.send(b"+")  # what a process without a free descriptor receives
        with pytest.raises(OSError, match="descriptor"):
            handover.take_connection()
