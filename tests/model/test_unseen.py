from dataclasses import replace

import pytest

from model.cohorts.brats import Patient, read_patients
from model.cohorts.brats_names import NameMapping
from model.cohorts.unseen import SeenPatientsError, deal, patient_hashes, seen_by
from model.grade import Grade
from tests.model.cohort import write_case


def patient(name):
    return Patient(NameMapping().identify(name), name, Grade.HGG, "TCIA09", {}, None)


COHORT = [patient(f"Brats18_TCIA09_{n}_1") for n in range(4)]


@pytest.fixture
def trained_on(card):
    def make(*patients):
        training = card.training.model_copy(update={"patients": patient_hashes(patients)})
        return card.model_copy(update={"training": training})

    return make


def test_two_names_of_one_patient_have_one_hash():
    assert patient_hashes([patient("Brats17_TCIA09_141_1")]) == patient_hashes(
        [patient("BraTS19_tcia09_141_1")]
    )
    assert patient_hashes([patient("Brats18_TCIA09_141_1")]) != patient_hashes(
        [patient("Brats18_TCIA09_142_1")]
    )


def test_a_mapping_gives_a_name_of_2020_the_hash_of_its_name_of_2018(tmp_path):
    write_case(tmp_path / "MICCAI_BraTS2020_TrainingData" / "BraTS20_Training_001", empty=True)
    columns = "Grade,BraTS_2017_subject_ID,BraTS_2018_subject_ID,BraTS_2019_subject_ID,BraTS_2020_subject_ID"
    row = "HGG,Brats17_TCIA09_141_1,Brats18_TCIA09_141_1,BraTS19_TCIA09_141_1,BraTS20_Training_001"
    (tmp_path / "name_mapping.csv").write_text(f"{columns}\n{row}\n")
    assert patient_hashes(read_patients(tmp_path)) == patient_hashes([patient("Brats18_TCIA09_141_1")])


def test_each_patient_goes_to_a_checkpoint_that_never_saw_it(trained_on):
    folds = [trained_on(*COHORT[2:]), trained_on(*COHORT[:2])]
    assert deal(folds, COHORT, allow_seen=False) == [[0, 1], [2, 3]]
    assert deal([trained_on()], COHORT, allow_seen=False) == [[0, 1, 2, 3]]


def test_a_patient_that_all_saw_is_refused_by_name_unless_allowed(trained_on):
    cards = [trained_on(*COHORT[2:]), trained_on(*COHORT[1:])]
    renamed = [replace(each, name=each.name.replace("18", "19")) for each in COHORT]
    with pytest.raises(SeenPatientsError, match=r"2 of 4 .*Brats19_TCIA09_2_1, .*--allow-seen"):
        deal(cards, renamed, allow_seen=False)
    assert deal(cards, renamed, allow_seen=True) == [[0, 1, 2, 3], []]
    assert seen_by(cards[0], renamed) == {COHORT[2].id, COHORT[3].id}
