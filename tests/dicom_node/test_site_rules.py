import pytest
from pydantic import ValidationError
from pydicom.dataset import Dataset

from dicom_node.reading.series import describe_study
from dicom_node.reading.series_rules import SeriesRole
from dicom_node.reading.site_rules import SiteRule, first_match


def rule(role: str, **conditions: object) -> SiteRule:
    return SiteRule.model_validate({"role": role, "conditions": conditions})


@pytest.fixture
def header() -> Dataset:
    dataset = Dataset()
    dataset.SeriesDescription, dataset.EchoTime = "HIRN NR 7", 95
    dataset.ScanningSequence = ["SE", "IR"]
    return dataset


@pytest.mark.parametrize(
    ("conditions", "matches"),
    [
        ({"SeriesDescription": "hirn"}, True),
        ({"SeriesDescription": "^nr"}, False),
        ({"ScanningSequence": "^IR$"}, True),
        ({"EchoTime": 95}, True),
        ({"EchoTime": [60, 100]}, True),
        ({"EchoTime": [100, 200]}, False),
        ({"InversionTime": [0, 9999]}, False),
        ({"SeriesDescription": [1, 2]}, False),
        ({"SeriesDescription": "hirn", "EchoTime": 12}, False),
    ],
)
def test_all_conditions_must_hold(header: Dataset, conditions: dict[str, object], matches: bool) -> None:
    assert rule("t2", **conditions).matches(header) is matches


def test_values_of_multi_frame_objects_are_found(header: Dataset) -> None:
    group, echo = Dataset(), Dataset()
    echo.EffectiveEchoTime = 120.0
    group.MREchoSequence = [echo]
    header.PerFrameFunctionalGroupsSequence = [group]
    assert rule("t2", EffectiveEchoTime=120).matches(header)


def test_the_first_match_wins(header: Dataset) -> None:
    rules = [rule("t1", EchoTime=12), rule("ignore", EchoTime=95), rule("t2", EchoTime=95)]
    assert first_match(rules, header) == (2, "ignore")
    assert first_match(rules[:1], header) is None


@pytest.mark.parametrize(
    ("role", "conditions", "words"),
    [
        ("t3", {"EchoTime": 95}, "role"),
        ("t2", {}, "at least 1 item"),
        ("t2", {"EchoTimes": 95}, "no DICOM keyword"),
        ("t2", {"SeriesDescription": "("}, "no regular expression"),
        ("t2", {"EchoTime": [100, 60]}, "runs backwards"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(role: str, conditions: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        rule(role, **conditions)


def test_a_rule_goes_before_our_tables_and_says_so(study: list[Dataset]) -> None:
    (t1,) = describe_study([study[:12]], [rule("t1ce", SeriesDescription="^AX T1$")])
    assert (t1.role, t1.evidence, t1.exclusion) == (SeriesRole.T1CE, "site rule 1 says T1CE", None)
    for dataset in study[12:24]:
        dataset.SeriesDescription = "T2 survey"
    (t2,) = describe_study([study[12:24]], [rule("t2", SeriesDescription="survey")])
    assert t2.exclusion is None
    (ignored,) = describe_study([study[24:36]], [rule("ignore", SeriesDescription="FLAIR")])
    assert ignored.exclusion == "site rule 1 ignores it"


def test_no_rule_makes_a_volume_of_what_is_none(study: list[Dataset]) -> None:
    (few,) = describe_study([study[12:15]], [rule("t2", SeriesDescription="T2")])
    assert few.exclusion == "3 slices where 10 are needed"
