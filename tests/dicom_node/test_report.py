from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from dicom_node.results.report import RESEARCH_SENTENCE
from model.grade import Contrast, Grade
from model.space.atlas import load_atlas
from model.space.stack import SLICES
from tests.dicom_node.result_samples import make_report


@given(st.floats(0, 1), st.floats(0.01, 0.99))
def test_the_number_shown_never_contradicts_the_grade(probability, threshold):
    report = make_report(probability, threshold)
    shown = float(report.percent_text)
    assert (shown >= 100 * threshold) == (report.prediction.grade is Grade.HGG)
    assert shown == pytest.approx(100 * probability, abs=0.0501)


@pytest.mark.parametrize(
    ("probability", "percent", "grade"),
    [(0.873, "87.3", "HGG"), (0.12, "12.0", "LGG"), (0.4999, "49.99", "LGG"), (0.5, "50.0", "HGG")],
)
def test_the_headline_says_grade_and_number(probability, percent, grade):
    headline = make_report(probability).headline
    assert f"({grade}) - probability of HGG {percent} % (threshold 50 %)" in headline


def test_comments_open_with_research_and_name_the_training():
    report = make_report()
    assert report.comments[0] == RESEARCH_SENTENCE
    assert report.algorithm.training_statement in report.comments
    assert RESEARCH_SENTENCE not in make_report(research_use_only=False).comments


def test_comments_say_how_much_of_the_brain_the_network_is_shown():
    (sentence,) = [text for text in make_report().comments if "is shown" in text]
    brain = load_atlas().array > 0
    assert f"{len(SLICES)} slices" in sentence
    assert f"{SLICES.step} mm apart" in sentence
    assert f"{brain[..., SLICES.start : SLICES.stop].sum() / brain.sum():.0%}".replace("%", " %") in sentence


def test_parameters_name_threshold_and_every_series_taken():
    report = make_report()
    parameters = report.algorithm_parameters
    assert parameters[0] == "decision_threshold=0.5"
    for contrast, role in zip(Contrast, report.roles, strict=True):
        assert role.contrast is contrast
        assert any(role.series_instance_uid in text and role.evidence in text for text in parameters)


def test_series_descriptions_are_marked_and_fit():
    assert make_report().series_description("AI glioma grade report") == "AI glioma grade report (RESEARCH)"
    assert "RESEARCH" not in make_report(research_use_only=False).series_description("Report")


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        ("+0200", ("20260103", "013005.250000")),
        ("-0330", ("20260102", "200005.250000")),
        ("", ("20260102", "233005.250000")),
        (None, ("20260102", "233005.250000")),
    ],
)
def test_times_follow_the_zone_of_the_study(offset, expected):
    header = Dataset()
    if offset is not None:
        header.TimezoneOffsetFromUTC = offset
    assert make_report().dicom_date_time(header) == expected


def test_without_an_offset_the_zone_of_the_job_is_kept():
    local = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=5)))
    assert make_report(created_at=local).dicom_date_time(Dataset()) == ("20260102", "030405.000000")


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        make_report(created_at=datetime(2026, 1, 2, tzinfo=UTC).replace(tzinfo=None))
    with pytest.raises(ValueError, match="probability"):
        make_report(1.2)
