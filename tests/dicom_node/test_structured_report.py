from io import BytesIO

import pytest
from highdicom.sr import MeasurementReport, srread
from pydicom import dcmread
from pydicom.uid import Comprehensive3DSRStorage, EnhancedSRStorage

from dicom_node.reading.evidence import InstanceReference, build_evidence
from dicom_node.results import codes
from dicom_node.results.part10 import write_bytes
from dicom_node.results.report import Predecessor
from dicom_node.results.secondary_capture import build_attention_images
from dicom_node.results.structured_report import (
    as_enhanced,
    build_structured_report,
    select_key_frames,
    select_key_images,
)
from model.grade import Grade
from tests.dicom_node.result_samples import attention_at, enhanced_series, item, make_report, mr_series


def build(report=None):
    """A whole report over three series, one of them Enhanced MR; and what it was built from."""
    report = report or make_report()
    series = [enhanced_series("flair"), mr_series("t1ce"), mr_series("t2", reverse=True)]
    evidence = build_evidence(series[1][0], [dataset for one in series for dataset in one])
    images = build_attention_images(series[1], attention_at((10.0, 10.0, 0.0)), report, evidence)
    key_frames = select_key_frames(select_key_images(images), series)
    document = build_structured_report(report, evidence, key_frames, images)
    return dcmread(BytesIO(write_bytes(document))), evidence, images


def items(document):
    for child in document.get("ContentSequence", ()):
        yield child
        yield from items(child)


def named(document, name):
    return [i for i in items(document) if i.ConceptNameCodeSequence[0].CodeMeaning == name]


def evidence_uids(document):
    return {
        instance.ReferencedSOPInstanceUID
        for study in document.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }


@pytest.mark.parametrize("probability", [0.0, 0.12, 0.4999, 0.5, 0.873, 1.0])
def test_text_number_and_code_agree(probability):
    report = make_report(probability)
    document, _, _ = build(report)
    (number,) = named(document, codes.HGG_PROBABILITY.meaning)
    (grade,) = named(document, codes.PREDICTED_GRADE.meaning)
    measured = number.MeasuredValueSequence[0]
    assert float(measured.NumericValue) == float(report.percent_text)
    assert measured.MeasurementUnitsCodeSequence[0].CodeValue == "%"
    assert grade.ConceptCodeSequence[0].CodeValue == codes.GRADES[report.prediction.grade].value
    headline = [i.TextValue for i in named(document, "Comment") if "AI prediction" in i.TextValue]
    assert headline == [report.headline]
    is_high = report.prediction.grade is Grade.HGG
    assert ("HIGH-GRADE" in headline[0]) == is_high == (float(measured.NumericValue) >= 50)


def test_every_container_is_separate_and_every_item_is_named():
    document, _, _ = build()
    assert document.ContinuityOfContent == "SEPARATE"
    for child in items(document):
        assert child.ConceptNameCodeSequence[0].CodeMeaning
        assert child.ValueType != "CONTAINER" or child.ContinuityOfContent == "SEPARATE"


def test_a_library_reads_the_template_back():
    document, _, _ = build()
    content = srread(BytesIO(write_bytes(document))).content
    assert isinstance(content, MeasurementReport)
    (group,) = content.get_image_measurement_groups()
    assert group.finding_type == codes.FINDING
    assert [m.value for m in group.get_measurements()] == [87.3]
    assert document.ContentTemplateSequence[0].TemplateIdentifier == "1500"


