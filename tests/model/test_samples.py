import numpy as np
import pytest

from model.grade import Grade
from model.network import CLASS_ORDER
from model.simulation.lesion import Form
from model.simulation.samples import (
    NO_GRADE,
    Samples,
    draw_samples,
    grade_of,
    hard_form,
    simulated_patient,
    training_head,
    vary,
)
from model.simulation.simulated_cohort import TEST_HEAD

SEED = 2  # an LGG without skull, which is the cheapest to simulate


@pytest.fixture(scope="module")
def samples():
    return draw_samples(SEED, 3, 2)


def test_slices_with_tumour_bear_the_patients_grade(samples):
    assert samples.slices.shape == (5, 3, 224, 224)
    assert samples.slices.dtype == np.float16
    assert samples.masks.shape == (5, 224, 224)
    assert grade_of(SEED) is Grade.LGG
    assert samples.labels.tolist() == [CLASS_ORDER.index(Grade.LGG)] * 3 + [NO_GRADE] * 2
    assert (samples.masks[:3].sum(axis=(1, 2)) > 50).all()
    assert (samples.masks[3:].sum(axis=(1, 2)) < 150).all()


def test_mask_turns_with_the_slice(samples):
    """Tumour differs from the brain around it, in FLAIR or T2, only where slice and mask agree."""
    random = np.random.default_rng(0)
    for index in range(3):
        slices = samples.slices[index].astype(np.float32)
        varied, mask = vary(slices, samples.brain[index], samples.masks[index], random)
        assert varied.shape == (3, 224, 224)
        assert not np.array_equal(mask[0].numpy(), samples.masks[index])
        contrast = [(channel[mask[0] > 0].mean() - channel.mean()).item() for channel in varied[[0, 2]]]
        assert max(contrast) > 1


def test_same_seed_same_samples(samples):
    again = draw_samples(SEED, 3, 2)
    # but for rounding, which a voxel at a threshold may show
    apart = np.abs(again.slices.astype(np.float32) - samples.slices.astype(np.float32))
    assert (apart > 0.01).mean() < 1e-5, apart.max()
    assert (again.masks != samples.masks).mean() < 1e-5


def test_grades_alternate():
    assert {grade_of(seed) for seed in (10, 11)} == set(Grade)


def test_both_readings_of_the_head_teach_both_grades_and_none_is_of_the_test_set():
    drawn = {(training_head(seed), grade_of(seed)) for seed in range(20)}
    heads = {head for head, _ in drawn}
    assert {(head, grade) for head in heads for grade in Grade} <= drawn
    assert len(heads) == 2
    assert TEST_HEAD not in heads


def test_join_keeps_order(samples):
    joined = Samples.join([samples, samples])
    np.testing.assert_array_equal(joined.labels, np.tile(samples.labels, 2))
    np.testing.assert_array_equal(joined.slices[5:], samples.slices)


def test_share_of_hard_forms():
    """It is held, whatever grade and head a seed has, and nobody has one where none is asked for."""
    seeds = range(4000)
    forms = [hard_form(seed, 0.4) for seed in seeds]
    for kind in {(grade_of(seed), training_head(seed)) for seed in seeds}:
        of_kind = [
            form
            for seed, form in zip(seeds, forms, strict=True)
            if kind == (grade_of(seed), training_head(seed))
        ]
        assert 0.3 < sum(form is not None for form in of_kind) / len(of_kind) < 0.5
    assert set(forms) == {None, Form.AFTER_SURGERY, Form.SMALL, Form.INFRATENTORIAL}
    assert not any(hard_form(seed, 0.0) for seed in seeds)


def test_patient_has_the_form_asked_for(samples):
    small, usual = simulated_patient(SEED, form=Form.SMALL), simulated_patient(SEED)
    assert small.drawn["form"] == "small"
    assert usual.drawn["form"] == "single"
    assert 0 < small.tumour.sum() < usual.tumour.sum()
    assert not np.array_equal(draw_samples(SEED, 3, 2, hard=1.0).masks, samples.masks)
