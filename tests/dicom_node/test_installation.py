import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dicom_node.installation import DataFolderError, open_installation


def test_a_new_data_folder_gets_one_device_for_life(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    first = open_installation(folder)
    assert open_installation(folder) == first
    assert first.device_uid.is_valid


def test_a_data_folder_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "gliograde.json").write_text(json.dumps({"format": 99, "device_uid": "2.25.1"}))
    with pytest.raises(DataFolderError, match="format 99"):
        open_installation(tmp_path)


def test_a_damaged_marker_is_refused(tmp_path: Path) -> None:
    (tmp_path / "gliograde.json").write_text("{")
    with pytest.raises(DataFolderError, match="can't be read"):
        open_installation(tmp_path)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DataFolderError, match="isn't empty"):
        open_installation(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "data"):
        with pytest.raises(DataFolderError, match=f"can't be used: {folder}: .+; is this the service's"):
            open_installation(folder)


def test_a_new_volume_is_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    assert open_installation(tmp_path).device_uid.is_valid


def test_processes_that_start_at_once_in_a_new_folder_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        for number in range(50):
            folder = tmp_path / str(number)
            found = set(pool.map(open_installation, [folder] * 8))
            assert len(found) == 1
            assert [path.name for path in folder.iterdir()] == ["gliograde.json"]
