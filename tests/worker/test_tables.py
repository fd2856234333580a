import csv
import io
import json
from datetime import UTC, date, datetime, timedelta

import pytest
from rich.console import Console
from sqlalchemy import create_engine, text, update
from sqlalchemy.exc import OperationalError

from model.grade import Grade
from tests.command import gliograde
from tests.worker.deliveries import job_to_deliver, make_object
from tests.worker.test_delivering import deliver_step
from tests.worker.test_indexing import make_study
from worker.answers.tables import COLUMNS, result_records, results_table, status_table, to_csv, to_json
from worker.records.database import Study, is_unreachable
from worker.records.queries import state_counts, study_standings
from worker.records.wanted import Standing, Wanted
from worker.states import JobState

DAY = timedelta(days=1)
TODAY = datetime.now(UTC).date()


@pytest.fixture
def standings(make_node):
    """A graded study, and a held one with two patients."""
    node = make_node()
    deliver_step(node, job_to_deliver(node, make_object()))
    for patient in ("P1", "P2"):
        make_study(node.sessions, node.spool, 1, study="9.9", series="9.9.1", PatientID=patient)
    with node.sessions() as session:
        assert state_counts(session) == {JobState.DONE: 1}
        return study_standings(session)


def text_of(table):
    console = Console(width=160, file=io.StringIO(), record=True)
    console.print(table)
    return console.export_text()


def test_csv_json_and_records_say_the_same(standings):
    records = result_records(standings)
    assert json.loads(to_json(standings)) == records
    rows = list(csv.DictReader(io.StringIO(to_csv(standings))))
    assert [row["study_instance_uid"] for row in rows] == ["9.9", "1.2.3"]
    assert [row["grade"] for row in rows] == ["", "HGG"]
    assert float(rows[1]["probability"]) == records[1]["probability"] == pytest.approx(0.9)


def test_a_held_study_says_why(standings):
    held = result_records(standings)[0]
    assert (held["study_state"], held["reason_code"]) == ("held", "study_held")
    assert str(held["reason"]).startswith("patient_conflict")


def test_a_number_of_simulated_weights_is_marked(standings):
    text = text_of(results_table(standings))
    assert "0.900*" in text
    assert "trained on simulated tumours" in text


def test_the_status_table_shows_nothing_of_a_patient(standings):
    text = text_of(status_table(standings))
    assert "held" in text
    assert "done" in text
    assert "Test^Patient" not in text
    assert "P1" not in text


def test_without_results_there_is_still_a_heading():
    assert to_csv([]).strip().split(",") == list(COLUMNS)
    assert json.loads(to_json([])) == []


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted(), [2, 1]),
        (Wanted(grade=Grade.HGG), [1]),
        (Wanted(grade=Grade.LGG), []),
        (Wanted(state=Standing.HELD), [2]),
        (Wanted(state=Standing.DONE), [1]),
        (Wanted(state=Standing.ARRIVING), []),
        (Wanted(minimum_probability=0.9), [1]),
        (Wanted(minimum_probability=0.91), []),
        (Wanted(maximum_probability=0.89), []),
        (Wanted(minimum_probability=0.5, maximum_probability=0.95), [1]),
        (Wanted(since=TODAY - DAY, until=TODAY + DAY), [2, 1]),
        (Wanted(since=TODAY + 2 * DAY), []),
        (Wanted(until=TODAY - 2 * DAY), []),
        (Wanted(scanner="acme 3"), [2]),
        (Wanted(scanner="MR2"), [2]),
        (Wanted(scanner="%"), []),
        (Wanted(model="gliograde-simulated"), [1]),
        (Wanted(model="gliograde"), []),
    ],
)
def test_results_are_filtered(make_node, wanted, expected):
    node = make_node()
    deliver_step(node, job_to_deliver(node, make_object()))
    scanner = {"Manufacturer": "Acme", "ManufacturerModelName": "3T", "StationName": "MR2"}
    for patient in ("P1", "P2"):
        make_study(node.sessions, node.spool, 1, study="9.9", series="9.9.1", PatientID=patient, **scanner)
    with node.sessions() as session:
        assert [item.study_id for item in study_standings(session, wanted=wanted)] == expected
        name = f"{node.card.name} {node.card.version}"
        assert len(study_standings(session, wanted=Wanted(model=name))) == 1


