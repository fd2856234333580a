import json

import pytest

from worker.node import DataFolderError, MissingServiceError, open_installation, open_node
from worker.settings import Settings


def test_a_new_data_folder_gets_one_device_for_life(tmp_path):
    folder = tmp_path / "data"
    first = open_installation(folder)
    assert open_installation(folder) == first
    assert first.device_uid.is_valid


def test_a_data_folder_of_another_format_is_refused(tmp_path):
    (tmp_path / "gliograde.json").write_text(json.dumps({"format": 99, "device_uid": "2.25.1"}))
    with pytest.raises(DataFolderError, match="format 99"):
        open_installation(tmp_path)


def test_a_damaged_marker_is_refused(tmp_path):
    (tmp_path / "gliograde.json").write_text("{")
    with pytest.raises(DataFolderError, match="can't be read"):
        open_installation(tmp_path)


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DataFolderError, match="isn't empty"):
        open_installation(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_node_needs_a_database(tmp_path):
    with pytest.raises(MissingServiceError, match="GLIOGRADE_DATABASE_URL"):
        open_node(Settings(data_folder=tmp_path / "data"))
