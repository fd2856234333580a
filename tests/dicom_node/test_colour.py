import numpy as np
import pytest

from dicom_node.results.colour import colour_attention, oklab_to_linear_rgb, overlay_attention, ramp_oklab

STEPS = np.linspace(0, 1, 256)


def test_equal_steps_of_attention_are_equal_steps_of_colour():
    steps = np.linalg.norm(np.diff(ramp_oklab(STEPS), axis=0), axis=1)
    assert steps == pytest.approx(steps.mean(), rel=1e-6)


def test_the_ramp_stays_inside_the_gamut_of_a_monitor():
    rgb = oklab_to_linear_rgb(ramp_oklab(STEPS))
    assert rgb.min() >= 0
    assert rgb.max() <= 1


def test_the_ramp_rises_from_dark_to_light_in_grey_too():
    luminance = colour_attention(STEPS.astype(np.float32)) @ [0.2126, 0.7152, 0.0722]
    assert np.all(np.diff(luminance) > -0.5)
    assert luminance[0] < 60
    assert luminance[-1] > 220


def test_white_of_oklab_is_white():
    assert oklab_to_linear_rgb(np.array([1.0, 0.0, 0.0])) == pytest.approx(np.ones(3), abs=1e-3)


def test_values_outside_the_scale_take_its_ends():
    ends = colour_attention(np.array([0, 1], dtype=np.float32))
    assert np.array_equal(colour_attention(np.array([-1, 2], dtype=np.float32)), ends)


def test_the_overlay_leaves_unattended_anatomy_alone_and_never_hides_the_rest():
    grey = np.array([[0, 80], [160, 255]], dtype=np.uint8)
    untouched = overlay_attention(grey, np.zeros((2, 2), dtype=np.float32))
    assert np.array_equal(untouched, np.repeat(grey[..., None], 3, axis=-1))
    covered = overlay_attention(grey, np.ones((2, 2), dtype=np.float32)).astype(int)
    assert np.all(covered[1, 1] - covered[0, 0] > 100)
