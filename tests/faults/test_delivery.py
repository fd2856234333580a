"""Catalogue cases 18 to 23 of the reliability design: what a PACS can do to a delivery."""

import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import ComprehensiveSRStorage, SecondaryCaptureImageStorage
from sqlalchemy import select
from sqlalchemy.orm import sessionmaker

from dicom_node.audit import AuditSpool
from dicom_node.peers.scu import Destination, echo
from dicom_node.peers.stand_in_pacs import Fault, StandInPacs
from dicom_node.peers.storage_commitment import CommitmentInbox, CommitmentReport
from dicom_node.receiving.scp import StorageScp
from dicom_node.receiving.spool import Spool
from dicom_node.settings import AllowedPeer
from tests.dicom_node.commitment_peer import report_commitment
from tests.worker.conftest import (  # noqa: F401 - fixtures
    checkpoint,
    database_url,
    engine,
    make_node,
    postgres_url,
    sessions,
    spool,
)
from tests.worker.deliveries import (
    assert_each_arrived_once,
    deliveries,
    destination,
    due,
    end_leases,
    job_state,
    job_to_deliver,
    make_object,
    pass_time,
    run,
    states,
)
from worker.delivery.committing import apply_commitment_reports
from worker.delivery.sending import send_due
from worker.node import Node
from worker.records.database import AuditRecord, Delivery, DestinationState, Job, create_ledger_engine
from worker.states import DeliveryState, JobState
from worker.upkeep.audit import copy_audit_trail, verify_audit_trail

# ruff: noqa: F811 - fixtures by their names

pytestmark = pytest.mark.filterwarnings("ignore:unclosed.*socket:ResourceWarning")  # pynetdicom's

PATIENCE = 60
A_DAY_OF_FAILURES = 24 * 6
"""A destination that is down is asked every ten minutes."""
OBJECTS = 3


def objects(count=OBJECTS):
    """Attention images and, last, the report."""
    images = [make_object() for _ in range(count - 1)]
    return [*images, make_object(ComprehensiveSRStorage)]


def once(answer, then=None):
    """Answer the second object that comes with `answer`, everything else with `then`."""
    count = iter(range(1_000_000))
    return lambda _: answer if next(count) == 1 else then


def alerts(caplog):
    return [record.getMessage() for record in caplog.records if record.getMessage().startswith("ALERT")]


def audit_details(node):
    copy_audit_trail(node)
    with node.sessions() as session:
        verify_audit_trail(session)
        return session.scalars(select(AuditRecord.body).order_by(AuditRecord.id)).all()


def deliver_all(node):
    for _ in range(OBJECTS + 2):
        pass_time(node)
        run(node)


@pytest.mark.parametrize("fault", [Fault.CUT_AFTER_STORING, Fault.NO_STATUS])
def test_18_pacs_stores_and_cuts_the_line_is_verified_and_not_sent_twice(make_node, tmp_path, fault):
    with StandInPacs(tmp_path / "pacs", status_hook=once(fault)) as pacs:
        node = make_node(destinations=(destination(pacs),))
        job_to_deliver(node, *objects())
        run(node)
        assert states(node) == [DeliveryState.SENT, DeliveryState.UNKNOWN, DeliveryState.PENDING]
        assert job_state(node) is JobState.DELIVER
        deliver_all(node)
        assert set(states(node)) == {DeliveryState.SENT}
        assert deliveries(node)[1].detail == "found by a query"
        assert_each_arrived_once(node, pacs)
        assert set(pacs.receptions.values()) == {1}
    assert job_state(node) is JobState.DONE


