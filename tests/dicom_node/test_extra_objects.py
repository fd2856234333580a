"""Key objects, attention map, region and PDF: valid for any source, and in the place they claim."""

import base64
import re
import shutil
import subprocess
import zlib
from io import BytesIO

import highdicom
import numpy as np
import pytest
from highdicom.ko import KeyObjectSelectionDocument
from pydicom import dcmread

from dicom_node.reading.evidence import InstanceReference, build_evidence
from dicom_node.reading.frames import FrameGeometryError, read_frames
from dicom_node.results.attention_grid import REGION_LABEL, REGION_THRESHOLD
from dicom_node.results.capture import CaptureBuilder
from dicom_node.results.extra_objects import build_after_report, build_before_report
from dicom_node.results.part10 import write_bytes
from dicom_node.results.printed_summary import draw_pdf
from dicom_node.results.report import RESEARCH_SENTENCE
from dicom_node.results.result_kind import ResultKind, kind_of
from dicom_node.results.secondary_capture import build_attention_images
from dicom_node.results.structured_report import (
    as_enhanced,
    build_structured_report,
    select_key_frames,
    select_key_images,
)
from tests.dicom_node.result_samples import (
    COLUMNS,
    OBLIQUE,
    ROWS,
    SLICES,
    attention_at,
    enhanced_series,
    make_report,
    mr_series,
    stored,
)
from tests.dicom_node.test_results_templates import EXPECTED
from tests.dicom_node.test_results_validate import SOURCES
from tests.dicom_node.validators import dcentvfy, dciodvfy, dicom_validator, dsrdump, pixelmed

SPOT = (10.0, 10.0, 0.0)
KINDS = set(ResultKind)


def build(series, spot=SPOT, kinds=KINDS, **changes):
    """Everything that goes back, in the order of sending, read back from its bytes."""
    report, evidence = make_report(**changes), build_evidence(series[0], series)
    attention, frames = attention_at(spot), read_frames(series)
    page = np.full((60, 51, 3), 90, dtype=np.uint8)
    summary = CaptureBuilder(report, evidence).build_summary([frames[0]], page, 1)
    images = build_attention_images(series, attention, report, evidence)
    key_images, first = select_key_images(images), InstanceReference.of(summary)
    key_frames = select_key_frames(key_images, [series])
    selected = [first, *(image.reference for image in key_images), *key_frames]
    return [
        dcmread(BytesIO(write_bytes(dataset)))
        for dataset in [
            summary,
            *(image.dataset for image in images),
            *build_before_report(kinds, series, attention, summary, report, evidence),
            build_structured_report(report, evidence, key_frames, images, first),
            *build_after_report(kinds, selected, report, evidence),
        ]
    ]


def only(objects, kind):
    (found,) = (item for item in objects if kind_of(item.SOPClassUID) is kind)
    return found


@pytest.fixture(params=SOURCES)
def source(request):
    return request.param, [stored(dataset) for dataset in SOURCES[request.param]()]


def test_validators_find_no_fault_whatever_the_source(source, tmp_path):
    name, series = source
    objects = build(series)
    (document,) = (item for item in objects if kind_of(item.SOPClassUID) is ResultKind.REPORT)
    for item in [*objects, as_enhanced(document)]:
        assert dciodvfy(write_bytes(item), tmp_path) == []
        assert dicom_validator(dcmread(BytesIO(write_bytes(item)))) == []
    complaints = dcentvfy([write_bytes(item) for item in [*series, *objects]], tmp_path)
    assert [line for line in complaints if EXPECTED.get(name, "nothing") not in line] == []
    for keyword in ("StudyInstanceUID", "PatientName", "PatientID", "StudyDate"):
        assert len({str(item.get(keyword, "")) for item in objects}) == 1
    placed = {ResultKind.ATTENTION_MAP, ResultKind.REGION}
    expected = KINDS - placed if name == "no frame of reference" else KINDS
    assert {kind_of(item.SOPClassUID) for item in objects} == expected


def test_each_validator_would_complain(tmp_path):
    for dataset in build(mr_series()):
        del dataset.StudyDate
        assert dicom_validator(dataset) == ["general-study: StudyDate: TagMissing"]
        assert dciodvfy(write_bytes(dataset), tmp_path)
    region = only(build(mr_series()), ResultKind.REGION)
    del region.SegmentSequence[0].SegmentLabel
    assert dciodvfy(write_bytes(region), tmp_path)
    assert dicom_validator(region) == ["segmentation-image: SegmentSequence.SegmentLabel: TagMissing"]


def test_a_validator_would_complain_of_functional_groups():
    map_ = only(build(mr_series()), ResultKind.ATTENTION_MAP)
    del map_.SharedFunctionalGroupsSequence[0].FrameAnatomySequence
    (complaint,) = dicom_validator(map_)
    assert "FrameAnatomySequence: TagMissing" in complaint


