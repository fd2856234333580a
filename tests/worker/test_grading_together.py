"""Studies that wait for the network go through it together, and none takes another with it twice."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from tests.worker.test_indexing import freeze_now, make_study
from worker import tasks
from worker.records import ledger
from worker.records.database import Job
from worker.states import JobState
from worker.study.inference import InferenceError, InferenceLostError

PATIENCE = 20


class Meeting:
    """A grader that answers once so many studies are with it at the same time."""

    device = "cuda:0"

    def __init__(self, count, failing=(), error=None):
        self.barrier = threading.Barrier(count)
        self.failing, self.error = failing, error
        self.seen = []

    def grade(self, prepared, _folder):
        self.barrier.wait(PATIENCE)
        job_id = int(prepared.parent.name)
        self.seen.append(job_id)
        if job_id in self.failing:
            raise self.error


@pytest.fixture
def jobs(sessions, spool):
    """Four jobs that wait to be graded."""
    for number in range(1, 5):
        make_study(sessions, spool, study=f"1.2.{number}")
    freeze_now(sessions)
    with sessions.begin() as session:
        session.execute(update(Job).values(state=JobState.GRADE))
        return list(session.scalars(select(Job.id).order_by(Job.id)))


@pytest.fixture
def grade(make_node, monkeypatch):
    """Run the task with this grader; gives each job's state and attempts."""

    def run(job_id, grader, **settings):
        node = make_node(retry_delay=timedelta(0), **settings)
        monkeypatch.setattr(tasks, "current_node", lambda: node)
        monkeypatch.setattr(tasks, "current_inference", lambda: grader)
        monkeypatch.setattr(tasks, "current_shadow", lambda: None)
        monkeypatch.setattr(tasks, "send_hint", lambda *_: None)
        tasks.grade(job_id)
        with node.sessions() as session:
            return {job.id: (job.state, job.attempts) for job in session.scalars(select(Job))}

    return run


def test_an_accelerator_grades_all_that_waits_at_once(jobs, grade):
    after = grade(jobs[2], Meeting(4))
    assert after == dict.fromkeys(jobs, (JobState.REPORT, 0))


def test_no_more_than_the_setting_says(jobs, grade):
    grader = Meeting(2)
    after = grade(jobs[2], grader, grade_together=2)
    assert sorted(grader.seen) == [jobs[0], jobs[2]]
    assert [after[job_id][0] for job_id in jobs] == [JobState.REPORT, JobState.GRADE] * 2


@pytest.mark.parametrize("device", ["cpu", None])
def test_a_cpu_and_a_child_not_yet_started_grade_one_by_one(jobs, grade, device):
    grader = Meeting(1)
    grader.device = device
    grade(jobs[0], grader)
    assert grader.seen == [jobs[0]]


def test_one_that_fails_leaves_the_others_graded(jobs, grade):
    bad = jobs[1]
    after = grade(jobs[0], Meeting(4, {bad}, InferenceError("ValueError")))
    assert after.pop(bad) == (JobState.GRADE, 1)
    assert set(after.values()) == {(JobState.REPORT, 0)}


def test_what_was_lost_together_is_tried_again_one_by_one(jobs, grade, sessions):
    """A study that kills the child costs those beside it one attempt and no second."""
    after = grade(jobs[0], Meeting(4, set(jobs), InferenceLostError("exit code -9")))
    assert after == dict.fromkeys(jobs, (JobState.GRADE, 1))
    with sessions() as session:
        assert not ledger.jobs_waiting_beside(session, jobs[0], JobState.GRADE, 8)
    for job_id in jobs:
        alone = Meeting(1)
        assert grade(job_id, alone)[job_id] == (JobState.REPORT, 0)
        assert alone.seen == [job_id]


def test_what_another_worker_has_in_hand_is_not_taken(jobs, sessions):
    with sessions.begin() as session:
        ledger.claim_job(session, jobs[1], JobState.GRADE, "elsewhere", timedelta(minutes=1), 3)
        session.execute(update(Job).where(Job.id == jobs[2]).values(state=JobState.PREPARE))
    with sessions() as session:
        assert list(ledger.jobs_waiting_beside(session, jobs[0], JobState.GRADE, 8)) == [jobs[3]]
