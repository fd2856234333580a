"""What Celery's own logging and the node write where `log_format` is json."""

import io
import json
import logging
import os
import socket
import subprocess
import sys

import pytest
from celery.signals import after_setup_logger, after_setup_task_logger

from worker.celery import app
from worker.settings import Settings


@pytest.fixture
def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def lines_until(word, *arguments, **environment):
    """Run a process of ours until it has written a line with the word; returns all its lines."""
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        env={**os.environ, "GLIOGRADE_LOG_FORMAT": "json", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines: list[str] = []
    assert process.stdout is not None
    try:
        for line in process.stdout:
            lines.append(line)
            if word in line:
                break
    finally:
        process.terminate()
        rest = process.communicate(timeout=120)[0].splitlines()
    assert word in lines[-1], lines
    # Celery says that it shuts down by a write of its own
    lines += [line for line in rest if line and "shutdown (MainProcess)" not in line]
    return [json.loads(line) for line in lines]


def test_the_node_writes_json_from_its_first_line_to_its_last(tmp_path, free_port):
    lines = lines_until(
        "ready:",
        "dicom_node",
        GLIOGRADE_DATA_FOLDER=str(tmp_path / "data"),
        GLIOGRADE_DICOM_PORT=str(free_port),
        GLIOGRADE_PEERS='[{"ae_title": "PACS", "address": "127.0.0.1"}]',
        GLIOGRADE_MINIMUM_FREE_BYTES="0",
    )
    assert {line["logger"] for line in lines} == {"dicom_node"}
    assert lines[-1]["message"] == "stopped on SIGTERM"


@pytest.mark.parametrize(
    ("part", "word"), [("worker --pool solo", "Cannot connect"), ("beat --pidfile=", "beat: Starting")]
)
def test_a_celery_process_writes_json_only(database_url, tmp_path, part, word):
    schedule = ["--schedule", str(tmp_path / "schedule")] if part.startswith("beat") else []
    lines = lines_until(
        word,
        *("celery", "--quiet", "--app", "worker", *part.split(), "--loglevel", "INFO", *schedule),
        GLIOGRADE_DATABASE_URL=database_url,
        GLIOGRADE_DATA_FOLDER=str(tmp_path / "data"),
        GLIOGRADE_REDIS_URL="redis://127.0.0.1:1/0",
    )
    assert {"time", "level", "logger", "message", "process"} <= lines[0].keys()


@pytest.mark.parametrize("signal", [after_setup_logger, after_setup_task_logger])
@pytest.mark.parametrize("log_format", ["json", "text"])
def test_the_formatter_that_celery_sets_gives_way_to_ours(monkeypatch, signal, log_format):
    monkeypatch.setattr("worker.celery.current_settings", lambda: Settings(log_format=log_format))
    output = io.StringIO()
    logger = logging.getLogger(f"tests.{signal.name}")
    logger.handlers.clear()
    app.log.setup_handlers(logger, output, "[%(levelname)s] %(message)s", False)
    signal.send(sender=None, logger=logger, loglevel=20, logfile=None, format="", colorize=False)
    logger.error("job %d failed", 3, extra={"job_id": 3, "data": {"args": "[ZZCANARY]"}})
    if log_format == "text":
        assert output.getvalue() == "[ERROR] job 3 failed\n"
        return
    line = json.loads(output.getvalue())
    assert (line["message"], line["job_id"], line["level"]) == ("job 3 failed", 3, "ERROR")
    assert "ZZCANARY" not in output.getvalue()