def test_order_of_sending_is_that_of_the_kinds():
    kinds = [kind_of(item.SOPClassUID) for item in build(mr_series())]
    order = list(ResultKind)
    assert kinds == sorted(kinds, key=order.index)
    assert kinds[-1] is ResultKind.KEY_OBJECTS


def test_nothing_is_built_that_nobody_wants():
    kinds = {kind_of(item.SOPClassUID) for item in build(mr_series(), kinds=set())}
    assert kinds == {ResultKind.IMAGES, ResultKind.REPORT}


def test_the_same_input_gives_the_same_bytes():
    one, other = (build([stored(dataset) for dataset in mr_series()]) for _ in range(2))
    assert [write_bytes(item) for item in one] == [write_bytes(item) for item in other]


@pytest.mark.parametrize(
    "series",
    [mr_series(), mr_series("t1ce", OBLIQUE, reverse=True), enhanced_series("t1ce", OBLIQUE)],
    ids=["axial", "oblique, reversed", "enhanced"],
)
def test_map_and_region_hold_the_attention_where_it_lies_in_the_patient(series):
    series = [stored(dataset) for dataset in series]
    frames = read_frames(series)
    spot = place(frames[2], 5, 4)
    objects = build(series, tuple(spot))
    map_ = highdicom.pm.ParametricMap.from_dataset(only(objects, ResultKind.ATTENTION_MAP)).get_volume()
    segmentation = highdicom.seg.Segmentation.from_dataset(only(objects, ResultKind.REGION))
    region = segmentation.get_volume(combine_segments=True)
    for voxel in ((2, 5, 4), (2, 6, 5), (1, 5, 5), (2, 4, 3), (0, 0, 0)):
        there = place(frames[voxel[0]], *voxel[1:])
        # attention_at's bell, whose own grid is 2 mm
        expected = np.exp(-((there - spot) ** 2).sum() / (2 * 4.0**2))
        assert value_at(map_, there) == pytest.approx(expected, abs=0.06)
        assert value_at(region, there) == (value_at(map_, there) >= REGION_THRESHOLD)
    assert region.array.sum() == (map_.array >= REGION_THRESHOLD).sum() > 1


def place(frame, row, column):
    return (frame.affine @ [row, column, 0, 1])[:3]


def value_at(volume, place_ras):
    """Value at a place in the patient, found by the object's own geometry (LPS+); 0 where it has no frame."""
    (index,) = volume.map_reference_to_indices((place_ras * [-1, -1, 1])[None])
    nearest = np.round(index).astype(int)
    assert np.allclose(index, nearest, atol=1e-2)
    if (nearest < 0).any() or (nearest >= volume.spatial_shape).any():
        return 0
    return volume.array[tuple(nearest)]


def test_each_frame_of_the_map_names_its_source():
    for series in (mr_series(), enhanced_series()):
        map_ = only(build(series), ResultKind.ATTENTION_MAP)
        named = []
        for groups in map_.PerFrameFunctionalGroupsSequence:
            (item,) = groups.DerivationImageSequence[0].SourceImageSequence
            named.append((item.ReferencedSOPInstanceUID, item.get("ReferencedFrameNumber")))
            frame = next(
                f
                for f in read_frames(series)
                if f.reference.frame_number == named[-1][1] and f.reference.sop_instance_uid == named[-1][0]
            )
            position = frame.functional("PlanePositionSequence").ImagePositionPatient
            assert groups.PlanePositionSequence[0].ImagePositionPatient == position
        assert len(set(named)) == map_.NumberOfFrames == SLICES
        (of_series,) = map_.ReferencedSeriesSequence
        assert {item.ReferencedSOPInstanceUID for item in of_series.ReferencedInstanceSequence} == {
            dataset.SOPInstanceUID for dataset in series
        }


def test_the_map_says_what_its_numbers_are():
    map_ = only(build(mr_series()), ResultKind.ATTENTION_MAP)
    assert (map_.Rows, map_.Columns, map_.NumberOfFrames) == (ROWS, COLUMNS, SLICES)
    assert len(map_.FloatPixelData) == 4 * ROWS * COLUMNS * SLICES
    assert map_.ContentQualification == "RESEARCH"
    (mapping,) = map_.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1, 0)
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "1"
    assert mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0].CodeValue == "130404"


