"""C-STORE in every cut that PS3.8 allows, and some that it doesn't, as bytes over a real connection."""

import errno
import hashlib
import itertools
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE
from pynetdicom.dimse_messages import C_ECHO_RQ
from pynetdicom.dimse_primitives import C_ECHO
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at import time

from dicom_node.receiving.scp import StorageScp
from dicom_node.receiving.spool import Spool
from dicom_node.receiving.store_lane import MAXIMUM_COMMAND_BYTES, MAXIMUM_OTHER_BYTES
from dicom_node.receiving.store_message import parse_store_request
from dicom_node.receiving.store_status import StoreStatus
from dicom_node.settings import NodeSettings
from tests.dicom_node.test_scp import encoded
from tests.dicom_node.test_store_message import command_of, store_request

STORAGE, ECHO = 1, 3
COMMAND, LAST = 1, 2
CALLED = {"ae_title": "GLIOGRADE"}
ABORT = b"\x07\0\0\0\0\x04\0\0\0\0"


class Line:
    """An association as its bytes; context 1 is MR Image Storage, 3 Verification."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    def pdu(self, *fragments: tuple[int, int, bytes]) -> bytes:
        body = b"".join(struct.pack(">LBB", len(data) + 2, *head) + data for *head, data in fragments)
        return struct.pack(">BxL", 4, len(body)) + body

    def receive(self) -> tuple[int, bytes]:
        head = self._exactly(6)
        return head[0], self._exactly(int.from_bytes(head[2:], "big"))

    def status(self) -> int:
        """Status of the next C-STORE or C-ECHO response."""
        kind, body = self.receive()
        assert kind == 4
        command = body[6:]
        position = command.index(struct.pack("<HHL", 0, 0x0900, 2)) + 8
        return int.from_bytes(command[position : position + 2], "little")

    def store(self, dataset_bytes: bytes, instance_uid: str) -> None:
        request = store_request(instance_uid, 7)
        self.connection.sendall(self.pdu((STORAGE, COMMAND | LAST, request)))
        self.connection.sendall(self.pdu((STORAGE, LAST, dataset_bytes)))

    def echo(self) -> int:
        self.connection.sendall(self.pdu((ECHO, COMMAND | LAST, echo_command())))
        return self.status()

    def is_aborted(self) -> bool:
        try:
            return self.receive()[0] == 7
        except ConnectionError:
            return True

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            block = self.connection.recv(count - len(data))
            if not block:
                raise ConnectionAbortedError
            data += block
        return data


def echo_command() -> bytes:
    primitive = C_ECHO()
    primitive.MessageID, primitive.AffectedSOPClassUID = 9, Verification
    message = C_ECHO_RQ()
    message.primitive_to_message(primitive)
    return command_of(message)


def request_bytes() -> bytes:
    """An A-ASSOCIATE-RQ PDU with both contexts, recorded from pynetdicom."""
    entity = AE(ae_title="SCANNER")
    entity.add_requested_context(MRImageStorage, ExplicitVRLittleEndian)
    entity.add_requested_context(Verification)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        asking = threading.Thread(target=entity.associate, args=("127.0.0.1", port), kwargs=CALLED)
        asking.start()
        connection, _ = listener.accept()
        with connection:
            request = connection.recv(65_536)
            connection.sendall(bytes.fromhex("03000000000400010101"))
            asking.join()
    return request


@contextmanager
def associated(port: int) -> Iterator[Line]:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line = Line(connection)
        connection.sendall(REQUEST)
        assert line.receive()[0] == 2
        yield line


REQUEST = request_bytes()


@pytest.fixture
def body(study: list[Dataset]) -> bytes:
    return encoded(study[0])


@pytest.fixture
def uid(study: list[Dataset]) -> str:
    return str(study[0].SOPInstanceUID)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    borders = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in itertools.pairwise(borders)]


places = st.lists(st.integers(0, 10**6), max_size=4)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.tuples(places, places, places), together=st.lists(st.booleans(), min_size=12, max_size=12))
def test_any_cut_into_fragments_pdus_and_segments_is_the_same_object(
    scp: StorageScp,
    spool: Spool,
    body: bytes,
    uid: str,
    cuts: tuple[list[int], list[int], list[int]],
    together: list[bool],
) -> None:
    command_cuts, data_cuts, wire_cuts = cuts
    parts = [(COMMAND, part) for part in cut(store_request(uid, 7), command_cuts)]
    parts[-1] = (COMMAND | LAST, parts[-1][1])
    data = [(0, part) for part in cut(body, data_cuts)]
    data[-1] = (LAST, data[-1][1])
    pdus: list[list[tuple[int, int, bytes]]] = [[]]
    for (control, part), joined in zip(parts + data, together, strict=False):
        if not joined and pdus[-1]:
            pdus.append([])
        pdus[-1].append((STORAGE, control, part))
    with associated(scp.port) as line:
        wire = b"".join(line.pdu(*fragments) for fragments in pdus)
        for segment in cut(wire, wire_cuts):
            line.connection.sendall(segment)
        assert line.status() == StoreStatus.SUCCESS
    (entry,) = spool.entries()
    assert (entry.sha256, entry.size) == (hashlib.sha256(body).hexdigest(), len(body))


def test_other_services_take_turns_with_it(scp: StorageScp, spool: Spool, study: list[Dataset]) -> None:
    with associated(scp.port) as line:
        for dataset in study[:3]:
            assert line.echo() == 0
            line.store(encoded(dataset), str(dataset.SOPInstanceUID))
            assert line.status() == StoreStatus.SUCCESS
        line.connection.sendall(b"\x05\0\0\0\0\x04\0\0\0\0")
        assert line.receive()[0] == 6  # A-RELEASE-RP
    assert len(list(spool.entries())) == 3


@pytest.mark.parametrize("end", [ABORT, b"\x05\0\0\0\0\x04\0\0\0\0", b""])
def test_a_data_set_that_ends_in_the_middle_leaves_nothing(
    scp: StorageScp, spool: Spool, node_settings: NodeSettings, body: bytes, uid: str, end: bytes
) -> None:
    with associated(scp.port) as line:
        line.connection.sendall(line.pdu((STORAGE, COMMAND | LAST, store_request(uid, 7))))
        line.connection.sendall(line.pdu((STORAGE, 0, body[:-100])) + end)
        if not end:
            line.connection.shutdown(socket.SHUT_WR)
        while True:  # whatever it says, it ends the connection
            try:
                line.receive()
            except ConnectionError:
                break
            if end[:1] == b"\x05":
                break
    with associated(scp.port) as line:
        assert line.echo() == 0
    assert list(spool.entries()) == []
    assert list((node_settings.spool_folder / "tmp").iterdir()) == []


def test_fragments_that_lie_end_the_association(
    scp: StorageScp, spool: Spool, node_settings: NodeSettings, body: bytes, uid: str
) -> None:
    command = (STORAGE, COMMAND | LAST, store_request(uid, 7))
    part = (STORAGE, 0, body[:100])
    whole = Line.pdu
    lies = [
        [[command], [(ECHO, 0, b"x")]],
        [[command], [part, command]],
        [[command], [(STORAGE, LAST, body), (STORAGE, 0, b"x")]],
        [[(STORAGE, COMMAND, bytes(MAXIMUM_COMMAND_BYTES))], [(STORAGE, COMMAND, b"x")]],
    ]
    for pdus in lies:
        with associated(scp.port) as line:
            line.connection.sendall(b"".join(whole(line, *fragments) for fragments in pdus))
            assert line.is_aborted()
    for length in (b"\0\0\0\x01", b"\0\0\xff\xff"):
        with associated(scp.port) as line:
            line.connection.sendall(whole(line, command) + b"\x04\0\0\0\0\x0a" + length + b"\x01\x00abcd")
            assert line.is_aborted()
    assert list(spool.entries()) == []
    assert list((node_settings.spool_folder / "tmp").iterdir()) == []


def test_another_message_is_kept_in_memory_only_so_far(scp: StorageScp) -> None:
    block = (ECHO, 0, bytes(131_000))
    with associated(scp.port) as line:
        line.connection.sendall(line.pdu((ECHO, COMMAND, echo_command())))
        try:
            for _ in range(MAXIMUM_OTHER_BYTES // 131_000 + 2):
                line.connection.sendall(line.pdu(block))
        except ConnectionError:
            return
        assert line.is_aborted()


def test_too_large_an_object_is_refused_and_the_next_is_taken(
    node_settings: NodeSettings, spool: Spool, body: bytes, uid: str
) -> None:
    limited = node_settings.model_copy(update={"maximum_object_bytes": len(body)})
    with StorageScp(limited, spool) as scp, associated(scp.port) as line:
        line.store(body + bytes(1), uid)
        assert line.status() == StoreStatus.CANNOT_UNDERSTAND
        line.store(body, uid)
        assert line.status() == StoreStatus.SUCCESS
    assert len(list((node_settings.spool_folder / "quarantine").glob("*.bin"))) == 1


def test_a_disk_that_fails_in_the_middle_is_answered_when_all_has_come(
    scp: StorageScp,
    spool: Spool,
    node_settings: NodeSettings,
    body: bytes,
    uid: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with associated(scp.port) as line:
        monkeypatch.setattr("dicom_node.receiving.spool.os.write", full)
        line.store(body, uid)
        assert line.status() == StoreStatus.OUT_OF_RESOURCES
        assert list((node_settings.spool_folder / "tmp").iterdir()) == []
        monkeypatch.setattr("dicom_node.receiving.spool.os.write", write)
        line.store(body, uid)
        assert line.status() == StoreStatus.SUCCESS
    assert len(list(spool.entries())) == 1


def test_the_response_names_the_request(scp: StorageScp, body: bytes, uid: str, tmp_path: Path) -> None:
    with associated(scp.port) as line:
        line.store(body, uid)
        _, answer = line.receive()
    assert answer[4:6] == bytes((STORAGE, COMMAND | LAST))
    assert struct.pack("<HHLH", 0, 0x0120, 2, 7) in answer
    assert uid.encode() in answer
    assert parse_store_request(STORAGE, answer[6:]) is None
