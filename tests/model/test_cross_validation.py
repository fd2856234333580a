import csv
import json

import pytest
import torch

from model.assessment.cross_validation import all_sides, evaluate_unseen, require_alike, train_all
from model.card import CheckpointError
from model.checkpoint import save_checkpoint
from model.cohorts.brats import Cohort, Patient, TumourFree, read_patients
from model.cohorts.unseen import SeenPatientsError, patient_hashes
from model.grade import Grade
from model.network import AttentionVGG16
from tests.model.cohort import write_case


@pytest.fixture(scope="module")
def patients(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_case(folder / "HGG" / "Brats18_CBICA_A_1", enhancing=20)
    write_case(folder / "LGG" / "Brats18_TCIA09_1_1")
    return read_patients(folder)


@pytest.fixture(autouse=True)
def four_slices(monkeypatch):
    """What a CPU can be asked for."""
    monkeypatch.setattr("model.space.stack.SLICES", range(57, 106, 14))


def save(folder, card, seed, trained_on):
    torch.manual_seed(seed)
    training = card.training.model_copy(update={"patients": patient_hashes(trained_on)})
    save_checkpoint(folder, AttentionVGG16(batch_norm=False), card.model_copy(update={"training": training}))
    return folder


def test_folds_give_figures_out_of_fold_and_one_checkpoint_training_figures(tmp_path, card, patients):
    folds = [save(tmp_path / f"{n}", card, n, [patients[1 - n]]) for n in range(2)]
    cohort = Cohort(patients, (TumourFree("a brain", patients[0].files),))
    done = []
    text = evaluate_unseen(
        folds, cohort, tmp_path / "out", grad_cam=True, step=lambda: done.append(1), resamples=20
    )
    assert len(done) == 3
    assert "2 checkpoints, each on patients it never saw, on 1 HGG and 1 LGG" in text
    assert "TRAINING FIGURE" not in text
    assert "| score | attention | Grad-CAM |" in text
    assert {"report.md", "roc.png", "attention.png"} <= {each.name for each in (tmp_path / "out").iterdir()}
    record = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(record["checkpoints"]) == 2
    assert not record["training_figures"]
    assert sum(each["tumour_free"] for each in record["verdicts"].values()) == 1
    names = [each["name"] for each in record["tables"]]
    assert "this checkpoint, tumour replaced by its mirror image" in names

    with pytest.raises(SeenPatientsError, match="1 of 2"):
        evaluate_unseen(folds[:1], cohort, tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
    text = evaluate_unseen(folds[:1], cohort, tmp_path / "seen", allow_seen=True, resamples=20)
    assert text.startswith("# TRAINING FIGURE: ")
    assert "| TRAINING FIGURE: this checkpoint |" in text
    assert "| TRAINING FIGURE: CBICA |" in text
    assert "| all HGG |" in text
    with (tmp_path / "seen" / "patients.csv").open(newline="") as file:
        assert [row["trained_on"] for row in csv.DictReader(file)] == ["False", "True"]
    assert json.loads((tmp_path / "seen" / "results.json").read_text())["training_figures"]


def test_checkpoints_of_different_trainings_are_not_pooled(card):
    other = card.model_copy(update={"threshold": 0.4, "weights_sha256": "1" * 64})
    with pytest.raises(CheckpointError, match="can't be pooled"):
        require_alike([card, other])
    with pytest.raises(CheckpointError, match="twice"):
        require_alike([card, card])


COHORT = [
    Patient(f"{source}_{n}_1", f"{source}_{n}_1", grade, source, {}, None)
    for source in ("CBICA", "TCIA09", "2013")
    for n, grade in enumerate([Grade.HGG] * 5 + [Grade.LGG] * 5)
]


@pytest.mark.parametrize("folds", [3, None])
def test_each_patient_is_held_out_once_by_fold_or_with_its_source(folds):
    sides = all_sides(COHORT, folds, 1)
    assert len(sides) == 3
    held_out = [each.id for side in sides for each in side.held_out]
    assert sorted(held_out) == sorted(each.id for each in COHORT)
    for side in sides:
        others = {each.source for each in (*side.train, *side.validation)}
        assert {each.grade for each in side.validation} == set(Grade)
        if folds is None:
            assert not others & {each.source for each in side.held_out}


def test_a_training_that_was_stopped_goes_on_with_what_is_missing(tmp_path, card):
    sides = all_sides(COHORT, 2, 1)
    trained = []

    def train(side, folder):
        trained.append(folder.name)
        save(folder, card, 0, (*side.train, *side.validation))

    assert train_all(sides, tmp_path, train) == [tmp_path / "1", tmp_path / "2"]
    (tmp_path / "2" / "card.json").unlink()
    train_all(sides, tmp_path, train)
    assert trained == ["1", "2", "2"]
    with pytest.raises(CheckpointError, match="of another split: name a new folder"):
        train_all(all_sides(COHORT, 2, 2), tmp_path, train)
