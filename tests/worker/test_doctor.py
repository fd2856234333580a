"""Each thing that the doctor looks at, well and unwell, against the real thing."""

import io
import json
import os
import shutil
import socket
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr
from rich.console import Console
from sqlalchemy import text, update

from dicom_node.installation import open_installation
from dicom_node.peers.scu import Destination
from dicom_node.peers.stand_in_pacs import StandInPacs
from dicom_node.peers.stow import WebDestination
from dicom_node.settings import AllowedPeer
from model.card import WEIGHTS_NAME, default_checkpoint_folder
from tests.command import gliograde
from tests.dicom_node.web_server import WebServer
from tests.worker.deliveries import destination
from tests.worker.samples import make_header, spool_object
from tests.worker.test_indexing import freeze_now, make_study
from worker.answers.findings import Verdict
from worker.answers.tables import findings_page
from worker.checkpoints import SHIPPED, Choice, checkpoints_folder
from worker.commands import doctor_ledger
from worker.commands.doctor import examine, is_well
from worker.records.database import DestinationState, Job, SweepState
from worker.records.heartbeat import beat
from worker.running.embedded import embedded_redis_url
from worker.running.in_force import told_to_others
from worker.settings import Settings
from worker.states import JobState
from worker.upkeep.sweep import sweep

# a connection that is refused is left to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore:unclosed.*socket:ResourceWarning")

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PEER = AllowedPeer(ae_title="PACS", address="127.0.0.1")


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def make_settings(tmp_path, database_url, listener):
    """Settings of a node on this test's database whose data folder is in order."""
    folder = tmp_path / "data"
    open_installation(folder)
    folder.chmod(0o700)

    def make(**changes):
        given = {"database_url": SecretStr(database_url), "data_folder": folder, "dicom_port": listener}
        return Settings(**given | {"peers": (PEER,), "minimum_free_bytes": 1} | changes)

    return make


def found(settings):
    """The findings by what was looked at."""
    findings = examine(settings)
    for finding in findings:
        assert bool(finding.advice) == (finding.verdict in (Verdict.WARNING, Verdict.FAILED))
    return {finding.check: finding for finding in findings}


def test_a_node_in_order_is_well(make_settings, sessions, tmp_path):
    with sessions.begin() as session:
        for number, queue in enumerate(("cpu", "gpu", "send")):
            beat(session, f"here:{number}", queue)
        session.execute(update(SweepState).values(ended_at=text("now()")))
    with StandInPacs(tmp_path / "pacs") as pacs, embedded_redis_url(tmp_path / "valkey") as redis_url:
        settings = make_settings(destinations=(destination(pacs),), redis_url=SecretStr(redis_url))
        findings = examine(settings)
    assert {finding.verdict for finding in findings} == {Verdict.OK}
    assert is_well(findings)
    assert [finding.check for finding in findings] == [
        "data folder",
        "disk space",
        "settings",
        "checkpoint",
        "gpu",
        "allow-list",
        "receiver",
        "broker",
        "destination pacs",
        "database",
        "clock",
        "worker cpu",
        "worker gpu",
        "worker send",
        "sweep",
        "inbox",
        "held",
        "waiting",
        "notifications",
    ]


def test_of_peers_the_one_that_is_down_is_named_with_what_to_do(make_settings, tmp_path, free_port):
    down = Destination(name="archive", ae_title="ARCHIVE", address="127.0.0.1", port=free_port)
    with StandInPacs(tmp_path / "pacs") as pacs:
        findings = found(make_settings(destinations=(destination(pacs), down), sources=(down,)))
    assert findings["destination pacs"].verdict is Verdict.OK
    for check in ("destination archive", "source archive"):
        assert findings[check].verdict is Verdict.FAILED
        assert f"ARCHIVE@127.0.0.1:{free_port}" in findings[check].detail
        assert "firewall" in findings[check].advice
    assert found(make_settings())["destinations"].verdict is Verdict.WARNING


def test_a_source_is_asked_where_there_is_no_destination(make_settings, free_port):
    source = Destination(name="modality", ae_title="MR", address="127.0.0.1", port=free_port)
    findings = found(make_settings(sources=(source,)))
    assert findings["destinations"].verdict is Verdict.WARNING
    assert findings["source modality"].verdict is Verdict.FAILED


