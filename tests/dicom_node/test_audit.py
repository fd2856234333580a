import json
import os
import threading
from datetime import UTC, datetime
from xml.etree.ElementTree import fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node import audit as audit_module
from dicom_node.audit import (
    AuditEvent,
    AuditEventId,
    AuditOutcome,
    AuditSpool,
    BrokenChainError,
    read_line,
)
from dicom_node.audit_message import build_message, syslog_frame
from dicom_node.peers.scu import send

START = AuditEvent(event_id=AuditEventId.APPLICATION_ACTIVITY, detail="started", source="GLIOGRADE")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "audit"


def segments(folder):
    return sorted(folder.glob("*.jsonl"))


def events(path):
    previous, found = path.stem, []
    for line in path.read_bytes().splitlines(keepends=True):
        _, previous, event = read_line(line, previous)
        found.append(event)
    return found


def test_events_are_chained_lines(folder):
    spool = AuditSpool(folder)
    spool.write(START)
    spool.activity("stopped", "GLIOGRADE")
    (path,) = segments(folder)
    assert [event["detail"] for event in events(path)] == ["started", "stopped"]
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("change", ["edit", "remove", "insert", "swap"])
def test_a_change_shows(folder, change):
    spool = AuditSpool(folder)
    for number in range(4):
        spool.activity(f"number {number}", "GLIOGRADE")
    (path,) = segments(folder)
    lines = path.read_bytes().splitlines(keepends=True)
    changed = {
        "edit": [lines[0], lines[1].replace(b"number 1", b"number 7"), *lines[2:]],
        "remove": [lines[0], *lines[2:]],
        "insert": [lines[0], lines[0], *lines[1:]],
        "swap": [lines[0], lines[2], lines[1], lines[3]],
    }[change]
    path.write_bytes(b"".join(changed))
    with pytest.raises(BrokenChainError):
        events(path)


@given(st.binary(max_size=300), st.text(max_size=10))
def test_any_line_is_a_line_of_ours_or_broken(line, previous):
    with pytest.raises(BrokenChainError):
        read_line(line, previous)


def test_threads_share_a_segment(folder):
    spool = AuditSpool(folder)
    threads = [threading.Thread(target=spool.write, args=(START,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    (path,) = segments(folder)
    assert len(events(path)) == 8


def test_a_full_segment_is_followed_by_another(folder, monkeypatch):
    monkeypatch.setattr(audit_module, "SEGMENT_BYTES", 100)
    spool = AuditSpool(folder)
    spool.write(START)
    spool.write(START)
    assert [len(events(path)) for path in segments(folder)] == [1, 1]


def test_a_forked_child_begins_a_segment_of_its_own(folder):
    spool = AuditSpool(folder)
    spool.write(START)
    spool._process = os.getpid() + 1  # what a child sees
    spool.write(START)
    assert [len(events(path)) for path in segments(folder)] == [1, 1]


def test_a_flood_of_equal_alerts_is_counted(folder, monkeypatch):
    spool = AuditSpool(folder)
    for _ in range(50):
        spool.alert("association_rejected", source="X", address="10.0.0.9")
    spool.alert("association_rejected", source="Y", address="10.0.0.9")
    (path,) = segments(folder)
    assert len(events(path)) == 2
    spool._alerts = {key: (float("-inf"), count) for key, (_, count) in spool._alerts.items()}
    spool.alert("association_rejected", source="X", address="10.0.0.9")
    assert events(path)[-1]["repeated"] == 49


def test_a_trail_that_cannot_be_written_does_not_stop_the_work(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    AuditSpool(tmp_path / "file").write(START)
    assert "audit trail not written" in caplog.text


def test_what_the_scp_received_is_one_event_for_an_association_and_study(
    scp, scp_destination, study, study_files, node_settings
):
    outcomes = list(send(study_files[:5], scp_destination))
    assert len(outcomes) == 5
    scp.stop()
    (path,) = segments(node_settings.audit_folder)
    (event,) = events(path)
    assert (event["event_id"], event["outcome"], event["source"]) == ("110104", 0, "SCANNER")
    assert event["study_instance_uid"] == study[0].StudyInstanceUID
    assert event["instances"] == {study[0].SOPClassUID: 5}
    assert "ZZCANARY" not in path.read_text()


def test_the_message_is_the_standards_xml():
    event = AuditEvent(
        event_id=AuditEventId.INSTANCES_TRANSFERRED,
        outcome=AuditOutcome.MINOR_FAILURE,
        detail="sent",
        source="GLIO\x01GRADE",
        target="PACS",
        address="10.0.0.1",
        study_instance_uid="1.2.3",
        patient_id="<P&1>",
        instances={"1.2.840.10008.5.1.4.1.1.7": 3},
        occurred_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    )
    root = fromstring(build_message(event, "site"))
    (identification,) = root.iter("EventIdentification")
    assert identification.get("EventOutcomeIndicator") == "4"
    assert identification.get("EventDateTime") == "2026-01-02T03:04:05+00:00"
    assert [item.get("csd-code") for item in root.iter("EventID")] == ["110104"]
    assert [item.get("UserID") for item in root.findall("ActiveParticipant")] == ["GLIO?GRADE", "PACS"]
    objects = {
        item.get("ParticipantObjectTypeCode"): item.get("ParticipantObjectID")
        for item in root.findall("ParticipantObjectIdentification")
    }
    assert objects == {"2": "1.2.3", "1": "<P&1>"}
    assert [item.get("NumberOfInstances") for item in root.iter("SOPClass")] == ["3"]
    frame = syslog_frame(event, "site")
    assert frame.startswith(b"<85>1 2026-01-02T03:04:05.000+00:00 ")
    assert b" DICOM+RFC3881 - \xef\xbb\xbf<?xml" in frame


def test_bodies_are_plain_json(folder):
    AuditSpool(folder).write(START)
    (path,) = segments(folder)
    assert json.loads(path.read_text())["source"] == "GLIOGRADE"
