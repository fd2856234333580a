from datetime import timedelta

import pytest
from sqlalchemy import select, update

from tests.worker.test_indexing import freeze_now, make_study
from worker.records.database import Job, StepRun
from worker.records.ledger import StaleClaimError
from worker.states import JobState
from worker.study.claimed import ClaimedStep, take_claim


@pytest.fixture
def job_id(sessions, spool):
    make_study(sessions, spool)
    freeze_now(sessions)
    return 1


def take(node, job_id):
    claim = take_claim(node, job_id, JobState.PREPARE)
    assert claim is not None
    return claim


def read_job(node):
    with node.sessions() as session:
        return session.scalars(select(Job)).one()


def test_rows_and_state_are_written_together_or_not_at_all(make_node, job_id):
    node = make_node()

    def write(session):
        session.execute(update(StepRun).values(detail="written"))
        raise RuntimeError

    with pytest.raises(RuntimeError), ClaimedStep(node, take(node, job_id)) as step:
        step.advance(JobState.GRADE, write)
    job = read_job(node)
    assert (job.state, job.attempts) == (JobState.PREPARE, 1)
    with node.sessions() as session:
        assert session.scalars(select(StepRun.detail)).one() == "RuntimeError"


def test_an_error_keeps_its_message_out_of_the_ledger(make_node, job_id):
    node = make_node(maximum_attempts=1)
    with pytest.raises(ValueError), ClaimedStep(node, take(node, job_id)):
        raise ValueError("ZZCANARY^PATIENT")
    job = read_job(node)
    assert job.state is JobState.HELD
    assert "ZZCANARY" not in job.reason


def test_the_lease_is_renewed_while_the_step_runs(make_node, job_id):
    node = make_node(lease=timedelta(seconds=0.3))
    claim = take(node, job_id)
    first = read_job(node).lease_until
    with ClaimedStep(node, claim) as step:
        while read_job(node).lease_until == first:
            pass
        step.advance(JobState.GRADE)
    assert read_job(node).state is JobState.GRADE


def test_a_lost_claim_leaves_the_new_holder_alone(make_node, job_id):
    node = make_node()
    claim = take(node, job_id)
    with node.sessions.begin() as session:
        session.execute(update(Job).values(fence=Job.fence + 1))
    with pytest.raises(StaleClaimError), ClaimedStep(node, claim) as step:
        step.advance(JobState.GRADE)
    assert read_job(node).attempts == 1
    assert read_job(node).state is JobState.PREPARE