def test_a_dicomweb_destination_is_asked_and_named_when_it_does_not_answer(make_settings):
    with WebServer() as server:
        here = WebDestination(name="web", url=server.url)
        finding = found(make_settings(destinations=(here,)))["destination web"]
        assert (finding.verdict, "a DICOMweb query" in finding.detail) == (Verdict.OK, True)
        server.query_status = 401
        finding = found(make_settings(destinations=(here,)))["destination web"]
        assert (finding.verdict, "mend its URL" in finding.advice) == (Verdict.FAILED, True)
    finding = found(make_settings(destinations=(here,)))["destination web"]
    assert (finding.verdict, here.url in finding.detail) == (Verdict.FAILED, True)


def test_a_variable_that_sets_nothing_is_named(make_settings, monkeypatch):
    assert found(make_settings())["settings"].verdict is Verdict.OK
    monkeypatch.setenv("GLIOGRADE_KEEP_DAYZ", "30")
    finding = found(make_settings())["settings"]
    assert (finding.verdict, "GLIOGRADE_KEEP_DAYZ" in finding.detail) == (Verdict.WARNING, True)


def test_nobody_may_send_is_a_failure(make_settings):
    assert found(make_settings())["allow-list"].detail == "PACS@127.0.0.1 may send"
    finding = found(make_settings(peers=()))["allow-list"]
    assert (finding.verdict, "--allow" in finding.advice) == (Verdict.FAILED, True)


def test_a_receiver_that_is_not_there_is_a_failure(make_settings, free_port):
    finding = found(make_settings(dicom_port=free_port))["receiver"]
    assert (finding.verdict, "`receiver_address`" in finding.advice) == (Verdict.FAILED, True)


def test_a_receiver_on_another_machine_is_looked_for_there(make_settings, listener, free_port):
    elsewhere = make_settings(dicom_port=free_port, peers=(), receiver_address=f"localhost:{listener}")
    findings = found(elsewhere)
    assert findings["receiver"].detail == f"listens on localhost:{listener}"
    assert findings["allow-list"].verdict is Verdict.SKIPPED
    gone = make_settings(receiver_address=f"localhost:{free_port}")
    assert found(gone)["receiver"].verdict is Verdict.FAILED


@pytest.mark.parametrize(
    ("url", "words"),
    [("redis://127.0.0.1:1/0", "doesn't answer"), ("http://127.0.0.1", "isn't a Redis URL")],
)
def test_a_broker_that_does_not_answer_is_a_failure(make_settings, url, words):
    finding = found(make_settings(redis_url=SecretStr(url)))["broker"]
    assert finding.verdict is Verdict.FAILED
    assert words in finding.detail
    assert url not in finding.detail + finding.advice


