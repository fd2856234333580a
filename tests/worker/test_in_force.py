"""What a running service was started with reaches the commands of its data folder, while it runs."""

from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from dicom_node.peers.scu import Destination
from dicom_node.peers.stow import WebDestination
from dicom_node.settings import AllowedPeer
from dicom_node.tls import TlsFiles
from worker.running.in_force import settings_in_force, told_to_others
from worker.settings import Settings

TLS = TlsFiles(certificate=Path("/c"), key=Path("/k"), authority=Path("/a"))


@pytest.fixture
def running(tmp_path, monkeypatch):
    """Settings of a service as `up` completes them; the commands beside it know its data folder only."""
    monkeypatch.setenv("GLIOGRADE_DATA_FOLDER", str(tmp_path))
    return Settings(
        data_folder=tmp_path,
        database_url=SecretStr("postgresql+psycopg://someone:secret@host/ledger"),
        dicom_port=104,
        peers=(AllowedPeer(ae_title="PACS", address="10.0.0.0/8"),),
        destinations=(
            Destination(name="pacs", ae_title="PACS", address="10.0.0.1", port=104, tls=TLS),
            WebDestination(name="web", url="https://host/x", response_timeout=timedelta(seconds=3.5)),
        ),
    )


def test_the_options_of_a_running_service_are_those_in_force(running):
    assert settings_in_force().peers == ()
    with told_to_others(running):
        told = settings_in_force()
        assert (told.peers, told.destinations) == (running.peers, running.destinations)
        assert told.dicom_port == 104
        assert told.database_url is None
        assert "secret" not in (running.data_folder / "running.json").read_text()
    assert settings_in_force().peers == ()
    assert list(running.data_folder.iterdir()) == []


def test_what_a_killed_service_left_behind_counts_no_more(running):
    path = running.data_folder / "running.json"
    with told_to_others(running):
        left = path.read_bytes()
    path.write_bytes(left)
    assert settings_in_force().peers == ()


def test_a_data_folder_that_is_not_there_tells_nothing(running, monkeypatch):
    monkeypatch.setenv("GLIOGRADE_DATA_FOLDER", str(running.data_folder / "nowhere"))
    assert settings_in_force().peers == ()
