import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.network import AttentionVGG16, NetworkOutput
from model.simulation.samples import NO_GRADE
from model.training.attention_loss import ENTROPY_WEIGHT
from model.training.cohort_slices import Batch, CachedPatient, TrainingSlices
from model.training.fit_cohort import fit_cohort, fit_temperature, focal_loss, pooled, recipe_loss
from model.training.recipes import IMPROVED, REPRODUCE

TRIAL = replace(IMPROVED, batch_norm=False, learning_rate=1e-3, epochs=2, batch=2)


@pytest.fixture(scope="module")
def patients(square_samples):
    """One patient of each grade, two slices with the square each and one without."""
    s = square_samples
    return [
        CachedPatient(s.slices[which], np.ones_like(s.masks[which]), s.masks[which], True, label)
        for label, which in ((0, [0, 2, 6]), (1, [1, 3, 7]))
    ]


def fresh():
    torch.manual_seed(3)
    return AttentionVGG16(batch_norm=False)


def test_focal_loss_is_cross_entropy_without_focusing():
    logits, labels = torch.randn(6, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1] * 3)
    plain = torch.nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(focal_loss(logits, labels, 0.0), plain)
    assert focal_loss(logits, labels, 2.0) < plain
    even = focal_loss(torch.zeros(1, 2), torch.tensor([1]), 2.0).item()
    assert even == pytest.approx(0.25 * math.log(2))


def test_slices_without_grade_and_without_mask_teach_nothing():
    a3, a4 = torch.full((1, 1, 28, 28), 0.5), torch.full((1, 1, 14, 14), 0.5)
    output = NetworkOutput(torch.tensor([[5.0, -5.0]]), a3, a4)
    mask = torch.ones(1, 1, 224, 224)
    ungraded = Batch(torch.zeros(1), torch.tensor([NO_GRADE]), mask, torch.tensor([0.0]))
    assert recipe_loss(output, ungraded, IMPROVED).item() == 0
    segmented = ungraded._replace(segmented=torch.tensor([1.0]))
    half_looked = 2 * IMPROVED.attention_weight * (1 / 3 + ENTROPY_WEIGHT * math.log(2))
    assert recipe_loss(output, segmented, IMPROVED).item() == pytest.approx(half_looked, abs=5e-3)
    assert recipe_loss(output, segmented, REPRODUCE).item() == 0


@given(st.integers(1, 6), st.integers(1, 6))
def test_the_rarer_grade_comes_about_as_often(low, high):
    tiny = np.zeros((2, 3, 8, 8), np.float16), np.ones((2, 8, 8), bool), np.zeros((2, 8, 8), bool)
    cohort = [CachedPatient(*tiny, False, label) for label in [0] * low + [1] * high]
    slices = TrainingSlices(cohort, REPRODUCE, 0)
    labels = [int(slices[index].labels) for index in range(len(slices))]
    rare, common = sorted((labels.count(0), labels.count(1)))
    assert common == 2 * max(low, high) or rare == 2 * max(low, high)
    assert common <= 1.5 * rare


def test_augmentation_depends_on_seed_and_epoch_alone(patients):
    first, second = (TrainingSlices(patients, IMPROVED, 5) for _ in range(2))
    torch.testing.assert_close(first[1].slices, second[1].slices)
    second.epoch = 1
    assert not torch.equal(first[1].slices, second[1].slices)


def test_slices_without_tumour_have_no_grade_in_improved_only(patients):
    assert TrainingSlices(patients, IMPROVED, 0)[2].labels == NO_GRADE
    assert TrainingSlices(patients, REPRODUCE, 0)[2].labels == 0


def test_training_is_deterministic_and_goes_on_where_it_stopped(tmp_path, patients):
    whole = fresh()
    fitted = fit_cohort(whole, TrainingSlices(patients, TRIAL, 1), patients, TRIAL, 1, tmp_path / "a")
    assert (fitted.epochs_done, fitted.steps) == (2, 6)
    assert 1 <= fitted.best_epoch <= 2
    half = replace(TRIAL, epochs=1)
    fit_cohort(fresh(), TrainingSlices(patients, TRIAL, 1), patients, half, 1, tmp_path / "b")
    resumed = fresh()
    again = fit_cohort(resumed, TrainingSlices(patients, TRIAL, 1), patients, TRIAL, 1, tmp_path / "b")
    assert again.best_auc == fitted.best_auc
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], tensor, rtol=0, atol=0)
    assert not torch.equal(whole.head.weight, fresh().head.weight)


def test_temperature_never_makes_the_log_loss_worse(patients):
    network, truth = fresh(), np.array([False, True])
    temperature = fit_temperature(network, patients, truth)

    def log_loss(value):
        p = pooled(network, patients, value)
        return -np.log(np.where(truth, p, 1 - p)).mean()

    assert 0.25 <= temperature <= 4
    assert log_loss(temperature) <= log_loss(1.0) + 1e-12