def test_all_inputs_and_pictures_are_evidence_and_only_key_slices_stand_in_the_tree():
    document, evidence, images = build()
    inputs = {instance.sop_instance_uid for instance in evidence.instances}
    assert evidence_uids(document) == inputs | {image.dataset.SOPInstanceUID for image in images}
    explained = [i.ReferencedSOPSequence[0] for i in named(document, codes.VISUAL_EXPLANATION.meaning)]
    best = select_key_images(images)
    assert [i.ReferencedSOPInstanceUID for i in explained] == [k.dataset.SOPInstanceUID for k in best]
    sources = [i.ReferencedSOPSequence[0] for i in named(document, codes.SOURCE_OF_MEASUREMENT.meaning)]
    assert len(sources) == 9
    assert {i.ReferencedSOPInstanceUID for i in sources} <= inputs
    assert [i.ReferencedFrameNumber for i in sources[:3]] == [
        image.frame_number for image in best_frames(best)
    ]


def best_frames(best):
    return select_key_frames(best, [enhanced_series("flair")])


def test_key_images_are_the_most_attended_in_spatial_order():
    _, _, images = build()
    best = select_key_images(images, 2)
    assert {i.attention for i in best} == set(sorted(i.attention for i in images)[-2:])
    assert best[0].frame.position_mm < best[1].frame.position_mm


def test_a_frame_nearest_to_two_key_images_is_named_once():
    _, _, images = build()
    single = mr_series("t2")[:1]
    assert select_key_frames(images, [single]) == (InstanceReference.of(single[0]),)


def test_the_header_is_that_of_the_study_and_states_what_the_report_is():
    document, evidence, _ = build()
    assert document.PatientName == "Doe^Jane"
    assert document.StudyInstanceUID == evidence.study_instance_uid
    assert (document.CompletionFlag, document.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    assert document.PreliminaryFlag == "PRELIMINARY"
    assert document.SpecificCharacterSet == "ISO_IR 192"
    assert document.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == codes.PRIVATE_SCHEME
    assert (document.ContentDate, document.InstanceCreationTime) == ("20260102", "233005.250000")


def test_a_report_that_replaces_another_names_it():
    predecessor = Predecessor("1.2.3", "1.2.3.4", Comprehensive3DSRStorage)
    document, evidence, _ = build(make_report(predecessor=predecessor))
    (study,) = document.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    assert study.StudyInstanceUID == evidence.study_instance_uid
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3.4"
    assert "PredecessorDocumentsSequence" not in build()[0]


def test_requests_of_the_source_are_answered():
    series = mr_series()
    series[0].RequestAttributesSequence = [item(RequestedProcedureID="RP7")]
    document = build_structured_report(make_report(), build_evidence(series[0], series))
    assert document.ReferencedRequestSequence[0].RequestedProcedureID == "RP7"


def test_the_fallback_class_has_the_same_tree_and_another_uid():
    first, _, _ = build()
    second = as_enhanced(first)
    assert second.SOPClassUID == EnhancedSRStorage
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first.ContentSequence == second.ContentSequence
    assert write_bytes(as_enhanced(first)) == write_bytes(second)


def test_the_fallback_replaces_the_fallback():
    first = as_enhanced(build()[0])
    sent = build()[0]
    predecessor = Predecessor(sent.SeriesInstanceUID, sent.SOPInstanceUID, sent.SOPClassUID)
    second = as_enhanced(build(make_report(result_id="1e" * 32, predecessor=predecessor))[0])
    replaced = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert replaced.ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert replaced.ReferencedSOPClassUID == EnhancedSRStorage


def test_built_twice_is_the_same_bytes():
    assert write_bytes(build()[0]) == write_bytes(build()[0])


def test_another_result_has_other_uids():
    one, other = build()[0], build(make_report(result_id="1e" * 32))[0]
    assert one.SOPInstanceUID != other.SOPInstanceUID
    assert one.SeriesInstanceUID != other.SeriesInstanceUID


def test_a_key_frame_outside_the_evidence_is_refused():
    series = mr_series()
    evidence = build_evidence(series[0], series)
    with pytest.raises(ValueError, match=r"1\.2\.3\.4"):
        build_structured_report(
            make_report(), evidence, [InstanceReference("1.2.3", "1.2.3.4", series[0].SOPClassUID)]
        )
