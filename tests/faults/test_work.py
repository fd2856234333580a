"""Faults of reliability.md part 4 that strike the ledger, the queue and the workers; real processes."""

import contextlib
import hashlib
import shutil
import signal
import socket
import threading
from collections import Counter
from datetime import timedelta

import pytest
from alembic import command
from celery import Celery
from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError

from model.card import WEIGHTS_NAME, default_checkpoint_folder
from tests.faults.processes import PATIENCE
from tests.faults.service import CANARY, wait_for
from worker.records.database import Heartbeat, Result
from worker.records.heartbeat import silent_workers
from worker.records.ledger import Hint
from worker.records.schema import _configuration, upgrade_schema
from worker.states import STEPS, JobState, StepOutcome
from worker.upkeep.hints import send_hint

pytestmark = pytest.mark.slow

KILL_OTHER_CONNECTIONS = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
)


def test_08_postgres_is_down_while_studies_are_received(service, make_study):
    """Success all the same; the index catches up, each object once."""
    studies = [make_study(), make_study()]
    service.crash_postgres()
    service.send(studies[0].files)
    service.send(studies[1].files)
    service.send(studies[1].files[:5])
    service.postgres.ensure_postgres_running()
    for study in studies:
        assert service.wait_done(study).state is JobState.DONE
    service.check(*studies)


def test_09_10_connections_die_in_the_middle_of_transactions(service, make_study):
    """No sender notices, and every transaction can be done again: one row of each, and one result.

    Connections are killed from the first object to the end of the job, and the server once in between.
    """
    study, stop, killed = make_study(), threading.Event(), []

    def kill_connections():
        while not stop.wait(0.7):
            with contextlib.suppress(OperationalError), service.engine.connect() as connection:
                killed.extend(connection.scalars(KILL_OTHER_CONNECTIONS))

    killer = threading.Thread(target=kill_connections)
    killer.start()
    try:
        service.send(study.files)
        wait_for(lambda: service.study(study), "the study's row")
        service.crash_postgres()
        service.postgres.ensure_postgres_running()
        assert service.wait_done(study).state is JobState.DONE
    finally:
        stop.set()
        killer.join()
    assert len(killed) > 10
    service.check(study)


@pytest.mark.parametrize("point", ["lost-index", "lost-prepare", "lost-report"])
def test_09_the_answer_to_a_commit_is_lost(service, make_study, point):
    """Done, and its worker can't know: it does it again, or finds it done; one row of each, one result."""
    study = make_study()
    service.kill("worker")
    service.start_worker("failing", "tests.faults.failing_worker", FAIL_AT=point)
    service.send(study.files)
    assert service.wait_done(study).state is JobState.DONE
    assert "the answer to a commit is lost" in service.log("failing")
    service.kill("failing", signal.SIGTERM)
    service.start_worker()
    service.check(study)


def test_11_redis_loses_everything(service, make_study):
    """FLUSHALL, then kill -9 of a server without persistence, and no Redis while a study arrives."""
    flushed, killed, away = make_study(), make_study(), make_study()
    service.kill("worker")
    service.send(flushed.files)
    service.redis_client().flushall()
    service.start_worker()
    service.send(killed.files)
    service.kill("redis")
    service.send(away.files)
    service.start_redis()
    for study in (flushed, killed, away):
        assert service.wait_done(study).state is JobState.DONE
    service.check(flushed, killed, away)


def test_11_redis_is_killed_while_the_only_worker_works(service, make_study):
    """The acknowledgement of its task is lost; it takes work again all the same."""
    first, second = make_study(), make_study()
    service.send(first.files)
    wait_for(lambda: grading(service, first, 1), "the grade step")
    service.kill("redis")
    wait_for(lambda: "Couldn't ack" in service.log("worker"), "the end of the step")
    service.start_redis()
    service.send(second.files)
    for study in (first, second):
        assert service.wait_done(study).state is JobState.DONE
    assert service.processes["worker"].poll() is None
    service.check(first, second)


def test_11_a_service_without_redis_works_by_polling(service, make_study):
    study = make_study()
    service.kill("worker")
    service.kill("redis")
    service.send(study.files)
    poller = service.start("poller", "worker.polling")
    assert service.wait_done(study).state is JobState.DONE
    service.check(study)
    service.kill("poller", signal.SIGTERM)
    assert poller.returncode == 0


