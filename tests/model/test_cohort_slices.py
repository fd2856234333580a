import numpy as np
import pytest
import torch

from model.cohorts.brats import load_patient, read_patients
from model.training.cohort_slices import CachedPatient, TrainingSlices, cache_patients, statistics
from model.training.recipes import REPRODUCE
from tests.model.cohort import write_case


@pytest.fixture(scope="module")
def raw():
    random = np.random.default_rng(0)
    return [
        CachedPatient(
            (1000 * random.random((2, 3, 224, 224)) * [[[[1]], [[2]], [[3]]]]).astype(np.float16),
            np.ones((2, 224, 224), bool),
            np.zeros((2, 224, 224), bool),
            False,
            label,
        )
        for label in (0, 1)
    ]


def test_training_pixels_have_mean_0_and_deviation_1(raw):
    mean, deviation = statistics(raw)
    seen = np.concatenate(
        [
            each._replace(mean=mean, deviation=deviation).normalised(each.slices.astype(np.float32))
            for each in raw
        ]
    )
    np.testing.assert_allclose(seen.mean(axis=(0, 2, 3)), 0, atol=1e-3)
    np.testing.assert_allclose(seen.std(axis=(0, 2, 3)), 1, atol=1e-3)
    assert mean[2] == pytest.approx(3 * mean[0], rel=0.01)


def test_what_rotation_brings_in_is_background(raw):
    mean, deviation = statistics(raw)
    each = raw[0]._replace(mean=mean, deviation=deviation)
    slices = TrainingSlices([each, raw[1]._replace(mean=mean, deviation=deviation)], REPRODUCE, 0)
    background = -torch.tensor(mean) / torch.tensor(deviation)
    cornered = [slices[index].slices[:, 0, 0] for index in range(len(slices)) for slices.epoch in (0, 1, 2)]
    turned = [each for each in cornered if torch.allclose(each, background, atol=1e-3)]
    assert turned


def test_intensities_are_those_of_the_files_and_cached_apart(tmp_path):
    write_case(tmp_path / "data" / "HGG" / "Brats18_CBICA_A_1", enhancing=20)
    patients = read_patients(tmp_path / "data")
    (kept,) = cache_patients(patients, tmp_path / "cache", intensities=True)
    intensities = load_patient(patients[0]).stack.intensities
    assert intensities is not None
    np.testing.assert_allclose(kept.slices, intensities, rtol=1e-3)
    assert kept.slices.max() > 800
    (normalised,) = cache_patients(patients, tmp_path / "cache")
    assert normalised.slices.max() <= 6
