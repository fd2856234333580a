import math
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.grade import Contrast, Grade
from model.preprocess import FIELD_MM, MAXIMUM_SLICES, PreprocessingError, Reason, Stack, build_stack
from model.simulate import simulate_case
from model.volume import Volume, load_volume

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "glioma"


@pytest.fixture(scope="module")
def volumes():
    case = simulate_case(11, Grade.HGG, spacing_mm=(1.6, 1.6, 5.0), brain_only=True)
    return dict(case.volumes)


@pytest.fixture(scope="module")
def head():
    return dict(simulate_case(12, None, spacing_mm=(1.6, 1.6, 5.0)).volumes)


@pytest.fixture(scope="module")
def stack(volumes):
    return build_stack(volumes)


def _stored(volume, axes, flips):
    """The same voxels in the same place, kept in another order of axes and directions."""
    array, affine = volume.array.transpose(axes), volume.affine[:, [*axes, 3]].copy()
    for axis in range(3):
        if flips[axis]:
            affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
            affine[:3, axis] *= -1
            array = np.flip(array, axis)
    return Volume(np.ascontiguousarray(array), affine)


def test_axes_point_superior_left_posterior(stack):
    directions = stack.affine[:3, :3] / np.linalg.norm(stack.affine[:3, :3], axis=0)
    assert directions[2, 0] > 0.9
    assert directions[0, 1] < -0.9
    assert directions[1, 2] < -0.9


def test_window_is_240_mm_about_the_brain(stack):
    spacing = np.linalg.norm(stack.affine[:3, :3], axis=0)
    assert spacing[1:] * 224 == pytest.approx([FIELD_MM, FIELD_MM])
    assert np.argwhere(stack.mask)[:, 1:].mean(axis=0) == pytest.approx([111.5, 111.5], abs=2)


def test_t1ce_keeps_its_own_slices_where_they_are_few(volumes, stack):
    assert np.linalg.norm(stack.affine[:3, 0]) == pytest.approx(5.0)
    index = np.linalg.inv(volumes[Contrast.T1CE].affine) @ stack.affine
    assert index[2, 3] == pytest.approx(round(index[2, 3]), abs=1e-3)


def test_thin_slices_become_56_over_the_brain(volumes, stack):
    t1ce = volumes[Contrast.T1CE]
    thin = t1ce.affine @ np.diag([1, 1, 1 / 4, 1])
    shape = (*t1ce.array.shape[:2], t1ce.array.shape[2] * 4 - 3)
    thinned = build_stack({**volumes, Contrast.T1CE: t1ce.resample(shape, thin)})
    assert len(thinned.array) == MAXIMUM_SLICES
    heights = [len(s.array) * np.linalg.norm(s.affine[:3, 0]) for s in (stack, thinned)]
    assert heights[0] == pytest.approx(heights[1], abs=8)


@settings(max_examples=6, deadline=None)
@given(
    st.sampled_from(list(Contrast)),
    st.sampled_from(list(permutations(range(3)))),
    st.sampled_from(list(product((False, True), repeat=3))),
)
def test_the_order_in_which_voxels_are_stored_does_not_matter(volumes, stack, contrast, axes, flips):
    again = build_stack({**volumes, contrast: _stored(volumes[contrast], axes, flips)})
    assert np.allclose(again.affine, stack.affine, atol=1e-6)
    assert np.array_equal(again.mask, stack.mask)
    assert np.allclose(again.array, stack.array, atol=1e-2)


@settings(max_examples=4, deadline=None)
@given(st.sampled_from(list(Contrast)), st.floats(0.01, 1000))
def test_a_scanner_s_gain_does_not_matter(volumes, stack, contrast, gain):
    scaled = Volume(volumes[contrast].array * np.float32(gain), volumes[contrast].affine)
    assert np.allclose(build_stack({**volumes, contrast: scaled}).array, stack.array, atol=2e-2)


def test_brain_is_centred_and_background_is_zero(stack):
    for channel in range(3):
        assert np.median(stack.array[:, channel][stack.mask]) == pytest.approx(0, abs=0.05)
        assert not stack.array[:, channel][~stack.mask].any()
    assert np.abs(stack.array).max() <= 6


def test_a_marker_in_the_patient_lands_where_the_affine_says(volumes):
    t1ce = volumes[Contrast.T1CE]
    marked = t1ce.array.copy()
    inside = (70, 80, 17)
    marked[69:72, 79:82, 17] = 20 * marked.max()
    stack = build_stack({**volumes, Contrast.T1CE: Volume(marked, t1ce.affine)})
    channel = list(Contrast).index(Contrast.T1CE)
    brightest = np.argwhere(stack.array[:, channel] >= 5.99)
    place = np.linalg.inv(stack.affine) @ t1ce.affine @ np.array([*inside, 1])
    assert np.abs(brightest - place[:3]).max(axis=1).min() < 1.5


