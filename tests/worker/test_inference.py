"""The child that grades: kept warm, killed when it hangs, replaced when it dies."""

import hashlib
import io
import json
import os
import pickle
import shutil
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO, cast
from unittest.mock import Mock

import numpy as np
import psutil
import pytest
import torch

from model.card import CARD_NAME, WEIGHTS_NAME, default_checkpoint_folder, read_card
from model.space.stack import COLUMNS, ROWS, Stack
from tests.faults.service import wait_for
from worker.study import inference_child
from worker.study.inference import (
    Inference,
    InferenceError,
    InferenceLostError,
    InferenceTimeoutError,
    InferenceUnavailableError,
    Reply,
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


def ask_while_stopped(inference, questions, then):
    """Ask from a thread each while the child stands still, then send it a signal; what each got."""
    os.kill(inference.pid, signal.SIGSTOP)
    with ThreadPoolExecutor(len(questions)) as pool:
        answers = [pool.submit(inference.grade, *question) for question in questions]
        wait_for(lambda: len(inference._child._waiting) == len(questions), "the questions")
        os.kill(inference.pid, then)
        return [answer.exception(LONG.total_seconds()) for answer in answers]


def test_what_is_asked_at_once_is_answered_each(warm, prepared, tmp_path):
    alone = graded(warm, prepared, tmp_path, "alone")
    folders = [tmp_path / name for name in ("one", "two", "three")]
    for folder in folders:
        folder.mkdir()
    questions = [(prepared, folders[0]), (tmp_path / "ZZCANARY", folders[1]), (prepared, folders[2])]
    first, second, third = ask_while_stopped(warm, questions, signal.SIGCONT)
    assert (first, third) == (None, None)
    assert (type(second), str(second)) == (InferenceError, "FileNotFoundError")
    for folder in (folders[0], folders[2]):
        said = json.loads((folder / "prediction.json").read_text())["prediction"]["probability"]
        assert said == pytest.approx(alone, abs=1e-5)


def test_a_child_that_dies_takes_all_that_it_has_in_hand(warm, prepared, tmp_path):
    graded(warm, prepared, tmp_path, "before")
    lost = ask_while_stopped(warm, [(prepared, tmp_path)] * 2, signal.SIGKILL)
    assert [type(each) for each in lost] == [InferenceLostError] * 2
    graded(warm, prepared, tmp_path, "after")


def named(number: int, stack: Any = None) -> Any:
    """A study whose stack is a word."""
    return inference_child._Study(number, Path(), stack)


class Suspicious:
    """Predicts stacks, and fails at all where one of them is bad."""

    def __init__(self, error):
        self.error, self.asked = error, []

    def predict_together(self, stacks):
        self.asked.append(list(stacks))
        if "bad" in stacks:
            raise self.error
        return [f"of {stack}" for stack in stacks]


def test_a_bad_stack_fails_alone():
    error = ValueError("x")
    predictor: Any = Suspicious(error)
    studies = [named(number, stack) for number, stack in enumerate(["a", "bad", "b"], 1)]
    assert inference_child._predict(predictor, studies) == ["of a", error, "of b"]
    assert predictor.asked == [["a", "bad", "b"], ["a"], ["bad"], ["b"]]


def test_a_lost_accelerator_is_not_tried_again():
    predictor: Any = Suspicious(torch.AcceleratorError("lost"))
    studies = [named(number, stack) for number, stack in enumerate(["a", "bad"], 1)]
    with pytest.raises(torch.AcceleratorError):
        inference_child._predict(predictor, studies)
    assert len(predictor.asked) == 1


class Said(inference_child._Answers):
    """Answers kept in place of sent."""

    def __init__(self):
        super().__init__(io.BytesIO())
        self.said: dict[int, tuple[Reply, str]] = {}

    def say(self, number, reply, detail=""):
        self.said[number] = (reply, detail)


def test_an_accelerator_lost_while_it_grades_gives_back_all_that_is_in_hand(prepared, tmp_path):
    predictor: Any = Suspicious(torch.AcceleratorError("lost"))
    predictor.predict_together = Mock(side_effect=predictor.error)
    question = {"prepared": str(prepared), "folder": str(tmp_path)}
    answers, end = Said(), threading.Event()

    def questions():
        yield from (json.dumps({"number": number, **question}) for number in (1, 2))
        end.wait()

    assert inference_child._serve(predictor, cast("BinaryIO", questions()), answers) == 1
    end.set()
    in_hand = len(predictor.predict_together.call_args.args[0])
    assert list(answers.said.values()) == [(Reply.UNAVAILABLE, "AcceleratorError")] * in_hand


def test_no_more_stacks_together_than_memory_is_meant_for():
    waiting: SimpleQueue[Any] = SimpleQueue()
    for number in range(inference_child._TOGETHER + 3):
        waiting.put(named(number))
    waiting.put(None)
    first = inference_child._waiting(waiting)
    assert [study.number for study in first] == list(range(inference_child._TOGETHER - 1))
    assert [study.number for study in inference_child._waiting(waiting)] == [15, 16, 17, 18]
    assert waiting.get_nowait() is None


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
