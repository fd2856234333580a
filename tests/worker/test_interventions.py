"""What a person can say to a study that stands still, and what nobody can say."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from dicom_node.audit import AuditEventId
from tests.command import gliograde
from tests.worker.test_indexing import freeze_now, make_study
from worker.answers.study_story import tell_story
from worker.records import ledger
from worker.records.database import AuditRecord, Job, Study, StudyVersion, WorkDecision
from worker.states import Completeness, JobState, StudyState
from worker.study.freezing import CompletenessRule, freeze_complete_studies, manifest_digest
from worker.study.interventions import InterventionError, Retried, release_study, retry_study
from worker.upkeep.audit import copy_audit_trail

NOW = timedelta(0)
LATE = CompletenessRule(NOW, NOW, hold_incomplete=True, source_ae_titles={"SCANNER"})


@pytest.fixture
def node(make_node):
    return make_node()


def hold_job(node, job_id=1):
    """The job fails until its last attempt."""
    with node.sessions.begin() as session:
        claim = ledger.claim_job(session, job_id, JobState.PREPARE, "here", timedelta(minutes=1), 3)
        assert claim is not None
        ledger.fail_step(session, claim, "OSError", maximum_attempts=1)


def hold_incomplete(node):
    make_study(node.sessions, node.spool)
    with node.sessions.begin() as session:
        assert freeze_complete_studies(session, LATE) == []


def say(node, decide):
    with node.sessions.begin() as session:
        return decide(session, 1, "Dr. A")


def job_states(node):
    with node.sessions() as session:
        return session.scalars(select(Job.state).order_by(Job.id)).all()


def test_a_held_job_is_retried_as_a_new_version_as_often_as_it_is_asked(node):
    make_study(node.sessions, node.spool)
    freeze_now(node.sessions)
    for version in (2, 3):
        hold_job(node, version - 1)
        assert say(node, retry_study) == Retried(version)
    assert job_states(node) == [JobState.HELD, JobState.HELD, JobState.PREPARE]
    with node.sessions() as session:
        decisions = session.execute(select(WorkDecision.decision, WorkDecision.decided_by)).all()
    assert decisions == [("retry", "Dr. A")] * 2


def test_a_study_that_is_not_gradable_is_retried(node):
    make_study(node.sessions, node.spool)
    freeze_now(node.sessions)
    with node.sessions.begin() as session:
        claim = ledger.claim_job(session, 1, JobState.PREPARE, "here", timedelta(minutes=1), 3)
        assert claim is not None
        ledger.advance_job(session, claim, JobState.NOT_GRADABLE, reason_code="missing_t1ce", reason="none")
    assert say(node, retry_study) == Retried(2)


def test_what_goes_on_by_itself_is_not_retried(node):
    make_study(node.sessions, node.spool)
    with pytest.raises(InterventionError, match="still arriving"):
        say(node, retry_study)
    freeze_now(node.sessions)
    with pytest.raises(InterventionError, match="doesn't stand still: its job is in state prepare"):
        say(node, retry_study)
    with pytest.raises(InterventionError, match="isn't held"):
        say(node, release_study)
    with node.sessions() as session:
        assert session.scalars(select(WorkDecision)).all() == []


def test_an_incomplete_study_is_released_as_it_is(node):
    hold_incomplete(node)
    with pytest.raises(InterventionError, match="itself is held: incomplete"):
        say(node, retry_study)
    assert say(node, release_study) == 1
    with node.sessions() as session:
        study, version = session.get_one(Study, 1), session.scalars(select(StudyVersion)).one()
    assert (study.state, study.hold_reason) == (StudyState.STABLE, None)
    assert version.completeness is Completeness.UNVERIFIED
    assert job_states(node) == [JobState.PREPARE]


def test_a_doubt_about_identity_is_never_released_nor_hidden_by_an_incomplete_study(node):
    hold_incomplete(node)
    make_study(node.sessions, node.spool, 1, PatientID="P2")
    with pytest.raises(InterventionError, match="identity is in doubt \\(patient_conflict"):
        say(node, release_study)
    assert job_states(node) == []


def test_a_retry_counts_in_the_manifest_as_itself():
    pairs = [("1.2", "aa")]
    assert manifest_digest(pairs, [], []) == manifest_digest(pairs)
    digests = {manifest_digest(pairs), manifest_digest(pairs, [1]), manifest_digest(pairs, [], [1])}
    assert len(digests) == 3


def test_the_commands_decide_once_and_leave_an_audit_event(node, database_url):
    hold_incomplete(node)
    environment = {
        "GLIOGRADE_DATABASE_URL": database_url,
        "GLIOGRADE_DATA_FOLDER": str(node.settings.data_folder),
    }
    released = gliograde("release", 1, "--by", "Dr. A", **environment)
    assert (released.returncode, released.stdout) == (0, "study 1 is released and graded anew as version 1\n")
    again = gliograde("release", 1, **environment)
    assert (again.returncode, "isn't held" in again.stderr) == (2, True)
    hold_job(node)
    assert gliograde("retry", 1, "--by", "Dr. A", **environment).returncode == 0
    copy_audit_trail(node)
    with node.sessions() as session:
        (event_id,) = set(session.scalars(select(AuditRecord.event_id)))
        events = tell_story(session, 1).events
    assert event_id == AuditEventId.PROCEDURE_RECORD
    assert sorted((event.detail, event.source) for event in events) == [
        ("released", "Dr. A"),
        ("retried", "Dr. A"),
    ]