def test_where_a_series_ends_inside_the_brain_the_stack_is_zero(volumes):
    flair = volumes[Contrast.FLAIR]
    cut = Volume(flair.array[:, :, : flair.array.shape[2] * 2 // 3], flair.affine)
    stack = build_stack({**volumes, Contrast.FLAIR: cut})
    assert stack.mask[-3].any()
    assert not stack.array[-3, 0].any()


def _refused(volumes):
    with pytest.raises(PreprocessingError) as caught:
        build_stack(volumes)
    assert str(caught.value).endswith(".")
    return caught.value.reason


@pytest.mark.parametrize("contrast", list(Contrast))
def test_series_that_cannot_be_used_are_named(volumes, contrast):
    volume = volumes[contrast]
    holed = volume.array.copy()
    holed[3, 3, 3] = math.nan
    flat = np.diag([1.0, 1.0, 0.0, 1.0])
    skewed = volume.affine.copy()
    skewed[:3, 1] = skewed[:3, 0]
    for broken, reason in (
        (Volume(holed, volume.affine), Reason.NOT_FINITE),
        (Volume(np.full_like(holed, 7), volume.affine), Reason.CONSTANT),
        (Volume(np.zeros((0, 4, 4), np.float32), volume.affine), Reason.BAD_GEOMETRY),
        (Volume(volume.array, flat), Reason.BAD_GEOMETRY),
        (Volume(volume.array, skewed), Reason.BAD_GEOMETRY),
    ):
        assert _refused({**volumes, contrast: broken}) is reason


def test_a_missing_contrast_is_named(volumes):
    assert _refused({c: v for c, v in volumes.items() if c is not Contrast.T1CE}) is Reason.MISSING_CONTRAST


@pytest.mark.parametrize("contrast", [Contrast.FLAIR, Contrast.T2])
@pytest.mark.parametrize("brain_only", [True, False])
def test_series_of_two_places_do_not_overlap(volumes, head, contrast, brain_only):
    study = volumes if brain_only else head
    moved = study[contrast].affine.copy()
    moved[2, 3] += 400
    away = {**study, contrast: Volume(study[contrast].array, moved)}
    assert _refused(away) is Reason.NO_OVERLAP


def test_too_few_slices_are_refused(volumes):
    t1ce = volumes[Contrast.T1CE]
    affine = t1ce.affine.copy()
    affine[:3, 3] += affine[:3, 2] * 14
    few = Volume(t1ce.array[:, :, 14:20], affine)
    assert _refused({**volumes, Contrast.T1CE: few}) is Reason.TOO_FEW_SLICES


def test_an_almost_empty_series_holds_no_brain(volumes):
    array = np.zeros_like(volumes[Contrast.T1CE].array)
    array[40:44, 40:44, 5:9] = 1
    assert (
        _refused({**volumes, Contrast.T1CE: Volume(array, volumes[Contrast.T1CE].affine)}) is Reason.NO_BRAIN
    )


def test_a_head_is_reduced_to_a_brain(head):
    stack = build_stack(head)
    litres = stack.mask.sum() * abs(np.linalg.det(stack.affine[:3, :3])) / 1e6
    assert 1.1 < litres < 2.1


def test_a_file_gives_back_the_stack(tmp_path, stack):
    stack.save(tmp_path / "stack.npz")
    again = Stack.load(tmp_path / "stack.npz")
    for name in ("array", "mask", "affine"):
        assert getattr(again, name).dtype == getattr(stack, name).dtype
        assert np.array_equal(getattr(again, name), getattr(stack, name))


def test_parts_that_do_not_belong_together_are_no_stack(stack):
    with pytest.raises(ValueError, match="belong"):
        replace(stack, mask=stack.mask[1:])
    with pytest.raises(ValueError, match="a stack is"):
        replace(stack, array=stack.array[:, :2])


@pytest.mark.data
def test_a_real_head_loses_its_scalp():
    folder = DATA / "TCGA-FG-6692"
    if not folder.is_dir():
        pytest.skip("../shared/data is absent")
    stack = build_stack({c: load_volume(folder / "native" / f"{c}.nii.gz") for c in Contrast})
    reference = load_volume(folder / "native_masks" / "hdbet_mask_t1c.nii.gz")
    brain = reference.resample(stack.mask.shape, stack.affine).array > 0.5
    assert 2 * (brain & stack.mask).sum() / (brain.sum() + stack.mask.sum()) > 0.88
