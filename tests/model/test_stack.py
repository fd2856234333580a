from dataclasses import replace

import numpy as np
import pytest

from model.grade import Contrast
from model.space.atlas import BRATS_AFFINE, BRATS_SHAPE
from model.space.stack import SLICES, Stack, cut_stack, stack_affine


@pytest.fixture(scope="module")
def ramps():
    """Three volumes whose value is one of the voxel's RAS+ mm each."""
    index = np.stack(np.meshgrid(*map(np.arange, BRATS_SHAPE), indexing="ij")).astype(np.float32)
    signs, start = np.diag(BRATS_AFFINE)[:3], BRATS_AFFINE[:3, 3]
    return {
        contrast: (index[axis] * signs[axis] + start[axis]).astype(np.float32)
        for axis, contrast in enumerate(Contrast)
    }


@pytest.fixture(scope="module")
def stack(ramps):
    return cut_stack(ramps, np.ones(BRATS_SHAPE, bool))


def test_every_pixel_lies_where_the_affine_says(stack):
    index = np.stack(np.meshgrid(*map(np.arange, stack.mask.shape), indexing="ij"))
    places = np.einsum("ab,bsrc->asrc", stack.affine[:3, :3], index) + stack.affine[:3, 3, None, None, None]
    for axis in range(3):
        assert np.allclose(stack.array[:, axis], places[axis], atol=1e-3)


def test_the_slices_are_the_paper_s(stack):
    assert len(stack.array) == 56
    assert (SLICES.start, SLICES.stop) == (50, 106)
    assert stack.affine[2, 0] == 1
    assert stack.affine[2, 3] == 50


def test_axes_point_superior_left_posterior():
    directions = stack_affine()[:3, :3]
    assert directions[2, 0] > 0
    assert directions[0, 1] < 0
    assert directions[1, 2] < 0


def test_outside_the_mask_is_zero(ramps):
    mask = np.zeros(BRATS_SHAPE, bool)
    mask[100:140, 100:140, 60:90] = True
    stack = cut_stack(ramps, mask)
    assert not stack.array[~np.broadcast_to(stack.mask[:, None], stack.array.shape)].any()
    assert stack.mask[:10].sum() == 0
    assert stack.mask.sum() == pytest.approx(40 * 40 * 30 * (224 / 240) ** 2, rel=0.06)


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


def test_intensities_are_cut_as_the_rest_and_kept_on_disk(ramps, tmp_path):
    mask = np.ones(BRATS_SHAPE, bool)
    stack = cut_stack({each: array / 1000 for each, array in ramps.items()}, mask, ramps)
    assert stack.intensities is not None
    np.testing.assert_allclose(stack.intensities, stack.array * 1000, rtol=1e-4, atol=1e-2)
    stack.save(tmp_path / "stack.npz")
    np.testing.assert_array_equal(Stack.load(tmp_path / "stack.npz").intensities, stack.intensities)
    with pytest.raises(ValueError, match="intensities"):
        replace(stack, intensities=stack.mask.astype(np.float32))
