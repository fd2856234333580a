from dataclasses import replace

import pytest
from pydicom.dataset import Dataset

from dicom_node.reading.series import describe_study
from dicom_node.reading.series_choice import (
    SET_BY_A_PERSON,
    NotGradableError,
    UncertainRolesError,
    passed_over,
    select_series,
)
from dicom_node.reading.series_description import SeriesDescription
from dicom_node.reading.series_rules import Plane
from model.grade import Contrast

T1, T2, FLAIR, T1CE = range(4)


@pytest.fixture
def series(study: list[Dataset]) -> list[SeriesDescription]:
    """T1, T2, FLAIR and T1 after contrast agent, numbered from 1."""
    return describe_study(study[12 * k : 12 * k + 12] for k in range(4))


@pytest.mark.parametrize(
    ("better", "worse", "words"),
    [
        ({}, {"confidence": 0.8}, "more certain"),
        ({}, {"plane": Plane.CORONAL, "coverage_mm": 200.0}, "axial or 3-D"),
        ({}, {"spoiled": True, "acquired_at": "2027"}, "not spoiled"),
        ({}, {"derived": True}, "original images"),
        ({}, {"fat_saturated": True, "voxel_mm3": 3.0}, "without fat saturation"),
        ({"coverage_mm": 180.0}, {}, "covers more"),
        ({"voxel_mm3": 3.0}, {}, "smaller voxels"),
        ({"acquired_at": "20270101"}, {}, "acquired later"),
    ],
)
def test_the_better_series_is_taken_and_the_other_says_why_not(
    series: list[SeriesDescription], better: dict[str, object], worse: dict[str, object], words: str
) -> None:
    one = replace(series[T2], series_instance_uid="1.1", series_number=11, **better)  # type: ignore[arg-type]
    other = replace(series[T2], series_instance_uid="1.2", series_number=12, **worse)  # type: ignore[arg-type]
    study = [series[FLAIR], series[T1CE], other, one]
    choices = select_series(study)
    assert choices[Contrast.T2].series_instance_uid == "1.1"
    assert passed_over(one, study, choices) is None
    assert passed_over(other, study, choices) == f"series 11 is taken before it: {words}"


def test_what_a_person_decided_is_taken_as_it_is(series: list[SeriesDescription]) -> None:
    plain = series[T1]
    choices = select_series(series, {Contrast.T1CE: (plain.series_instance_uid, "")})
    choice = choices[Contrast.T1CE]
    assert (choice.series_instance_uid, choice.confidence) == (plain.series_instance_uid, 1.0)
    assert choice.evidence == SET_BY_A_PERSON
    assert choice.sop_instance_uids == plain.sop_instance_uids
    assert passed_over(series[T1CE], series, choices) == "series 1 was set by a person"


def test_a_series_set_for_one_contrast_is_not_also_chosen_for_another(
    series: list[SeriesDescription],
) -> None:
    with pytest.raises(NotGradableError) as caught:
        select_series(series, {Contrast.T1CE: (series[T2].series_instance_uid, "")})
    assert caught.value.reason_code == "missing_t2"


def test_a_decided_series_that_changed_is_asked_for_again(series: list[SeriesDescription]) -> None:
    with pytest.raises(UncertainRolesError, match="set for t2 is no longer what it was"):
        select_series(series, {Contrast.T2: (series[T2].series_instance_uid, "TE 95")})


def test_doubt_waits_only_where_nothing_certain_is_there(series: list[SeriesDescription]) -> None:
    doubtful = replace(series[T2], series_instance_uid="1.1", confidence=0.6)
    assert select_series([*series, doubtful])[Contrast.T2].confidence == 0.97
    with pytest.raises(UncertainRolesError, match="no T2-weighted series is certain"):
        select_series([series[FLAIR], series[T1CE], doubtful])
    assert select_series([series[FLAIR], series[T1CE], doubtful], accepted_confidence=0.5)
