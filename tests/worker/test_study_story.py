"""One study's story: what came, what was made of it, and where it went."""

import io
import json
from datetime import timedelta

import pytest
from rich.console import Console
from sqlalchemy import select, text

from dicom_node.audit import AuditEvent, AuditEventId
from dicom_node.peers.stand_in_pacs import StandInPacs
from tests.command import gliograde
from tests.worker.deliveries import destination, job_to_deliver, make_object, run
from tests.worker.test_decisions import decide, prepare, receive
from tests.worker.test_delivering import deliver_step
from worker.answers.story_page import story_json, story_page
from worker.answers.study_story import tell_story
from worker.records.database import AuditRecord, study_of_record
from worker.states import DeliveryState, JobState, StepOutcome, StudyState
from worker.upkeep.audit import copy_audit_trail


def story_of(node, study_id=1):
    with node.sessions() as session:
        return tell_story(session, study_id)


def page_of(story):
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(story_page(story))
    return console.export_text()


@pytest.fixture
def delivered(make_node, tmp_path):
    with StandInPacs(tmp_path / "pacs") as pacs:
        node = make_node(destinations=(destination(pacs),))
        deliver_step(node, job_to_deliver(node, make_object(), make_object()))
        run(node)
    copy_audit_trail(node)
    return node


def test_a_delivered_study_is_told_from_the_first_instance_to_the_pacs(delivered):
    story = story_of(delivered)
    assert (story.state, story.instances, story.senders) == (StudyState.STABLE, 3, ["SCANNER"])
    (version,) = story.versions
    assert (version.number, version.instances, version.job_state) == (1, 3, JobState.DONE)
    # the job asks once before and once after its objects were sent
    assert [run.step for run in version.steps] == ["prepare", "grade", "report", "deliver", "deliver"]
    assert [run.outcome for run in version.steps[:3]] == [StepOutcome.DONE] * 3
    assert all(run.seconds is not None for run in version.steps[:3])
    assert version.result is not None
    assert (version.result.grade, version.result.probability) == ("HGG", pytest.approx(0.9))
    assert [item.state for item in version.deliveries] == [DeliveryState.SENT] * 2
    assert {event.target for event in story.events} == {"PACS"}
    assert sum(event.instances for event in story.events if "Transferred" in event.event) == 2


def test_page_and_json_say_the_same(delivered):
    story = story_of(delivered)
    told = json.loads(story_json(story))
    assert told["versions"][0]["result"]["result_uid"] == story.versions[0].result.result_uid
    assert told["first_instance_at"] == story.first_instance_at.isoformat().replace("+00:00", "Z")
    page = page_of(story)
    assert "result: HGG, P(HGG) 0.900" in page
    assert "trained on simulated tumours" in page
    assert "delivery to pacs: 2 sent" in page


def test_events_of_another_study_are_not_told(delivered):
    """1.2.3 is part of 1.2.33 and of 11.2.3, and a peer may write whatever it likes."""
    before = story_of(delivered).events
    transferred = AuditEventId.INSTANCES_TRANSFERRED
    for words in ('"study_instance_uid":"1.2.3"', '\\"study_instance_uid":"1.2.3"', "\0"):
        delivered.audit.write(AuditEvent(event_id=transferred, source=words, patient_id=words))
    for uid in ("1.2.33", "11.2.3"):
        delivered.audit.write(AuditEvent(event_id=transferred, study_instance_uid=uid))
    assert copy_audit_trail(delivered) == 5
    assert story_of(delivered).events == before


def test_the_events_of_a_study_are_found_by_their_index(engine):
    query = select(AuditRecord.id).where(study_of_record == "1.2.3")
    asked = query.compile(engine, compile_kwargs={"literal_binds": True})
    with engine.begin() as connection:
        # a table of a few rows is read as a whole unless that is forbidden
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        plan = "\n".join(connection.scalars(text(f"EXPLAIN {str(asked).replace(':', chr(92) + ':')}")))
    assert "ix_audit_record_study" in plan
    assert "Index Cond" in plan


def test_a_held_study_tells_why_and_both_versions_after_a_decision(make_node):
    node = make_node(series_wait=timedelta(0))
    receive(node, "flair", "t2", "T1", "T1 nochmal")
    prepare(node)
    decide(node, t1ce="4")
    story = story_of(node)
    assert [version.job_state for version in story.versions] == [JobState.HELD, JobState.PREPARE]
    assert story.versions[0].reason_code == "roles_uncertain"
    assert [item.series_number for item in story.series] == [1, 2, 3, 4]
    assert all(item.evidence for item in story.series)
    page = page_of(story)
    assert "job 1 is held, roles_uncertain" in page
    assert "set as t1ce by technologist" in page


def test_nothing_of_the_patient_is_told(delivered):
    story = story_of(delivered)
    for words in (page_of(story), story_json(story)):
        assert "P1" not in words
        assert "Test^Patient" not in words


def test_the_command_tells_by_number_or_uid(delivered, database_url):
    environment = {
        "GLIOGRADE_DATABASE_URL": database_url,
        "GLIOGRADE_DATA_FOLDER": str(delivered.settings.data_folder),
    }
    by_number = gliograde("study", 1, "--json", **environment)
    assert json.loads(by_number.stdout)["study_instance_uid"] == "1.2.3"
    by_uid = gliograde("study", "1.2.3", **environment)
    assert (by_uid.returncode, "study 1, 1.2.3" in by_uid.stdout) == (0, True)
    missing = gliograde("study", 9, **environment)
    assert (missing.returncode, missing.stderr) == (2, "gliograde: there is no study 9\n")
