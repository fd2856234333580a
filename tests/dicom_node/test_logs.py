import io
import json
import logging
import os
import threading
from datetime import datetime, timedelta

import pytest

from dicom_node.logs import about, make_formatter

FIELDS = {"time", "level", "logger", "message", "process"}


@pytest.fixture
def log():
    """A logger of its own, and what it has written as JSON."""
    output = io.StringIO()
    handler = logging.StreamHandler(output)
    handler.setFormatter(make_formatter("json"))
    logger = logging.getLogger("tests.logs")
    logger.propagate = False
    logger.addHandler(handler)
    yield logger, lambda: [json.loads(line) for line in output.getvalue().splitlines()]
    logger.removeHandler(handler)
    logger.propagate = True


def test_a_record_is_one_line_with_these_fields(log):
    logger, lines = log
    logger.warning("%d objects\nof one study", 3)
    (line,) = lines()
    assert line.keys() == FIELDS
    assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0)
    assert (line["level"], line["logger"], line["process"]) == ("WARNING", "tests.logs", os.getpid())
    assert line["message"] == "3 objects\nof one study"


def test_ledger_numbers_come_from_the_record_or_from_what_is_worked_on(log):
    logger, lines = log
    logger.error("held", extra={"study_id": 7, "patient_name": "ZZCANARY"})
    with about(job_id=4):
        logger.error("one")
        with about(study_id=2):
            logger.error("two")
        other = threading.Thread(target=logger.error, args=("of another thread",))
        other.start()
        other.join()
    logger.error("none")
    assert [{name: line[name] for name in line.keys() - FIELDS} for line in lines()] == [
        {"study_id": 7},
        {"job_id": 4},
        {"job_id": 4, "study_id": 2},
        {},
        {},
    ]


def test_an_exception_is_told_without_its_words(log):
    logger, lines = log
    words = "zzcanary".upper()
    try:
        try:
            json.loads(words)
        except ValueError:
            {words: 1}.pop(words * 2)
    except KeyError:
        logger.exception("it failed")
    (line,) = lines()
    assert "ZZCANARY" not in json.dumps(line)
    assert "json.decoder.JSONDecodeError" in line["exception"]
    assert line["exception"].endswith("builtins.KeyError")
