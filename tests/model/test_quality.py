from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from model.space.quality import (
    GATES,
    PreprocessingError,
    Quality,
    list_warnings,
    overlap,
    require_gradable,
    similarity,
)

GOOD = Quality(
    brain_ml=1500.0,
    outside_grid=0.0,
    atlas_similarity=1.03,
    atlas_overlap=0.94,
    head_rotation_degrees=12.0,
    flair_similarity=1.05,
    t2_similarity=1.06,
    flair_overlap=0.97,
    t2_overlap=0.96,
    flair_rotation_degrees=2.0,
    t2_rotation_degrees=2.0,
    flair_shift_mm=1.0,
    t2_shift_mm=1.0,
    flair_coverage=1.0,
    t1ce_coverage=1.0,
    t2_coverage=1.0,
)
FAILING = [gate for gate in GATES if gate.fail is not None]


def test_a_good_study_passes_without_a_flag():
    require_gradable(GOOD)
    assert list_warnings(GOOD) == ()


@pytest.mark.parametrize("gate", FAILING, ids=lambda gate: f"{gate.measure}-{gate.fail:g}")
def test_every_gate_refuses_with_its_reason_in_a_sentence(gate):
    beyond = gate.fail * (0.999 if gate.is_least else 1.001)
    with pytest.raises(PreprocessingError) as caught:
        require_gradable(replace(GOOD, **{gate.measure: beyond}))
    assert caught.value.reason is gate.reason
    assert str(caught.value).startswith("not gradable: ")
    assert str(caught.value).endswith(".")
    assert "{" not in str(caught.value)


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: f"{gate.measure}-{gate.warn:g}")
def test_what_is_between_the_limits_is_graded_with_a_flag(gate):
    between = gate.warn * 1.1 if gate.fail is None else (gate.fail + gate.warn) / 2
    doubtful = replace(GOOD, **{gate.measure: between})
    require_gradable(doubtful)
    assert list_warnings(doubtful) == (gate.measure,)


@pytest.mark.parametrize("name", sorted({gate.measure for gate in FAILING}))
def test_what_could_not_be_measured_is_refused(name):
    with pytest.raises(PreprocessingError):
        require_gradable(replace(GOOD, **{name: np.nan}))


def test_every_measure_has_a_gate():
    assert {gate.measure for gate in GATES} == {field.name for field in fields(Quality)}


samples = npst.arrays(np.float32, 500, elements=st.floats(0, 1, width=32))


@given(samples, samples)
def test_similarity_is_symmetric_and_between_1_and_2(first, second):
    assert similarity(first, second) == pytest.approx(similarity(second, first))
    assert 1 - 1e-9 <= similarity(first, second) <= 2 + 1e-9


def test_similarity_is_that_of_information():
    random = np.random.default_rng(0)
    image = random.random(200_000).astype(np.float32)
    other = random.random(200_000).astype(np.float32)
    assert similarity(image, image) == pytest.approx(2)
    assert similarity(image, 3 - 7 * image) == pytest.approx(2, abs=0.02)
    assert similarity(image, other) < 1.003
    blurred = image + 0.3 * other
    assert similarity(image, other) < similarity(image, blurred) < 1.9


def test_what_is_not_known_is_left_out_of_the_similarity():
    image = np.linspace(0, 1, 1000, dtype=np.float32)
    holed = image.copy()
    holed[::2] = np.nan
    assert similarity(image, holed) == pytest.approx(2)
    assert similarity(image, np.full_like(image, np.nan)) == 1
    assert similarity(image, np.ones_like(image)) == pytest.approx(1)


def test_overlap_is_dice():
    first = np.array([True, True, False, False])
    second = np.array([False, True, True, True])
    assert overlap(first, second) == pytest.approx(0.4)
    assert overlap(first, first) == 1
    assert overlap(first & second, first & ~first) == 0
