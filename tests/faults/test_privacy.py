"""Catalogue case 42: a canary patient through each error, and then a search for her.

The audit trail may name her (PS3.15 A.5 asks for the Patient ID); nothing else may.
"""

import json
import logging
import traceback
from collections.abc import Iterator
from datetime import timedelta

import pytest
from celery import Celery
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE
from redis import Redis
from sqlalchemy import select, text

from dicom_node.peers.scu import Destination, ScuError, echo
from dicom_node.peers.stand_in_pacs import Fault, StandInPacs
from dicom_node.peers.storage_commitment import CommitmentInbox
from dicom_node.quiet import LIBRARIES, silence_libraries
from dicom_node.reading.series_choice import NotGradableError, select_series
from dicom_node.receiving.scp import StorageScp
from dicom_node.results.part10 import build_file_meta
from dicom_node.settings import AllowedPeer
from tests.dicom_node.commitment_peer import report_commitment
from tests.faults.test_delivery import free_tcp_port
from tests.worker.conftest import (  # noqa: F401 - fixtures
    checkpoint,
    database_url,
    engine,
    make_node,
    postgres_url,
    sessions,
    spool,
)
from tests.worker.deliveries import destination, job_to_deliver, make_object, pass_time, run
from tests.worker.samples import make_header, spool_object
from worker.delivery.committing import apply_commitment_reports
from worker.log_privacy import hide_messages_of_tasks
from worker.records.database import Delivery, DestinationState, Job, StepRun, Study
from worker.records.ledger import Hint
from worker.running.embedded import embedded_redis_url
from worker.states import STEPS, JobState
from worker.study.choosing import describe_files
from worker.study.claimed import ClaimedStep, take_claim
from worker.study.indexing import index_spool
from worker.study.reporting import object_path
from worker.upkeep.audit import copy_audit_trail
from worker.upkeep.hints import send_destination_hint, send_hint

# ruff: noqa: F811 - fixtures by their names

CANARY = {"PatientName": "ZZCANARY^X", "PatientID": "ZZCANARY", "PatientBirthDate": "19010203"}
SIGNS = ("ZZCANARY", "zzcanary", "19010203")

pytestmark = pytest.mark.filterwarnings("ignore:unclosed.*socket:ResourceWarning")  # pynetdicom's


@pytest.fixture
def words(caplog):
    """Everything a process would log, at its lowest level, with exceptions as their traceback prints them."""
    levels = {name: logging.getLogger(name).level for name in LIBRARIES}
    silence_libraries()
    caplog.set_level(logging.DEBUG)
    said: list[str] = []
    yield said
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    written = [logging.Formatter().format(record) for record in caplog.get_records("call")]
    everything = "\n".join([*said, *written])
    assert everything, "nothing was said: the errors were not reached"
    for sign in SIGNS:
        assert sign not in everything


def canary_object(**attributes):
    return make_object(**{**CANARY, **attributes})


def provoke(said, error, call):
    with pytest.raises(error) as caught:
        call()
    said.append("".join(traceback.format_exception(caught.value)))


def test_42_deliveries_that_fail_in_every_way_name_nobody(make_node, tmp_path, words, caplog):
    statuses = [0xC000, 0xA700, 0xB000, 0xFFFF]
    faults = [Fault.CUT_AFTER_STORING, Fault.NO_STATUS, Fault.HANG]
    answers: Iterator[int | Fault] = iter([*statuses, *faults])
    with StandInPacs(tmp_path / "pacs", status_hook=lambda _: next(answers, None)) as pacs:
        gone = Destination(name="gone", ae_title="GONE", address="127.0.0.1", port=free_tcp_port())
        node = make_node(
            destinations=(destination(pacs, response_timeout=timedelta(seconds=1)), gone),
            send_alert_after=timedelta(0),
        )
        items = [canary_object() for _ in range(8)]
        others = [canary_object(PatientID="ZZCANARY2"), canary_object(sop_class=CTImageStorage)]
        job_to_deliver(node, *items, *others, **CANARY)
        damaged = object_path(node.settings.results_folder, items[7].sha256)
        damaged.write_bytes(b"ZZCANARY^X")
        for _ in range(4):
            run(node)
            pass_time(node)
    assert "ALERT" in caplog.text
    words.extend(ledger_words(node))
    assert any("ZZCANARY" in path.read_text() for path in node.settings.audit_folder.iterdir())


