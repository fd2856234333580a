import pytest

from dicom_node.results.part10 import write_bytes
from tests.worker.samples import make_header
from worker.study.incoming import NoDicomError, read_studies


def test_files_are_grouped_by_study_and_others_passed_over(tmp_path):
    for number, study in enumerate(["1.2.3", "1.2.3", "1.2.4"]):
        (tmp_path / f"{number}.dcm").write_bytes(write_bytes(make_header(study=study)))
    (tmp_path / "notes.txt").write_text("not DICOM")
    studies = read_studies(tmp_path)
    assert {study.study_instance_uid: len(study.files) for study in studies} == {"1.2.3": 2, "1.2.4": 1}
    assert studies[0].modalities == ("MR",)


def test_a_folder_without_dicom_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("not DICOM")
    with pytest.raises(NoDicomError, match="holds no DICOM file"):
        read_studies(tmp_path)


def test_a_file_is_no_folder(tmp_path):
    with pytest.raises(NoDicomError, match="is not a folder"):
        read_studies(tmp_path / "absent")