@pytest.mark.parametrize("how", ["not stored", "no queries", "not asked"])
def test_18_what_cannot_be_verified_is_sent_again_with_the_same_bytes(make_node, tmp_path, how):
    fault = Fault.CUT_BEFORE_STORING if how == "not stored" else Fault.CUT_AFTER_STORING
    answers = how != "no queries"
    with StandInPacs(tmp_path / "pacs", status_hook=once(fault), answers_queries=answers) as pacs:
        node = make_node(destinations=(destination(pacs, verify_by_query=how != "not asked"),))
        job_to_deliver(node, *objects())
        run(node)
        deliver_all(node)
        assert set(states(node)) == {DeliveryState.SENT}
        assert_each_arrived_once(node, pacs)
        assert sorted(pacs.receptions.values()) == [1, 1, 2]


@pytest.mark.apt
def test_18_dcmtk_aborts_after_storing_and_gets_the_same_bytes_again(make_node, tmp_path, free_port):
    store = tmp_path / "dcmtk"
    store.mkdir()
    place = Destination(name="dcmtk", ae_title="DCMTK", address="127.0.0.1", port=free_port)
    node = make_node(destinations=(place,))
    items = [make_object() for _ in range(OBJECTS)]
    job_to_deliver(node, *items)
    with dcmtk_storescp(place, store, "--abort-after"):
        run(node)
    assert DeliveryState.UNKNOWN in states(node)
    with dcmtk_storescp(place, store):
        deliver_all(node)
    assert set(states(node)) == {DeliveryState.SENT}
    held = {dcmread(path).SOPInstanceUID: dcmread(path) for path in store.iterdir()}
    assert sorted(held) == sorted(item.sop_instance_uid for item in items)


def test_18_a_sender_killed_in_the_middle_leaves_unknown_not_lost(make_node, tmp_path, database_url):
    hang = threading.Event()
    hook = once(Fault.HANG)
    with StandInPacs(
        tmp_path / "pacs", status_hook=lambda item: None if hang.is_set() else hook(item)
    ) as pacs:
        node = make_node(destinations=(destination(pacs),))
        job_to_deliver(node, *objects())
        (destination_id,) = due(node)
        sender = multiprocessing.get_context("spawn").Process(
            target=send_in_a_process, args=(node.settings, database_url, destination_id)
        )
        sender.start()
        deadline = time.monotonic() + PATIENCE
        while sum(pacs.receptions.values()) < 1 or DeliveryState.SENDING not in states(node):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert sender.pid is not None
        os.kill(sender.pid, signal.SIGKILL)
        sender.join(PATIENCE)
        run(node)
        assert DeliveryState.SENDING in states(node)  # its lease isn't over
        hang.set()
        end_leases(node)
        deliver_all(node)
        assert set(states(node)) == {DeliveryState.SENT}
        assert_each_arrived_once(node, pacs)
    assert job_state(node) is JobState.DONE


def test_19_pacs_down_for_a_day_is_waited_out_with_one_alert(make_node, tmp_path, caplog):
    with StandInPacs(tmp_path / "gone") as gone:
        place = destination(gone)
    node = make_node(
        destinations=(place,),
        maximum_attempts=1,
        send_first_delay=timedelta(milliseconds=5),
        send_longest_delay=timedelta(milliseconds=20),
        send_alert_after=timedelta(milliseconds=300),
    )
    for number in range(3):
        study = f"1.2.3.{number}"
        job_to_deliver(node, *[make_object(study=study) for _ in range(2)], study=study)
    deadline = time.monotonic() + PATIENCE
    while len(alerts(caplog)) < 1 or failures(node) < A_DAY_OF_FAILURES:
        assert time.monotonic() < deadline
        run(node)
        time.sleep(0.02)
    assert job_states(node) == {JobState.DELIVER}
    assert set(states(node)) == {DeliveryState.PENDING}
    with StandInPacs(tmp_path / "back", port=place.port) as back:
        while job_states(node) != {JobState.DONE}:
            assert time.monotonic() < deadline
            run(node)
        assert_each_arrived_once(node, back)
        assert set(back.receptions.values()) == {1}
    assert len(alerts(caplog)) == 1


