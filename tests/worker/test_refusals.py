"""What a destination refused for good: sent again by a person's word, or let be by one."""

from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry
from pydicom import dcmread
from pydicom.uid import CTImageStorage, SecondaryCaptureImageStorage
from sqlalchemy import select, update

from dicom_node.peers.stand_in_pacs import StandInPacs
from model.grade import Contrast
from tests.command import gliograde
from tests.worker.deliveries import (
    deliveries,
    destination,
    job_to_deliver,
    make_object,
    pass_time,
    run,
    states,
)
from tests.worker.test_delivering import pynetdicom_leaves_sockets
from tests.worker.test_indexing import freeze_now, make_study
from tests.worker.test_purging import found, purge, received
from worker.answers.study_story import tell_story
from worker.commands.doctor_ledger import examine_ledger
from worker.records import ledger
from worker.records.database import Job, Result, SeriesRole, StudyVersion, WorkDecision
from worker.states import DeliveryState, JobState
from worker.study.interventions import InterventionError, Retried, dismiss_study, retry_study
from worker.study.reporting import object_path
from worker.upkeep.audit import copy_audit_trail
from worker.upkeep.metrics import LedgerCollector

IMAGES_ONLY = [SecondaryCaptureImageStorage]


@pytest.fixture
def objects():
    """The second is of a class that a PACS for images alone does not take, nor any of ours at first."""
    return [make_object(), make_object(CTImageStorage), make_object(CTImageStorage)]


@pytest.fixture
def refused(make_node, tmp_path, objects):
    """A node whose PACS took the image and refused the rest, and the PACS once it takes all."""
    with StandInPacs(tmp_path / "pacs", stored_classes=IMAGES_ONLY) as pacs:
        place = destination(pacs)
        node = make_node(destinations=(place,))
        job_to_deliver(node, *objects)
        run(node)
    assert jobs(node) == [(JobState.HELD, "delivery_failed")]
    everything = [*IMAGES_ONLY, CTImageStorage]
    with StandInPacs(tmp_path / "mended", port=place.port, stored_classes=everything) as mended:
        yield node, mended


def jobs(node):
    with node.sessions() as session:
        return [tuple(row) for row in session.execute(select(Job.state, Job.reason_code).order_by(Job.id))]


def job_states(node):
    return [state for state, _ in jobs(node)]


def say(node, decide, *words):
    with node.sessions.begin() as session:
        return decide(session, 1, "Dr. A", *words)


def alarms(node):
    """What keeps an alert on: objects refused at `pacs`, jobs that wait for a person, doctor's verdict."""
    engine, registry = node.sessions.kw["bind"], CollectorRegistry()
    registry.register(LedgerCollector(engine, node.settings))
    labels = {"destination": "pacs", "state": "failed"}
    return (
        registry.get_sample_value("gliograde_deliveries", labels),
        registry.get_sample_value("gliograde_jobs", {"state": "held"}),
        {item.check: item.verdict.value for item in examine_ledger(engine, node.settings)}["held"],
    )


def test_what_was_refused_arrives_once_as_it_was_made_and_nothing_else_does(refused, objects):
    node, mended = refused
    assert alarms(node) == (2, 1, "warning")
    assert say(node, retry_study) == Retried(2, 2)
    assert alarms(node) == (0, 0, "ok")
    assert [(item.state, item.attempts, item.failed_at) for item in deliveries(node)[1:]] == [
        (DeliveryState.PENDING, 0, None)
    ] * 2
    run(node)
    assert states(node) == [DeliveryState.SENT] * 3
    assert jobs(node) == [(JobState.HELD, "delivery_failed"), (JobState.DONE, None)]
    assert dict(mended.receptions) == {item.sop_instance_uid: 1 for item in objects[1:]}
    for stored, item in zip(mended.instances, objects[1:], strict=True):
        assert dcmread(stored.path) == dcmread(object_path(node.settings.results_folder, item.sha256))
    with node.sessions() as session:
        assert session.scalars(select(Result.id)).all() == [1]
    with pytest.raises(InterventionError, match="nothing was refused; its job is in state done"):
        say(node, retry_study)
    assert purge(node, results=True)


