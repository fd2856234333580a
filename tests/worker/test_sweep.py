import logging
import os
from datetime import timedelta

import pytest
from sqlalchemy import func, select, text, update

from tests.worker.deliveries import job_to_deliver, make_object
from tests.worker.samples import make_header, spool_object
from worker.records.database import Job
from worker.records.ledger import Hint
from worker.records.schema import SchemaError
from worker.states import JobState
from worker.study.reporting import object_path, write_objects
from worker.upkeep.census import missing_files, remove_orphans, take_census
from worker.upkeep.sweep import SWEEP_LOCK, sweep


def test_a_sweep_goes_from_the_spool_to_a_hint(make_node):
    node = make_node(quiet_period=timedelta(0))
    spool_object(node.spool, make_header())
    assert sweep(node) == [Hint(1, JobState.PREPARE)]
    assert sweep(node) == []


def test_only_one_sweep_works_at_a_time(make_node, engine):
    node = make_node(quiet_period=timedelta(0))
    spool_object(node.spool, make_header())
    with engine.connect() as other:
        assert other.scalar(select(func.pg_try_advisory_lock(SWEEP_LOCK)))
        assert sweep(node) == []
        other.execute(select(func.pg_advisory_unlock(SWEEP_LOCK)))
    assert len(sweep(node)) == 1


def test_a_long_sweep_keeps_no_other_worker_idle(make_node, engine):
    """What waits is offered, once, while another sweep indexes a backlog."""
    node = make_node(quiet_period=timedelta(0))
    spool_object(node.spool, make_header())
    hints = sweep(node)
    with node.sessions.begin() as session:
        session.execute(update(Job).values(hinted_at=None))
    with engine.connect() as other:
        assert other.scalar(select(func.pg_try_advisory_lock(SWEEP_LOCK)))
        assert sweep(node) == hints
        assert sweep(node) == []
        other.execute(select(func.pg_advisory_unlock(SWEEP_LOCK)))


def test_a_job_that_a_worker_has_locked_holds_up_no_hint(make_node, sessions):
    node = make_node(quiet_period=timedelta(0))
    spool_object(node.spool, make_header(study="1.2.3"))
    spool_object(node.spool, make_header(study="1.2.4", series="1.2.4.1"))
    locked, free = sweep(node)
    with sessions.begin() as session:
        session.execute(update(Job).values(hinted_at=None))
    with sessions.begin() as worker:
        worker.execute(select(Job).where(Job.id == locked.job_id).with_for_update())
        assert sweep(node) == [free]


def test_a_newer_schema_is_not_swept(make_node, sessions):
    with sessions.begin() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaError, match="newer"):
        sweep(make_node())


def test_a_row_without_a_file_is_critical(make_node, caplog):
    node = make_node()
    item = make_object()
    job_to_deliver(node, item)
    take_census(node)
    assert caplog.records == [record for record in caplog.records if record.levelno < logging.CRITICAL]
    object_path(node.settings.results_folder, item.sha256).unlink()
    entry = spool_object(node.spool, make_header())
    sweep(node)
    node.spool.object_path(entry.sha256).unlink()
    with node.sessions() as session:
        assert missing_files(session, node) == [entry.sha256, item.sha256]
    take_census(node)
    assert sum(record.levelno == logging.CRITICAL for record in caplog.records) == 2


def test_a_result_file_without_a_row_goes_after_a_day(make_node):
    node = make_node()
    named, young, old = make_object(), make_object(), make_object()
    job_to_deliver(node, named)
    folder = node.settings.results_folder
    write_objects(folder, [young, old])
    for item in (named, old):
        os.utime(object_path(folder, item.sha256), (0, 0))
    with node.sessions() as session:
        assert remove_orphans(session, node) == [f"{old.sha256}.dcm"]
    assert object_path(folder, named.sha256).exists()
    assert object_path(folder, young.sha256).exists()
