"""What goes back of a study that was not graded says why, validates, and names nobody."""

from copy import deepcopy
from io import BytesIO
from typing import Any

import pytest
from pydicom import dcmread

from dicom_node.reading.evidence import build_evidence
from dicom_node.results.not_graded import build_not_graded, draw_notice
from dicom_node.results.part10 import write_bytes
from dicom_node.results.report import RESEARCH_SENTENCE, NeededSeries, NotGraded, Predecessor
from dicom_node.results.show import render_text
from dicom_node.results.structured_report import as_enhanced
from model.grade import Contrast
from tests.dicom_node.result_samples import make_report, mr_series, stored
from tests.dicom_node.test_results_templates import EXPECTED
from tests.dicom_node.test_results_validate import SOURCES
from tests.dicom_node.validators import dcentvfy, dciodvfy, dicom_validator, dsrdump, pixelmed

REASON = "no T1 after contrast agent among the 2 series"


def make_notice(**changes):
    report = make_report()
    values: dict[str, Any] = {
        "algorithm": report.algorithm,
        "result_id": report.result_id,
        "created_at": report.created_at,
        "device": report.device,
        "reason": REASON,
        "received": (
            "Series 1: like FLAIR (confidence 0.97), TR 9000 ms",
            "Series 2: like T2 (confidence 0.9)",
        ),
        "needed": tuple(
            NeededSeries(contrast, series)
            for contrast, series in ((Contrast.FLAIR, ("1",)), (Contrast.T1CE, ()), (Contrast.T2, ("2", "7")))
        ),
    }
    return NotGraded(**(values | changes))


def build(series, **changes):
    return build_not_graded(make_notice(**changes), build_evidence(series[0], series))


def test_page_and_report_validate_for_any_source(tmp_path):
    for source in SOURCES.values():
        page, report = build([stored(dataset) for dataset in source()])
        for dataset in (page, report, as_enhanced(report)):
            assert dciodvfy(write_bytes(dataset), tmp_path) == []
            assert dicom_validator(dcmread(BytesIO(write_bytes(dataset)))) == []


@pytest.mark.parametrize("source", SOURCES)
def test_inputs_and_answer_are_one_study_without_loose_reference(source, tmp_path):
    series = [stored(dataset) for dataset in SOURCES[source]()]
    complaints = dcentvfy([write_bytes(dataset) for dataset in (*series, *build(series))], tmp_path)
    assert [line for line in complaints if EXPECTED.get(source, "nothing") not in line] == []


@pytest.mark.apt
@pytest.mark.parametrize("variant", [deepcopy, as_enhanced])
def test_the_report_is_tid_1500_without_error(variant, tmp_path):
    assert pixelmed(write_bytes(variant(build(mr_series())[1])), tmp_path) == []


@pytest.mark.apt
def test_dcmtk_reads_the_reason(tmp_path):
    text = dsrdump(write_bytes(build(mr_series())[1]), tmp_path)
    assert "NOT GRADED" in text  # it cuts long texts
    assert '(NOTGRADED,99GGAI,"Not graded")' in text


def test_the_report_says_why_and_nothing_of_a_grade():
    page, report = build(mr_series())
    text = render_text(dcmread(BytesIO(write_bytes(report))))
    assert f"Comment: AI result: NOT GRADED - {REASON}\n" in text
    assert "AI-predicted glioma grade: Not graded (NOTGRADED, 99GGAI)\n" in text
    assert "Comment: Series 2: like T2" in text
    assert RESEARCH_SENTENCE in text
    assert not {"Probability of high-grade glioma", "C4822", "C132067", "Doe"} & set(text.split(": "))
    assert REASON in page.DerivationDescription


def test_they_join_the_study_and_lie_nowhere_in_the_patient():
    source = mr_series()
    page, report = build(source)
    for dataset in (page, report):
        assert dataset.StudyInstanceUID == source[0].StudyInstanceUID
        assert dataset.PatientID == source[0].PatientID
        assert "RESEARCH" in dataset.SeriesDescription
    assert "ImagePositionPatient" not in page
    evidence = str(report.CurrentRequestedProcedureEvidenceSequence)
    assert all(dataset.SOPInstanceUID in evidence for dataset in (*source, page))


def test_name_and_id_do_not_change_a_pixel_but_the_reason_does():
    first, other = build(mr_series())[0], build(mr_series(PatientName="Other^One", PatientID="7"))[0]
    assert first.PixelData == other.PixelData
    assert build(mr_series(), reason="FLAIR could not be aligned")[0].PixelData != first.PixelData


def test_the_page_is_square_and_grows_where_its_words_need_that():
    assert draw_notice(make_notice()).shape == (1024, 1024, 3)
    many = make_notice(received=tuple(f"Received: series {number}, " + "word " * 30 for number in range(30)))
    page = draw_notice(many)
    assert page.shape[0] > 1024
    # the last series' line and the algorithm's do not touch
    footer_top = page.shape[0] - 40 - 21
    assert not page[footer_top - 20 : footer_top].any()


def test_the_page_tells_what_is_there_and_what_is_missing():
    whole = (NeededSeries(Contrast.T1CE, ("3",)),)
    without = (NeededSeries(Contrast.T1CE, ()),)
    pages = [draw_notice(make_notice(needed=needed)) for needed in ((), whole, without)]
    amber = [int(((page == (255, 190, 60)).all(axis=-1)).sum()) for page in pages]
    assert amber[0] == amber[1] < amber[2]


def test_long_reasons_stay_on_the_page():
    page = draw_notice(make_notice(reason="word " * 200))
    assert not page[:, -6:].any()
    assert not page[-6:].any()


def test_a_notice_names_what_it_replaces_and_is_built_alike_twice():
    predecessor = Predecessor("1.2.3", "1.2.3.4", "1.2.840.10008.5.1.4.1.1.88.34")
    one, other = (build(mr_series(), predecessor=predecessor) for _ in range(2))
    assert [write_bytes(dataset) for dataset in one] == [write_bytes(dataset) for dataset in other]
    assert "1.2.3.4" in str(one[1].PredecessorDocumentsSequence)


def test_a_time_without_zone_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        make_notice(created_at=make_report().created_at.replace(tzinfo=None))