def test_what_is_refused_again_is_held_again_and_may_be_retried_as_often(refused):
    node, mended = refused
    mended._status_hook = lambda _: 0x0122
    for version in (2, 3):
        assert say(node, retry_study) == Retried(version, 2)
        run(node)
        assert jobs(node)[-1] == (JobState.HELD, "delivery_failed")
    mended._status_hook = None
    say(node, retry_study)
    run(node)
    assert jobs(node)[-1] == (JobState.DONE, None)
    assert len(mended.instances) == 2


def test_the_job_that_goes_on_shows_what_the_held_one_saw(refused):
    node, _ = refused
    with node.sessions.begin() as session:
        session.add(SeriesRole(job_id=1, contrast=Contrast.T1CE, series_id=1, confidence=0.9, evidence="x"))
    say(node, retry_study)
    with node.sessions() as session:
        rows = session.execute(select(SeriesRole.job_id, SeriesRole.contrast, SeriesRole.evidence)).all()
        (step, *_) = tell_story(session, 1).versions[-1].steps
    assert sorted(tuple(row) for row in rows) == [(1, Contrast.T1CE, "x"), (2, Contrast.T1CE, "x")]
    assert step.claimed_by == "Dr. A"


def test_one_destination_is_sent_to_again_and_the_job_is_held_for_the_other(make_node, tmp_path, objects):
    with (
        StandInPacs(tmp_path / "one", stored_classes=IMAGES_ONLY) as one,
        StandInPacs(tmp_path / "two", stored_classes=IMAGES_ONLY) as two,
    ):
        place = destination(one, "one")
        node = make_node(destinations=(place, destination(two, "two")))
        job_to_deliver(node, *objects)
        run(node)
    taken = [CTImageStorage]
    with StandInPacs(tmp_path / "mended", port=place.port, stored_classes=taken) as mended:
        with pytest.raises(InterventionError, match="nothing was refused by three"):
            say(node, retry_study, "three")
        assert say(node, retry_study, "one") == Retried(2, 2)
        run(node)
        assert len(mended.instances) == 2
    assert jobs(node)[-1] == (JobState.HELD, "delivery_failed")
    assert say(node, dismiss_study, "two") == 2
    assert jobs(node)[-1] == (JobState.DONE, "dismissed")


@pynetdicom_leaves_sockets
def test_a_job_that_waits_for_another_destination_sends_again_as_it_is(make_node, tmp_path, objects):
    with StandInPacs(tmp_path / "gone") as gone:
        down = destination(gone, "down")
    with StandInPacs(tmp_path / "pacs", stored_classes=IMAGES_ONLY) as pacs:
        up = destination(pacs)
        node = make_node(destinations=(down, up))
        job_to_deliver(node, *objects)
        run(node)
    assert job_states(node) == [JobState.DELIVER]
    with StandInPacs(tmp_path / "mended", port=up.port, stored_classes=[CTImageStorage]) as mended:
        assert say(node, retry_study) == Retried(1, 2)
        run(node)
        assert len(mended.instances) == 2
    with pytest.raises(InterventionError, match="its job is in state deliver"):
        say(node, retry_study)
    everything = [*IMAGES_ONLY, CTImageStorage]
    with StandInPacs(tmp_path / "back", port=down.port, stored_classes=everything) as back:
        pass_time(node)
        run(node)
        assert len(back.instances) == 3
    assert job_states(node) == [JobState.DONE]


def test_a_result_whose_delivery_failed_of_itself_is_delivered(refused):
    node, _ = refused
    with node.sessions.begin() as session:
        session.execute(update(Job).values(reason_code="deliver_failed"))
    say(node, dismiss_study)
    with node.sessions.begin() as session:
        session.execute(update(Job).where(Job.id == 2).values(state=JobState.HELD))
        delivery = deliveries(node)[0]
        delivery.state = DeliveryState.PENDING
        session.merge(delivery)
    assert say(node, retry_study) == Retried(3, 0)
    run(node)
    assert states(node) == [DeliveryState.SENT, DeliveryState.DISMISSED, DeliveryState.DISMISSED]
    assert job_states(node)[-1] is JobState.DONE


