import numpy as np
import pytest

from model.brain_mask import brain_mask

SPACING = np.array([4.0, 2.0, 2.0])


@pytest.fixture(scope="module")
def radius_mm():
    """Distance from the centre of a head of shells."""
    axes = [(np.arange(n) - (n - 1) / 2) * step for n, step in zip((44, 110, 110), SPACING, strict=True)]
    return np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")))


def _shells(radius_mm, brain, csf, fat):
    bone = 0.05
    edges = [(66, brain), (70, csf), (77, bone), (84, fat)]
    image = np.zeros_like(radius_mm)
    for outer, value in reversed(edges):
        image[radius_mm < outer] = value
    noise = np.random.default_rng(3).normal(0, 0.02, (2, *image.shape))
    return np.hypot(image + noise[0], noise[1]).astype(np.float32)


def test_scalp_and_skull_are_left_out(radius_mm):
    mask = brain_mask(_shells(radius_mm, 1.0, 0.3, 2.5), _shells(radius_mm, 1.0, 0.05, 1.1), SPACING)
    brain = radius_mm < 66
    assert 2 * (mask & brain).sum() / (mask.sum() + brain.sum()) > 0.9
    assert not mask[radius_mm > 80].any()


def test_a_bright_tumour_inside_belongs_to_the_brain(radius_mm):
    t1ce, flair = _shells(radius_mm, 1.0, 0.3, 2.5), _shells(radius_mm, 1.0, 0.05, 1.1)
    tumour = np.zeros_like(radius_mm, dtype=bool)
    tumour[22:27, 60:72, 70:80] = True
    t1ce[tumour] = 3
    assert brain_mask(t1ce, flair, SPACING)[tumour].all()


def test_a_stripped_brain_is_taken_whole(radius_mm):
    brain = radius_mm < 66
    stripped = np.where(brain, _shells(radius_mm, 1.0, 0.3, 2.5), 0).astype(np.float32)
    ventricle = radius_mm < 10
    stripped[ventricle] = 0
    assert np.array_equal(brain_mask(stripped, stripped, SPACING), brain)


def test_where_flair_does_not_reach_t1ce_alone_decides(radius_mm):
    flair = _shells(radius_mm, 1.0, 0.05, 1.1)
    flair[30:] = np.nan
    mask = brain_mask(_shells(radius_mm, 1.0, 0.3, 2.5), flair, SPACING)
    assert mask[32][radius_mm[32] < 40].all()


def test_noise_alone_holds_no_brain():
    noise = np.random.default_rng(4).random((5, 30, 30), dtype=np.float32)
    assert not brain_mask(noise, noise, SPACING).any()
