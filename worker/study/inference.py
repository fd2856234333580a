"""Grading in a child process that can be killed: a hang, a crash or a lost accelerator ends there.

The parent side; the child is `worker.study.inference_child`, which stays alive between studies, so that
the network is loaded once. A child whose parent dies reads the end of its input and ends too.
"""

import contextlib
import itertools
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

logger = logging.getLogger(__name__)

START_PATIENCE: Final = timedelta(minutes=5)
"""Importing torch and loading the network, from a cold disk beside other work."""


class InferenceError(Exception):
    """Grading one study failed. Trying again can help once or twice; then the study itself is suspect."""


class InferenceTimeoutError(InferenceError):
    """Grading took longer than allowed; the child was killed."""


class InferenceLostError(InferenceError):
    """The child ended in the middle of a study: a crash, or the kernel's out-of-memory killer."""


class InferenceUnavailableError(Exception):
    """This worker can't grade at all: accelerator lost, checkpoint bad. Another worker may be able to."""


class Reply(StrEnum):
    """First word of each of the child's answers."""

    READY = "ready"
    DONE = "done"
    FAILED = "failed"
    """This study failed; the child goes on."""
    UNAVAILABLE = "unavailable"
    """No study will succeed in this child; it has ended."""


START: Final = 0
"""Number of the child's first answer, which no question precedes."""


class Grader(Protocol):
    """Whatever grades a prepared study into a folder."""

    def grade(self, prepared: Path, folder: Path) -> None:
        """Grade `prepared`/stack.npz into `folder`; raises as `Inference.grade` does."""


class Inference:
    """One checkpoint on one device, in a child process started when it is first needed.

    Threads may share it: what they ask while it computes, the child grades together.
    """

    def __init__(
        self, checkpoint_folder: Path, device: str, timeout: timedelta, precision: str = "fp32"
    ) -> None:
        """`device` is torch's name of it, or "auto"; `timeout` is that of one study.

        `precision` is that of `model.predict.Predictor`.
        """
        module = "worker.study.inference_child"
        self._command = [sys.executable, "-m", module, str(checkpoint_folder), device, precision]
        self._timeout = timeout
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._device: str | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the running child."""
        return None if self._child is None else self._child.pid

    @property
    def device(self) -> str | None:
        """Torch's name of the device; None before the first study."""
        return self._device

    def grade(self, prepared: Path, folder: Path) -> None:
        """Grade `prepared`/stack.npz into `folder`, as `pipeline.grade` does.

        Raises InferenceError (of this study) or InferenceUnavailableError (of this worker). A child that
        hangs or dies takes all that it has in hand with it.
        """
        with self._lock:
            child = self._running()
        try:
            reply, detail = child.ask(prepared=str(prepared), folder=str(folder)).result(
                self._timeout.total_seconds()
            )
        except TimeoutError as error:
            self._drop(child)
            raise InferenceTimeoutError(f"no answer within {self._timeout}") from error
        except InferenceLostError:
            self._drop(child)
            raise
        if reply is Reply.FAILED:
            raise InferenceError(detail)
        if reply is not Reply.DONE:
            self._drop(child)
            raise InferenceUnavailableError(detail)

    def close(self) -> None:
        """Kill the child."""
        with self._lock:
            child, self._child = self._child, None
        if child is not None:
            child.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _drop(self, child: "_Child") -> None:
        """End a child that is of no more use, unless another thread has replaced it."""
        with self._lock:
            if self._child is child:
                self._child = None
        child.close()

    def _running(self) -> "_Child":
        """The child, started where there is none; called with the lock held."""
        if self._child is not None and self._child.is_alive:
            return self._child
        child = _Child(self._command)
        try:
            reply, detail = child.ready.result(START_PATIENCE.total_seconds())
        except (TimeoutError, InferenceLostError) as error:
            child.close()
            raise InferenceUnavailableError(f"the child does not start: {type(error).__name__}") from error
        if reply is not Reply.READY:
            child.close()
            raise InferenceUnavailableError(detail)
        if self._device is not None and detail != self._device:
            child.close()
            # never quietly on the CPU what was begun on an accelerator
            raise InferenceUnavailableError(f"the device was {self._device} and is {detail}")
        self._child, self._device = child, detail
        logger.info("inference runs on %s in process %d", detail, child.pid)
        return child


_Answer = tuple[Reply, str]


class _Child:
    """One child process, and who waits for which of its answers."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own module, no shell
            command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        self._lock = threading.Lock()
        self._numbers = itertools.count(START + 1)
        self.ready: Future[_Answer] = Future()
        self._waiting: dict[int, Future[_Answer]] | None = {START: self.ready}
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it still answers."""
        return self._waiting is not None

    def ask(self, **question: str) -> "Future[_Answer]":
        """Send a question; its answer fails with InferenceLostError where the child ends before it."""
        assert self._process.stdin is not None
        answer: Future[_Answer] = Future()
        with self._lock:
            if self._waiting is None:
                answer.set_exception(InferenceLostError("the child ended between two studies"))
                return answer
            number = next(self._numbers)
            self._waiting[number] = answer
            # a child that has just died is told by the end of its answers
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(json.dumps({"number": number, **question}).encode() + b"\n")
        return answer

    def close(self) -> None:
        """Kill it; whoever still waits for an answer is told that it is lost."""
        self._process.kill()
        self._listener.join()

    def _listen(self) -> None:
        with self._process as process:
            assert process.stdout is not None
            for line in process.stdout:
                answer: dict[str, Any] = json.loads(line)
                with self._lock:
                    assert self._waiting is not None
                    future = self._waiting.pop(answer["number"])
                future.set_result((Reply(answer["reply"]), str(answer["detail"])))
            process.kill()
            with self._lock:
                left, self._waiting = self._waiting or {}, None
        for future in left.values():
            future.set_exception(InferenceLostError(f"the child ended with exit code {process.returncode}"))
