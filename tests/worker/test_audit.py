import json
import socket
import threading

import pytest
from pydantic import TypeAdapter
from sqlalchemy import delete, select, update

from dicom_node.audit import AuditEvent, AuditEventId, AuditSpool, BrokenChainError
from worker.records.database import AuditRecord, AuditSegment
from worker.upkeep.audit import copy_audit_trail, verify_audit_trail
from worker.upkeep.audit_forwarding import forward_audit_trail


@pytest.fixture
def node(make_node):
    return make_node()


def write(node, *details):
    for detail in details:
        node.audit.activity(detail, "GLIOGRADE")


def records(node):
    with node.sessions() as session:
        return session.scalars(select(AuditRecord).order_by(AuditRecord.id)).all()


def verify(node):
    with node.sessions() as session:
        return verify_audit_trail(session)


def test_events_become_rows_once(node):
    write(node, "started")
    assert copy_audit_trail(node) == 1
    AuditSpool(node.settings.audit_folder).activity("of another process", "GLIOGRADE")
    write(node, "stopped")
    assert copy_audit_trail(node) == 2
    assert copy_audit_trail(node) == 0
    assert sorted(json.loads(row.body)["detail"] for row in records(node)) == [
        "of another process",
        "started",
        "stopped",
    ]
    assert [row.id for row in records(node)] == [1, 2, 3]
    assert verify(node) == 3


def test_a_torn_last_line_waits_and_hurts_nobody(node):
    write(node, "started")
    (segment,) = node.settings.audit_folder.glob("*.jsonl")
    with segment.open("ab") as file:
        file.write(b'{"event_id":"1101')
    assert copy_audit_trail(node) == 1
    assert copy_audit_trail(node) == 0
    assert verify(node) == 1


@pytest.mark.parametrize(
    "statement",
    [
        update(AuditRecord).where(AuditRecord.id == 2).values(body="{}"),
        update(AuditRecord).where(AuditRecord.id == 2).values(outcome=8),
        update(AuditRecord).where(AuditRecord.id == 2).values(event_id="110100 "),
        delete(AuditRecord).where(AuditRecord.id == 2),
        delete(AuditRecord).where(AuditRecord.id == 3),
        delete(AuditRecord),
    ],
)
def test_a_changed_row_shows(node, statement):
    write(node, "one", "two", "three")
    copy_audit_trail(node)
    with node.sessions.begin() as session:
        session.execute(statement)
    with pytest.raises(BrokenChainError):
        verify(node)


@pytest.mark.parametrize("change", ["edit", "cut"])
def test_a_changed_segment_is_told_and_not_copied(node, caplog, change):
    write(node, "one", "two")
    copy_audit_trail(node)
    write(node, "three")
    (segment,) = node.settings.audit_folder.glob("*.jsonl")
    content = segment.read_bytes()
    segment.write_bytes(content.replace(b"three", b"seven") if change == "edit" else content[:50])
    assert copy_audit_trail(node) == 0
    assert "was changed after it was written" in caplog.text
    with node.sessions() as session:
        assert session.scalars(select(AuditSegment.broken)).one()
    assert verify(node) == 2


def test_events_are_forwarded_by_udp(make_node):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(30)
        node = make_node(audit_forward_url=f"udp://127.0.0.1:{receiver.getsockname()[1]}")
        write(node, "started")
        copy_audit_trail(node)
        assert forward_audit_trail(node) == 1
        assert b"110100" in receiver.recv(65536)
    assert forward_audit_trail(node) == 0


def test_events_are_forwarded_by_tcp_in_order_with_their_length(make_node):
    with socket.create_server(("127.0.0.1", 0)) as server:
        received = bytearray()
        reader = threading.Thread(target=read_all, args=(server, received), daemon=True)
        reader.start()
        node = make_node(audit_forward_url=f"tcp://127.0.0.1:{server.getsockname()[1]}")
        write(node, "started", "stopped")
        copy_audit_trail(node)
        assert forward_audit_trail(node) == 2
        reader.join(30)
    length, _, rest = bytes(received).partition(b" ")
    first, rest = rest[: int(length)], rest[int(length) :]
    assert b"Application Start" in first
    assert b"Application Stop" in rest


def test_a_receiver_that_is_away_blocks_nothing(make_node, caplog):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    node = make_node(audit_forward_url=f"tcp://127.0.0.1:{port}")
    write(node, "started")
    copy_audit_trail(node)
    assert forward_audit_trail(node) == 0
    assert "1 events wait" in caplog.text
    assert records(node)[0].forwarded_at is None


def test_without_a_receiver_nothing_is_forwarded(node):
    write(node, "started")
    copy_audit_trail(node)
    assert forward_audit_trail(node) == 0


def test_a_row_is_the_event(node):
    write(node, "started")
    copy_audit_trail(node)
    event = TypeAdapter(AuditEvent).validate_json(records(node)[0].body)
    assert (event.event_id, event.detail) == (AuditEventId.APPLICATION_ACTIVITY, "started")


def read_all(server, received):
    connection, _ = server.accept()
    with connection:
        while block := connection.recv(65536):
            received += block
