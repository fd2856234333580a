import gzip
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.cohorts.brats import (
    LabelConflictError,
    LabelsMissingError,
    NoPatientsError,
    SamePatientError,
    SequenceMissingError,
    VolumeError,
    enhancing_ml,
    load_labels,
    load_patient,
    read_patients,
    require_apart,
    tumour_on,
)
from model.cohorts.brats_names import LabelTableError, NameMapping, read_mapping, source_of
from model.grade import Contrast, Grade
from tests.model.cohort import write_case

HEADER = "Grade,BraTS_2017_subject_ID,BraTS_2018_subject_ID,TCGA_TCIA_subject_ID,BraTS_2019_subject_ID"
SHARED = Path(__file__).parents[3] / "shared" / "data"


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def test_grade_folders_and_sources_of_2018(tmp_path):
    write_case(tmp_path / "HGG" / "Brats18_CBICA_AAB_1", empty=True, suffix=".nii.gz")
    write_case(tmp_path / "LGG" / "Brats18_TCIA09_141_1", empty=True)
    write_case(tmp_path / "LGG" / "Brats18_2013_0_1", empty=True)
    patients = read_patients(tmp_path)
    assert [(each.id, each.grade, each.source) for each in patients] == [
        ("2013_0_1", Grade.LGG, "2013"),
        ("CBICA_AAB_1", Grade.HGG, "CBICA"),
        ("TCIA09_141_1", Grade.LGG, "TCIA09"),
    ]
    assert patients[1].files[Contrast.T1CE].name == "Brats18_CBICA_AAB_1_t1ce.nii.gz"
    assert patients[1].segmentation is None
    assert {each.id for each in read_patients(tmp_path / "HGG")} == {"CBICA_AAB_1"}


def test_2020_takes_grade_and_source_from_the_mapping(tmp_path):
    write_case(tmp_path / "BraTS20_Training_001", empty=True)
    write_case(tmp_path / "BraTS20_Training_002", empty=True)
    write(
        tmp_path / "name_mapping.csv",
        HEADER + ",BraTS_2020_subject_ID",
        "HGG,Brats17_CBICA_AAB_1,Brats18_CBICA_AAB_1,NA,BraTS19_CBICA_AAB_1,BraTS20_Training_001",
        "LGG,NA,NA,NA,NA,BraTS20_Training_002",
    )
    assert [(each.id, each.grade, each.source) for each in read_patients(tmp_path)] == [
        ("BraTS20_Training_002", Grade.LGG, "unknown"),
        ("CBICA_AAB_1", Grade.HGG, "CBICA"),
    ]


def test_2021_needs_a_table(tmp_path):
    write_case(tmp_path / "BraTS2021_00000", empty=True)
    write_case(tmp_path / "BraTS2021_00002", empty=True)
    with pytest.raises(LabelsMissingError, match=r"2 of 2 .*BraTS2021_00000, BraTS2021_00002; put them"):
        read_patients(tmp_path)
    table = write(tmp_path / "labels.csv", "name,grade,source", "BraTS2021_00000,hgg,UCSF")
    with pytest.raises(LabelsMissingError, match="1 of 2 patients have no grade: BraTS2021_00002;"):
        read_patients(tmp_path, table)
    write(table, "name,grade,source", "BraTS2021_00000,hgg,UCSF", "BraTS2021_00002,LGG,")
    assert [(each.grade, each.source) for each in read_patients(tmp_path, table)] == [
        (Grade.HGG, "UCSF"),
        (Grade.LGG, "unknown"),
    ]


def test_the_users_table_has_the_last_word(tmp_path):
    write_case(tmp_path / "LGG" / "Brats18_TCIA10_1_1", empty=True)
    table = write(tmp_path / "labels.csv", "name,grade", "BraTS19_TCIA10_1_1,HGG")
    assert read_patients(tmp_path, table)[0].grade is Grade.HGG


def test_folder_against_mapping_is_refused(tmp_path):
    write_case(tmp_path / "LGG" / "Brats18_CBICA_AAB_1", empty=True)
    write(tmp_path / "name_mapping.csv", HEADER, "HGG,NA,Brats18_CBICA_AAB_1,NA,BraTS19_CBICA_AAB_1")
    with pytest.raises(LabelConflictError, match="both HGG and LGG"):
        read_patients(tmp_path)


def test_one_patient_under_two_names_is_refused(tmp_path):
    write_case(tmp_path / "HGG" / "Brats18_CBICA_AAB_1", empty=True)
    write_case(tmp_path / "HGG" / "BraTS19_CBICA_AAB_1", empty=True)
    with pytest.raises(SamePatientError, match=r"1 patients .*BraTS19_CBICA_AAB_1 = .*keep one folder"):
        read_patients(tmp_path)


def test_mapping_finds_one_patient_under_unlike_names(tmp_path):
    write_case(tmp_path / "a" / "BraTS20_Training_007", empty=True)
    write_case(tmp_path / "b" / "BraTS19_TCIA01_9_1", empty=True)
    row = "HGG,NA,NA,TCGA-02-0001,BraTS19_TCIA01_9_1,BraTS20_Training_007"
    write(tmp_path / "name_mapping.csv", HEADER + ",BraTS_2020_subject_ID", row)
    with pytest.raises(SamePatientError):
        read_patients(tmp_path)


def test_time_points_are_one_patient(tmp_path):
    for name in ("BraTS-GLI-00001-000", "BraTS-GLI-00001-001"):
        write_case(tmp_path / "HGG" / name, empty=True)
    with pytest.raises(SamePatientError):
        read_patients(tmp_path)


