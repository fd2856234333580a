"""The page of queries, run as the role that it is written for, and the feedback it asks about."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import event, func, select, text, update
from sqlalchemy.exc import ProgrammingError

from benchmarks.queries import fill
from tests.command import gliograde
from tests.worker.deliveries import job_to_deliver, make_object
from tests.worker.test_delivering import deliver_step
from tests.worker.test_indexing import freeze_now, make_study
from tests.worker.test_interventions import hold_job
from worker.records.database import AuditRecord, Delivery, Job, Result, ResultObject, StudyVersion
from worker.records.destinations import ensure_destinations
from worker.records.queries import study_standings
from worker.records.schema import readers_may_read
from worker.records.wanted import Standing, Wanted
from worker.states import DeliveryState, JobState
from worker.study.interventions import retry_study
from worker.upkeep.audit import copy_audit_trail

PAGE = Path(__file__).parents[2] / "docs" / "query.md"
QUERIES = dict(re.findall(r"## ([^\n]+)\n(?:(?!\n## ).)*?```sql\n(.*?)```", PAGE.read_text(), re.DOTALL))


@pytest.fixture
def node(make_node):
    node = make_node()
    deliver_step(node, job_to_deliver(node, make_object()))
    with node.sessions.begin() as session:
        session.execute(update(Result).values(created_at=func.now()))
    return node


@pytest.fixture
def ask(engine):
    """Ask as an analyst would."""

    def run(query):
        with engine.begin() as connection:
            connection.execute(text("SET LOCAL ROLE gliograde_reader"))
            return connection.execute(text(query)).mappings().all()

    return run


def command(node, database_url, *arguments):
    return gliograde(
        *arguments,
        GLIOGRADE_DATABASE_URL=database_url,
        GLIOGRADE_DATA_FOLDER=str(node.settings.data_folder),
    )


def test_each_section_has_a_query():
    assert list(QUERIES) == re.findall(r"^## (.+)$", PAGE.read_text(), re.MULTILINE)


@pytest.mark.parametrize("title", QUERIES)
def test_each_query_runs(node, ask, title):
    ask(QUERIES[title])


def test_a_result_its_turnaround_and_a_held_study_are_found(node, ask):
    for patient in ("P1", "P2"):
        make_study(node.sessions, node.spool, 1, study="9.9", series="9.9.1", PatientID=patient)
    (result,) = ask(QUERIES["Last month's results"])
    assert (result["grade"], result["probability"]) == ("HGG", pytest.approx(0.9))
    assert ask(QUERIES["Turnaround"])[0]["count"] == 1
    (failure,) = ask(QUERIES["What waits for a person"])
    assert (failure["kind"], failure["reason_code"]) == ("study", "study_held")


def test_what_was_sent_before_a_version_was_made_is_not_its_turnaround(make_node, sessions):
    job_to_deliver(make_node(), make_object(), make_object())
    with sessions.begin() as session:
        ensure_destinations(session, ["pacs"])
        for item in session.scalars(select(ResultObject)):
            session.add(Delivery(result_object_id=item.id, destination="pacs", state=DeliveryState.SENT))
        session.flush()
        frozen = session.scalars(select(StudyVersion.frozen_at)).one()
        session.execute(update(Delivery).values(sent_at=frozen - timedelta(seconds=5)))
        seconds = "SELECT delivery_seconds FROM v_turnaround"
        assert session.scalar(text(seconds)) is None
        session.execute(
            update(Delivery).where(Delivery.id == 1).values(sent_at=frozen + timedelta(seconds=5))
        )
        assert session.scalar(text(seconds)) == 5


def waiting(ask):
    return [(row["kind"], row["reason_code"]) for row in ask(QUERIES["What waits for a person"])]


def test_a_newer_version_settles_what_was_held(node, ask, sessions):
    make_study(node.sessions, node.spool, 1, study="9.9", series="9.9.1")
    freeze_now(sessions)
    hold_job(node, 2)
    assert waiting(ask) == [("job", "prepare_failed")]
    with sessions.begin() as session:
        assert retry_study(session, 2, "Dr. A").version == 2
    assert waiting(ask) == []
    hold_job(node, 3)
    assert waiting(ask) == [("job", "prepare_failed")]


def test_a_study_of_doubtful_identity_is_listed_without_the_job_that_it_stopped(node, ask, sessions):
    make_study(node.sessions, node.spool, 1, study="9.9", series="9.9.1")
    freeze_now(sessions)
    make_study(node.sessions, node.spool, 1, study="9.9", series="9.9.1", PatientID="P2")
    with sessions() as session:
        assert session.get_one(Job, 2).state is JobState.HELD
    assert waiting(ask) == [("study", "study_held")]


def test_refusals_are_a_row_a_destination_until_a_newer_result_takes_their_place(make_node, ask, sessions):
    job_to_deliver(make_node(), *(make_object() for _ in range(3)))
    first = datetime.now(UTC) - timedelta(hours=1)
    with sessions.begin() as session:
        ensure_destinations(session, ["archive", "pacs"])
        for minutes, item in enumerate(session.scalars(select(ResultObject).order_by(ResultObject.id))):
            for name in ("archive", "pacs"):
                refused = name == "pacs" or minutes == 0
                session.add(
                    Delivery(
                        result_object_id=item.id,
                        destination=name,
                        state=DeliveryState.FAILED if refused else DeliveryState.SENT,
                        failed_at=first + timedelta(minutes=minutes) if refused else None,
                        detail=f"refusal {minutes}",
                    )
                )
    rows = ask(QUERIES["What waits for a person"])
    assert [(row["destination"], row["objects"], row["reason"], row["since"] - first) for row in rows] == [
        ("pacs", 3, "refusal 2", timedelta(minutes=2)),
        ("archive", 1, "refusal 0", timedelta(0)),
    ]
    with sessions.begin() as session:
        session.execute(update(Result).values(is_replaced=True))
    assert ask(QUERIES["What waits for a person"]) == []


def test_results_of_other_weights_are_compared(node, ask, sessions):
    with sessions.begin() as session:
        columns = {
            column.name: getattr(session.get_one(Result, 1), column.name)
            for column in Result.__table__.columns
            if column.name not in ("id", "created_at")
        }
        changes = {"result_uid": "other", "checkpoint_sha256": "other", "grade": "LGG", "probability": 0.2}
        changes |= {"predecessor_id": 1}
        session.add(Result(**(columns | changes)))
    (row,) = ask(QUERIES["Do two models agree"])
    assert (row["count"], row["agreement"], row["mean_change"]) == (1, 0, pytest.approx(0.7))


def test_feedback_makes_accuracy_one_query_and_the_newest_word_counts(node, database_url, ask, sessions):
    query = QUERIES["Accuracy on the site's own patients"]
    assert ask(query) == []
    told = command(node, database_url, "feedback", 1, "--grade", "LGG")
    assert (told.returncode, told.stdout) == (0, "study 1 is known as LGG from pathology\n")
    assert ask(query)[0]["accuracy"] == 0
    command(node, database_url, "feedback", 1, "--grade", "HGG", "--by", "pathologist")
    (row,) = ask(query)
    assert (row["known"], row["accuracy"], row["sensitivity"], row["specificity"]) == (1, 1, 1, None)
    copy_audit_trail(node)
    with sessions() as session:
        bodies = [record.body for record in session.query(AuditRecord)]
    assert any("feedback given" in body and "pathologist" in body and "1.2.3" in body for body in bodies)


def test_a_reader_sees_views_and_no_table(engine, ask):
    assert readers_may_read(engine)
    with pytest.raises(ProgrammingError, match="permission denied"):
        ask("SELECT patient_name FROM study")


def test_without_the_role_migrating_says_so(engine, node, database_url):
    assert "analysts" not in command(node, database_url, "migrate").stdout
    with engine.begin() as connection:
        connection.execute(text("REVOKE SELECT ON v_results FROM gliograde_reader"))
    told = command(node, database_url, "migrate")
    assert told.returncode == 0
    assert "analysts can't read the views yet" in told.stdout


def rows_read(plan):
    """Rows that the busiest node of a plan has seen."""
    return max(plan["Actual Rows"] * plan["Actual Loops"], *map(rows_read, plan.get("Plans", [])), 0)


def test_of_a_large_ledger_a_page_of_the_worklist_reads_that_page(engine, sessions):
    fill(engine, 2100)
    asked = []
    event.listen(engine, "before_cursor_execute", lambda *arguments: asked.append(arguments[2:4]))
    for wanted in (Wanted(), Wanted(state=Standing.DONE), Wanted(before_study=1000)):
        asked.clear()
        with sessions() as session:
            newest = [standing.study_id for standing in study_standings(session, 25, wanted)]
            first = asked[0]
        assert len(newest) == 25
        with engine.connect() as connection:
            explained = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {first[0]}", first[1])
            (content,) = explained.scalar_one()
        assert rows_read(content["Plan"]) < 200
