from contextlib import suppress
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text, update

from tests.worker.test_indexing import freeze_now, make_study
from worker.records import ledger
from worker.records.database import Job, StepRun
from worker.records.ledger import StaleClaimError
from worker.states import ACTIVE, JOB_TRANSITIONS, STEPS, JobState, StepOutcome

LEASE = timedelta(minutes=1)


@pytest.fixture
def job_id(sessions, spool):
    make_study(sessions, spool)
    freeze_now(sessions)
    with sessions() as session:
        return session.scalars(select(Job.id)).one()


def claim(sessions, job_id, state=JobState.PREPARE, maximum_attempts=3, lease=LEASE):
    with sessions.begin() as session:
        return ledger.claim_job(session, job_id, state, "here", lease, maximum_attempts)


def read_job(sessions, job_id):
    with sessions() as session:
        return session.get_one(Job, job_id)


def test_second_claim_gets_nothing(sessions, job_id):
    assert claim(sessions, job_id) is not None
    assert claim(sessions, job_id) is None


def test_claim_of_another_state_gets_nothing(sessions, job_id):
    assert claim(sessions, job_id, JobState.GRADE) is None


def test_fifty_hints_give_one_claim(sessions, job_id):
    assert sum(claim(sessions, job_id) is not None for _ in range(50)) == 1


def test_zombie_cannot_write_back(sessions, job_id):
    zombie = claim(sessions, job_id, lease=timedelta(0))
    second = claim(sessions, job_id)
    with sessions.begin() as session:
        ledger.advance_job(session, second, JobState.GRADE)
    with pytest.raises(StaleClaimError), sessions.begin() as session:
        ledger.advance_job(session, zombie, JobState.NOT_GRADABLE)
    with pytest.raises(StaleClaimError), sessions.begin() as session:
        ledger.renew_lease(session, zombie, LEASE)
    assert read_job(sessions, job_id).state is JobState.GRADE


def test_advancing_resets_attempts_and_ends_the_run(sessions, job_id):
    held = claim(sessions, job_id)
    with sessions.begin() as session:
        ledger.advance_job(session, held, JobState.GRADE, result_uid="r")
    job = read_job(sessions, job_id)
    assert (job.attempts, job.lease_until, job.result_uid) == (0, None, "r")
    with sessions() as session:
        run = session.scalars(select(StepRun)).one()
    assert (run.step, run.outcome) == (JobState.PREPARE, StepOutcome.DONE)
    assert run.finished_at >= run.started_at


def test_a_step_that_fails_three_times_is_held(sessions, job_id):
    for _ in range(3):
        held = claim(sessions, job_id)
        with sessions.begin() as session:
            ledger.fail_step(session, held, "ValueError", maximum_attempts=3)
            session.execute(update(Job).values(not_before=None))
    job = read_job(sessions, job_id)
    assert job.state is JobState.HELD
    assert "ValueError" in job.reason
    assert claim(sessions, job_id) is None


def test_a_failed_step_waits_before_it_is_claimed_again(sessions, job_id):
    held = claim(sessions, job_id)
    with sessions.begin() as session:
        ledger.fail_step(session, held, "ValueError", maximum_attempts=3)
    assert claim(sessions, job_id) is None


def test_worker_lost_in_the_last_attempt_is_held(sessions, job_id):
    for _ in range(3):
        assert claim(sessions, job_id, lease=timedelta(0)) is not None
    assert claim(sessions, job_id) is None
    with sessions.begin() as session:
        assert ledger.hold_exhausted_jobs(session, 3) == [job_id]
    assert read_job(sessions, job_id).reason_code == "worker_lost"


def test_postponing_counts_no_attempt(sessions, job_id):
    held = claim(sessions, job_id)
    with sessions.begin() as session:
        ledger.postpone_job(session, held, timedelta(0), "PACS away")
    assert read_job(sessions, job_id).attempts == 0
    assert claim(sessions, job_id) is not None


def test_hints_are_given_once_until_they_grow_old(sessions, job_id):
    with sessions.begin() as session:
        assert ledger.take_due_hints(session, LEASE) == [ledger.Hint(job_id, JobState.PREPARE)]
    with sessions.begin() as session:
        assert ledger.take_due_hints(session, LEASE) == []
    with sessions.begin() as session:
        assert len(ledger.take_due_hints(session, timedelta(0))) == 1


def test_a_claimed_job_is_not_hinted(sessions, job_id):
    claim(sessions, job_id)
    with sessions.begin() as session:
        assert ledger.take_due_hints(session, timedelta(0)) == []


def test_transitions_have_no_way_back():
    order = list(JobState)
    for state, following in JOB_TRANSITIONS.items():
        assert all(order.index(next_state) > order.index(state) for next_state in following)
    assert set(ACTIVE) == set(STEPS)


ACTIONS = st.lists(
    st.sampled_from(["claim", "lose", "fail", "postpone", "supersede", "hold", *JobState]), max_size=12
)


def act(session, action, job, held):
    """Do one thing to the job; returns the claim that is held afterwards."""
    if action == "claim":
        return ledger.claim_job(session, job.id, job.state, "here", LEASE, 3) or held
    if action == "lose":
        session.execute(update(Job).values(lease_until=text("now() - interval '1 second'")))
    elif action == "supersede":
        ledger.supersede_jobs(session, [job.id])
    elif action == "hold":
        ledger.hold_exhausted_jobs(session, 3)
    elif held is not None and action == "fail":
        ledger.fail_step(session, held, "ValueError", 3)
    elif held is not None and action == "postpone":
        ledger.postpone_job(session, held, timedelta(0), "later")
    elif held is not None:
        ledger.advance_job(session, held, JobState(action))
    return held


@given(actions=ACTIONS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_states_never_go_back(sessions, job_id, actions):
    """Any order of claims, losses, failures and moves: states follow the table, the fence only rises."""
    with sessions.begin() as session:
        session.execute(text("DELETE FROM step_run"))
        session.execute(
            update(Job).values(state=JobState.PREPARE, fence=0, attempts=0, lease_until=None, not_before=None)
        )
    held, seen = None, [(JobState.PREPARE, 0)]
    for action in actions:
        with suppress(StaleClaimError, ValueError), sessions.begin() as session:
            held = act(session, action, read_job(sessions, job_id), held)
        after = read_job(sessions, job_id)
        seen.append((after.state, after.fence))
    for (state, fence), (next_state, next_fence) in pairwise(seen):
        assert next_fence >= fence
        assert next_state is state or next_state in JOB_TRANSITIONS[state]
