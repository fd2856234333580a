import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.assessment.shortcuts import MARGIN_MM, blanked, distance_mm, mirrored
from model.cohorts.brats import load_labels, load_patient, read_patients, tumour_on
from model.grade import Contrast
from tests.model.cohort import write_case

FLAIR = list(Contrast).index(Contrast.FLAIR)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A patient's placed volumes, labels, stack, and tumour on it."""
    folder = tmp_path_factory.mktemp("cohort")
    write_case(folder / "HGG" / "Brats18_CBICA_A_1", enhancing=20)
    (patient,) = read_patients(folder)
    prepared, labels = load_patient(patient), load_labels(patient)
    assert labels is not None
    return prepared.placed, labels, prepared.stack, tumour_on(prepared.stack, labels)


def test_a_blanked_tumour_is_the_median_and_eight_millimetres_with_it(case):
    placed, labels, stack, tumour = case
    array = blanked(placed, labels).array
    assert stack.array[:, FLAIR][tumour].min() > 1
    assert not array.transpose(0, 2, 3, 1)[tumour].any()
    level = 20  # of the stack, 70 of the volume
    columns = np.flatnonzero(tumour[level].any(axis=0))
    row = int(np.median(np.flatnonzero(tumour[level].any(axis=1))))
    step = 240 / 224  # mm
    for beside, gone in ((columns[-1] + int(MARGIN_MM / step) - 1, True), (columns[-1] + 12, False)):
        assert (not array[level, :, row, beside].any()) == gone
    # above the tumour too: it ends at level 89, so 39 of the stack
    assert not array[45, :, row, columns[10]].any()
    assert array[50, :, row, columns[10]].any()


def test_what_is_left_is_normalised_anew(case):
    placed, labels, stack, _ = case
    array = blanked(placed, labels).array[:, FLAIR]
    left = stack.mask & (array != 0)
    # a large bright tumour lifts the median; without it the rest moves up against its own
    assert array[left].mean() > stack.array[:, FLAIR][left].mean()


def test_the_mirror_image_hides_the_tumour(case):
    placed, labels, stack, tumour = case
    array = mirrored(placed, labels).array[:, FLAIR]
    level = 20
    brightest = np.percentile(array[level][stack.mask[level] & ~tumour[level]], 99)
    assert np.percentile(stack.array[level, FLAIR][tumour[level]], 50) > brightest
    assert np.percentile(array[level][tumour[level]], 95) <= brightest
    # it is tissue and no hole
    assert array[level][tumour[level]].std() > 0.2


@settings(max_examples=25)
@given(st.lists(st.tuples(*[st.integers(0, 39)] * 3), min_size=1, max_size=4))
def test_distance_agrees_with_its_definition(places):
    tumour = np.zeros((40, 40, 40), bool)
    for place in places:
        tumour[place] = True
    grid = np.indices(tumour.shape).reshape(3, -1).T
    true = np.min([np.linalg.norm(grid - place, axis=1) for place in places], axis=0).reshape(tumour.shape)
    found = distance_mm(tumour)
    near = true <= MARGIN_MM + 4
    np.testing.assert_allclose(found[near], true[near], rtol=1e-6)
    assert (found[~near] > MARGIN_MM + 4).all()


def test_a_patient_without_tumour_keeps_everything(case):
    placed, _, stack, _ = case
    nothing = np.zeros(placed.mask.shape, np.uint8)
    for control in (blanked, mirrored):
        np.testing.assert_array_equal(control(placed, nothing).array, stack.array)