@pytest.mark.parametrize(
    ("status", "state", "is_told"),
    [
        (0xA700, DeliveryState.PENDING, False),
        (0xA7FF, DeliveryState.PENDING, False),
        (0x0110, DeliveryState.PENDING, False),
        (0x0213, DeliveryState.PENDING, False),
        (0xC000, DeliveryState.FAILED, True),
        (0xA900, DeliveryState.FAILED, True),
        (0x0117, DeliveryState.FAILED, True),
        (0x0122, DeliveryState.FAILED, True),
        (0x0124, DeliveryState.FAILED, True),
        (0xB000, DeliveryState.SENT_WARNING, True),
        (0xB006, DeliveryState.SENT_WARNING, True),
        (0xB007, DeliveryState.SENT_WARNING, True),
        (0xFFFF, DeliveryState.FAILED, True),
        (0xFE00, DeliveryState.FAILED, True),
    ],
)
def test_20_the_status_decides(make_node, tmp_path, caplog, status, state, is_told):
    with StandInPacs(tmp_path / "pacs", status_hook=once(status)) as pacs:
        node = make_node(destinations=(destination(pacs),))
        job_to_deliver(node, *objects())
        run(node)
        assert states(node) == [DeliveryState.SENT, state, DeliveryState.SENT]
        assert deliveries(node)[1].status == status
        assert len(alerts(caplog)) == is_told
        pass_time(node)
        run(node)
        asked = pacs.receptions[pacs_uid(node, 1)]
    if state is DeliveryState.PENDING:
        assert asked == 2
        assert set(states(node)) == {DeliveryState.SENT}
    else:
        assert asked == 1
    held = state is DeliveryState.FAILED
    assert job_state(node) is (JobState.HELD if held else JobState.DONE)


def test_20_a_pacs_that_never_gives_a_status_is_not_asked_in_a_loop(make_node, tmp_path):
    with StandInPacs(tmp_path / "pacs", status_hook=lambda _: Fault.NO_STATUS, answers_queries=False) as pacs:
        node = make_node(destinations=(destination(pacs),))
        job_to_deliver(node, make_object())
        run(node)
        run(node)
        assert sum(pacs.receptions.values()) == 1
    assert states(node) == [DeliveryState.UNKNOWN]


def test_21_pacs_refuses_the_report_class_gets_the_images_and_a_person_is_told(make_node, tmp_path, caplog):
    with StandInPacs(tmp_path / "pacs", stored_classes=[SecondaryCaptureImageStorage]) as pacs:
        node = make_node(destinations=(destination(pacs),))
        job_to_deliver(node, *objects())
        run(node)
        assert states(node) == [DeliveryState.SENT, DeliveryState.SENT, DeliveryState.FAILED]
        assert {stored.sop_class_uid for stored in pacs.instances} == {SecondaryCaptureImageStorage}
    with node.sessions() as session:
        job = session.scalars(select(Job)).one()
    assert (job.state, job.reason_code) == (JobState.HELD, "delivery_failed")
    assert "sop_class_not_accepted" in job.reason
    assert len(alerts(caplog)) == 1


def test_21_pacs_that_rejects_us_for_good_is_asked_hourly_and_told_at_once(make_node, tmp_path, caplog):
    with StandInPacs(tmp_path / "pacs", stored_classes=[SecondaryCaptureImageStorage]) as pacs:
        scp_settings = make_node(
            dicom_port=free_tcp_port(), peers=(AllowedPeer(ae_title="OTHER", address="127.0.0.1"),)
        ).settings
        with StorageScp(scp_settings, Spool(tmp_path / "rejecting")) as rejecting:
            place = Destination(name="no", ae_title="GLIOGRADE", address="127.0.0.1", port=rejecting.port)
            node = make_node(destinations=(place, destination(pacs)))
            job_to_deliver(node, make_object())
            run(node)
            run(node)
    assert sorted(states(node)) == [DeliveryState.PENDING, DeliveryState.SENT]
    assert len(alerts(caplog)) == 1
    assert failures(node) == 1