@pytest.mark.parametrize("lost", ["flair", "t1ce", "t2"])
def test_a_folder_without_a_sequence_is_named(tmp_path, lost):
    kept = [each for each in ("flair", "t1ce", "t2") if each != lost]
    write_case(tmp_path / "HGG" / "Brats18_CBICA_AAB_1", empty=True, sequences=kept)
    with pytest.raises(SequenceMissingError, match=f"Brats18_CBICA_AAB_1 has no file for {lost}: complete"):
        read_patients(tmp_path)


def test_linked_folders_are_followed(tmp_path):
    case = write_case(tmp_path / "elsewhere" / "Brats18_CBICA_AAB_1", empty=True)
    (tmp_path / "cohort" / "HGG").mkdir(parents=True)
    (tmp_path / "cohort" / "HGG" / case.name).symlink_to(case)
    assert [each.id for each in read_patients(tmp_path / "cohort")] == ["CBICA_AAB_1"]


def test_two_files_for_one_contrast_and_no_patient_at_all(tmp_path):
    with pytest.raises(NoPatientsError, match="name the folder"):
        read_patients(tmp_path)
    case = write_case(tmp_path / "HGG" / "Brats18_CBICA_AAB_1", empty=True)
    (case / "again_t2w.nii").touch()
    with pytest.raises(SequenceMissingError, match="two files for t2"):
        read_patients(tmp_path)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["patient,grade", "a,HGG"], "no column name"),
        (["name,grade", "a,IV"], "line 2 .*'IV': write HGG or LGG"),
        (["name,grade", "a,HGG", "a,LGG"], "line 3 .*contradicts"),
    ],
)
def test_tables_that_say_nothing_clear_are_refused(tmp_path, lines, message):
    write_case(tmp_path / "a", empty=True)
    with pytest.raises(LabelTableError, match=message):
        read_patients(tmp_path, write(tmp_path / "labels.csv", *lines))


def test_absent_table_is_refused(tmp_path):
    write_case(tmp_path / "a", empty=True)
    with pytest.raises(LabelTableError, match="can't be read"):
        read_patients(tmp_path, tmp_path / "nowhere.csv")


def test_a_mapping_that_contradicts_itself_is_refused(tmp_path):
    path = write(
        tmp_path / "name_mapping.csv",
        HEADER,
        "HGG,NA,Brats18_CBICA_AAB_1,NA,NA",
        "LGG,NA,NA,NA,BraTS19_CBICA_AAB_1",
    )
    with pytest.raises(LabelTableError, match=r"line 3 .*contradicts"):
        read_mapping([path])


def only_flair(change):
    return lambda sequence, array: change(array) if sequence == "flair" else array


def not_a_number(array):
    array[120, 120, 80] = np.nan
    return array


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda array: array[:, :, :-1], r"_flair\.nii has the shape \(240, 240, 154\)"),
        (not_a_number, r"_flair\.nii holds values that are not numbers"),
        (np.zeros_like, "FLAIR series is empty.*Leave this patient out"),
    ],
)
def test_volumes_that_are_not_brats_are_named(tmp_path, change, message):
    write_case(tmp_path / "HGG" / "Brats18_CBICA_AAB_1", change=only_flair(change))
    (patient,) = read_patients(tmp_path)
    with pytest.raises(VolumeError, match=message):
        load_patient(patient)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("content", [b"", b"x" * 400, gzip.compress(bytes(400), mtime=0)[:-9]])
def test_a_file_that_is_no_nifti_is_named(tmp_path, suffix, content):
    case = write_case(tmp_path / "HGG" / "Brats18_CBICA_AAB_1", empty=True, suffix=suffix)
    for path in case.iterdir():
        path.write_bytes(content)
    with pytest.raises(VolumeError, match="can't be read as NIfTI"):
        load_patient(read_patients(tmp_path)[0])


def test_a_patient_becomes_a_stack_with_its_tumour(tmp_path):
    write_case(tmp_path / "HGG" / "Brats18_CBICA_AAB_1", enhancing=10)
    (patient,) = read_patients(tmp_path)
    stack = load_patient(patient).stack
    labels = load_labels(patient)
    assert labels is not None
    tumour = tumour_on(stack, labels)
    assert enhancing_ml(labels) == pytest.approx(16.0, rel=0.05)
    assert tumour.any(axis=(1, 2)).sum() == 30
    assert stack.array[:, 0][tumour].mean() > stack.array[:, 0][stack.mask & ~tumour].mean() + 1


def test_the_same_patient_on_two_sides_is_refused():
    require_apart(["a"], ["b"], ["c"])
    with pytest.raises(SamePatientError, match="1 patients are on two sides of the split: b;"):
        require_apart(["a", "b"], ["c"], ["b"])


@given(st.sampled_from(["17", "18", "19"]), st.sampled_from(["CBICA", "TCIA09", "2013"]), st.integers(0, 999))
def test_every_years_name_is_one_patient(year, source, number):
    suffix = f"{source}_{number}_1"
    assert NameMapping().identify(f"Brats{year}_{suffix}") == suffix
    assert source_of(suffix) == source


@pytest.mark.data
def test_the_real_mapping_of_2019():
    path = SHARED / "labels" / "brats2019_name_mapping.csv"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    mapping = read_mapping([path])
    assert Counter(mapping.grades.values()) == {Grade.HGG: 259, Grade.LGG: 76}
    sources = Counter(source_of(patient) for patient in mapping.grades)
    assert sources["CBICA"] == 129
    assert sources["2013"] == 30
    assert "unknown" not in sources
