"""Faults of reliability.md part 4 that concern whose and which objects these are; real processes."""

import random
import signal
import threading
from dataclasses import replace

import pytest
from pydantic_core import to_json
from pydicom import dcmread
from sqlalchemy import select

from dicom_node.peers.scu import Destination, Sent, send
from dicom_node.reading.mr_study import save_study
from tests.faults.conftest import series_of
from tests.faults.service import header, wait_for
from worker.records.database import Result, ResultObject, StudyVersion
from worker.states import Completeness, JobState, StudyState
from worker.study.reporting import object_path

pytestmark = pytest.mark.slow


def changed(path, folder, **attributes):
    """A copy of a file with other attributes."""
    dataset = dcmread(path)
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    folder.mkdir(exist_ok=True)
    dataset.save_as(folder / path.name)
    return folder / path.name


def held(service, study):
    return wait_for(
        lambda: (row := service.study(study)) and row.state is StudyState.HELD and row, "the study's hold"
    )


def results(service, study):
    with service.sessions() as session:
        return session.scalars(
            select(Result).where(Result.study_id == service.study(study).id).order_by(Result.id)
        ).all()


def restart_worker(service, queues="cpu,gpu,send", **environment):
    service.kill("worker", signal.SIGTERM)
    return service.start_worker(queues=queues, **environment)


def test_24_two_patients_in_one_study(service, make_study, tmp_path):
    """Held, no job, no result, both patients' objects kept."""
    study = make_study()
    others = tuple(changed(path, tmp_path / "other", PatientID="SOMEONE-ELSE") for path in study.files[24:])
    mixed = replace(study, files=study.files[:24] + others)
    service.send(mixed.files)
    assert held(service, study).hold_reason.startswith("patient_conflict")
    assert service.jobs(study) == []
    service.check(mixed, results=0)


def test_25_two_studies_interleaved_on_eight_associations(service, make_study):
    """Same patient name, equal series numbers, any order: each result carries its own patient."""
    studies = [make_study(), make_study()]
    files = [path for study in studies for path in study.files]
    random.Random(25).shuffle(files)
    senders = [threading.Thread(target=service.send, args=(files[start::8],)) for start in range(8)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    for study in studies:
        assert service.wait_done(study).state is JobState.DONE
    service.check(*studies)


def test_26_one_uid_twice_with_same_bytes_other_header_other_pixels(service, make_study, tmp_path):
    """Nothing, a new version that names the old result, and a hold with both files kept."""
    study = make_study()
    service.send(study.files)
    service.wait_done(study)
    service.send(study.files)
    corrected = changed(study.files[-1], tmp_path / "header", SeriesDescription="T1 post, corrected")
    service.send([corrected])
    assert service.wait_done(study, version=2).state is JobState.DONE
    first, second = results(service, study)
    assert second.predecessor_id == first.id
    kept = replace(study, files=(*study.files, corrected))
    service.check(kept, results=2)
    pixels = bytes(dcmread(corrected).PixelData)
    other = changed(corrected, tmp_path / "pixels", PixelData=pixels[::-1])
    service.send([other])
    assert held(service, study).hold_reason.startswith("instance_conflict")
    service.check(replace(kept, files=(*kept.files, other)), results=2)


def test_27_late_slices_before_and_after_sending(service, make_study, tmp_path):
    """Unsent: only the new result goes out. Sent: a new one that names the old. Same input: nothing."""
    study = make_study()
    restart_worker(service, queues="cpu,gpu")
    service.send(study.files[:-2])
    wait_for(lambda: service.job_in(study, JobState.DELIVER), "an unsent result")
    service.send(study.files[-2:-1])
    wait_for(lambda: service.job_in(study, JobState.SUPERSEDED), "the cancelled delivery")
    wait_for(lambda: len(results(service, study)) == 2, "the newer result")
    restart_worker(service)
    service.wait_done(study, version=2)
    unsent, sent = results(service, study)
    assert sent.predecessor_id is None
    service.send(study.files[-1:])
    service.wait_done(study, version=3)
    assert results(service, study)[-1].predecessor_id == sent.id
    [localizer] = save_study(series_of("flair", 9, header(study.patient_id[4:], study.patient_id))[:1],
                             tmp_path / "localizer")  # fmt: skip
    service.send([localizer])
    job = service.wait_done(study, version=4)
    assert (job.state, job.reason_code) == (JobState.DONE, "same_input")
    at_pacs = [item for item in service.pacs.instances if item.study_instance_uid == study.uid]
    assert sum(item.modality == "SR" for item in at_pacs) == 2
    assert unsent.id not in {job.result_id for job in service.jobs(study) if job.state is JobState.DONE}
    service.check_kept(replace(study, files=(*study.files, localizer)))


def test_28_missing_end_slices(service, make_study):
    """The source counts more: waited for, and graded as verified once they came; never a silent short one."""
    study, short = make_study(), make_study()
    pacs = Destination(name="pacs", ae_title="PACS", address="127.0.0.1", port=service.pacs.port)
    for each in (study, short):
        assert {outcome.outcome for outcome in send(list(each.files), pacs)} == {Sent.SENT}
    # the stand-in answers to any called AE title; studies come from SCANNER
    sources = to_json([replace(pacs, ae_title="SCANNER")]).decode()
    restart_worker(service, GLIOGRADE_SOURCES=sources, GLIOGRADE_SOURCE_INTERVAL="PT1S")
    service.send(study.files[:-5])
    wait_for(lambda: (row := service.study(study)) and row.source_asked_at, "a question to the source")
    assert service.jobs(study) == []
    service.send(study.files[-5:])
    assert service.wait_done(study).state is JobState.DONE
    assert completeness(service, study) is Completeness.VERIFIED
    restart_worker(
        service, GLIOGRADE_SOURCES=sources, GLIOGRADE_SOURCE_INTERVAL="PT1S", GLIOGRADE_MAXIMUM_WAIT="PT4S"
    )
    short = replace(short, files=short.files[:-1])
    service.send(short.files)
    assert service.wait_done(short).state is JobState.DONE
    assert completeness(service, short) is Completeness.UNVERIFIED
    service.check(study, short)
    restart_worker(service)


def test_29_results_sent_back_by_the_pacs(service, make_study):
    """A PACS that forwards what it gets: not taken, no loop."""
    study = make_study()
    service.send(study.files)
    job = service.wait_done(study)
    with service.sessions() as session:
        built = session.scalars(
            select(ResultObject.sha256).where(ResultObject.result_id == job.result_id)
        ).all()
    paths = [object_path(service.settings.results_folder, sha256) for sha256 in built]
    assert {outcome.outcome for outcome in send(paths, service.receiver)} == {Sent.NOT_ACCEPTED}
    assert len(service.jobs(study)) == 1
    service.check(study)


def completeness(service, study):
    return service.scalar(
        select(StudyVersion.completeness).where(StudyVersion.study_id == service.study(study).id)
    )
