import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.grade import Contrast
from model.space import register as module
from model.space.register import RegistrationError, register, rotation_degrees, shift_between
from model.space.volume import Volume
from tests.heads import coarse_brain
from tests.model.test_preprocess import mean_displacement_mm, rigid


@pytest.fixture(scope="module")
def t1ce():
    return coarse_brain()[Contrast.T1CE]


@pytest.fixture(scope="module")
def flair():
    return coarse_brain()[Contrast.FLAIR]


def closeness(truth):
    return lambda transform: -mean_displacement_mm(transform, truth)


angles = st.tuples(*[st.floats(-20, 20)] * 3)
shifts = st.tuples(*[st.floats(-20, 20)] * 3)


@settings(max_examples=4, derandomize=True)
@given(angles, shifts)
def test_known_offsets_are_recovered(t1ce, flair, degrees, shift_mm):
    truth = rigid(degrees, shift_mm)
    moving = flair.moved(np.linalg.inv(truth))
    start = shift_between(np.linalg.inv(truth)[:3, 3], np.zeros(3))
    found = register(t1ce, moving, [start], closeness(truth), -1.0)
    assert -found.score < 2.5


def test_the_second_tool_finds_what_the_first_missed(t1ce, flair, monkeypatch):
    truth = rigid((0, 0, 12), (6, -4, 0))
    monkeypatch.setattr(module, "_greedy", lambda *_: rigid((90, 0, 0), (50, 0, 0)))
    found = register(t1ce, flair.moved(np.linalg.inv(truth)), [np.eye(4)], closeness(truth), -1.0)
    assert -found.score < 3


def test_the_best_of_all_starts_is_kept(t1ce, monkeypatch):
    answers = iter([rigid((0, 0, 3), (0, 0, 0)), rigid((0, 0, 1), (0, 0, 0))])
    monkeypatch.setattr(module, "_greedy", lambda *_: next(answers))
    monkeypatch.setattr(module, "_mattes", lambda *_: rigid((0, 0, -1), (0, 0, 0)))
    far = rigid((0, 0, 5), (0, 0, 0))
    found = register(t1ce, t1ce, [far, far], closeness(np.eye(4)), 0.0)
    assert rotation_degrees(found.transform) == pytest.approx(4)


def test_no_tool_makes_it_worse_than_it_was(t1ce, monkeypatch):
    monkeypatch.setattr(module, "_greedy", lambda *_: rigid((0, 0, 9), (0, 0, 0)))
    monkeypatch.setattr(module, "_mattes", lambda *_: rigid((0, 9, 0), (0, 0, 0)))
    found = register(t1ce, t1ce, [np.eye(4)], closeness(np.eye(4)), -1.0)
    assert np.array_equal(found.transform, np.eye(4))


def test_a_tool_that_crashes_leaves_it_to_the_other(t1ce, monkeypatch):
    def crash(*_):
        raise subprocess.CalledProcessError(-11, "greedy")

    monkeypatch.setattr(module, "_greedy", crash)
    monkeypatch.setattr(module, "_mattes", lambda *_: np.eye(4))
    assert register(t1ce, t1ce, [np.eye(4)], lambda _: 1.0, 1.0).score == 1
    monkeypatch.setattr(module, "_mattes", crash)
    with pytest.raises(RegistrationError):
        register(t1ce, t1ce, [np.eye(4)], lambda _: 1.0, 1.0)


def test_greedy_prints_nothing_and_repeats_itself(t1ce, flair, capfd):
    first = module._greedy(t1ce, flair, 1)
    assert capfd.readouterr() == ("", "")
    assert mean_displacement_mm(first, module._greedy(t1ce, flair, 1)) < 0.01


def test_finer_voxels_are_averaged_in_place():
    fine = Volume(np.random.default_rng(0).random((60, 60, 20)).astype(np.float32), np.diag([0.5, 0.5, 4, 1]))
    coarse = module._coarsened(fine)
    assert coarse.spacing_mm == pytest.approx([1.5, 1.5, 4])
    assert np.array_equal(coarse.affine[:3, 3], fine.affine[:3, 3])
    assert coarse.array.std() < 0.6 * fine.array.std()
