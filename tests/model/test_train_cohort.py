import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from model.checkpoint import load_checkpoint
from model.cohorts.brats import Patient, read_patients
from model.cohorts.unseen import patient_hashes
from model.grade import Grade
from model.network import AttentionVGG16
from model.training.cohort_slices import cache_patients
from model.training.recipes import REPRODUCE
from model.training.train_cohort import (
    Sides,
    Start,
    TooFewPatientsError,
    add_batch_norm,
    split_sides,
    train_cohort,
)
from tests.model.cohort import write_case


def cohort(hgg, lgg):
    grades = [Grade.HGG] * hgg + [Grade.LGG] * lgg
    return [Patient(f"CBICA_{n}_1", f"n{n}", grade, "CBICA", {}, None) for n, grade in enumerate(grades)]


def test_sides_never_share_a_patient_and_lose_none():
    patients = cohort(20, 10)
    held_out = set()
    for fold in range(5):
        sides = split_sides(patients, 5, fold, 1)
        ids = [each.id for side in (sides.train, sides.validation, sides.held_out) for each in side]
        assert sorted(ids) == sorted(each.id for each in patients)
        held_out |= {each.id for each in sides.held_out}
    assert len(held_out) == 30


def test_a_side_without_a_grade_is_refused():
    with pytest.raises(TooFewPatientsError, match="no LGG is left for validation: take fewer folds"):
        split_sides(cohort(20, 1), 5, 4, 1)


def test_batch_normalisation_is_added_without_changing_the_features():
    torch.manual_seed(0)
    plain, network = AttentionVGG16(batch_norm=False).eval(), AttentionVGG16(batch_norm=True)
    sample = torch.randn(2, 3, 224, 224)
    add_batch_norm(network, plain, sample)
    with torch.inference_mode():
        for found, expected in zip(network.features(sample), plain.features(sample), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def thinned(*arguments, **options):
    """Every 14th slice of each patient, which a CPU can be asked for."""
    return [
        each._replace(slices=each.slices[7::14], brain=each.brain[7::14], tumour=each.tumour[7::14])
        for each in cache_patients(*arguments, **options)
    ]


def test_a_tiny_cohort_becomes_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr("model.training.train_cohort.cache_patients", thinned)
    for grade, number in (("HGG", 1), ("LGG", 2)):
        write_case(tmp_path / "data" / grade / f"Brats18_CBICA_{number}_1", enhancing=20 * (number == 1))
    patients = read_patients(tmp_path / "data")
    recipe = replace(REPRODUCE, epochs=1, batch=2, batch_norm=False, learning_rate=1e-4, every=2)
    sides = Sides(patients, patients, ())  # nothing is measured here, so that the same may stand on both
    out = tmp_path / "out"
    start = Start(lambda _: AttentionVGG16(batch_norm=False), "noise")
    card, _ = train_cohort(sides, recipe, 3, out, start=start)
    assert load_checkpoint(out).card == card
    assert not card.is_simulated
    assert card.training.patients == patient_hashes(patients)
    assert (card.training.samples, card.training.steps, card.training.seed) == (4, 2, 3)
    assert "Started from noise" in card.training.description
    assert "focusing 2.0" in card.training.description
    assert "Deviates" not in card.training.description
    assert hashlib.sha256((out / "split.csv").read_bytes()).hexdigest() in card.training.description
    assert np.load(out / "work" / "slices" / "CBICA_1_1" / "tumour.npy").any()
