"""Deliveries to a DICOMweb destination: the same states, waits and checks as with C-STORE."""

import pytest
from pydicom.uid import Comprehensive3DSRStorage
from sqlalchemy import select, update

from dicom_node.peers.stow import WebDestination
from tests.dicom_node.web_server import WebServer, accept, answer_with, cut, refuse
from tests.worker.deliveries import deliveries, job_state, job_to_deliver, make_object, pass_time, run, states
from worker.records.database import Delivery, DestinationState
from worker.states import DeliveryState, JobState


@pytest.fixture
def deliver(make_node):
    """A node whose one destination is the server, and a job with two objects for it."""

    def start(server):
        node = make_node(destinations=(WebDestination(name="web", url=server.url),))
        job_to_deliver(node, make_object(), make_object())
        return node

    return start


def test_the_objects_arrive_and_the_job_is_done(deliver):
    with WebServer() as server:
        node = deliver(server)
        run(node)
        assert states(node) == [DeliveryState.SENT] * 2
        assert job_state(node) is JobState.DONE
        assert len(server.held) == 2
    assert deliveries(node)[0].detail == "sent, status 0x0000, HTTP 200"


def test_a_lost_answer_is_asked_after_before_anything_is_sent_again(deliver):
    with WebServer(cut, accept) as server:
        node = deliver(server)
        run(node)
        assert states(node) == [DeliveryState.UNKNOWN, DeliveryState.PENDING]
        pass_time(node)
        run(node)
        assert states(node) == [DeliveryState.SENT] * 2
        assert deliveries(node)[0].detail == "found by a query"
        assert server.queries == 1
    assert job_state(node) is JobState.DONE


def test_an_object_that_can_come_later_is_sent_again(deliver):
    with WebServer(refuse(409, 0xA700), accept) as server:
        node = deliver(server)
        run(node)
        assert states(node) == [DeliveryState.PENDING, DeliveryState.SENT]
        pass_time(node)
        run(node)
        assert states(node) == [DeliveryState.SENT] * 2
    assert job_state(node) is JobState.DONE


def test_an_object_refused_for_good_holds_the_job(deliver):
    with WebServer(refuse(409, 0xA900), accept) as server:
        node = deliver(server)
        run(node)
    assert states(node) == [DeliveryState.FAILED, DeliveryState.SENT]
    assert deliveries(node)[0].detail == "refused, status 0xA900, HTTP 409"
    assert job_state(node) is JobState.HELD


def test_a_report_class_that_it_does_not_take_goes_as_enhanced(make_node):
    with WebServer(refuse(409, 0x0122)) as server:
        node = make_node(destinations=(WebDestination(name="web", url=server.url),))
        job_to_deliver(node, make_object(Comprehensive3DSRStorage))
        run(node)
        assert [item.result_object_id for item in deliveries(node)] == [2]


@pytest.mark.parametrize(("status", "alerted"), [(503, False), (401, True), (404, True)])
def test_a_service_that_takes_nothing_is_left_alone_for_a_while(deliver, status, alerted):
    with WebServer(answer_with(status), accept) as server:
        node = deliver(server)
        run(node)
        assert states(node) == [DeliveryState.PENDING] * 2
        with node.sessions() as session:
            waits, told = session.execute(
                select(DestinationState.not_before, DestinationState.alerted_at)
            ).one()
        assert waits is not None
        assert (told is not None) is alerted
        pass_time(node)
        run(node)
        assert states(node) == [DeliveryState.SENT] * 2


def test_what_waits_for_a_commitment_that_dicomweb_has_not_is_sent_again(deliver):
    with WebServer() as server:
        node = deliver(server)
        with node.sessions.begin() as session:
            session.execute(update(Delivery).values(state=DeliveryState.UNCOMMITTED))
        run(node)
        pass_time(node)
        run(node)
        assert states(node) == [DeliveryState.SENT] * 2
        assert len(server.held) == 2
