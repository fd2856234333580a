"""A study that can't be graded is answered: why, once, and replaced by the grade when it comes."""

from datetime import timedelta
from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.uid import Comprehensive3DSRStorage, SecondaryCaptureImageStorage
from sqlalchemy import select, update

from dicom_node.peers.stand_in_pacs import StandInPacs
from dicom_node.results.show import render_text
from tests.faults.conftest import series_of
from tests.faults.service import CANARY, header
from tests.worker import deliveries
from tests.worker.deliveries import assert_each_arrived_once, destination
from tests.worker.test_steps import receive, run
from worker.delivery.delivering import deliver
from worker.records.database import Delivery, Job, Result, ResultObject, Study
from worker.records.queries import study_standings
from worker.states import DeliveryState, JobState
from worker.study import reporting, steps
from worker.study.indexing import INCOMPLETE, hold_study
from worker.study.interventions import release_study
from worker.study.reporting import find_predecessor, object_path


@pytest.fixture
def pacs(tmp_path):
    with StandInPacs(tmp_path / "pacs") as running:
        yield running


@pytest.fixture
def node(make_node, pacs):
    return make_node(series_wait=timedelta(0), destinations=(destination(pacs),), report_not_graded=True)


def series(name, number):
    return series_of(name, number, header("notice", "P1"))


def prepare_and_report(node):
    job = run(node, JobState.PREPARE, steps.prepare)
    assert job.state is JobState.REPORT
    return run(node, JobState.REPORT, steps.report)


def documents(node):
    with node.sessions() as session:
        rows = session.scalars(
            select(ResultObject)
            .where(ResultObject.sop_class_uid == Comprehensive3DSRStorage)
            .order_by(ResultObject.id)
        ).all()
    return [
        dcmread(BytesIO(object_path(node.settings.results_folder, row.sha256).read_bytes())) for row in rows
    ]


def test_the_reason_arrives_and_the_job_ends_as_not_gradable(node, pacs):
    receive(node, series("flair", 1))
    job = prepare_and_report(node)
    assert (job.state, job.reason_code) == (JobState.DELIVER, "missing_t1ce_t2")
    deliveries.run(node)
    assert_each_arrived_once(node, pacs)
    classes = [stored.sop_class_uid for stored in pacs.instances]
    assert classes == [SecondaryCaptureImageStorage, Comprehensive3DSRStorage]
    with node.sessions() as session:
        (standing,) = study_standings(session)
    assert (standing.job_state, standing.reason_code) == (JobState.NOT_GRADABLE, "missing_t1ce_t2")
    assert (standing.grade, standing.probability, standing.delivered) == (None, None, (2, 2))
    text = render_text(documents(node)[0])
    assert f"AI result: NOT GRADED - {standing.reason}" in text
    assert "Received: series 1, looks like FLAIR" in text
    assert CANARY not in text


def test_without_the_setting_nothing_is_said(make_node, pacs):
    node = make_node(series_wait=timedelta(0), destinations=(destination(pacs),))
    receive(node, series("flair", 1))
    assert run(node, JobState.PREPARE, steps.prepare).state is JobState.NOT_GRADABLE
    with node.sessions() as session:
        assert session.scalars(select(Result)).all() == []


def test_without_destination_the_job_ends(make_node):
    node = make_node(series_wait=timedelta(0), report_not_graded=True)
    receive(node, series("flair", 1))
    prepare_and_report(node)
    job = run(node, JobState.DELIVER, deliver)
    assert (job.state, job.reason_code) == (JobState.NOT_GRADABLE, "missing_t1ce_t2")


def test_the_same_reason_is_said_once(node, pacs):
    receive(node, series("flair", 1))
    prepare_and_report(node)
    deliveries.run(node)
    receive(node, series("flair", 9)[:1])
    job = prepare_and_report(node)
    assert (job.state, job.result_id, job.reason_code) == (JobState.NOT_GRADABLE, 1, "missing_t1ce_t2")
    assert len(pacs.instances) == 2


def test_the_rest_of_an_answer_that_was_held_half_delivered_is_sent_after_a_release(node, pacs):
    receive(node, series("flair", 1))
    prepare_and_report(node)
    with node.sessions.begin() as session:
        session.execute(update(Delivery).where(Delivery.id == 1).values(state=DeliveryState.SENT))
        hold_study(session, session.get_one(Study, 1), f"{INCOMPLETE}: the longest wait is over")
        release_study(session, 1, "Dr. A")
    job = prepare_and_report(node)
    assert (job.state, job.result_id) == (JobState.DELIVER, 1)
    deliveries.run(node)
    assert [stored.sop_class_uid for stored in pacs.instances] == [Comprehensive3DSRStorage]


def test_another_reason_replaces_the_first(node, pacs):
    receive(node, series("flair", 1))
    prepare_and_report(node)
    deliveries.run(node)
    receive(node, series("t2", 2))
    assert prepare_and_report(node).reason_code == "missing_t1ce"
    deliveries.run(node)
    first, second = documents(node)
    assert first.SOPInstanceUID in str(second.PredecessorDocumentsSequence)
    assert len(pacs.instances) == 4
    with node.sessions() as session:
        assert session.scalars(select(Result.predecessor_id).order_by(Result.id)).all() == [None, 1]


def test_an_answer_called_off_before_it_was_sent_is_sent_by_the_next(node, pacs):
    receive(node, series("flair", 1))
    prepare_and_report(node)
    receive(node, series("flair", 9)[:1])
    job = prepare_and_report(node)
    assert (job.state, job.result_id) == (JobState.DELIVER, 1)
    deliveries.run(node)
    assert_each_arrived_once(node, pacs)
    with node.sessions() as session:
        states = session.scalars(select(Job.state).order_by(Job.id)).all()
    assert states == [JobState.SUPERSEDED, JobState.NOT_GRADABLE]


def test_a_report_that_failed_is_built_again_with_the_same_bytes(node, monkeypatch):
    receive(node, series("flair", 1))
    run(node, JobState.PREPARE, steps.prepare)
    built: list[list[str]] = []
    record = reporting.record_answer

    def lose_the_first(*arguments):
        built.append([item.sha256 for item in arguments[-1]])
        if len(built) == 1:
            raise ConnectionError
        record(*arguments)

    monkeypatch.setattr("worker.study.not_graded.record_answer", lose_the_first)
    with pytest.raises(ConnectionError):
        run(node, JobState.REPORT, steps.report)
    with node.sessions.begin() as session:
        session.execute(update(Job).values(not_before=None))
    assert run(node, JobState.REPORT, steps.report).state is JobState.DELIVER
    assert built[0] == built[1]


@pytest.mark.parametrize("is_sent", [True, False])
def test_the_grade_that_comes_later_replaces_the_notice_if_that_went_out(node, is_sent):
    receive(node, series("flair", 1))
    prepare_and_report(node)
    if is_sent:
        with node.sessions.begin() as session:
            session.execute(update(Delivery).values(state=DeliveryState.SENT))
    receive(node, [*series("t2", 2), *series("t1ce", 3)])
    assert run(node, JobState.PREPARE, steps.prepare).state is JobState.GRADE
    with node.sessions() as session:
        states = session.scalars(select(Job.state).order_by(Job.id)).all()
        predecessor = find_predecessor(session, 1)
    if is_sent:
        assert predecessor is not None
        assert predecessor.sop_instance_uid == documents(node)[0].SOPInstanceUID
    else:
        assert states[0] is JobState.SUPERSEDED
        assert predecessor is None
