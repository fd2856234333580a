"""A whole set of results beside its inputs: templates, one patient, one study, and no loose reference."""

from copy import deepcopy
from io import BytesIO

import pytest
from pydicom import dcmread

from dicom_node.reading.evidence import build_evidence
from dicom_node.results.part10 import write_bytes
from dicom_node.results.secondary_capture import build_attention_images
from dicom_node.results.structured_report import (
    as_enhanced,
    build_structured_report,
    select_key_frames,
    select_key_images,
)
from model.gates import Judgement
from model.grade import Verdict
from tests.dicom_node.result_samples import attention_at, make_report, mr_series, stored
from tests.dicom_node.test_results_validate import SOURCES
from tests.dicom_node.validators import dcentvfy, dciodvfy, dicom_validator, dsrdump, pixelmed


def result_set(reference, **changes):
    """The report of a series, and its images."""
    report, evidence = make_report(**changes), build_evidence(reference[0], reference)
    images = build_attention_images(reference, attention_at((10.0, 10.0, 0.0)), report, evidence)
    key_frames = select_key_frames(select_key_images(images), [reference])
    document = build_structured_report(report, evidence, key_frames, images)
    return document, [image.dataset for image in images]


@pytest.mark.apt
@pytest.mark.parametrize(
    ("source", "variant"),
    [
        ("plain", deepcopy),
        ("plain", as_enhanced),
        ("enhanced", deepcopy),
        ("enhanced", as_enhanced),
        ("japanese", deepcopy),
        ("type 2 absent", deepcopy),
        ("requested", deepcopy),
    ],
)
def test_the_report_is_tid_1500_without_error(source, variant, tmp_path):
    document, _ = result_set([stored(item) for item in SOURCES[source]()])
    assert pixelmed(write_bytes(variant(document)), tmp_path) == []


@pytest.fixture(params=Verdict)
def judged(request):
    """What goes back of each verdict of the gates, with the volume that they measured."""
    judgement = Judgement(request.param, "Why there is no grade.", 12.34, 5.6)
    document, images = result_set([stored(item) for item in mr_series()], judgement=judgement)
    return request.param, document, images


def test_a_grade_kept_back_is_valid_too(judged, tmp_path):
    _, document, images = judged
    for dataset in (document, as_enhanced(document), images[0]):
        assert dciodvfy(write_bytes(dataset), tmp_path) == []
        assert dicom_validator(dataset) == []


@pytest.mark.apt
def test_a_grade_kept_back_is_tid_1500_without_error(judged, tmp_path):
    assert pixelmed(write_bytes(judged[1]), tmp_path) == []


@pytest.mark.apt
def test_dcmtk_reads_a_grade_only_where_it_is_told(judged, tmp_path):
    verdict, document, _ = judged
    text = dsrdump(write_bytes(document), tmp_path)
    assert ("(C4822,NCIt" in text) == (verdict is Verdict.GRADED)
    assert ("(%,UCUM" in text) == verdict.tells_probability == ("(C3059,NCIt" in text)
    assert '"12.3" (ml,UCUM' in text


@pytest.mark.apt
def test_pixelmed_would_complain(tmp_path):
    document, _ = result_set(mr_series())
    (procedure,) = (
        item for item in document.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == "121058"
    )
    procedure.ConceptCodeSequence[0].CodeValue = "24590-2"
    assert any(line.startswith("Error") for line in pixelmed(write_bytes(document), tmp_path))


# the tool compares names as bytes, and ours are Unicode whatever the source's are
NAME_BYTES = "String attribute has different value - Element=<PatientName>"
EXPECTED = dict.fromkeys(("japanese", "korean", "gb18030"), NAME_BYTES) | {
    # sent empty, as type 2 wants them
    "type 2 absent": "Attribute present in one instance but not the other",
}


@pytest.mark.parametrize("source", SOURCES)
def test_inputs_and_results_are_one_study_without_loose_reference(source, tmp_path):
    reference = [stored(item) for item in SOURCES[source]()]
    document, images = result_set(reference)
    objects = [write_bytes(item) for item in [*reference, document, *images]]
    complaints = dcentvfy(objects, tmp_path)
    assert [line for line in complaints if EXPECTED.get(source, "nothing") not in line] == []
    names = {str(dcmread(BytesIO(data)).get("PatientName", "")) for data in objects}
    assert len(names) == 1


def test_dcentvfy_would_complain(tmp_path):
    reference = mr_series()
    document, _ = result_set(reference)
    objects = [write_bytes(item) for item in [*reference, as_enhanced(document)]]
    assert any("Missing SOPInstanceUID" in line for line in dcentvfy(objects, tmp_path))
