"""`gliograde up` as a site would try it: sent to by DCMTK, stopped by Ctrl-C, started again."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from dicom_node.reading.mr_study import save_study
from tests.command import gliograde, processes_naming
from tests.test_bad_input import make_series

pytestmark = [pytest.mark.slow, pytest.mark.apt]


@contextmanager
def running(folder, port, **environment):
    """The service in the foreground of another process, until Ctrl-C."""
    settings = {
        "GLIOGRADE_DATA_FOLDER": str(folder),
        "GLIOGRADE_DICOM_PORT": str(port),
        "GLIOGRADE_QUIET_PERIOD": "1",
        "GLIOGRADE_SWEEP_INTERVAL": "1",
        "GLIOGRADE_SERIES_WAIT": "0",
        **environment,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "worker.cli", "up", "--allow", "STORESCU@127.0.0.1"],
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        text=True,
        # a shell's background job ignores it, and its children with it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 (no thread yet)
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert f"GLIOGRADE listens on 127.0.0.1:{port}" in line
        yield settings
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
    assert process.returncode == 0
    assert processes_naming(folder) == []


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def results(settings):
    return json.loads(gliograde("results", "--json", **settings).stdout)


def dcmtk(tool, *arguments):
    return subprocess.run(
        [f"/usr/bin/{tool}", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120
    )


def test_what_dcmtk_sends_survives_a_restart(tmp_path):
    folder, port = tmp_path / "data", free_port()
    save_study(make_series(), tmp_path / "study")
    with running(folder, port) as settings:
        assert dcmtk("echoscu", "-aet", "STORESCU", "-aec", "GLIOGRADE", "127.0.0.1", port).returncode == 0
        sent = dcmtk(
            "storescu", "-aet", "STORESCU", "-aec", "GLIOGRADE", "+sd", "127.0.0.1", port, tmp_path / "study"
        )
        assert sent.returncode == 0, sent.stderr
        while [item["job_state"] for item in results(settings)] != ["not_gradable"]:
            time.sleep(0.2)
        before = results(settings)
    assert before[0]["reason_code"] == "missing_t1ce_t2"
    with running(folder, port) as settings:
        assert results(settings) == before
        stranger = dcmtk("echoscu", "-aet", "STRANGER", "-aec", "GLIOGRADE", "127.0.0.1", port)
        assert stranger.returncode != 0


def test_a_site_brings_its_own_database(tmp_path, database_url):
    folder, port = tmp_path / "data", free_port()
    with running(folder, port, GLIOGRADE_DATABASE_URL=database_url) as settings:
        assert results(settings) == []
        shown = gliograde("doctor", "--json", **settings)
        verdicts = {item["check"]: item["verdict"] for item in json.loads(shown.stdout)}
        # of --allow it knows from the data folder alone
        assert (verdicts["allow-list"], verdicts["receiver"]) == ("ok", "ok")
        assert (shown.returncode, set(verdicts.values()) & {"failed"}) == (0, set())
    assert not (folder / "postgres").exists()
