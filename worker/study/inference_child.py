"""`python -m worker.study.inference_child CHECKPOINT DEVICE PRECISION` grades what it is told to.

Questions and answers are one JSON line each, joined by a number; answers come in any order, and what waits
goes through the network together. It has no ledger and no settings. Exceptions go back as their type's name:
a message might name a patient.
"""

import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from model.card import CheckpointError
from worker.study.inference import START, Reply

if TYPE_CHECKING:
    from model.predict import Precision, Prediction, Predictor
    from model.space.stack import Stack

_HANDS: Final = 4
"""Threads that read stacks and write predictions beside the one that computes."""
_TOGETHER: Final = 16
"""Stacks, 34 MB each, that go through the network together at most."""


@dataclass(frozen=True, slots=True, eq=False)
class _Study:
    """A question whose stack is read."""

    number: int
    folder: Path
    stack: "Stack"


class _Answers:
    """Where answers go, a line at a time from any thread."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._lock = stream, Lock()

    def say(self, number: int, reply: Reply, detail: str = "") -> None:
        line = json.dumps({"number": number, "reply": reply, "detail": detail}).encode() + b"\n"
        with self._lock:
            self._stream.write(line)


def main() -> int:
    """Serve until the parent closes its end; 1 when this child can't grade (any more)."""
    # what a library prints goes to the log and not between the answers
    with os.fdopen(os.dup(1), "wb", buffering=0) as stream:
        os.dup2(2, 1)
        answers = _Answers(stream)
        folder, device, precision = sys.argv[1:]
        try:
            predictor = _load(Path(folder), device, precision)
        except CheckpointError as error:
            answers.say(START, Reply.UNAVAILABLE, str(error))
            return 1
        except (AssertionError, RuntimeError) as error:  # how torch says that a device isn't there
            answers.say(START, Reply.UNAVAILABLE, f"{device} can't be used: {type(error).__name__}")
            return 1
        answers.say(START, Reply.READY, str(predictor.device))
        # an object of its own: one that a thread reads when the interpreter ends can't be closed
        return _serve(predictor, open(0, "rb", closefd=False), answers)


def _load(checkpoint_folder: Path, device: str, precision: str) -> "Predictor":
    from model.predict import Predictor  # noqa: PLC0415 - torch only here

    named = None if device == "auto" else device
    return Predictor(checkpoint_folder, named, precision=cast("Precision", precision))


def _serve(predictor: "Predictor", questions: BinaryIO, answers: _Answers) -> int:
    from torch import AcceleratorError  # noqa: PLC0415 - torch only here

    read: SimpleQueue[_Study | None] = SimpleQueue()
    with ThreadPoolExecutor(_HANDS) as hands:
        Thread(target=_listen, args=(questions, hands, read, answers), daemon=True).start()
        while (first := read.get()) is not None:
            studies = [first, *_waiting(read)]
            try:
                for study, outcome in zip(studies, _predict(predictor, studies), strict=True):
                    hands.submit(_write, study, outcome, answers)
            except AcceleratorError as error:
                # a CUDA context doesn't outlive an error in a kernel: this process is of no more use
                for study in studies:
                    answers.say(study.number, Reply.UNAVAILABLE, type(error).__name__)
                return 1
    return 0


def _listen(
    questions: BinaryIO, hands: ThreadPoolExecutor, read: "SimpleQueue[_Study | None]", answers: _Answers
) -> None:
    """Have stacks read until the parent closes its end."""
    for line in questions:
        hands.submit(_read, json.loads(line), read, answers)
    read.put(None)


def _read(question: dict[str, str], read: "SimpleQueue[_Study | None]", answers: _Answers) -> None:
    from worker.study import pipeline  # noqa: PLC0415 - after the network, which fails sooner

    number = int(question["number"])
    try:
        stack = pipeline.load_stack(Path(question["prepared"]))
    except Exception as error:  # noqa: BLE001 - the border of the process: whatever it is, the parent decides
        answers.say(number, Reply.FAILED, type(error).__name__)
    else:
        read.put(_Study(number, Path(question["folder"]), stack))


def _waiting(read: "SimpleQueue[_Study | None]") -> list[_Study]:
    """What else is read by now."""
    studies: list[_Study] = []
    with suppress(Empty):
        while len(studies) < _TOGETHER - 1:
            study = read.get_nowait()
            if study is None:
                read.put(None)
                break
            studies.append(study)
    return studies


def _predict(predictor: "Predictor", studies: Sequence[_Study]) -> "list[Prediction | Exception]":
    """Grade studies together, or where that fails each by itself; raises AcceleratorError."""
    from torch import AcceleratorError  # noqa: PLC0415 - torch only here

    try:
        return [*predictor.predict_together([study.stack for study in studies])]
    except AcceleratorError:
        raise
    except Exception as error:  # noqa: BLE001 - the border of the process: whatever it is, the parent decides
        if len(studies) == 1:
            return [error]
    return [outcome for study in studies for outcome in _predict(predictor, [study])]


def _write(study: _Study, outcome: "Prediction | Exception", answers: _Answers) -> None:
    from worker.study import pipeline  # noqa: PLC0415 - after the network, which fails sooner

    if isinstance(outcome, Exception):
        answers.say(study.number, Reply.FAILED, type(outcome).__name__)
        return
    try:
        pipeline.save_prediction(outcome, study.folder)
    except Exception as error:  # noqa: BLE001 - as above
        answers.say(study.number, Reply.FAILED, type(error).__name__)
    else:
        answers.say(study.number, Reply.DONE)


if __name__ == "__main__":
    sys.exit(main())
