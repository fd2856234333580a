from datetime import timedelta

from sqlalchemy import select, text

from tests.worker.test_indexing import freeze_now, make_study
from worker.records.database import Heartbeat
from worker.records.heartbeat import beat, forget_silent, own_name, retire, silent_workers
from worker.states import JobState
from worker.study.claimed import take_claim

MINUTE = timedelta(minutes=1)


def age(session, interval):
    session.execute(text(f"UPDATE heartbeat SET beaten_at = now() - interval '{interval}'"))


def test_a_worker_that_beats_is_not_silent_and_one_that_stopped_is(sessions):
    with sessions.begin() as session:
        beat(session, "a:1", "cpu")
        age(session, "2 minutes")
        beat(session, "b:2", "gpu")
    with sessions() as session:
        assert silent_workers(session, MINUTE) == ["a:1"]
    with sessions.begin() as session:
        beat(session, "a:1", "cpu")
        assert silent_workers(session, MINUTE) == []


def test_a_worker_that_is_busy_is_not_silent(make_node, sessions, spool):
    make_study(sessions, spool)
    freeze_now(sessions)
    with sessions.begin() as session:
        beat(session, own_name(), "cpu")
        age(session, "2 minutes")
    assert take_claim(make_node(), 1, JobState.PREPARE) is not None
    with sessions() as session:
        assert silent_workers(session, MINUTE) == []


def test_rows_go_with_a_clean_end_and_after_a_day(sessions):
    with sessions.begin() as session:
        beat(session, "a:1", "cpu")
        retire(session, "a:1")
        assert session.scalars(select(Heartbeat)).all() == []
        beat(session, "b:2", "cpu")
        age(session, "2 days")
        forget_silent(session)
        assert session.scalars(select(Heartbeat)).all() == []