def test_days_are_whole_and_included(make_node):
    node = make_node()
    make_study(node.sessions, node.spool, 1)
    with node.sessions.begin() as session:
        session.execute(update(Study).values(first_instance_at=datetime(2026, 3, 1, 23, 59, 59, tzinfo=UTC)))
    with node.sessions() as session:
        first, second = date(2026, 3, 1), date(2026, 3, 2)
        assert len(study_standings(session, wanted=Wanted(since=first, until=first))) == 1
        assert study_standings(session, wanted=Wanted(since=second)) == []


def test_the_command_filters(make_node, database_url):
    node = make_node()
    deliver_step(node, job_to_deliver(node, make_object()))
    environment = {
        "GLIOGRADE_DATABASE_URL": database_url,
        "GLIOGRADE_DATA_FOLDER": str(node.settings.data_folder),
    }

    def ask(*options):
        shown = gliograde("results", "--json", *options, **environment)
        assert shown.returncode == 0, shown.stderr
        return len(json.loads(shown.stdout))

    assert ask("--grade", "hgg", "--since", "2020-01-01", "--min-probability", "0.5", "--state", "done") == 1
    assert ask("--until", "2020-01-01") == 0


def test_status_shows_those_that_wait_for_a_person_however_old(make_node, database_url):
    node = make_node()
    for patient in ("P1", "P2"):
        make_study(node.sessions, node.spool, 1, study="9.9", series="9.9.1", PatientID=patient)
    make_study(node.sessions, node.spool, 1, study="9.10", series="9.10.1")
    environment = {
        "GLIOGRADE_DATABASE_URL": database_url,
        "GLIOGRADE_DATA_FOLDER": str(node.settings.data_folder),
    }
    shown = gliograde("status", "--json", "--limit", 1, "--state", "held", **environment)
    (study,) = json.loads(shown.stdout)["studies"]
    assert (study["study_instance_uid"], study["reason_code"]) == ("9.9", "study_held")
    once = gliograde("status", "--once", "--limit", 1, "--state", "held", **environment).stdout
    assert "held" in once
    assert "arriving" not in once


def test_there_may_be_more_jobs_than_a_statement_takes_parameters(sessions):
    count = 65_536
    with sessions() as session:
        for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):
            session.execute(text(f"SET LOCAL {limit} = 0"))
        session.execute(
            text("""
                INSERT INTO study (study_instance_uid, patient_id, issuer_of_patient_id, patient_name,
                    patient_birth_date, patient_sex, accession_number, study_date, study_description, state)
                SELECT i, 'P', '', '', '', '', '', '', '', 'stable' FROM generate_series(1, :count) i
            """),
            {"count": count},
        )
        session.execute(
            text("INSERT INTO study_version (study_id, number, manifest_sha256) SELECT id, 1, 'x' FROM study")
        )
        session.execute(
            text("INSERT INTO job (study_version_id, state) SELECT id, 'prepare' FROM study_version")
        )
        assert len(study_standings(session)) == count


def test_only_a_connection_that_is_not_there_is_called_unreachable(engine):
    away = create_engine("postgresql+psycopg://someone@127.0.0.1:1/nothing")
    with pytest.raises(OperationalError) as raised:
        away.connect()
    assert is_unreachable(raised.value)
    with engine.connect() as connection:
        connection.execute(text("SET statement_timeout = 1"))
        with pytest.raises(OperationalError) as raised:
            connection.execute(text("SELECT pg_sleep(60)"))
        assert not is_unreachable(raised.value)
        connection.rollback()
        with pytest.raises(OperationalError) as raised:
            connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        assert is_unreachable(raised.value)
