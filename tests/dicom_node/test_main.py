import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dicom_node.peers.scu import Destination, Sent, send
from dicom_node.receiving.spool import Spool

PEERS = '[{"ae_title": "SCANNER", "address": "127.0.0.1"}]'


@pytest.fixture
def environment(tmp_path: Path, free_port: int) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GLIOGRADE_")}
    return clean | {
        "GLIOGRADE_DATA_FOLDER": str(tmp_path / "data"),
        "GLIOGRADE_DICOM_PORT": str(free_port),
        "GLIOGRADE_MINIMUM_FREE_BYTES": "0",
        "GLIOGRADE_PEERS": PEERS,
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }


@contextmanager
def running(environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "dicom_node"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def refused(environment: dict[str, str]) -> str:
    command = [sys.executable, "-m", "dicom_node"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("gliograde node does not start: ")
    return line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_ready_receives_and_stops_cleanly(
    environment: dict[str, str], study_files: list[Path], tmp_path: Path, number: signal.Signals
) -> None:
    port = int(environment["GLIOGRADE_DICOM_PORT"])
    destination = Destination(
        name="node", ae_title="GLIOGRADE", address="127.0.0.1", port=port, calling_ae_title="SCANNER"
    )
    with running(environment) as node:
        assert node.stderr is not None
        assert f"ready: GLIOGRADE listens on 127.0.0.1:{port}" in node.stderr.readline()
        assert [outcome.outcome for outcome in send(study_files[:2], destination)] == [Sent.SENT] * 2
        node.send_signal(number)
        assert node.wait(60) == 0
        assert "ZZCANARY" not in node.stderr.read()
    assert len(list(Spool(tmp_path / "data" / "spool").entries())) == 2


def test_without_peers_it_refuses_in_one_line(environment: dict[str, str]) -> None:
    assert "no peers are allowed" in refused(environment | {"GLIOGRADE_PEERS": "[]"})


def test_bad_settings_are_named_in_one_line(environment: dict[str, str]) -> None:
    assert "dicom_port" in refused(environment | {"GLIOGRADE_DICOM_PORT": "70000"})
    assert "peers" in refused(environment | {"GLIOGRADE_PEERS": "[{"})


def test_a_taken_port_is_named_in_one_line(environment: dict[str, str]) -> None:
    with running(environment) as node:
        assert node.stderr is not None
        node.stderr.readline()
        assert f"cannot listen on 127.0.0.1:{environment['GLIOGRADE_DICOM_PORT']}" in refused(environment)


def test_a_data_folder_of_another_format_is_refused(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "gliograde.json").write_text('{"format": 99, "device_uid": "2.25.1"}')
    assert "has format 99, this gliograde reads format 1" in refused(environment)


def test_a_data_folder_that_is_a_file_is_refused(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    assert "data folder can't be used" in refused(environment)
