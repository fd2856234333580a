import os
import subprocess
import sys

import pytest
from alembic import command
from sqlalchemy import text, update

from benchmarks.queries import fill
from model.grade import Contrast, Grade, Verdict
from worker.records.comments import VIEW_COMMENTS
from worker.records.database import (
    Base,
    Delivery,
    SecondReading,
    Series,
    SeriesRole,
    WorkDecision,
    create_ledger_engine,
)
from worker.records.schema import SchemaError, _configuration, check_schema, upgrade_schema
from worker.states import DeliveryState, ReadingOrigin, WorkWord


@pytest.fixture
def empty_engine(empty_database_url):
    engine = create_ledger_engine(empty_database_url)
    yield engine
    engine.dispose()


def test_models_and_migrations_agree(engine):
    """What `alembic check` asks: nothing is left to migrate."""
    with engine.begin() as connection:
        configuration = _configuration()
        configuration.attributes["connection"] = connection
        command.check(configuration)


def test_every_table_and_view_and_every_column_of_a_view_says_what_it_means(engine):
    """In the words of `comments`, which also has most columns of tables; `alembic check` compares those."""
    query = """
        SELECT c.relname || coalesce('.' || a.attname, ''), c.relkind::text,
               CASE WHEN a.attnum IS NULL THEN obj_description(c.oid, 'pg_class')
                    ELSE col_description(c.oid, a.attnum) END
        FROM pg_class c
        LEFT JOIN LATERAL (
            SELECT NULL::name AS attname, NULL::smallint AS attnum
            UNION ALL
            SELECT attname, attnum FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND c.relkind = 'v'
        ) a ON true
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v')
          AND c.relname <> 'alembic_version'
    """
    with engine.connect() as connection:
        found = [tuple(row) for row in connection.execute(text(query))]
    assert {name: words for name, kind, words in found if kind == "v"} == VIEW_COMMENTS
    tables = {name: words for name, kind, words in found if kind == "r"}
    assert tables.keys() == Base.metadata.tables.keys()
    assert [name for name, words in tables.items() if not words] == []


def test_down_and_up_again_with_data(engine, sessions):
    fill(engine, 2100)
    with sessions.begin() as session:
        session.execute(update(Series).where(Series.id == 1).values(manufacturer="Maker of series 1"))
        session.add(SeriesRole(job_id=1, contrast=Contrast.T1CE, series_id=1, confidence=1, evidence=""))
        for job_id, verdict in enumerate(Verdict, start=1):
            session.add(
                SecondReading(
                    job_id=job_id,
                    origin=ReadingOrigin.REPLAY,
                    verdict=verdict,
                    grade=Grade.HGG if verdict is Verdict.GRADED else None,
                    probability=0.9 if verdict.tells_probability else None,
                    threshold=0.5,
                    **dict.fromkeys(("model_name", "model_version", "checkpoint_sha256"), "other"),
                    trained_on_simulated=False,
                    pipeline_version="1",
                )
            )
        session.execute(
            update(Delivery)
            .where(Delivery.state == DeliveryState.FAILED)
            .values(state=DeliveryState.DISMISSED, failed_at=None)
        )
        session.add(WorkDecision(study_id=1, decision=WorkWord.DISMISS, decided_by="Dr. A"))
    with engine.begin() as connection:
        configuration = _configuration()
        configuration.attributes["connection"] = connection
        command.downgrade(configuration, "0014")
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM second_reading")) == 1
        assert connection.scalar(text("SELECT count(*) FROM v_failures WHERE kind = 'delivery'")) > 0
    upgrade_schema(engine)
    with engine.connect() as connection:
        refused = text("SELECT count(*) FROM v_failures WHERE kind = 'delivery' AND since IS NULL")
        assert connection.scalar(refused) == 0
        of_job = text("SELECT manufacturer FROM result r JOIN job j ON j.result_id = r.id WHERE j.id = 1")
        assert connection.scalar(of_job) == "Maker of series 1"
    with engine.begin() as connection:
        configuration = _configuration()
        configuration.attributes["connection"] = connection
        command.downgrade(configuration, "base")
    upgrade_schema(engine)
    check_schema(engine)


def test_upgrading_twice_changes_nothing(engine):
    upgrade_schema(engine)
    check_schema(engine)


def test_a_database_without_schema_is_refused(empty_engine):
    with pytest.raises(SchemaError, match="gliograde migrate"):
        check_schema(empty_engine)


def test_a_newer_schema_is_refused(engine):
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaError, match="newer than this gliograde"):
        check_schema(engine)


@pytest.mark.parametrize("process", [["worker", "--pool", "solo"], ["beat", "--pidfile="]])
@pytest.mark.parametrize(
    ("revision", "words"), [("9999", "newer than this gliograde"), ("0008", "run `gliograde migrate`")]
)
def test_workers_and_beat_refuse_another_schema_before_they_do_anything(
    engine, database_url, tmp_path, process, revision, words
):
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :found"), {"found": revision})
    environment = os.environ | {
        "GLIOGRADE_DATABASE_URL": database_url,
        "GLIOGRADE_DATA_FOLDER": str(tmp_path / "data"),
        "GLIOGRADE_REDIS_URL": "redis://127.0.0.1:1/0",
    }
    ended = subprocess.run(
        [sys.executable, "-m", "celery", "--app", "worker", *process],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == 1
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


def test_parameters_stay_out_of_errors(engine):
    with engine.connect() as connection, pytest.raises(Exception, match="hide_parameters") as raised:
        connection.execute(
            text("SELECT 1 / :divisor, CAST(:name AS text)"), {"divisor": 0, "name": "ZZCANARY"}
        )
    assert "ZZCANARY" not in str(raised.value)
