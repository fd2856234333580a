import shutil

import pytest
from typer.testing import CliRunner

from model.card import CARD_NAME, Card, default_checkpoint_folder, read_card
from model.cohorts.brats import read_patients
from model.cohorts.unseen import SeenPatientsError, patient_hashes
from tests.model.cohort import write_case
from worker.cli import app


@pytest.fixture
def data(tmp_path):
    for grade in ("HGG", "LGG"):
        for number in (1, 2):
            write_case(tmp_path / "data" / grade / f"Brats18_{grade}_{number}_1", empty=True)
    return tmp_path / "data"


def run(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments])


def test_a_checkpoint_is_not_measured_on_the_patients_that_it_was_trained_on(tmp_path, data):
    folder = shutil.copytree(default_checkpoint_folder(), tmp_path / "checkpoint")
    card = read_card(folder)
    training = card.training.model_copy(update={"patients": patient_hashes(read_patients(data))})
    (folder / CARD_NAME).write_text(Card.model_dump_json(card.model_copy(update={"training": training})))
    found = run("evaluate", data, "--model", folder, "--out", tmp_path / "out")
    assert isinstance(found.exception, SeenPatientsError)
    assert "4 of 4 patients were trained on" in str(found.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("by", ["site", "-3", "1.5"])
def test_a_cohort_is_parted_by_a_number_of_folds_or_by_source(tmp_path, data, by):
    found = run("cross-validate", data, "--recipe", "improved", "--out", tmp_path / "out", f"--by={by}")
    assert found.exit_code == 2
    assert "say how many folds, or source" in found.output


def test_a_fold_that_is_none_is_refused(tmp_path, data):
    found = run("train", data, "--recipe", "improved", "--out", tmp_path / "out", "--fold", "6/5")
    assert found.exit_code == 2
    assert "say PART/PARTS" in found.output


@pytest.mark.parametrize("arguments", [("--skip", "440"), ("--patients", "445"), ("--dicom",)])
def test_patients_that_the_test_set_lacks_are_refused(tmp_path, arguments):
    found = run("simulate", tmp_path / "out", "--test-set", *arguments)
    assert found.exit_code == 2
    assert "the test set is written" in found.output or "444" in found.output
    assert not (tmp_path / "out").exists()


def test_patients_passed_over_are_not_written(tmp_path):
    """Of every twenty, the nineteenth and the last have no tumour."""
    found = run("simulate", tmp_path, "--patients", "1", "--skip", "18")
    assert found.exit_code == 0
    (folder,) = (tmp_path / "NONE").iterdir()
    assert folder.name == "Sim_MNI152_001000018"