def test_13_fifty_copies_of_every_hint(service, make_study):
    """One claim of each step, one result; the queue holds numbers only."""
    study = make_study()
    service.kill("worker")
    service.send(study.files)
    [job] = service.sweep_until_job(study)
    app = Celery(broker=service.settings.redis_url.get_secret_value())
    for state in STEPS:
        for _ in range(50):
            send_hint(app, Hint(job.id, state))
    app.close()
    redis = service.redis_client()
    queued = b"".join(message for queue in ("cpu", "gpu", "send") for message in redis.lrange(queue, 0, -1))
    redis.close()
    assert queued.count(b"worker.tasks.grade") == 50
    assert CANARY.encode() not in queued
    assert study.uid.encode() not in queued
    service.start_worker()
    service.start_worker("second")
    assert service.wait_done(study).state is JobState.DONE
    # deliver is claimed to be offered to the destinations, and by the one that ends it
    steps = [run.step for run in service.runs(job)]
    assert steps in ([*STEPS], [*STEPS, JobState.DELIVER])
    service.kill("second", signal.SIGTERM)
    service.check(study)


CHAINS = [
    ("before-prepare", "commit-prepare", "during-grade", "commit-report"),
    ("during-prepare", "after-prepare", "commit-grade", "after-report", "before-deliver"),
]


@pytest.mark.parametrize("points", CHAINS)
def test_14_workers_killed_at_each_step(service, make_study, points):
    """One result whatever the moments; the attempts at a step are its kills and one more."""
    study = make_study()
    service.kill("worker")
    service.send(study.files)
    for point in points:
        failing = service.start_worker("failing", "tests.faults.failing_worker", FAIL_AT=point)
        failing.wait(PATIENCE)
        assert failing.returncode == -signal.SIGKILL
    service.start_worker()
    job = service.wait_done(study)
    assert job.state is JobState.DONE
    kills = Counter(point.partition("-")[2] for point in points if not point.startswith("after"))
    claims = Counter(run.step.value for run in service.runs(job))
    # offering to the destinations and ending are two claims of deliver
    ended = claims.pop(JobState.DELIVER) - kills.pop(JobState.DELIVER, 0)
    assert ended in (1, 2)
    assert claims == {state.value: kills[state] + 1 for state in STEPS if state is not JobState.DELIVER}
    service.check(study)


def test_15_a_zombie_wakes_up_after_another_has_finished(service, make_study):
    """SIGSTOP past the lease, a second worker finishes, SIGCONT: the first writes nothing."""
    study = make_study()
    service.send(study.files)
    job = wait_for(lambda: service.job_in(study, JobState.GRADE), "the grade step")
    wait_for(lambda: service.runs(job)[-1].step == "grade", "its claim")
    zombie = service.processes.pop("worker")
    zombie.send_signal(signal.SIGSTOP)
    assert service.runs(job)[-1].outcome is None
    service.start_worker()
    try:
        assert service.wait_done(study).state is JobState.DONE
        zombie.send_signal(signal.SIGCONT)
        # its files may be gone by then, with the job's workspace
        refusals = ("the work is thrown away", "the failure could not be recorded")
        wait_for(lambda: any(words in service.log("worker") for words in refusals), "the refusal")
    finally:
        zombie.kill()
        zombie.wait(PATIENCE)
    grades = [run.outcome for run in service.runs(job) if run.step == "grade"]
    assert grades == [None, StepOutcome.DONE]
    service.check(study)


def test_16_a_study_that_crashes_the_network_is_held_and_the_queue_moves_on(service, make_study):
    """SIGSEGV, the kernel's SIGKILL and an abort: three attempts, then a person; the same worker goes on."""
    poison, healthy = make_study(), make_study()
    if (warm := service.inference_child()) is not None:
        warm.send_signal(signal.SIGSTOP)  # or the first attempt may be over before the blow
    service.send(poison.files)
    for attempt, number in enumerate((signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT), start=1):
        wait_for(lambda attempt=attempt: grading(service, poison, attempt), f"attempt {attempt}")
        wait_for(service.inference_child, "the child").send_signal(number)
    job = service.wait_done(poison)
    assert (job.state, job.reason_code) == (JobState.HELD, "grade_failed")
    assert "InferenceLostError" in job.reason
    service.send(healthy.files)
    assert service.wait_done(healthy).state is JobState.DONE
    service.check(healthy)
    service.check(poison, results=0)


def test_16_a_study_that_raises_is_held_without_its_words(service, make_study):
    """Three attempts, then held; the exception's message names a patient and appears nowhere."""
    study = make_study()
    service.kill("worker")
    service.start_worker("failing", "tests.faults.failing_worker", FAIL_AT="raise-prepare")
    service.send(study.files)
    job = service.wait_done(study)
    assert (job.state, job.reason_code) == (JobState.HELD, "prepare_failed")
    assert len(service.runs(job)) == 3
    service.kill("failing", signal.SIGTERM)
    service.start_worker()
    assert "ValueError at failing_worker.py" in service.log("failing")
    service.check(study, results=0)


