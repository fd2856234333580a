from collections import Counter

import numpy as np
import pytest
from scipy import ndimage

from model.grade import Contrast, Grade
from model.simulation.lesion import Enhancement, Form, draw_enhancement, draw_form
from model.simulation.simulate import describe_patient, simulate_case, tumour_mask_on
from model.simulation.template import Head, load_template
from model.space.stack import Stack, stack_affine

COARSE = (1.6, 1.6, 4.0)


@pytest.fixture(scope="module")
def head():
    return simulate_case(21, Grade.HGG, spacing_mm=COARSE)


@pytest.fixture(scope="module")
def brain():
    return simulate_case(22, Grade.LGG, brain_only=True)


def _millilitres(volume, mask):
    return mask.sum() * np.prod(volume.spacing_mm) / 1000


def test_the_same_seed_gives_the_same_case(head):
    again = simulate_case(21, Grade.HGG, spacing_mm=COARSE)
    assert again.parameters == head.parameters
    assert (again.segmentation.array != head.segmentation.array).mean() < 1e-5
    for contrast in Contrast:
        apart = np.abs(again.volumes[contrast].array - head.volumes[contrast].array)
        # a voxel at a threshold may fall to its other side when the last digit is rounded otherwise
        assert (apart > 1e-4 * head.volumes[contrast].array.mean()).mean() < 1e-5, apart.max()
        assert np.array_equal(again.volumes[contrast].affine, head.volumes[contrast].affine)


def test_another_seed_gives_another_head(head):
    other = simulate_case(23, Grade.HGG, spacing_mm=COARSE)
    assert not np.array_equal(other.volumes[Contrast.T2].array, head.volumes[Contrast.T2].array)
    assert other.parameters["radius_mm"] != head.parameters["radius_mm"]


def test_series_are_axial_and_point_left_posterior_superior(brain):
    for volume in (*brain.volumes.values(), brain.native_t1):
        directions = volume.affine[:3, :3] / volume.spacing_mm
        assert np.all(np.diag(directions) * [-1, -1, 1] > 0.95)
        assert 0.86 <= volume.spacing_mm[0] <= 1.0
        assert 1.99 <= volume.spacing_mm[2] <= 5.01
        assert volume.array.dtype == np.float32


def test_segmentation_lies_on_t1ce_and_speaks_brats(head):
    t1ce = head.volumes[Contrast.T1CE]
    assert head.segmentation.array.shape == t1ce.array.shape
    assert np.array_equal(head.segmentation.affine, t1ce.affine)
    assert set(np.unique(head.segmentation.array)) <= {0, 1, 2, 4}
    assert 1 < _millilitres(head.segmentation, head.segmentation.array > 0) < 400


def test_without_a_grade_there_is_no_tumour():
    healthy = simulate_case(24, None, spacing_mm=COARSE, brain_only=True)
    assert not healthy.segmentation.array.any()
    assert healthy.grade is None
    assert healthy.parameters["grade"] == "none"


def test_enhancing_tumour_is_bright_after_contrast_only():
    case = next(
        case
        for seed in range(30, 50)
        if (case := simulate_case(seed, Grade.HGG, spacing_mm=COARSE, brain_only=True)).parameters[
            "enhancement"
        ]
        == Enhancement.RING
    )
    label = case.segmentation.array
    after, before = case.volumes[Contrast.T1CE].array, case.native_t1.array
    rest = (label == 0) & (after > 0)
    contrasts = [np.median(image[label == 4]) / np.median(image[rest]) for image in (after, before)]
    assert contrasts[0] > 1.2
    assert contrasts[0] > 1.2 * contrasts[1]


def test_oedema_is_bright_on_flair(head):
    flair = (
        head.volumes[Contrast.FLAIR].resample(head.segmentation.array.shape, head.segmentation.affine).array
    )
    brain = flair[head.segmentation.array == 0]
    assert np.median(flair[head.segmentation.array == 2]) > np.percentile(brain, 90)


def test_a_brain_alone_has_nothing_around_it(brain, head):
    for contrast in Contrast:
        assert not brain.volumes[contrast].array[:8].any()
        assert (head.volumes[contrast].array[:8] > 0).all()


def test_the_tumour_keeps_its_size_and_place_on_the_stack(head):
    """On a stack that shows all of the tumour's levels, each slice as thick as 1 mm."""
    tumour = head.segmentation.array > 0
    lowest = (head.segmentation.affine @ np.array([*np.argwhere(tumour).mean(axis=0), 1]))[:3]
    to_atlas = np.eye(4)
    to_atlas[:3, 3] = np.array([-119.5, 119.5, 77.5]) - lowest
    stack = Stack(np.zeros((56, 3, 224, 224), np.float32), np.ones((56, 224, 224), bool), stack_affine())
    mask = tumour_mask_on(stack, head, to_atlas)
    assert mask.shape == stack.mask.shape
    seen = np.argwhere(mask).mean(axis=0)
    assert seen[1:] == pytest.approx([111.5, 111.5], abs=3)
    there = mask.sum() * abs(np.linalg.det(stack.affine[:3, :3])) / 1000
    k_mm = (head.segmentation.affine @ np.vstack([np.argwhere(tumour).T, np.ones(tumour.sum())]))[2]
    in_slab = np.abs(k_mm - lowest[2]) < 28
    here = _millilitres(head.segmentation, tumour) * in_slab.mean()
    assert there == pytest.approx(here, rel=0.15)


