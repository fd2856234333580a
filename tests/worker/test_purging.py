"""Files of studies that are over go; rows stay, and nothing that is still owed is touched."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, text, update

from tests.command import gliograde
from tests.worker.deliveries import job_to_deliver, make_object
from tests.worker.samples import make_header, spool_object
from tests.worker.test_delivering import deliver_step
from tests.worker.test_indexing import freeze_now, make_study
from tests.worker.test_steps import run
from worker.records.database import (
    AuditRecord,
    Delivery,
    DestinationState,
    Instance,
    Job,
    ResultObject,
    Study,
)
from worker.states import DeliveryState, JobState, StudyState
from worker.study import steps
from worker.study.indexing import index_spool
from worker.study.interventions import retry_study
from worker.study.manifest import load_manifest
from worker.upkeep.audit import copy_audit_trail
from worker.upkeep.census import missing_files
from worker.upkeep.purging import NotPurgeableError, purge_study, purgeable_studies

DAY = timedelta(days=1)


@pytest.fixture
def node(make_node):
    """One study, delivered."""
    node = make_node()
    deliver_step(node, job_to_deliver(node, make_object()))
    return node


def received(node):
    return list((node.spool.object_path("00").parent.parent).glob("??/*.dcm"))


def built(node):
    return list(node.settings.results_folder.glob("??/*.dcm"))


def found(node, older_than=None, *, results=False):
    with node.sessions() as session:
        return [item.study_id for item in purgeable_studies(session, older_than, results=results)]


def purge(node, older_than=None, *, results=False):
    with node.sessions.begin() as session:
        return purge_study(session, node.spool, node.settings.results_folder, 1, older_than, results=results)


def test_received_files_go_and_rows_and_results_stay(node):
    assert found(node) == [1]
    assert received(node)
    assert purge(node)
    assert (received(node), len(built(node))) == ([], 1)
    assert found(node) == []
    assert found(node, results=True) == [1]
    assert purge(node, results=True)
    assert built(node) == []
    assert found(node, results=True) == []
    with node.sessions() as session:
        assert None not in session.scalars(select(Instance.purged_at)).all()
        assert session.scalars(select(ResultObject.purged_at)).one() is not None
        assert missing_files(session, node) == []


def test_age_counts_from_the_last_instance_and_from_the_end_of_the_work(node):
    assert found(node, DAY) == []
    assert not purge(node, DAY)
    with node.sessions.begin() as session:
        session.execute(text("UPDATE study SET last_instance_at = now() - interval '2 days'"))
    assert found(node, DAY) == []
    with node.sessions.begin() as session:
        session.execute(text("UPDATE job SET ended_at = now() - interval '2 days'"))
    assert found(node, DAY) == [1]


@pytest.mark.parametrize(
    "change",
    [
        update(Study).values(state=StudyState.OPEN),
        update(Study).values(state=StudyState.HELD),
        update(Job).values(state=JobState.HELD),
        update(Job).values(state=JobState.GRADE),
        update(Job).values(state=JobState.DELIVER),
    ],
)
def test_what_is_not_over_stays(node, change):
    with node.sessions.begin() as session:
        session.execute(change)
    assert found(node) == []
    assert not purge(node)
    assert len(received(node)) == 3
    with node.sessions() as session, pytest.raises(NotPurgeableError, match="study 1 may not be purged"):
        purgeable_studies(session, None, 1, results=False)


@pytest.mark.parametrize("state", [DeliveryState.PENDING, DeliveryState.UNKNOWN, DeliveryState.FAILED])
def test_what_is_owed_to_a_destination_stays(node, state):
    with node.sessions.begin() as session:
        session.add(DestinationState(name="pacs"))
        session.flush()
        refused = datetime.now(UTC) if state is DeliveryState.FAILED else None
        session.add(Delivery(result_object_id=1, destination="pacs", state=state, failed_at=refused))
    assert found(node, results=True) == []
    assert not purge(node, results=True)
    assert len(received(node)) == 3


def test_a_result_that_was_called_off_is_owed_to_nobody(node):
    with node.sessions.begin() as session:
        session.add(DestinationState(name="pacs"))
        session.flush()
        session.add(Delivery(result_object_id=1, destination="pacs"))
    assert found(node) == []
    with node.sessions.begin() as session:
        session.execute(update(Job).values(state=JobState.SUPERSEDED))
    assert found(node) == [1]


def test_an_older_version_that_was_held_keeps_nothing(node):
    with node.sessions.begin() as session:
        session.execute(update(Job).values(state=JobState.HELD, result_id=None))
    with node.sessions.begin() as session:
        retry_study(session, 1, "Dr. A")
    assert found(node) == []
    with node.sessions.begin() as session:
        session.execute(update(Job).where(Job.id == 2).values(state=JobState.NOT_GRADABLE))
    assert found(node) == [1]


def test_broken_off_it_takes_up_the_rest(node):
    received(node)[0].unlink()
    assert purge(node)
    with node.sessions() as session:
        assert None not in session.scalars(select(Instance.purged_at)).all()


def test_what_is_sent_again_is_here_again(make_node):
    node, header = make_node(), make_header(instance="1.2.3.4")
    spool_object(node.spool, header)
    index_spool(node.sessions, node.spool)
    with node.sessions.begin() as session:
        session.execute(update(Study).values(state=StudyState.STABLE))
    assert purge(node)
    spool_object(node.spool, header)
    index_spool(node.sessions, node.spool)
    assert len(received(node)) == 1
    with node.sessions() as session:
        assert session.scalars(select(Instance.purged_at)).one() is None
        assert session.scalars(select(Study.state)).one() is StudyState.STABLE


def test_a_manifest_says_that_its_files_were_purged(node):
    with node.sessions() as session:
        assert not load_manifest(session, node.spool, 1).purged
    purge(node)
    with node.sessions() as session:
        assert load_manifest(session, node.spool, 1).purged


def test_a_job_whose_images_were_purged_is_held_with_what_to_do(make_node):
    node = make_node()
    make_study(node.sessions, node.spool)
    freeze_now(node.sessions)
    with node.sessions.begin() as session:
        session.execute(update(Instance).values(purged_at=text("now()")))
    job = run(node, JobState.PREPARE, steps.prepare)
    assert (job.state, job.reason_code) == (JobState.HELD, "purged")
    assert "have it sent again" in (job.reason or "")


def test_the_command_says_what_would_go_and_does_it_when_told(make_node, node, database_url):
    (node.settings.data_folder / "spool").symlink_to(node.spool.object_path("00").parents[2])
    environment = {
        "GLIOGRADE_DATABASE_URL": database_url,
        "GLIOGRADE_DATA_FOLDER": str(node.settings.data_folder),
    }
    make_study(node.sessions, node.spool, 1, study="9.9", series="9.9.1")
    dry = gliograde("purge", "--older-than", 0, **environment)
    assert (dry.returncode, dry.stderr) == (0, "")
    assert dry.stdout.startswith("study 1: 3 files, 0.0 MB\n3 files, 0.0 MB would go")
    assert len(received(node)) == 4
    refused = gliograde("purge", "--study", 2, "--yes", **environment)
    assert (refused.returncode, "study 2 may not be purged" in refused.stderr) == (2, True)
    assert gliograde("purge", **environment).returncode == 2
    done = gliograde("purge", "--study", 1, "--yes", "--by", "archivist", **environment)
    assert done.stdout.endswith("3 files, 0.0 MB removed\n"), done.stderr
    assert len(received(node)) == 1
    copy_audit_trail(node)
    with node.sessions() as session:
        bodies = [record.body for record in session.scalars(select(AuditRecord))]
    assert [("archivist" in body, "1.2.3" in body) for body in bodies if '"purged"' in body] == [(True, True)]
