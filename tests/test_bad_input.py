"""What a person may get wrong: one clear sentence, a non-zero exit, nothing left running."""

import json
import socket

import numpy as np
import pytest
from pydicom.uid import CTImageStorage

from dicom_node.reading.mr_study import PROTOCOL, PatientIdentity, StudyHeader, build_mr_series, save_study
from model.space.volume import Volume
from tests.command import gliograde, processes_naming

pytestmark = pytest.mark.slow

STUDY = StudyHeader(patient=PatientIdentity(patient_id="P1", patient_name="Test^Bad"), seed="bad input")


def make_series(name="flair", number=1):
    """A small head-sized series of noise."""
    noise = np.random.default_rng(number).uniform(100, 900, (32, 32, 30)).astype(np.float32)
    return build_mr_series(Volume(noise, np.diag([7.0, 7.0, 5.0, 1.0])), PROTOCOL[name], STUDY, number)


def assert_refused(finished, *words):
    assert finished.returncode != 0
    assert finished.stderr.count("\n") == 1, finished.stderr
    assert "Traceback" not in finished.stderr
    for word in words:
        assert word in finished.stderr


@pytest.fixture
def folder(tmp_path):
    """The demo's folder; afterwards nothing may run there."""
    place = tmp_path / "demo"
    yield place
    assert processes_naming(place) == []


def test_a_folder_without_dicom(tmp_path, folder):
    (tmp_path / "notes.txt").write_text("nothing")
    assert_refused(gliograde("demo", "--folder", folder, "--study", tmp_path), "holds no DICOM file")


def test_somebody_elses_folder_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    assert_refused(gliograde("demo", "--folder", tmp_path), "isn't empty", "--folder")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_data_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    data = str(tmp_path / "file" / "data")
    assert_refused(gliograde("migrate", GLIOGRADE_DATA_FOLDER=data), "can't be used", data)


def test_a_ct_study(tmp_path, folder):
    series = make_series()
    for dataset in series:
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
        dataset.Modality = "CT"
    save_study(series, tmp_path / "ct")
    finished = gliograde("demo", "--folder", folder, "--study", tmp_path / "ct")
    assert_refused(finished, "takes MR images only")


def test_a_truncated_file(tmp_path, folder):
    for number, name in enumerate(["flair", "t2", "t1ce"], start=1):
        *_, last = save_study(make_series(name, number), tmp_path / "cut" / name)
    last.write_bytes(last.read_bytes()[:-500])
    finished = gliograde("demo", "--folder", folder, "--study", tmp_path / "cut")
    assert_refused(finished, last.name, "0xC000")


def test_a_study_with_one_series(tmp_path, folder):
    save_study(make_series(), tmp_path / "one")
    finished = gliograde("demo", "--folder", folder, "--study", tmp_path / "one")
    assert finished.returncode == 1
    assert "not gradable" in finished.stdout
    assert "no post-contrast T1-weighted and no T2-weighted series found" in finished.stdout
    assert finished.stderr == ""


def test_a_port_in_use(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert_refused(gliograde("demo", "--folder", folder, "--port", port), str(port), "in use")


def test_a_data_folder_of_another_version(folder):
    (folder / "node").mkdir(parents=True)
    (folder / "node" / "gliograde.json").write_text(json.dumps({"format": 99, "device_uid": "2.25.1"}))
    assert_refused(gliograde("demo", "--folder", folder), "format 99")
    assert_refused(gliograde("up", GLIOGRADE_DATA_FOLDER=str(folder / "node")), "format 99")


def test_no_peer_allowed_to_send(tmp_path):
    finished = gliograde("up", GLIOGRADE_DATA_FOLDER=str(tmp_path / "data"), GLIOGRADE_DICOM_PORT="11199")
    assert_refused(finished, "allow")
    assert processes_naming(tmp_path / "data") == []


def test_a_setting_that_makes_no_sense(tmp_path):
    assert_refused(gliograde("up", GLIOGRADE_DICOM_PORT="high"), "dicom_port")


def test_no_data_folder(tmp_path):
    assert_refused(
        gliograde("results", GLIOGRADE_DATA_FOLDER=str(tmp_path / "absent")), "GLIOGRADE_DATA_FOLDER"
    )
