"""Results waiting for real destinations, and time that passes when a test says so."""

import hashlib
from datetime import UTC, datetime, timedelta

from pydicom import dcmread
from pydicom.uid import SecondaryCaptureImageStorage
from sqlalchemy import select, text, update

from dicom_node.peers.scu import Destination
from dicom_node.results.part10 import write_bytes
from model.gates import NOT_JUDGED
from model.grade import GradePrediction
from tests.worker.samples import make_header
from tests.worker.test_indexing import freeze_now, make_study
from worker.delivery.sending import send_due
from worker.records import ledger
from worker.records.database import Delivery, DestinationState, Job, ResultObject, Study, StudyVersion
from worker.records.destinations import take_due_destinations
from worker.states import JobState
from worker.study.pipeline import BuiltObject, Graded
from worker.study.reporting import object_path, record_result, write_objects

GRADED = Graded(GradePrediction(0.9, 0.5, (0.9,), (1.0,)), NOT_JUDGED, datetime(2026, 1, 1, tzinfo=UTC))


def destination(pacs, name="pacs", **changes):
    return Destination(name=name, ae_title=pacs.ae_title, address="127.0.0.1", port=pacs.port, **changes)


def make_object(sop_class=SecondaryCaptureImageStorage, study="1.2.3", **attributes):
    dataset = make_header(study=study, series=f"{study}.9901", **attributes)
    dataset.SOPClassUID = sop_class
    return BuiltObject(sop_class, dataset.SOPInstanceUID, dataset.SeriesInstanceUID, write_bytes(dataset))


def job_to_deliver(node, *objects, study="1.2.3", **attributes):
    """A job whose result is recorded and whose deliveries wait."""
    make_study(node.sessions, node.spool, study=study, series=f"{study}.1", **attributes)
    freeze_now(node.sessions)
    with node.sessions() as session:
        job_id, study_id = session.execute(
            select(Job.id, Study.id)
            .join(StudyVersion, StudyVersion.id == Job.study_version_id)
            .join(Study, Study.id == StudyVersion.study_id)
            .where(Study.study_instance_uid == study)
        ).one()
    write_objects(node.settings.results_folder, objects)
    for state, following in (
        (JobState.PREPARE, JobState.GRADE),
        (JobState.GRADE, JobState.REPORT),
        (JobState.REPORT, JobState.DELIVER),
    ):
        with node.sessions.begin() as session:
            claim = ledger.claim_job(session, job_id, state, "here", timedelta(minutes=1), 3)
            assert claim is not None
            ledger.advance_job(session, claim, following)
            if following is JobState.DELIVER:
                digest = hashlib.sha256(study.encode()).hexdigest()
                record_result(session, node, job_id, study_id, digest, GRADED, objects)
    return job_id


def due(node):
    with node.sessions.begin() as session:
        return take_due_destinations(session, timedelta(0))


def run(node):
    """What the sweep and the tasks do: serve each destination that something waits for."""
    for destination_id in due(node):
        send_due(node, destination_id)


def pass_time(node):
    """Let every wait be over; leases stay."""
    with node.sessions.begin() as session:
        session.execute(update(Delivery).values(not_before=None))
        session.execute(update(DestinationState).values(not_before=None, hinted_at=None))


def end_leases(node):
    with node.sessions.begin() as session:
        session.execute(
            update(DestinationState)
            .where(DestinationState.lease_until.is_not(None))
            .values(lease_until=text("now() - interval '1 second'"))
        )


def deliveries(node):
    with node.sessions() as session:
        return session.scalars(select(Delivery).order_by(Delivery.id)).all()


def states(node):
    return [delivery.state for delivery in deliveries(node)]


def job_state(node):
    with node.sessions() as session:
        return session.scalars(select(Job.state)).one()


def assert_each_arrived_once(node, pacs):
    """The common oracle at a PACS: each object of each result under one UID, its own bytes and patient."""
    with node.sessions() as session:
        objects = session.scalars(select(ResultObject)).all()
        patients = dict(session.execute(select(Study.study_instance_uid, Study.patient_id)).all())
    held = {stored.sop_instance_uid: stored for stored in pacs.instances}
    assert sorted(held) == sorted(item.sop_instance_uid for item in objects)
    for item in objects:
        stored = held[item.sop_instance_uid]
        assert stored.patient_id == patients[stored.study_instance_uid]
        ours = dcmread(object_path(node.settings.results_folder, item.sha256))
        assert dcmread(stored.path) == ours
    assert len(list(pacs.folder.iterdir())) == len(objects)