def test_the_region_says_that_it_is_no_outline():
    region = only(build(mr_series()), ResultKind.REGION)
    (segment,) = region.SegmentSequence
    assert segment.SegmentLabel == REGION_LABEL == "attention of the network, not a tumour outline"
    assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "309825002"
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == "130404"
    (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
    assert "ab" * 32 in algorithm.AlgorithmParameters
    assert region.SegmentationType == "BINARY"
    assert region.ContentQualification == "RESEARCH"


def test_no_region_where_no_attention_reaches_one_half():
    objects = build(mr_series(), spot=(500.0, 0.0, 0.0))
    kinds = {kind_of(item.SOPClassUID) for item in objects}
    assert ResultKind.REGION not in kinds
    assert ResultKind.ATTENTION_MAP in kinds


def test_frames_of_different_size_have_no_map():
    series = mr_series()
    series[0].Rows -= 1
    with pytest.raises(FrameGeometryError, match="size"):
        build_before_report(
            {ResultKind.ATTENTION_MAP},
            series,
            attention_at(SPOT),
            series[0],
            make_report(),
            build_evidence(series[0], series),
        )


def test_key_objects_name_summary_slices_and_their_sources():
    for series in (mr_series(), enhanced_series()):
        objects = build(series)
        pages = [item for item in objects if kind_of(item.SOPClassUID) is ResultKind.IMAGES]
        document = KeyObjectSelectionDocument.from_dataset(only(objects, ResultKind.KEY_OBJECTS))
        named = [
            item.ReferencedSOPSequence[0] for item in document.ContentSequence if item.ValueType == "IMAGE"
        ]
        assert named[0].ReferencedSOPInstanceUID == pages[0].SOPInstanceUID
        uids = {item.ReferencedSOPInstanceUID for item in named}
        assert uids <= {item.SOPInstanceUID for item in [*pages, *series]}
        assert uids & {dataset.SOPInstanceUID for dataset in series}
        if len(series) == 1:
            assert [item.get("ReferencedFrameNumber") for item in named][-1] in range(1, SLICES + 1)
        texts = [item.TextValue for item in document.ContentSequence if item.ValueType == "TEXT"]
        assert texts[-1].startswith(RESEARCH_SENTENCE)


@pytest.mark.apt
@pytest.mark.parametrize("series", [mr_series, enhanced_series])
def test_the_key_objects_are_tid_2010_without_error(series, tmp_path):
    document = only(build(series()), ResultKind.KEY_OBJECTS)
    assert pixelmed(write_bytes(document), tmp_path, "TID_2010") == []
    assert "Of Interest" in dsrdump(write_bytes(document), tmp_path)


@pytest.mark.apt
def test_pixelmed_would_complain_of_the_key_objects(tmp_path):
    document = only(build(mr_series()), ResultKind.KEY_OBJECTS)
    item = next(item for item in document.ContentSequence if item.ValueType == "IMAGE")
    item.ConceptNameCodeSequence = document.ConceptNameCodeSequence
    assert pixelmed(write_bytes(document), tmp_path, "TID_2010")


def test_the_pdf_holds_the_result_as_text_and_nobodys_name(tmp_path):
    objects = build(mr_series())
    document = only(objects, ResultKind.PDF)
    content = document.EncapsulatedDocument[: document.EncapsulatedDocumentLength]
    assert content.startswith(b"%PDF-")
    assert content.rstrip().endswith(b"%%EOF")
    assert document.MIMETypeOfEncapsulatedDocument == "application/pdf"
    assert document.BurnedInAnnotation == "NO"
    words = text_of(content)
    assert "87.3 %" in words
    assert "HIGH-GRADE GLIOMA" in words
    assert RESEARCH_SENTENCE in words
    assert "Doe" not in words
    assert document.PatientName == "Doe^Jane"


def test_a_pdf_of_long_words_is_one_page():
    report = make_report(roles=())
    long = make_report(
        algorithm=type(report.algorithm)("n", "1", "ab" * 32, "word " * 1500),
    )
    summary = build(mr_series())[0]
    content = draw_pdf(summary, long)
    assert content.count(b"/Type /Page\n") == 1


def text_of(content):
    """The text that the page shows, out of its streams."""
    words = []
    for stream in re.findall(rb"stream\n(.*?)endstream", content, re.DOTALL):
        data = stream.strip()
        if not data.endswith(b"~>"):
            continue
        page = zlib.decompress(base64.a85decode(data[:-2]))
        words += re.findall(rb"\((.*?)(?<!\\)\) Tj", page, re.DOTALL)
    text = b" ".join(words).decode("latin-1")
    return re.sub(r"\s+", " ", text.replace("\\(", "(").replace("\\)", ")"))


@pytest.mark.apt
def test_dcmtk_reads_every_kind(tmp_path):
    tool = shutil.which("dcmdump", path="/usr/bin:/usr/local/bin")
    if tool is None:
        pytest.skip("dcmdump (apt: dcmtk) is not installed")
    for item in build(mr_series()):
        path = tmp_path / "object.dcm"
        path.write_bytes(write_bytes(item))
        done = subprocess.run([tool, "-q", path], capture_output=True, text=True, check=True)
        assert done.stderr == ""
        assert item.SOPInstanceUID in done.stdout
