from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_node.reading.evidence import EvidenceError, InstanceReference, build_evidence
from dicom_node.reading.frames import read_frames
from dicom_node.results.part10 import write_bytes
from dicom_node.results.secondary_capture import SUMMARY_NUMBER, build_attention_images, build_summary_image
from dicom_node.results.structured_report import build_structured_report
from model.grade import Contrast
from tests.dicom_node.result_samples import (
    OBLIQUE,
    attention_at,
    enhanced_series,
    make_report,
    mr_series,
    stored,
)
from tests.dicom_node.test_results_templates import EXPECTED
from tests.dicom_node.test_results_validate import SOURCES
from tests.dicom_node.validators import dcentvfy, dciodvfy

SHIFT_MM = 4.0  # one slice of the samples


@pytest.fixture
def series():
    made = {
        Contrast.FLAIR: enhanced_series("flair", OBLIQUE),
        Contrast.T1CE: mr_series("t1ce"),
        Contrast.T2: mr_series("t2", reverse=True),
    }
    return {contrast: [stored(dataset) for dataset in one] for contrast, one in made.items()}


@pytest.fixture
def attention(series):
    """A spot in the second slice of T1ce; the patient moved up by one slice before T2."""
    spot = read_frames(series[Contrast.T1CE])[1].centre
    one = attention_at(tuple(spot))
    moved = np.eye(4)
    moved[2, 3] = SHIFT_MM
    return {Contrast.FLAIR: one, Contrast.T1CE: one, Contrast.T2: one.moved(moved)}


def evidence_of(series):
    return build_evidence(series[Contrast.T1CE][0], [dataset for one in series.values() for dataset in one])


def build(series, attention, report=None):
    return build_summary_image(series, attention, report or make_report(), evidence_of(series))


def test_each_contrast_is_shown_where_the_attention_lies_in_it(series, attention):
    summary = build(series, attention)
    shown = {
        item.ReferencedSOPInstanceUID: item.get("ReferencedFrameNumber")
        for item in summary.SourceImageSequence
        if "PurposeOfReferenceCodeSequence" in item
    }
    frames = {contrast: read_frames(datasets) for contrast, datasets in series.items()}
    spot = frames[Contrast.T1CE][1].centre
    flair = min(frames[Contrast.FLAIR], key=lambda frame: abs(frame.normal @ spot - frame.position_mm))
    expected = [flair, frames[Contrast.T1CE][1], frames[Contrast.T2][2]]
    assert shown == {frame.reference.sop_instance_uid: frame.number for frame in expected}


def test_it_stands_before_the_attention_images_in_their_series(series, attention):
    report, evidence = make_report(), evidence_of(series)
    images = build_attention_images(series[Contrast.T1CE], attention[Contrast.T1CE], report, evidence)
    summary = build(series, attention, report)
    assert summary.InstanceNumber == SUMMARY_NUMBER
    assert all(image.dataset.InstanceNumber > SUMMARY_NUMBER for image in images)
    assert {image.dataset.SeriesInstanceUID for image in images} == {summary.SeriesInstanceUID}
    assert summary.SOPInstanceUID not in {image.dataset.SOPInstanceUID for image in images}


def test_the_report_shows_it_first(series, attention):
    report, evidence = make_report(), evidence_of(series)
    images = build_attention_images(series[Contrast.T1CE], attention[Contrast.T1CE], report, evidence)
    summary = InstanceReference.of(build(series, attention, report))
    document = build_structured_report(report, evidence, (), images, summary)
    group = document.ContentSequence[-1].ContentSequence[0]
    shown = [item.ReferencedSOPSequence[0] for item in group.ContentSequence if item.ValueType == "IMAGE"]
    assert shown[0].ReferencedSOPInstanceUID == summary.sop_instance_uid


def test_it_lies_nowhere_in_the_patient_and_names_nobody(series, attention):
    summary = dcmread(BytesIO(write_bytes(build(series, attention))))
    assert summary.SOPClassUID == SecondaryCaptureImageStorage
    assert "ImagePositionPatient" not in summary
    assert "PixelSpacing" not in summary
    assert summary.BurnedInAnnotation == "NO"
    assert "RESEARCH USE ONLY" in summary.ImageComments


def test_name_and_id_of_the_patient_do_not_change_a_pixel(series, attention):
    summary = build(series, attention)
    for one in series.values():
        for dataset in one:
            dataset.PatientName, dataset.PatientID, dataset.AccessionNumber = "Other^Name", "9", "8"
    assert build(series, attention).PixelData == summary.PixelData


def test_grade_probability_threshold_and_attention_are_drawn(series, attention):
    pixels = build(series, attention).PixelData
    others = [make_report(0.2), make_report(0.874), make_report(threshold=0.6)]
    assert all(build(series, attention, report).PixelData != pixels for report in others)
    elsewhere = {contrast: attention_at((10.0, 10.0, 0.0)) for contrast in Contrast}
    assert build(series, elsewhere).PixelData != pixels


def test_research_use_is_written_only_where_it_is_so(series, attention):
    with_mark = build(series, attention)
    without = build(series, attention, make_report(research_use_only=False))
    assert without.Rows < with_mark.Rows
    assert "RESEARCH" not in without.ImageComments


def test_no_attention_at_all_still_gives_a_page(series):
    nowhere = {contrast: attention_at((900.0, 0.0, 0.0)) for contrast in Contrast}
    assert build(series, nowhere).Rows


def test_built_twice_is_the_same_bytes_and_valid(series, attention, tmp_path):
    data = write_bytes(build(series, attention))
    assert write_bytes(build(series, attention)) == data
    assert dciodvfy(data, tmp_path) == []


def test_a_series_outside_the_evidence_is_refused(series, attention):
    evidence = build_evidence(series[Contrast.T1CE][0], series[Contrast.T1CE])
    with pytest.raises(EvidenceError):
        build_summary_image(series, attention, make_report(), evidence)


@pytest.mark.parametrize("source", SOURCES)
def test_it_joins_any_study_without_complaint(source, tmp_path):
    one = [stored(dataset) for dataset in SOURCES[source]()]
    report, evidence = make_report(), build_evidence(one[0], one)
    spot = attention_at((10.0, 10.0, 0.0))
    summary = build_summary_image(
        dict.fromkeys(Contrast, one), dict.fromkeys(Contrast, spot), report, evidence
    )
    images = build_attention_images(one, spot, report, evidence)
    document = build_structured_report(report, evidence, (), images, InstanceReference.of(summary))
    objects = [write_bytes(item) for item in (*one, document, summary, *(image.dataset for image in images))]
    assert dciodvfy(write_bytes(summary), tmp_path) == []
    complaints = dcentvfy(objects, tmp_path)
    assert [line for line in complaints if EXPECTED.get(source, "nothing") not in line] == []
