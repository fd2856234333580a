"""What Prometheus, a balancer and an alert rule see."""

import os
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import create_engine, func, text, update

from tests.worker.deliveries import destination, job_to_deliver, make_object
from tests.worker.samples import make_header, spool_object
from tests.worker.test_delivering import pacs  # noqa: F401 - a fixture
from tests.worker.test_indexing import freeze_now, make_study
from worker.records.database import DestinationState, Job, StudyVersion
from worker.records.heartbeat import beat
from worker.states import JobState
from worker.study.interventions import retry_study
from worker.upkeep import sweep as sweeping
from worker.upkeep.metrics import ENDED, WAITING, LedgerCollector
from worker.upkeep.sweep import sweep
from worker.upkeep.watching import make_watch_server

RULES = Path(__file__).parent.parent.parent / "deploy" / "alerts.yaml"


@pytest.fixture
def registry(engine, make_node):
    """What is scraped from this test's ledger."""
    registry = CollectorRegistry()
    node = make_node()
    registry.register(LedgerCollector(engine, node.settings))
    return registry


@pytest.fixture
def ask(engine, make_node):
    """Ask the endpoint for a path: status and text."""
    with make_watch_server(engine, make_node().settings, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()

        def ask(path):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}{path}") as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.read().decode()

        yield ask
        server.shutdown()
        thread.join()


def value(registry, name, **labels):
    return registry.get_sample_value(f"gliograde_{name}", labels)


def test_an_empty_ledger_has_every_state_at_zero(registry):
    assert value(registry, "database_up") == 1
    assert all(value(registry, "jobs", state=state) == 0 for state in WAITING)
    assert all(value(registry, "jobs_ended_last_hour", state=state) == 0 for state in ENDED)
    assert {*WAITING, *ENDED} == set(JobState)
    assert value(registry, "studies", state="held") == 0
    assert value(registry, "turnaround_seconds", quantile="0.5") is None
    assert value(registry, "study_open_age_seconds") == 0
    assert [value(registry, "workers", queue=queue) for queue in ("cpu", "gpu", "send")] == [0, 0, 0]
    assert value(registry, "spool_free_bytes") > 0
    assert value(registry, "spool_minimum_free_bytes") == 1_000_000_000


def test_jobs_are_counted_by_state_with_the_age_of_the_oldest(registry, sessions, spool):
    for number in (1, 2):
        make_study(sessions, spool, study=f"1.{number}", series=f"1.{number}.1")
    make_study(sessions, spool, study="1.3", series="1.3.1")
    with sessions.begin() as session:
        session.execute(text("UPDATE study SET opened_at = now() - interval '30 minutes' WHERE id = 3"))
        session.execute(text("UPDATE study SET last_instance_at = now() + interval '1 hour' WHERE id = 3"))
    freeze_now(sessions)
    with sessions.begin() as session:
        session.execute(text("UPDATE job SET created_at = now() - interval '2 hours' WHERE id = 1"))
    assert value(registry, "jobs", state="prepare") == 2
    assert value(registry, "job_oldest_age_seconds", state="prepare") == pytest.approx(7200, abs=60)
    assert value(registry, "job_oldest_age_seconds", state="grade") == 0
    assert value(registry, "study_open_age_seconds") == pytest.approx(1800, abs=60)


def test_a_beat_that_is_dead_shows_and_so_does_an_object_that_no_sweep_can_index(
    registry, make_node, sessions
):
    node = make_node()
    unreadable = spool_object(node.spool, make_header())
    path = node.spool.object_path(unreadable.sha256)
    path.write_bytes(path.read_bytes() + b"torn")
    os.utime(path, (time.time() - 3600,) * 2)
    with sessions.begin() as session:
        session.execute(text("UPDATE sweep_state SET ended_at = now() - interval '2 hours'"))
    assert value(registry, "sweep_age_seconds") == pytest.approx(7200, abs=60)
    assert value(registry, "unindexed_oldest_age_seconds") == 0
    sweep(node)
    assert value(registry, "sweep_age_seconds") < 3600
    assert value(registry, "unindexed_oldest_age_seconds") == pytest.approx(3600, abs=60)
    path.write_bytes(path.read_bytes().removesuffix(b"torn"))
    sweep(node)
    assert value(registry, "unindexed_oldest_age_seconds") == 0


def test_a_sweep_that_breaks_off_is_none(registry, make_node, sessions, monkeypatch):
    def fail(*_):
        raise OSError

    with sessions.begin() as session:
        session.execute(text("UPDATE sweep_state SET ended_at = now() - interval '2 hours'"))
    monkeypatch.setattr(sweeping, "remove_workspaces", fail)
    with pytest.raises(OSError):
        sweep(make_node())
    assert value(registry, "sweep_age_seconds") > 7000


