"""Series whose pixels contradict their headers wait for a person, with the evidence."""

from dataclasses import replace

import numpy as np
import pytest

from dicom_node.reading.series_choice import PlainT1, SeriesChoice, UncertainRolesError
from model.grade import Contrast
from model.space.contrast_check import ContrastCheck, Verdict
from tests.faults.conftest import series_of
from tests.faults.service import header
from tests.worker.samples import spool_object
from tests.worker.test_decisions import decide, freeze, node, prepare, standings  # noqa: F401 - a fixture
from worker.states import JobState
from worker.study.confirming import confirm_choices
from worker.study.indexing import index_spool

ALIKE, UNLIKE = PlainT1(frozenset(), alike=True), PlainT1(frozenset(), alike=False)


@pytest.fixture
def choices():
    return {
        contrast: SeriesChoice(
            contrast, f"series {number}", f"1.{number}", 0.97, "name says so", "", frozenset()
        )
        for number, contrast in enumerate(Contrast, start=1)
    }


def says(verdict):
    return ContrastCheck(0.0, verdict, "words of the pixels")


def test_confirmation_is_evidence(choices):
    checks = {Contrast.FLAIR: says(Verdict.CONFIRMED), Contrast.T1CE: says(Verdict.UNCLEAR)}
    confirmed = confirm_choices(choices, checks, ALIKE)
    assert confirmed[Contrast.FLAIR].evidence == "name says so; words of the pixels"
    assert confirmed[Contrast.T1CE].evidence == "name says so; words of the pixels"
    assert confirmed[Contrast.T2] == choices[Contrast.T2]


def test_without_a_plain_t1_the_evidence_says_so(choices):
    confirmed = confirm_choices(choices, {Contrast.FLAIR: says(Verdict.CONFIRMED)}, None)
    assert "no T1 before contrast agent to compare with" in confirmed[Contrast.T1CE].evidence


@pytest.mark.parametrize("contrast", [Contrast.FLAIR, Contrast.T1CE])
def test_a_contradiction_waits_unless_a_person_set_it(choices, contrast):
    checks = {contrast: says(Verdict.CONTRADICTED)}
    with pytest.raises(UncertainRolesError, match=r"series \d was taken for .* \(name says so\), but"):
        confirm_choices(choices, checks, ALIKE)
    choices[contrast] = replace(choices[contrast], evidence="set by a person")
    assert (
        confirm_choices(choices, checks, ALIKE)[contrast].evidence == "set by a person; words of the pixels"
    )


def test_a_t1_of_another_pulse_sequence_contradicts_nothing(choices):
    checks = {Contrast.T1CE: says(Verdict.CONTRADICTED)}
    assert "words of the pixels" in confirm_choices(choices, checks, UNLIKE)[Contrast.T1CE].evidence


def receive(node, pixels, names):  # noqa: F811 - the fixture's value
    """A study whose series carry the pixels of one contrast and the headers of another."""
    for number, (pixel, name) in enumerate(zip(pixels, names, strict=True), start=1):
        shown = series_of(pixel, number, header("mixed", "P1"))
        for dataset, source in zip(series_of(name, number, header("mixed", "P1")), shown, strict=True):
            for keyword in ("PixelData", "RescaleSlope", "RescaleIntercept"):
                dataset[keyword] = source[keyword]
            spool_object(node.spool, dataset)
    index_spool(node.sessions, node.spool)
    freeze(node)


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (("flair", "t2", "t1ce", "t1"), "looks like the one before contrast agent"),
        (("t2", "t2", "t1", "t1ce"), "fluid is as bright in FLAIR as in T2"),
    ],
)
def test_exchanged_series_wait_and_a_person_has_the_last_word(node, pixels, words):  # noqa: F811
    receive(node, pixels, ("flair", "t2", "t1", "t1ce"))
    job = prepare(node)
    assert (job.state, job.reason_code) == (JobState.HELD, "roles_uncertain")
    assert words in job.reason
    decide(node, t1ce="4", flair="1")
    assert prepare(node).state is JobState.GRADE
    assert np.isclose(standings(node)[3].confidence, 0.97)


def test_a_study_as_its_headers_say_goes_on(node):  # noqa: F811
    receive(node, ("flair", "t2", "t1", "t1ce"), ("flair", "t2", "t1", "t1ce"))
    assert prepare(node).state is JobState.GRADE
