"""Independent validators find no fault with what is sent back, however odd the source."""

from copy import deepcopy
from typing import Any

import pytest

from dicom_node.reading.evidence import build_evidence
from dicom_node.reading.study_header import TYPE_2
from dicom_node.results.part10 import write_bytes
from dicom_node.results.report import Predecessor
from dicom_node.results.secondary_capture import build_attention_images
from dicom_node.results.structured_report import (
    as_enhanced,
    build_structured_report,
    select_key_frames,
    select_key_images,
)
from tests.dicom_node.result_samples import (
    OBLIQUE,
    attention_at,
    enhanced_series,
    item,
    make_report,
    mr_series,
    stored,
)
from tests.dicom_node.validators import dciodvfy, dsrdump

JAPANESE: dict[str, Any] = {
    "SpecificCharacterSet": ["", "ISO 2022 IR 87"],
    "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう",
}
KOREAN: dict[str, Any] = {
    "SpecificCharacterSet": ["", "ISO 2022 IR 149"],
    "PatientName": "Hong^Gildong=洪^吉洞=홍^길동",
}
TYPE_2_ABSENT: dict[str, Any] = dict.fromkeys(TYPE_2)
SOURCES = {
    "plain": mr_series,
    "oblique, reversed": lambda: mr_series("t1ce", OBLIQUE, reverse=True),
    "enhanced": lambda: enhanced_series("t1ce", OBLIQUE),
    "japanese": lambda: mr_series(**JAPANESE),
    "korean": lambda: mr_series(**KOREAN),
    "gb18030": lambda: mr_series(SpecificCharacterSet="GB18030", PatientName="Wang^XiaoDong=王^小东"),
    "utf-8": lambda: mr_series(SpecificCharacterSet="ISO_IR 192", PatientName="Müller^Jörg"),
    "empty patient id": lambda: mr_series(PatientID=""),
    "type 2 absent": lambda: mr_series(**TYPE_2_ABSENT),
    "time zone": lambda: mr_series(TimezoneOffsetFromUTC="+0900"),
    "no frame of reference": lambda: _without_frame_of_reference(mr_series()),
    "requested": lambda: mr_series(RequestAttributesSequence=[item(RequestedProcedureID="RP7")]),
}


def _without_frame_of_reference(series):
    for dataset in series:
        del dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator
    return series


def build(reference, report, variant=lambda document: document):
    evidence = build_evidence(reference[0], reference)
    images = build_attention_images(reference, attention_at((10.0, 10.0, 0.0)), report, evidence)
    key_images = select_key_images(images)
    document = build_structured_report(report, evidence, select_key_frames(key_images, [reference]), images)
    return write_bytes(variant(document)), write_bytes(images[0].dataset)


@pytest.fixture(params=SOURCES)
def reference(request):
    return [stored(dataset) for dataset in SOURCES[request.param]()]


def test_dciodvfy_has_no_complaint(reference, tmp_path):
    for data in build(reference, make_report()):
        assert dciodvfy(data, tmp_path) == []


@pytest.mark.parametrize("variant", [deepcopy, as_enhanced])
def test_dciodvfy_has_no_complaint_about_a_replacing_report(variant, tmp_path):
    predecessor = Predecessor("1.2.3", "1.2.3.4", "1.2.840.10008.5.1.4.1.1.88.34")
    document, _ = build(mr_series(), make_report(0.2, predecessor=predecessor), variant)
    assert dciodvfy(document, tmp_path) == []


def test_dciodvfy_would_complain(tmp_path):
    _, picture = build(mr_series(), make_report())
    assert dciodvfy(picture.replace(b"\x18\x00\x15\x00CS", b"\x19\x00\x15\x00CS"), tmp_path)


@pytest.mark.apt
def test_dcmtk_reads_number_and_grade(reference, tmp_path):
    text = dsrdump(build(reference, make_report())[0], tmp_path)
    assert '"87.3" (%,UCUM' in text
    assert "(C4822,NCIt" in text
    assert "RESEARCH USE ONLY" in text
