import pytest

from dicom_node.reading.series_rules import Physics, SeriesRole, physics_role
from dicom_node.reading.series_words import text_roles, words
from model.grade import Contrast


def test_words_are_whole_words() -> None:
    pattern = words("mip", "t1")
    assert pattern.search("ax mip")
    assert pattern.search("mip-t1")
    assert not pattern.search("mipple t12")


@pytest.mark.parametrize(
    ("physics", "role"),
    [
        (Physics(), None),
        (Physics(repetition_time=600), None),
        (Physics(600, 9), SeriesRole.T1),
        (Physics(1200, 35), SeriesRole.T1),
        (Physics(1201, 35), None),
        (Physics(2500, 10, gradient_echo=True), SeriesRole.T1),
        (Physics(30, 20, gradient_echo=True), SeriesRole.OTHER),
        (Physics(2000, 20, 860, inversion_recovery=True), SeriesRole.T1),
        (Physics(9000, 120, 2500, inversion_recovery=True), SeriesRole.FLAIR),
        (Physics(9000, 120, inversion_recovery=True), SeriesRole.FLAIR),
        (Physics(4000, 60, 1400), SeriesRole.FLAIR),
        (Physics(3999, 60, 1400), None),
        (Physics(5000, 95), SeriesRole.T2),
        (Physics(5000, 95, 0), SeriesRole.T2),
        (Physics(5000, 95, 160), SeriesRole.OTHER),
        (Physics(3000, 20), SeriesRole.OTHER),
    ],
)
def test_the_pulse_sequence_names_the_weighting(physics: Physics, role: SeriesRole | None) -> None:
    assert physics_role(physics) is role


@pytest.mark.parametrize(
    ("text", "role"),
    [
        ("ax t2 flair", SeriesRole.FLAIR),
        ("t1 flair", SeriesRole.T1),
        ("3d t1 bravo", SeriesRole.T1),
        ("t2 tse", SeriesRole.T2),
        ("stir t2", SeriesRole.OTHER),
        ("head", None),
    ],
)
def test_the_name_names_the_weighting(text: str, role: SeriesRole | None) -> None:
    assert text_roles(text) == ({role} if role else set())


def test_plain_t1_is_none_of_the_networks_contrasts() -> None:
    assert {role.contrast for role in SeriesRole} == {*Contrast, None}
    assert SeriesRole.T1.contrast is None
