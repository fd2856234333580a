"""A whole set of results beside its inputs: templates, one patient, one study, and no loose reference."""

from copy import deepcopy
from io import BytesIO

import pytest
from pydicom import dcmread

from dicom_node.evidence import build_evidence
from dicom_node.part10 import write_bytes
from dicom_node.secondary_capture import build_attention_images
from dicom_node.structured_report import (
    as_enhanced,
    build_structured_report,
    select_key_frames,
    select_key_images,
)
from tests.dicom_node.result_samples import attention_at, make_report, mr_series, stored
from tests.dicom_node.test_results_validate import SOURCES
from tests.dicom_node.validators import dcentvfy, pixelmed


def result_set(reference):
    """The report of a series, and its images."""
    report, evidence = make_report(), build_evidence(reference[0], reference)
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
