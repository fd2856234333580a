import pytest
from pydicom.uid import CTImageStorage
from sqlalchemy import select, update

from dicom_node.peers.stand_in_pacs import StandInPacs
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
from worker.delivery.delivering import deliver, settle_job
from worker.records.database import DestinationState, Job
from worker.records.destinations import (
    claim_destination,
    destinations_of_job,
    hold_destination,
    release_destination,
)
from worker.records.ledger import StaleClaimError
from worker.states import DeliveryState, JobState
from worker.study.claimed import ClaimedStep, take_claim
from worker.study.reporting import object_path

# a connection that is refused is left to the garbage collector
pynetdicom_leaves_sockets = pytest.mark.filterwarnings("ignore:unclosed.*socket:ResourceWarning")


@pytest.fixture
def pacs(tmp_path):
    with StandInPacs(tmp_path / "pacs") as running:
        yield running


def deliver_step(node, job_id):
    taken = take_claim(node, job_id, JobState.DELIVER)
    assert taken is not None
    with ClaimedStep(node, taken) as step:
        deliver(step)


def test_the_stored_bytes_arrive_in_order_and_the_job_is_done(make_node, pacs):
    node = make_node(destinations=(destination(pacs),))
    objects = [make_object(), make_object()]
    job_id = job_to_deliver(node, *objects)
    deliver_step(node, job_id)
    assert job_state(node) is JobState.DELIVER
    run(node)
    assert states(node) == [DeliveryState.SENT] * 2
    assert job_state(node) is JobState.DONE
    assert [stored.sop_instance_uid for stored in pacs.instances] == [
        item.sop_instance_uid for item in objects
    ]
    assert_each_arrived_once(node, pacs)
    assert due(node) == []


def test_without_destination_the_job_is_done(make_node):
    node = make_node()
    deliver_step(node, job_to_deliver(node, make_object()))
    assert job_state(node) is JobState.DONE


def test_a_job_names_the_destinations_that_it_waits_for(make_node, pacs):
    node = make_node(destinations=(destination(pacs, "one"), destination(pacs, "two")))
    job_id = job_to_deliver(node, make_object())
    with node.sessions() as session:
        assert len(destinations_of_job(session, job_id)) == 2
    run(node)
    with node.sessions() as session:
        assert destinations_of_job(session, job_id) == []


@pynetdicom_leaves_sockets
def test_a_destination_that_is_down_does_not_keep_another_waiting(make_node, pacs, tmp_path):
    with StandInPacs(tmp_path / "gone") as gone:
        down = destination(gone, "a-down")
    node = make_node(destinations=(down, destination(pacs, "b-up")))
    job_to_deliver(node, make_object())
    run(node)
    assert sorted(states(node)) == [DeliveryState.PENDING, DeliveryState.SENT]
    assert len(pacs.instances) == 1
    assert due(node) == []


def test_an_object_refused_for_good_is_held_for_a_person(make_node, pacs):
    node = make_node(destinations=(destination(pacs),))
    job_to_deliver(node, make_object(), make_object(CTImageStorage))
    run(node)
    assert sorted(states(node)) == [DeliveryState.FAILED, DeliveryState.SENT]
    assert job_state(node) is JobState.HELD


def test_a_destination_gone_from_the_settings_is_held(make_node, pacs):
    node = make_node(destinations=(destination(pacs),))
    job_to_deliver(node, make_object())
    run(make_node())
    assert states(node) == [DeliveryState.FAILED]
    assert job_state(node) is JobState.HELD


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"PatientID": "P2"}, "other_PatientID"),
        ({"StudyInstanceUID": "1.2.4"}, "other_StudyInstanceUID"),
    ],
)
def test_an_object_of_someone_else_is_never_sent(make_node, pacs, attributes, reason):
    node = make_node(destinations=(destination(pacs),))
    job_to_deliver(node, make_object(**attributes), make_object())
    run(node)
    assert states(node) == [DeliveryState.FAILED, DeliveryState.SENT]
    assert deliveries(node)[0].detail == f"not sent: {reason}"
    assert len(pacs.instances) == 1
    assert job_state(node) is JobState.HELD


@pytest.mark.parametrize(("damage", "reason"), [(b"x", "bytes_changed"), (None, "bytes_missing")])
def test_damaged_bytes_are_never_sent(make_node, pacs, damage, reason):
    node = make_node(destinations=(destination(pacs),))
    item = make_object()
    job_to_deliver(node, item)
    path = object_path(node.settings.results_folder, item.sha256)
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + damage)
    run(node)
    assert deliveries(node)[0].detail == f"not sent: {reason}"
    assert pacs.instances == ()


def test_a_job_that_was_stopped_sends_nothing(make_node, pacs):
    node = make_node(destinations=(destination(pacs),))
    job_to_deliver(node, make_object())
    waiting = due(node)
    with node.sessions.begin() as session:
        session.execute(update(Job).values(state=JobState.SUPERSEDED))
    assert len(waiting) == 1
    run(node)
    assert pacs.instances == ()
    assert states(node) == [DeliveryState.PENDING]


def test_one_sender_at_a_time_and_a_lost_claim_writes_nothing(make_node, pacs):
    node = make_node(destinations=(destination(pacs),))
    job_to_deliver(node, make_object())
    (destination_id,) = due(node)
    lease = node.settings.lease
    with node.sessions.begin() as session:
        first = claim_destination(session, destination_id, "first", lease)
        assert first is not None
    with node.sessions.begin() as session:
        assert claim_destination(session, destination_id, "second", lease) is None
    end_leases(node)
    with node.sessions.begin() as session:
        assert claim_destination(session, destination_id, "second", lease) is not None
    with node.sessions() as session, pytest.raises(StaleClaimError):
        hold_destination(session, first, lease)
    with node.sessions() as session, pytest.raises(StaleClaimError):
        release_destination(session, first)


def test_ending_a_job_twice_or_too_early_changes_nothing(make_node, pacs):
    node = make_node(destinations=(destination(pacs),))
    job_id = job_to_deliver(node, make_object())
    settle_job(node, job_id)
    assert job_state(node) is JobState.DELIVER
    run(node)
    settle_job(node, job_id)
    assert job_state(node) is JobState.DONE


@pynetdicom_leaves_sockets
def test_a_success_ends_the_count_of_failures(make_node, tmp_path):
    with StandInPacs(tmp_path / "gone") as gone:
        place = destination(gone)
    node = make_node(destinations=(place,))
    job_to_deliver(node, make_object())
    for _ in range(3):
        run(node)
        pass_time(node)
    with node.sessions() as session:
        assert session.scalars(select(DestinationState.failures)).one() == 3
    with StandInPacs(tmp_path / "back", port=place.port):
        run(node)
    with node.sessions() as session:
        row = session.scalars(select(DestinationState)).one()
    assert (row.failures, row.failing_since, row.lease_until) == (0, None, None)