def test_42_receiving_and_indexing_errors_name_nobody(make_node, tmp_path, words, caplog):
    node = make_node(
        dicom_port=free_tcp_port(),
        minimum_free_bytes=0,
        peers=(AllowedPeer(ae_title="SCANNER", address="127.0.0.1"),),
    )
    with StorageScp(node.settings, node.spool) as scp:
        for ae_title in ("SCANNER", "ZZOTHER"):
            place = Destination(
                name="us", ae_title="GLIOGRADE", address="127.0.0.1", port=scp.port, calling_ae_title=ae_title
            )
            if ae_title == "ZZOTHER":
                provoke(words, ScuError, lambda place=place: echo(place))
            else:
                send_damaged(place)
        assert report_commitment(scp.port, "2.25.1", ["1.2.3"], (), "SCANNER") == 0x0000
    apply_commitment_reports(node)
    spool_object(node.spool, make_header(**CANARY))
    spool_object(node.spool, make_header(**{**CANARY, "PatientID": "OTHER", "PatientBirthDate": "19010204"}))
    index_spool(node.sessions, node.spool)
    with node.sessions() as session:
        study = session.scalars(select(Study)).one()
    words.append(study.hold_reason or "")
    assert "patient_conflict" in caplog.text
    copy_audit_trail(node)
    (node.settings.commitments_folder / "x.json").write_text('{"transaction_uid": "ZZCANARY^X"}')
    assert list(CommitmentInbox(node.settings.commitments_folder).reports()) == []


def test_42_a_study_that_cannot_be_graded_and_a_step_that_fails_name_nobody(make_node, words, caplog):
    node = make_node()
    spool_object(node.spool, make_header(**CANARY, SeriesDescription="ZZCANARY scout"))
    job_to_deliver(node, canary_object(), **CANARY)
    with node.sessions() as session:
        job_id = session.scalars(select(Job.id)).one()
    entry = spool_object(node.spool, make_header(**CANARY, SeriesDescription="ZZCANARY"))
    provoke(
        words,
        NotGradableError,
        lambda: select_series(describe_files({"1.2.3.1": [node.spool.object_path(entry.sha256)]})),
    )
    taken = take_claim(node, job_id, JobState.DELIVER)
    assert taken is not None

    def fail():
        with ClaimedStep(node, taken):
            raise ValueError("the value ZZCANARY^X is odd")

    with pytest.raises(ValueError, match="odd"):
        fail()
    words.extend(ledger_words(node))
    with node.sessions() as session:
        provoke(
            words,
            Exception,
            lambda: session.execute(text("SELECT 1 / 0, CAST(:n AS text)"), {"n": CANARY["PatientID"]}),
        )


def test_42_the_broker_holds_numbers_only(make_node, tmp_path, words):
    node = make_node(destinations=(Destination(name="x", ae_title="X", address="127.0.0.1", port=1),))
    job_id = job_to_deliver(node, canary_object(), **CANARY)
    with embedded_redis_url(tmp_path / "data") as url:
        app = Celery(broker=url)
        app.conf.update(task_serializer="json", accept_content=["json"])
        for state in STEPS:
            send_hint(app, Hint(job_id, state))
        send_destination_hint(app, 1)
        redis = Redis(unix_socket_path=url.removeprefix("redis+socket://"))
        dump = [redis.lrange(queue, 0, -1) for queue in ("cpu", "gpu", "send")]
        everything = b"".join(redis.dump(key) or b"" for key in redis.scan_iter())
        redis.close()
        app.close()
    messages = [json.loads(message) for queue in dump for message in queue]
    assert len(messages) == len(STEPS) + 1
    for message in messages:
        assert json.loads(message["headers"]["argsrepr"].replace("'", '"'))[0] in (job_id, 1)
    words.append(repr(dump) + repr(everything))


def test_42_a_task_that_raises_is_logged_without_its_message(words, caplog):
    hide_messages_of_tasks()
    app = Celery(broker="memory://")

    @app.task
    def odd():
        try:
            return dict[str, str]()[CANARY["PatientName"]]
        except KeyError as error:
            raise ValueError(f"{error} is odd") from error

    odd.apply()
    app.close()
    assert "KeyError" in caplog.text
    assert "builtins.ValueError" in caplog.text
    assert "in odd" in caplog.text


def test_42_an_unreachable_broker_tells_no_password(make_node, words, caplog):
    app = Celery(broker="redis://:ZZCANARY@127.0.0.1:1/0")
    send_destination_hint(app, 1)
    assert "the broker is away" in caplog.text
    app.close()


def ledger_words(node):
    """Every free text that the ledger would show to a person."""
    with node.sessions() as session:
        for column in (Job.reason, StepRun.detail, Delivery.detail, DestinationState.detail):
            yield from (str(value) for value in session.scalars(select(column)))


def send_damaged(place):
    """Objects that the SCP refuses: no header at all, and the name of another object in the command."""
    entity = AE(ae_title=place.calling_ae_title)
    entity.add_requested_context(make_header().SOPClassUID, ExplicitVRLittleEndian)
    association = entity.associate(place.address, place.port, ae_title=place.ae_title)
    for uid, attributes in (("1.2.3.4", {}), (None, {"StudyInstanceUID": "ZZCANARY^X"})):
        dataset = make_header(**CANARY, **attributes)
        dataset.file_meta = build_file_meta(dataset)
        if uid is not None:
            del dataset.StudyInstanceUID
        assert association.send_c_store(dataset).Status != 0x0000
    association.release()
