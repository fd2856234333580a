"""A PACS refuses one SOP class after the other: it gets what it takes, or a person is told."""

from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.uid import Comprehensive3DSRStorage, EnhancedSRStorage, SecondaryCaptureImageStorage
from sqlalchemy import select

from dicom_node.peers.stand_in_pacs import StandInPacs
from dicom_node.reading.evidence import build_evidence
from dicom_node.results.result_kind import ResultKind
from dicom_node.results.secondary_capture import build_attention_images
from dicom_node.results.structured_report import as_enhanced, build_structured_report
from tests.dicom_node.result_samples import attention_at, make_report, mr_series
from tests.worker.deliveries import deliveries, destination, job_state, job_to_deliver, run
from tests.worker.samples import make_header
from worker.records.database import ResultObject
from worker.states import DeliveryState, JobState
from worker.study.interventions import retry_study
from worker.study.pipeline import serialise

CLASSES = (SecondaryCaptureImageStorage, Comprehensive3DSRStorage, EnhancedSRStorage)


@pytest.fixture(scope="module")
def results():
    """An attention image and its report, of the patient and study of `job_to_deliver`."""
    series = mr_series(StudyInstanceUID="1.2.3", PatientID=make_header().PatientID)
    report, evidence = make_report(), build_evidence(series[0], series)
    images = build_attention_images(series, attention_at((0, 0, 0)), report, evidence, maximum_images=1)
    document = build_structured_report(report, evidence, images=images)
    return [serialise(images[0].dataset), serialise(document)]


@pytest.mark.parametrize("refused", CLASSES)
def test_what_is_not_refused_arrives(make_node, tmp_path, results, refused):
    taken = [sop_class for sop_class in CLASSES if sop_class != refused]
    with StandInPacs(tmp_path / "pacs", stored_classes=taken) as pacs:
        node = make_node(destinations=(destination(pacs),))
        job_to_deliver(node, *results)
        run(node)
        held = refused == SecondaryCaptureImageStorage
        assert job_state(node) is (JobState.HELD if held else JobState.DONE)
        # Enhanced SR only where Comprehensive 3D SR isn't taken
        expected = {*taken} - ({EnhancedSRStorage} if Comprehensive3DSRStorage in taken else set())
        assert {stored.sop_class_uid for stored in pacs.instances} == expected


def test_two_that_refuse_get_the_same_fallback_and_a_third_the_first(make_node, tmp_path, results):
    few = [SecondaryCaptureImageStorage, EnhancedSRStorage]
    with (
        StandInPacs(tmp_path / "one", stored_classes=few) as one,
        StandInPacs(tmp_path / "two", stored_classes=few) as two,
        StandInPacs(tmp_path / "three") as three,
    ):
        node = make_node(destinations=[destination(p, n) for p, n in ((one, "1"), (two, "2"), (three, "3"))])
        job_to_deliver(node, *results)
        run(node)
        fallback = as_enhanced(dcmread(BytesIO(results[1].content)))
        for pacs in (one, two):
            assert [s.sop_instance_uid for s in pacs.instances][1:] == [fallback.SOPInstanceUID]
        assert [s.sop_instance_uid for s in three.instances] == [item.sop_instance_uid for item in results]
    with node.sessions() as session:
        assert len(session.scalars(select(ResultObject)).all()) == 3
    assert job_state(node) is JobState.DONE


def test_no_report_class_at_all_holds_the_job_for_a_person(make_node, tmp_path, results):
    with StandInPacs(tmp_path / "pacs", stored_classes=[SecondaryCaptureImageStorage]) as pacs:
        place = destination(pacs)
        node = make_node(destinations=(place,))
        job_to_deliver(node, *results)
        run(node)
    assert [item.state for item in deliveries(node)] == [DeliveryState.SENT, DeliveryState.FAILED]
    assert job_state(node) is JobState.HELD
    # its class is taken from now on: what goes out is the report as it was made, not what it fell back to
    with StandInPacs(
        tmp_path / "mended", port=place.port, stored_classes=[Comprehensive3DSRStorage]
    ) as mended:
        with node.sessions.begin() as session:
            assert retry_study(session, 1, "Dr. A").objects == 1
        run(node)
        assert [stored.sop_instance_uid for stored in mended.instances] == [results[1].sop_instance_uid]
    assert [item.state for item in deliveries(node)] == [DeliveryState.SENT] * 2


def test_a_destination_gets_the_kinds_of_object_that_it_asks_for(make_node, tmp_path, results):
    with StandInPacs(tmp_path / "one") as one, StandInPacs(tmp_path / "two") as two:
        pictures = destination(one, "1", objects=(ResultKind.IMAGES,))
        words = destination(two, "2", objects=(ResultKind.REPORT,))
        node = make_node(destinations=(pictures, words))
        job_to_deliver(node, *results)
        run(node)
        image, report = (item.sop_instance_uid for item in results)
        assert [stored.sop_instance_uid for stored in one.instances] == [image]
        assert [stored.sop_instance_uid for stored in two.instances] == [report]
    assert job_state(node) is JobState.DONE
