"""Contrast agent that only the whole study tells of: never believed, always shown to a person."""

import pytest
from pydicom.dataset import Dataset

from dicom_node.reading.mr_study import PROTOCOL, SeriesHeader, StudyHeader, build_mr_series
from dicom_node.reading.series import describe_study
from dicom_node.reading.series_choice import NotGradableError, UncertainRolesError, select_series
from dicom_node.reading.series_description import ACCEPTED_CONFIDENCE, SeriesDescription
from dicom_node.reading.series_rules import SeriesRole
from model.grade import Contrast
from model.space.volume import Volume


def t1(name: str, **changes: object) -> SeriesHeader:
    return SeriesHeader(description=name, repetition_time=600, echo_time=9, **changes)  # type: ignore[arg-type]


@pytest.fixture
def scan(small_volume: Volume, study_header: StudyHeader):
    """Describe a study of FLAIR, T2 and further series, acquired in this order."""

    def build(*headers: SeriesHeader, agent: str | None = None) -> list[SeriesDescription]:
        series: list[list[Dataset]] = []
        for number, header in enumerate([PROTOCOL["flair"], PROTOCOL["t2"], *headers], start=1):
            series.append(build_mr_series(small_volume, header, study_header, number))
            for dataset in series[-1] if agent else ():
                dataset.ContrastBolusAgent = agent
        return describe_study(series)

    return build


def test_a_tag_on_one_t1_is_believed(scan) -> None:
    assert select_series(scan(t1("T1"), t1("T1 SE", contrast_agent="Gd")))[Contrast.T1CE].confidence == 0.80


def test_a_tag_on_the_whole_study_is_not(scan) -> None:
    described = scan(t1("T1"), agent="Gadobutrol")
    assert described[2].confidence < ACCEPTED_CONFIDENCE
    assert "recorded for every series of the study" in described[2].evidence
    with pytest.raises(UncertainRolesError, match="no post-contrast T1-weighted series is certain"):
        select_series(described)


def test_a_tag_that_a_series_from_before_carries_too_is_not(scan) -> None:
    described = scan(t1("T1 nativ", contrast_agent="Gd"), t1("T1", contrast_agent="Gd"))
    assert (described[2].role, described[3].role) == (SeriesRole.T1, SeriesRole.T1CE)
    assert "series 3, whose name says before" in described[3].evidence
    assert described[3].confidence < ACCEPTED_CONFIDENCE


def test_a_finer_t1_that_only_carries_the_tag_is_not_taken_before_one_that_is_named(scan) -> None:
    described = scan(t1("T1", acquisition_type="3D"), t1("T1 post Gd"), agent="Gd")
    assert select_series(described)[Contrast.T1CE].series_instance_uid == described[3].series_instance_uid


def test_one_t1_of_which_nothing_is_said_is_a_plain_t1(scan) -> None:
    described = scan(t1("T1"))
    assert described[2].role is SeriesRole.T1
    with pytest.raises(NotGradableError) as caught:
        select_series(described)
    assert caught.value.reason_code == "missing_t1ce"
    assert "say so with `gliograde roles`" in caught.value.sentence


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ([t1("T1"), t1("T1 again")], "repeats series 3 in timing and geometry"),
        ([t1("T1 nativ"), t1("T1")], "repeats series 3 in timing and geometry"),
        ([t1("dsc perf"), t1("T1")], "series 3, acquired before it, is a perfusion series"),
    ],
)
def test_a_t1_that_may_have_come_after_the_agent_waits_for_a_person(
    scan, headers: list[SeriesHeader], words: str
) -> None:
    described = scan(*headers)
    assert words in described[3].evidence
    with pytest.raises(UncertainRolesError) as caught:
        select_series(described)
    assert caught.value.reason_code == "roles_uncertain"


def test_a_second_t1_with_other_times_is_no_repeat(scan) -> None:
    described = scan(t1("T1"), SeriesHeader(description="T1", repetition_time=500, echo_time=14))
    assert {described[2].role, described[3].role} == {SeriesRole.T1}