def test_grades_differ_in_enhancement_and_overlap():
    rng = np.random.default_rng(5)
    kinds = {grade: Counter(draw_enhancement(rng, grade) for _ in range(400)) for grade in Grade}
    assert kinds[Grade.HGG][Enhancement.RING] > 200 > kinds[Grade.LGG][Enhancement.RING] > 0
    assert kinds[Grade.LGG][Enhancement.NONE] > 200 > kinds[Grade.HGG][Enhancement.NONE] > 0


def _form(form, grade, seed):
    return simulate_case(seed, grade, spacing_mm=COARSE, brain_only=True, form=form)


def _sides_ml(case):
    """Tumour right and left of the brain's middle."""
    mask = case.segmentation.array > 0
    middle = np.argwhere(case.volumes[Contrast.T1CE].array > 0)[:, 0].mean()
    columns = mask.sum(axis=(1, 2)) * np.prod(case.segmentation.spacing_mm) / 1000
    i = np.arange(len(columns))
    return columns[i < middle].sum(), columns[i >= middle].sum()


def test_a_butterfly_lies_on_both_sides():
    assert min(_sides_ml(_form(Form.BUTTERFLY, Grade.HGG, 11))) > 3


def test_several_foci_are_apart_and_small_ones_small():
    case = _form(Form.METASTASIS_LIKE, Grade.HGG, 15)
    parts, count = ndimage.label(np.isin(case.segmentation.array, (1, 4)))
    sizes = np.bincount(parts.ravel())[1:] * np.prod(case.segmentation.spacing_mm) / 1000
    assert 3 <= case.parameters["foci"] <= 5
    assert (sizes > 0.1).sum() >= 2
    assert sizes.max() < 12
    assert count >= 2


def test_surgery_leaves_a_cavity_of_fluid():
    """The cavity is dark on FLAIR and bright on T2, and no part of the tumour."""
    case = _form(Form.AFTER_SURGERY, Grade.HGG, 33)
    t1ce = case.volumes[Contrast.T1CE]
    tumour = case.segmentation.array > 0
    filled = ndimage.binary_fill_holes(ndimage.binary_closing(tumour, iterations=3))
    shape = case.segmentation.array.shape
    flair, t2 = (
        case.volumes[name].resample(shape, t1ce.affine).array for name in (Contrast.FLAIR, Contrast.T2)
    )
    fluid = filled & ~tumour & (t2 > np.percentile(t2[tumour], 75))
    assert _millilitres(t1ce, fluid) > 1
    assert np.median(flair[fluid]) < 0.8 * np.median(flair[tumour])


def test_a_tumour_below_the_tentorium_stays_there():
    case = _form(Form.INFRATENTORIAL, Grade.LGG, 18)
    affine = case.segmentation.affine
    voxels = np.argwhere(case.segmentation.array > 0)
    heights = voxels @ affine[2, :3] + affine[2, 3]
    assert np.median(heights) < -20


def test_describing_a_patient_draws_what_simulating_draws(brain):
    described = describe_patient(22, Grade.LGG)
    assert described.items() <= brain.parameters.items()


def test_the_other_head_is_another_anatomy():
    one, other = (load_template(head) for head in (Head.MNI152, Head.SRI24))
    assert one.tissue.shape == other.tissue.shape
    white = [template.tissue[1] > 0.5 for template in (one, other)]
    assert 0.5 < float((white[0] & white[1]).sum() / (white[0] | white[1]).sum()) < 0.9


def test_a_second_reading_of_the_first_head_is_the_same_anatomy():
    one, again = (load_template(head) for head in (Head.MNI152, Head.MNI152_BY_T1))
    assert float(again.tissue.min()) >= 0
    assert float(again.tissue.sum(dim=0).max()) <= 1 + 1e-5
    white = [template.tissue[1] > 0.5 for template in (one, again)]
    assert 0.9 < float((white[0] & white[1]).sum() / (white[0] | white[1]).sum()) < 1


def test_forms_are_drawn_by_grade():
    rng = np.random.default_rng(5)
    drawn = {grade: Counter(draw_form(rng, grade) for _ in range(400)) for grade in Grade}
    assert set(drawn[Grade.HGG]) == set(Form)
    assert Form.METASTASIS_LIKE not in drawn[Grade.LGG]