def test_turnaround_is_told_of_the_last_day_from_the_last_object_to_the_last_delivery(
    registry,
    make_node,
    sessions,
    pacs,  # noqa: F811
):
    node = make_node(destinations=(destination(pacs),))
    # of the third a newer object changed nothing; the fourth was delivered long ago
    received_ago = {1: 100, 2: 200, 3: -1, 4: 400}
    for number in received_ago:
        study = f"1.2.{number}"
        job_to_deliver(node, make_object(study=study), make_object(study=study), study=study)
    with sessions.begin() as session:
        session.execute(text("UPDATE job SET state = 'done', ended_at = now()"))
        session.execute(text("UPDATE job SET ended_at = now() - interval '2 days' WHERE id = 4"))
        session.execute(text("UPDATE delivery SET state = 'sent', sent_at = now()"))
        # the last object of the first
        session.execute(text("UPDATE delivery SET sent_at = now() + interval '50 s' WHERE id = 2"))
        for version, seconds in received_ago.items():
            received_at = func.now() - timedelta(seconds=seconds)
            session.execute(
                update(StudyVersion).where(StudyVersion.id == version).values(received_at=received_at)
            )
    # 150 and 200
    assert value(registry, "turnaround_seconds", quantile="0.5") == pytest.approx(175)
    assert value(registry, "turnaround_seconds", quantile="0.95") == pytest.approx(197.5)
    assert value(registry, "jobs_ended_last_hour", state="done") == 3


def test_a_held_job_that_was_retried_alarms_nobody(registry, sessions, spool):
    make_study(sessions, spool)
    freeze_now(sessions)
    with sessions.begin() as session:
        session.execute(update(Job).values(state=JobState.HELD))
    assert value(registry, "jobs", state="held") == 1
    with sessions.begin() as session:
        retry_study(session, 1, "Dr. A")
    assert (value(registry, "jobs", state="held"), value(registry, "jobs", state="prepare")) == (0, 1)


def test_deliveries_and_failing_destinations_are_told(registry, make_node, sessions, pacs):  # noqa: F811
    node = make_node(destinations=(destination(pacs),))
    job_to_deliver(node, make_object(), make_object())
    assert value(registry, "deliveries", destination="pacs", state="pending") == 2
    assert value(registry, "deliveries", destination="pacs", state="failed") == 0
    assert value(registry, "destination_failing_seconds", destination="pacs") == 0
    with sessions.begin() as session:
        session.execute(text("UPDATE result SET created_at = now() - interval '10 minutes'"))
        session.execute(update(DestinationState).values(failing_since=text("now() - interval '20 minutes'")))
    assert value(registry, "delivery_oldest_age_seconds", destination="pacs") == pytest.approx(600, abs=60)
    assert value(registry, "destination_failing_seconds", destination="pacs") == pytest.approx(1200, abs=60)
    with sessions.begin() as session:
        session.execute(text("UPDATE job SET state = 'superseded', ended_at = now()"))
    assert value(registry, "deliveries", destination="pacs", state="pending") == 0
    assert value(registry, "delivery_oldest_age_seconds", destination="pacs") == 0


def test_workers_are_counted_by_queue_while_they_beat(registry, sessions):
    with sessions.begin() as session:
        beat(session, "here:1", "cpu,send")
        beat(session, "here:2", "gpu")
        session.execute(
            text("UPDATE heartbeat SET beaten_at = now() - interval '5 minutes' WHERE queues = 'gpu'")
        )
    assert [value(registry, "workers", queue=queue) for queue in ("cpu", "gpu", "send")] == [1, 0, 1]
    assert value(registry, "heartbeat_age_seconds", queue="gpu") == pytest.approx(300, abs=60)


def test_a_ledger_that_is_away_or_empty_is_told_beside_the_disk(make_node, empty_database_url):
    for url in ("postgresql+psycopg://nobody@127.0.0.1:1/none", empty_database_url):
        engine, registry = create_engine(url), CollectorRegistry()
        registry.register(LedgerCollector(engine, make_node().settings))
        assert value(registry, "database_up") == 0
        assert value(registry, "spool_free_bytes") > 0
        assert value(registry, "jobs", state="held") is None
        engine.dispose()


def test_the_endpoint_answers_metrics_and_probes(ask, engine, sessions, spool):
    make_study(sessions, spool)
    status, body = ask("/metrics")
    assert (status, 'gliograde_studies{state="open"} 1.0' in body) == (200, True)
    assert "P1" not in body
    assert "Test^Patient" not in body
    assert ask("/live")[0] == 200
    assert ask("/ready") == (200, "the ledger can be read\n")
    assert ask("/")[0] == 404
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    status, body = ask("/ready")
    assert (status, "newer than this gliograde" in body) == (503, True)
    assert ask("/live")[0] == 200


def test_the_alert_rules_name_metrics_labels_and_states_that_exist(registry, make_node, pacs):  # noqa: F811
    job_to_deliver(make_node(destinations=(destination(pacs),)), make_object())
    families = {family.name: family for family in registry.collect()}
    expressions = re.findall(r"^ +expr: (.+)$", RULES.read_text(), re.MULTILINE)
    assert len(expressions) == RULES.read_text().count("- alert:")
    for expression in expressions:
        for name, selector in re.findall(r"(gliograde_\w+)(?:\{(.+?)\})?", expression):
            samples = families[name].samples
            for label, words in re.findall(r'(\w+)=~?"(.+?)"', selector):
                assert set(words.split("|")) <= {sample.labels[label] for sample in samples}


def test_the_command_serves_until_it_is_stopped(database_url, make_node):
    folder = make_node().settings.data_folder
    process = subprocess.Popen(
        [sys.executable, "-m", "worker.cli", "metrics", "--port", "0"],
        env={"GLIOGRADE_DATABASE_URL": database_url, "GLIOGRADE_DATA_FOLDER": str(folder), "COLUMNS": "160"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        (url,) = re.findall(r"http://\S+", process.stdout.readline())
        with urllib.request.urlopen(url) as answer:
            assert "gliograde_database_up 1.0" in answer.read().decode()
    finally:
        process.terminate()
        process.communicate(timeout=60)