def test_a_result_found_again_while_it_was_sent_is_sent_again_too(refused):
    node, mended = refused
    make_study(node.sessions, node.spool, 1, study="1.2.3", series="1.2.3.1")
    with pytest.raises(InterventionError, match="still arriving"):
        say(node, retry_study)
    freeze_now(node.sessions)
    with node.sessions.begin() as session:
        session.execute(update(Job).where(Job.id == 2).values(state=JobState.DONE, result_id=1))
    assert say(node, retry_study) == Retried(3, 2)
    run(node)
    assert len(mended.instances) == 2
    assert job_states(node) == [JobState.HELD, JobState.DONE, JobState.DONE]


def test_what_is_dismissed_alarms_nobody_and_may_be_purged(refused):
    node, mended = refused
    assert found(node) == []
    assert say(node, dismiss_study) == 2
    assert states(node) == [DeliveryState.SENT, DeliveryState.DISMISSED, DeliveryState.DISMISSED]
    assert jobs(node) == [(JobState.HELD, "delivery_failed"), (JobState.DONE, "dismissed")]
    assert alarms(node) == (0, 0, "ok")
    with node.sessions() as session:
        assert session.execute(select(WorkDecision.decision, WorkDecision.decided_by)).all() == [
            ("dismiss", "Dr. A")
        ]
    for decide in (dismiss_study, retry_study):
        with pytest.raises(InterventionError, match="nothing was refused"):
            say(node, decide)
    run(node)
    assert mended.instances == ()
    assert purge(node, results=True)
    assert received(node) == []


def test_an_older_result_that_was_refused_is_dismissed_beside_a_newer_one(refused):
    node, _ = refused
    make_study(node.sessions, node.spool, 1, study="1.2.3", series="1.2.3.1")
    freeze_now(node.sessions)
    with node.sessions.begin() as session:
        session.execute(update(Job).where(Job.id == 2).values(state=JobState.DONE, ended_at=Job.created_at))
    with pytest.raises(InterventionError, match="doesn't stand still"):
        say(node, retry_study)
    assert found(node) == []
    say(node, dismiss_study)
    assert found(node) == [1]
    with node.sessions() as session:
        assert session.scalars(select(StudyVersion.number)).all() == [1, 2]


def test_a_study_without_refusals_has_nothing_to_dismiss(make_node):
    node = make_node()
    make_study(node.sessions, node.spool)
    freeze_now(node.sessions)
    with node.sessions.begin() as session:
        claim = ledger.claim_job(session, 1, JobState.PREPARE, "here", timedelta(minutes=1), 3)
        assert claim is not None
        ledger.fail_step(session, claim, "OSError", maximum_attempts=1)
    with pytest.raises(InterventionError, match="of study 1 nothing was refused by pacs"):
        say(node, dismiss_study, "pacs")
    with pytest.raises(InterventionError, match="no result that pacs could have refused"):
        say(node, retry_study, "pacs")


def test_the_commands_send_again_or_dismiss_once_and_the_audit_trail_says_why(refused, database_url):
    node, mended = refused
    environment = {
        "GLIOGRADE_DATABASE_URL": database_url,
        "GLIOGRADE_DATA_FOLDER": str(node.settings.data_folder),
    }
    again = gliograde("retry", 1, "--to", "pacs", "--by", "Dr. A", **environment)
    assert again.stdout == "study 1 goes on as version 2: 2 refused objects are sent again\n", again.stderr
    mended._status_hook = lambda _: 0x0122
    run(node)
    assert gliograde("dismiss", 1, "--reason", " ", **environment).returncode == 2
    done = gliograde("dismiss", 1, "--reason", "viewer is retired", "--by", "Dr. B", **environment)
    assert done.stdout == "study 1 has 2 refused objects dismissed\n", done.stderr
    twice = gliograde("dismiss", 1, "--reason", "x", **environment)
    assert (twice.returncode, twice.stderr) == (2, "gliograde: of study 1 nothing was refused\n")
    copy_audit_trail(node)
    with node.sessions() as session:
        said = [(event.detail, event.source) for event in tell_story(session, 1).events]
    assert [item for item in said if item[1].startswith("Dr.")] == [
        ("retried for pacs", "Dr. A"),
        ("dismissed: viewer is retired", "Dr. B"),
    ]
