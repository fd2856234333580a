import pytest

from dicom_node.reading.evidence import (
    EvidenceError,
    InstanceReference,
    build_evidence,
    build_series_references,
)
from tests.dicom_node.result_samples import enhanced_series, item, mr_series


def test_evidence_names_every_input_once_in_a_fixed_order():
    inputs = [*mr_series("t1ce"), *mr_series("flair"), *enhanced_series("t2")]
    evidence = build_evidence(inputs[0], inputs)
    again = build_evidence(inputs[0], [*reversed(inputs), *inputs])
    assert evidence.instances == again.instances
    assert {i.sop_instance_uid for i in evidence.instances} == {d.SOPInstanceUID for d in inputs}
    assert evidence.study_instance_uid == inputs[0].StudyInstanceUID


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "SOPClassUID", "SeriesInstanceUID"])
def test_an_input_without_uid_is_refused(keyword):
    inputs = mr_series()
    del inputs[2][keyword]
    with pytest.raises(EvidenceError, match=keyword):
        build_evidence(inputs[0], inputs)


def test_inputs_of_two_studies_are_refused():
    inputs = mr_series()
    inputs[3].StudyInstanceUID = "1.2.3"
    with pytest.raises(EvidenceError, match=inputs[3].SOPInstanceUID):
        build_evidence(inputs[0], inputs)
    with pytest.raises(EvidenceError):
        build_evidence(inputs[0], [])
    del inputs[0].StudyInstanceUID
    with pytest.raises(EvidenceError, match="Study Instance UID"):
        build_evidence(inputs[0], inputs)


def test_requests_are_those_the_source_answers():
    inputs = mr_series()
    assert build_evidence(inputs[0], inputs).requests == ()
    inputs[0].RequestAttributesSequence = [item(RequestedProcedureID="RP7")]
    (request,) = build_evidence(inputs[0], inputs).requests
    assert request.RequestedProcedureID == "RP7"
    assert request.AccessionNumber == "A1"
    assert request.StudyInstanceUID == inputs[0].StudyInstanceUID


def test_a_multi_frame_instance_is_referenced_once_by_its_series():
    frames = [InstanceReference("1.2", "1.2.3", "1.2.4", number) for number in (1, 2)]
    (series,) = build_series_references(frames)
    (instance,) = series.ReferencedInstanceSequence
    assert instance.ReferencedSOPInstanceUID == "1.2.3"
    assert frames[1].build_item().ReferencedFrameNumber == 2