def test_22_a_hanging_pacs_is_unknown_and_holds_up_no_other(make_node, tmp_path):
    answers = [Fault.HANG]
    hook = lambda _: answers.pop() if answers else None  # noqa: E731
    with (
        StandInPacs(tmp_path / "slow", status_hook=hook) as slow,
        StandInPacs(tmp_path / "quick") as quick,
    ):
        node = make_node(
            destinations=(
                destination(slow, "a-slow", response_timeout=timedelta(seconds=5)),
                destination(quick, "b-quick"),
            )
        )
        job_to_deliver(node, *objects())
        senders = [threading.Thread(target=send_due, args=(node, number)) for number in sorted(due(node))]
        for sender in senders:
            sender.start()
        deadline = time.monotonic() + PATIENCE
        while len(quick.instances) < OBJECTS:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        for sender in senders:
            sender.join(PATIENCE)
        by_name = {(item.destination, item.state) for item in deliveries(node)}
        assert ("a-slow", DeliveryState.UNKNOWN) in by_name
        assert {state for name, state in by_name if name == "b-quick"} == {DeliveryState.SENT}
        deliver_all(node)
        assert_each_arrived_once(node, slow)
        assert_each_arrived_once(node, quick)
    assert job_state(node) is JobState.DONE


@pytest.fixture
def committing(make_node, tmp_path):
    """A PACS with storage commitment, our own SCP that hears its reports, and a job sent to it."""
    with StandInPacs(tmp_path / "pacs") as pacs:
        node = make_node(
            destinations=(destination(pacs, storage_commitment=True),),
            dicom_port=free_tcp_port(),
            minimum_free_bytes=0,
            peers=(
                AllowedPeer(ae_title="PACS", address="127.0.0.1"),
                AllowedPeer(ae_title="SCANNER", address="127.0.0.1"),
            ),
        )
        with StorageScp(node.settings, node.spool) as scp:
            job_to_deliver(node, *objects())
            run(node)
            assert states(node) == [DeliveryState.UNCOMMITTED] * OBJECTS
            assert job_state(node) is JobState.DELIVER
            yield node, pacs, scp
            echo(Destination(name="us", ae_title="GLIOGRADE", address="127.0.0.1", port=scp.port,
                             calling_ae_title="SCANNER"))  # fmt: skip


def test_23_commitment_of_all_ends_the_job(committing):
    node, pacs, scp = committing
    (request,) = pacs.commitment_requests
    assert set(request.sop_instance_uids) == {stored.sop_instance_uid for stored in pacs.instances}
    assert report_commitment(scp.port, request.transaction_uid, request.sop_instance_uids) == 0x0000
    assert apply_commitment_reports(node) == 1
    assert states(node) == [DeliveryState.COMMITTED] * OBJECTS
    assert job_state(node) is JobState.DONE
    assert_each_arrived_once(node, pacs)


def test_23_one_uid_not_committed_is_sent_again(committing, caplog):
    node, pacs, scp = committing
    (request,) = pacs.commitment_requests
    *good, bad = request.sop_instance_uids
    report_commitment(scp.port, request.transaction_uid, good, [bad])
    apply_commitment_reports(node)
    assert sorted(states(node)) == [DeliveryState.COMMITTED, DeliveryState.COMMITTED, DeliveryState.PENDING]
    assert len(alerts(caplog)) == 1
    pass_time(node)
    run(node)
    assert pacs.receptions[bad] == 2
    run(node)
    report_commitment(scp.port, pacs.commitment_requests[-1].transaction_uid, [bad])
    apply_commitment_reports(node)
    assert states(node) == [DeliveryState.COMMITTED] * OBJECTS
    assert job_state(node) is JobState.DONE
    assert_each_arrived_once(node, pacs)


