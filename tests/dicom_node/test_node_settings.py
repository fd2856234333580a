from pathlib import Path

import pytest
from pydantic import ValidationError

from dicom_node.settings import AllowedPeer, NodeSettings


def test_environment_goes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "gliograde.toml"
    file.write_text('ae_title = "FILE"\ndicom_port = 104\npeers = [{ae_title = "A", address = "10.0.0.1"}]\n')
    monkeypatch.setenv("GLIOGRADE_SETTINGS", str(file))
    monkeypatch.setenv("GLIOGRADE_DICOM_PORT", "11113")
    settings = NodeSettings()
    assert (settings.ae_title, settings.dicom_port) == ("FILE", 11113)
    assert settings.peers == (AllowedPeer(ae_title="A", address="10.0.0.1"),)


def test_the_spool_lies_in_the_data_folder_and_paths_are_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIOGRADE_DATA_FOLDER", "here")
    assert NodeSettings().spool_folder == Path.cwd() / "here" / "spool"


@pytest.mark.parametrize(
    ("name", "value"), [("dicom_port", 0), ("ae_title", "A" * 17), ("peers", [{"ae_title": ""}])]
)
def test_senseless_values_are_refused(name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=name):
        NodeSettings(**{name: value})  # type: ignore[arg-type]


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        NodeSettings().ae_title = "OTHER"