def test_the_disk_is_told_before_and_when_it_is_full(make_settings):
    free = shutil.disk_usage("/").free
    for limit, verdict in (
        (1, Verdict.OK),
        (shutil.disk_usage(make_settings().data_folder).free // 2, Verdict.WARNING),
        (free + 2**50, Verdict.FAILED),
    ):
        assert found(make_settings(minimum_free_bytes=limit))["disk space"].verdict is verdict


def test_a_data_folder_is_ours_and_closed_to_others(make_settings, tmp_path):
    settings = make_settings()
    before = sorted(settings.data_folder.rglob("*"))
    settings.data_folder.chmod(0o755)
    finding = found(settings)["data folder"]
    assert (finding.verdict, finding.advice) == (Verdict.WARNING, f"chmod o-rwx {settings.data_folder}")
    assert sorted(settings.data_folder.rglob("*")) == before
    nowhere = found(make_settings(data_folder=tmp_path / "nowhere"))
    assert nowhere["data folder"].verdict is Verdict.FAILED
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder to another user, which needs root")
def test_the_embedded_database_of_another_user_is_not_shut_in(make_settings):
    folder = make_settings().data_folder
    for name in ("postgres", "spool"):
        (folder / name).mkdir(mode=0o755)
    os.chown(folder / "postgres", 65534, 65534)
    folder.chmod(0o755)
    assert found(make_settings())["data folder"].advice == f"chmod o-rwx {folder / 'spool'}"
    (folder / "spool").chmod(0o700)
    assert found(make_settings())["data folder"].verdict is Verdict.OK


def test_a_folder_that_cannot_be_written_to_is_a_failure(make_settings, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    # root may write everywhere
    monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse)
    finding = found(make_settings())["data folder"]
    assert (finding.verdict, "Permission denied" in finding.detail) == (Verdict.FAILED, True)


def test_weights_that_are_not_their_cards_are_a_failure(make_settings, tmp_path):
    folder = tmp_path / "checkpoint"
    shutil.copytree(default_checkpoint_folder(), folder)
    damage(folder)
    finding = found(make_settings(checkpoint_folder=folder))["checkpoint"]
    assert (finding.verdict, "SHA-256" in finding.detail) == (Verdict.FAILED, True)


def test_the_weights_looked_at_are_those_that_model_use_chose(make_settings):
    settings = make_settings()
    folder = checkpoints_folder(settings.data_folder) / "site"
    shutil.copytree(default_checkpoint_folder(), folder)
    damage(folder)
    assert found(settings)["checkpoint"].verdict is Verdict.OK
    choice = Choice(in_use="site", previous=SHIPPED)
    (folder.parent / "in-use.json").write_text(choice.model_dump_json())
    finding = found(settings)["checkpoint"]
    assert (finding.verdict, str(folder) in finding.detail) == (Verdict.FAILED, True)
    (folder.parent / "in-use.json").write_text("{")
    assert "choose again" in found(settings)["checkpoint"].detail


def damage(folder):
    """Turn a bit of the weights."""
    with (folder / WEIGHTS_NAME).open("r+b") as file:
        file.seek(5000)
        byte = file.read(1)
        file.seek(5000)
        file.write(bytes([byte[0] ^ 1]))


def test_a_gpu_is_missed_only_where_it_is_asked_for(make_settings, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    verdicts = {word: found(make_settings(device=word))["gpu"].verdict for word in ("auto", "cpu", "cuda")}
    assert verdicts == {"auto": Verdict.OK, "cpu": Verdict.OK, "cuda": Verdict.FAILED}


def test_a_database_that_is_away_is_a_failure(make_settings):
    url = SecretStr("postgresql+psycopg://gliograde:secret@127.0.0.1:1/gliograde")
    finding = found(make_settings(database_url=url))["database"]
    assert finding.verdict is Verdict.FAILED
    assert "secret" not in finding.detail
    finding = found(make_settings().model_copy(update={"database_url": None}))["database"]
    assert "GLIOGRADE_DATABASE_URL isn't set" in finding.detail


@pytest.mark.parametrize("url", ["foo", "postgresql://u:secret@h/d", "postgresql+psycopg://u:p@secret:x/d"])
def test_a_database_url_that_cannot_be_read_is_one_failure_among_the_findings(make_settings, url):
    findings = found(make_settings(database_url=SecretStr(url)))
    assert findings["data folder"].verdict is Verdict.OK
    assert findings["database"].verdict is Verdict.FAILED
    assert "postgresql+psycopg://USER" in findings["database"].detail
    assert "secret" not in findings["database"].detail


def test_a_user_without_rights_on_the_tables_is_a_failure(make_settings, database_url, engine):
    name = f"poor_{engine.url.database}"
    with engine.begin() as connection:
        connection.execute(text(f"CREATE ROLE {name} LOGIN"))
        connection.execute(text(f"GRANT SELECT ON alembic_version TO {name}"))
    try:
        poor = SecretStr(engine.url.set(username=name).render_as_string(hide_password=False))
        finding = found(make_settings(database_url=poor))["database"]
    finally:
        with engine.begin() as connection:
            connection.execute(text(f"DROP OWNED BY {name}"))
            connection.execute(text(f"DROP ROLE {name}"))
    assert finding.verdict is Verdict.FAILED
    assert "didn't do what was asked: permission denied for table" in finding.detail
    assert "gliograde migrate" in finding.advice


def test_another_schema_is_a_failure_with_the_command_to_run(make_settings, engine):
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    finding = found(make_settings())["database"]
    assert (finding.verdict, "gliograde migrate" in finding.detail) == (Verdict.FAILED, True)


def test_a_clock_that_is_off_is_a_failure(make_settings, monkeypatch):
    monkeypatch.setattr(doctor_ledger, "CLOCK_TOLERANCE", timedelta(microseconds=-1))
    assert found(make_settings())["clock"].verdict is Verdict.FAILED


def test_a_queue_without_a_living_worker_is_a_failure(make_settings, sessions):
    with sessions.begin() as session:
        beat(session, "here:1", "cpu,send")
        beat(session, "here:2", "gpu")
        session.execute(
            text("UPDATE heartbeat SET beaten_at = now() - interval '5 minutes' WHERE queues = 'gpu'")
        )
    findings = found(make_settings())
    assert findings["worker cpu"].detail == findings["worker send"].detail == "here:1"
    assert findings["worker gpu"].verdict is Verdict.FAILED
    assert "-Q gpu" in findings["worker gpu"].advice


def test_a_beat_that_is_dead_is_a_failure(make_settings, sessions):
    def swept(ago):
        with sessions.begin() as session:
            session.execute(update(SweepState).values(ended_at=text(f"now() - interval '{ago}'")))
        return found(make_settings())["sweep"]

    assert swept("4 minutes").verdict is Verdict.OK
    finding = swept("6 minutes")
    assert (finding.verdict, "celery -A worker beat" in finding.advice) == (Verdict.FAILED, True)


def test_an_object_that_stays_in_the_inbox_is_told(make_settings, make_node):
    node = make_node()
    entry = spool_object(node.spool, make_header())
    damaged = node.spool.object_path(entry.sha256)
    damaged.write_bytes(damaged.read_bytes() + b"torn")
    sweep(node)
    assert found(make_settings())["inbox"].verdict is Verdict.OK
    os.utime(damaged, (NOON.timestamp(), NOON.timestamp()))
    sweep(node)
    finding = found(make_settings())["inbox"]
    assert (finding.verdict, "2026-01-01 12:00 UTC" in finding.detail) == (Verdict.WARNING, True)


def test_work_that_waits_for_a_person_or_too_long_is_told(make_settings, sessions, spool):
    make_study(sessions, spool, study="1.1", series="1.1.1")
    make_study(sessions, spool, study="1.2", series="1.2.1")
    freeze_now(sessions)
    assert found(make_settings())["waiting"].verdict is Verdict.OK
    with sessions.begin() as session:
        session.execute(update(Job).values(created_at=text("now() - interval '2 hours'")))
        session.execute(update(Job).where(Job.id == 1).values(state=JobState.HELD))
        session.add(DestinationState(name="pacs", failing_since=text("now()"), detail="pacs is not reached"))
    findings = found(make_settings())
    assert "0 studies of doubtful identity and 1 jobs" in findings["held"].detail
    assert "--state held" in findings["held"].advice
    assert findings["waiting"].verdict is Verdict.WARNING
    assert findings["waiting"].detail.startswith("study 2 waits")
    assert "`gliograde study 2`" in findings["waiting"].advice
    assert "--state prepare`" in findings["waiting"].advice
    assert "pacs is not reached" in findings["delivery to pacs"].detail


def test_the_command_prints_lines_or_json_and_exits_by_what_failed(make_settings, free_port):
    settings = make_settings()
    environment = {
        "GLIOGRADE_DATABASE_URL": settings.database_url.get_secret_value(),
        "GLIOGRADE_DATA_FOLDER": str(settings.data_folder),
        "GLIOGRADE_DICOM_PORT": str(free_port),
    }
    shown = gliograde("doctor", "--json", **environment)
    assert (shown.returncode, shown.stderr) == (1, "")
    findings = {item["check"]: item for item in json.loads(shown.stdout)}
    assert findings["allow-list"]["verdict"] == "failed"
    with told_to_others(settings):
        findings = {
            item["check"]: item for item in json.loads(gliograde("doctor", "--json", **environment).stdout)
        }
    assert (findings["allow-list"]["verdict"], findings["receiver"]["verdict"]) == ("ok", "ok")
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(findings_page(examine(settings)))
    assert "failed  worker cpu: nobody takes" in (page := console.export_text())
    assert "        → start `celery -A worker worker -Q cpu`" in page