def test_23_commitment_that_never_comes_is_asked_for_again(committing):
    node, pacs, scp = committing
    run(node)
    assert len(pacs.commitment_requests) == 1  # not before an hour has passed
    pass_time(node)
    run(node)
    first, second = pacs.commitment_requests
    assert first.sop_instance_uids == second.sop_instance_uids
    assert set(pacs.receptions.values()) == {1}
    report_commitment(scp.port, first.transaction_uid, first.sop_instance_uids)  # late, and good all the same
    apply_commitment_reports(node)
    assert job_state(node) is JobState.DONE


@pytest.mark.parametrize("forger", ["stranger", "another peer", "unknown transaction"])
def test_23_a_forged_commitment_is_rejected_and_audited(committing, forger):
    node, pacs, scp = committing
    (request,) = pacs.commitment_requests
    ae_title = {"stranger": "STRANGER", "another peer": "SCANNER"}.get(forger, "PACS")
    transaction_uid = "2.25.1" if forger == "unknown transaction" else request.transaction_uid
    answer = report_commitment(scp.port, transaction_uid, request.sop_instance_uids, (), ae_title)
    assert answer == (None if forger == "stranger" else 0x0000)
    assert apply_commitment_reports(node) == 0
    assert states(node) == [DeliveryState.UNCOMMITTED] * OBJECTS
    assert list(CommitmentInbox(node.settings.commitments_folder).reports()) == []
    told = "association_rejected" if forger == "stranger" else "commitment report of an unknown transaction"
    assert any('"110113"' in body and told in body for body in audit_details(node))


def test_23_a_report_is_applied_once_and_objects_that_were_not_asked_about_are_left_alone(committing):
    node, pacs, _ = committing
    (request,) = pacs.commitment_requests
    inbox = CommitmentInbox(node.settings.commitments_folder)
    report = CommitmentReport(
        transaction_uid=request.transaction_uid,
        committed=(*request.sop_instance_uids, "1.2.3.4.5"),
        failed=(),
        calling_ae_title="PACS",
        peer_address="127.0.0.1",
        received_at=deliveries(node)[0].sent_at,
    )
    for _ in range(2):
        inbox.keep(report)
    assert apply_commitment_reports(node) == 2
    assert states(node) == [DeliveryState.COMMITTED] * OBJECTS


def test_every_delivery_leaves_its_trail(make_node, tmp_path):
    with StandInPacs(tmp_path / "pacs", status_hook=once(0xC000)) as pacs:
        node = make_node(destinations=(destination(pacs),))
        job_to_deliver(node, *objects())
        run(node)
    begun, sent = audit_details(node)
    assert '"110102"' in begun
    assert '"110104"' in sent
    assert '"outcome":8' in sent
    assert '"study_instance_uid":"1.2.3"' in sent


def send_in_a_process(settings, database_url, destination_id):
    engine = create_ledger_engine(database_url)
    unused: Any = None  # a sender reads no spool and no checkpoint
    audit = AuditSpool(settings.audit_folder)
    node = Node(settings, sessionmaker(engine), unused, unused, unused, unused, audit)
    logging.disable()
    send_due(node, destination_id)


def failures(node):
    with node.sessions() as session:
        return max(session.scalars(select(DestinationState.failures)))


def job_states(node):
    with node.sessions() as session:
        return set(session.scalars(select(Job.state)))


def pacs_uid(node, index):
    with node.sessions() as session:
        rows = session.scalars(select(Delivery).order_by(Delivery.id)).all()
        return rows[index].result_object.sop_instance_uid


def free_tcp_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def free_port():
    return free_tcp_port()


@contextmanager
def dcmtk_storescp(place, folder, *options):
    process = subprocess.Popen(
        ["/usr/bin/storescp", "--output-directory", str(folder), *options, str(place.port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TCP_NODELAY": "1"},
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection((place.address, place.port), 5).close()
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)
