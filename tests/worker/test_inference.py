"""The child that grades: kept warm, killed when it hangs, replaced when it dies."""

import hashlib
import json
import os
import pickle
import shutil
import signal
import threading
from datetime import timedelta

import numpy as np
import psutil
import pytest

from model.card import CARD_NAME, WEIGHTS_NAME, default_checkpoint_folder, read_card
from model.space.stack import COLUMNS, ROWS, Stack
from worker.study.inference import (
    Inference,
    InferenceError,
    InferenceLostError,
    InferenceTimeoutError,
    InferenceUnavailableError,
)

LONG = timedelta(minutes=2)


@pytest.fixture
def prepared(tmp_path):
    folder = tmp_path / "prepared"
    folder.mkdir()
    array = np.zeros((1, 3, ROWS, COLUMNS), np.float32)
    Stack(array, np.ones((1, ROWS, COLUMNS), bool), np.eye(4)).save(folder / "stack.npz")
    return folder


@pytest.fixture(scope="module")
def warm():
    with Inference(default_checkpoint_folder(), "cpu", LONG) as inference:
        yield inference


def graded(inference, prepared, tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    inference.grade(prepared, folder)
    return json.loads((folder / "prediction.json").read_text())["prediction"]["probability"]


def test_the_child_stays_alive_between_studies(warm, prepared, tmp_path):
    first = graded(warm, prepared, tmp_path, "one")
    pid = warm.pid
    assert graded(warm, prepared, tmp_path, "two") == first
    assert warm.pid == pid


def test_a_study_that_fails_leaves_the_child_alive(warm, prepared, tmp_path):
    graded(warm, prepared, tmp_path, "before")
    pid = warm.pid
    with pytest.raises(InferenceError, match=r"^FileNotFoundError$"):
        warm.grade(tmp_path / "ZZCANARY", tmp_path)
    graded(warm, prepared, tmp_path, "after")
    assert warm.pid == pid


def test_a_child_that_dies_is_replaced(warm, prepared, tmp_path):
    graded(warm, prepared, tmp_path, "before")
    pid = warm.pid
    # stopped, so that it can't answer before it dies
    os.kill(pid, signal.SIGSTOP)
    killer = threading.Timer(1, os.kill, (pid, signal.SIGKILL))
    killer.start()
    with pytest.raises(InferenceLostError):
        warm.grade(prepared, tmp_path)
    killer.join()
    graded(warm, prepared, tmp_path, "after")
    assert warm.pid != pid


def test_a_child_that_hangs_is_killed(warm, prepared, tmp_path):
    graded(warm, prepared, tmp_path, "before")
    pid = warm.pid
    os.kill(pid, signal.SIGSTOP)
    warm._timeout = timedelta(seconds=0.2)
    try:
        with pytest.raises(InferenceTimeoutError):
            warm.grade(prepared, tmp_path)
    finally:
        warm._timeout = LONG
    assert not psutil.pid_exists(pid)
    graded(warm, prepared, tmp_path, "after")


def test_what_began_on_one_device_does_not_go_on_on_another(warm, prepared, tmp_path):
    graded(warm, prepared, tmp_path, "before")
    warm.close()
    warm._device = "cuda:0"
    try:
        with pytest.raises(InferenceUnavailableError, match="was cuda:0 and is cpu"):
            warm.grade(prepared, tmp_path)
    finally:
        warm._device = None


def test_40_a_pickle_with_the_right_digest_runs_no_code(prepared, tmp_path):
    class Payload:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "executed"),))

    folder = shutil.copytree(default_checkpoint_folder(), tmp_path / "checkpoint")
    content = pickle.dumps(Payload())
    (folder / WEIGHTS_NAME).write_bytes(content)
    card = read_card(folder).model_copy(update={"weights_sha256": hashlib.sha256(content).hexdigest()})
    (folder / CARD_NAME).write_text(card.model_dump_json())
    with Inference(folder, "cpu", LONG) as inference, pytest.raises(InferenceUnavailableError):
        inference.grade(prepared, tmp_path)
    assert not (tmp_path / "executed").exists()