def test_17_the_accelerator_is_gone(service, make_study):
    """The job goes back uncounted, that worker exits, another one grades."""
    study = make_study()
    service.kill("worker")
    blind = service.start_worker("blind", GLIOGRADE_DEVICE="cuda", CUDA_VISIBLE_DEVICES="")
    service.send(study.files)
    blind.wait(PATIENCE)
    assert blind.returncode > 0
    [job] = service.jobs(study)
    assert (job.state, job.attempts) == (JobState.GRADE, 0)
    service.start_worker()
    assert service.wait_done(study).state is JobState.DONE
    service.check(study)


def test_40_a_changed_checkpoint_is_refused(service, tmp_path):
    """One changed byte: the worker does not start and says so in one line."""
    folder = shutil.copytree(default_checkpoint_folder(), tmp_path / "checkpoint")
    weights = folder / WEIGHTS_NAME
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    bad = service.start_worker("bad", GLIOGRADE_CHECKPOINT_FOLDER=str(folder))
    assert bad.wait(PATIENCE) > 0
    assert str(weights) in service.log("bad")
    assert "Traceback" not in service.log("bad")


def test_40_a_result_says_which_checkpoint_made_it(service, make_study):
    study = make_study()
    service.send(study.files)
    job = service.wait_done(study)
    digest = hashlib.sha256((default_checkpoint_folder() / WEIGHTS_NAME).read_bytes()).hexdigest()
    assert service.scalar(select(Result.checkpoint_sha256).where(Result.id == job.result_id)) == digest
    service.check(study)


def test_43_the_schema_changes_under_a_backlog(service, make_study):
    """A worker refuses an older and a newer schema, running or starting; the backlog is kept."""
    waiting, late = make_study(), make_study()
    service.kill("worker")
    service.kill("beat")
    service.send(waiting.files)
    service.sweep_until_job(waiting)
    with service.engine.begin() as connection:
        configuration = _configuration()
        configuration.attributes["connection"] = connection
        command.downgrade(configuration, "0001")
    assert service.start_worker("early").wait(PATIENCE) > 0
    assert "gliograde migrate" in service.log("early")
    upgrade_schema(service.engine)
    service.ensure_up()
    assert service.wait_done(waiting).state is JobState.DONE
    version = service.scalar(text("SELECT version_num FROM alembic_version"))
    service.execute("UPDATE alembic_version SET version_num = '9999'")
    try:
        service.send(late.files)
        wait_for(lambda: "no sweep" in service.log("worker"), "the running worker's refusal")
        assert service.start_worker("old").wait(PATIENCE) > 0
        assert "newer than this gliograde" in service.log("old")
        assert service.jobs(late) == []
    finally:
        service.execute(f"UPDATE alembic_version SET version_num = '{version}'")
    assert service.wait_done(late).state is JobState.DONE
    service.check(waiting, late)


def test_44_sigterm_lets_a_worker_end_its_study(service, make_study):
    """The step under way is written back at its first attempt, nothing more is taken, the process ends."""
    study = make_study()
    service.send(study.files)
    wait_for(lambda: grading(service, study, 1), "the grade step")
    service.kill("worker", signal.SIGTERM)
    assert service.processes["worker"].returncode == 0
    [job] = service.jobs(study)
    runs = [run.outcome for run in service.runs(job) if run.step == "grade"]
    assert runs == [StepOutcome.DONE]
    service.start_worker()
    assert service.wait_done(study).state is JobState.DONE
    service.check(study)


def test_a_worker_that_stops_taking_work_falls_silent(service):
    """Its heartbeat row is written by the consumer: a stopped one grows old, a clean end removes it."""

    def names():
        with service.sessions() as session:
            return silent_workers(session, timedelta(seconds=3))

    second = service.start_worker("second")
    name = f"{socket.gethostname()}:{second.pid}"
    wait_for(lambda: service.scalar(select(Heartbeat.worker).where(Heartbeat.worker == name)), "a beat")
    second.send_signal(signal.SIGSTOP)
    wait_for(lambda: name in names(), "silence")
    second.send_signal(signal.SIGCONT)
    wait_for(lambda: name not in names(), "another beat")
    service.kill("second", signal.SIGTERM)
    assert service.scalar(select(Heartbeat.worker).where(Heartbeat.worker == name)) is None


def grading(service, study, attempt):
    """Whether the study is in this attempt at its grade step."""
    job = service.job_in(study, JobState.GRADE)
    if job is None:
        return False
    runs = [run for run in service.runs(job) if run.step == "grade"]
    return len(runs) == attempt and runs[-1].outcome is None
