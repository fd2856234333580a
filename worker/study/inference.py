"""Grading in a child process that can be killed: a hang, a crash or a lost accelerator ends there.

The parent side; the child is `worker.study.inference_child`, which stays alive between studies, so that
the network is loaded once. A child whose parent dies reads the end of its input and ends too.
"""

import contextlib
import json
import logging
import selectors
import subprocess
import sys
import time
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


class Grader(Protocol):
    """Whatever grades a prepared study into a folder."""

    def grade(self, prepared: Path, folder: Path) -> None:
        """Grade `prepared`/stack.npz into `folder`; raises as `Inference.grade` does."""


class Inference:
    """One checkpoint on one device, in a child process started when it is first needed. Not thread-safe."""

    def __init__(self, checkpoint_folder: Path, device: str, timeout: timedelta) -> None:
        """`device` is torch's name of it, or "auto"; `timeout` is that of one study."""
        self._command = [sys.executable, "-m", "worker.study.inference_child", str(checkpoint_folder), device]
        self._timeout = timeout
        self._child: subprocess.Popen[bytes] | None = None
        self._device: str | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the running child."""
        return None if self._child is None else self._child.pid

    def grade(self, prepared: Path, folder: Path) -> None:
        """Grade `prepared`/stack.npz into `folder`, as `pipeline.grade` does.

        Raises InferenceError (of this study) or InferenceUnavailableError (of this worker).
        """
        child = self._running()
        self._ask(child, {"prepared": str(prepared), "folder": str(folder)})
        reply, detail = self._answer(child, self._timeout)
        if reply is Reply.FAILED:
            raise InferenceError(detail)
        if reply is not Reply.DONE:
            self.close()
            raise InferenceUnavailableError(detail)

    def close(self) -> None:
        """Kill the child."""
        if self._child is None:
            return
        child, self._child = self._child, None
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            assert pipe is not None
            # bytes that the dead child didn't read can't be flushed
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is None:
            return self._child
        self.close()
        self._child = child = subprocess.Popen(  # noqa: S603 - our own module, no shell
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        try:
            reply, detail = self._answer(child, START_PATIENCE)
        except InferenceError as error:
            raise InferenceUnavailableError(f"the child does not start: {type(error).__name__}") from error
        if reply is not Reply.READY:
            self.close()
            raise InferenceUnavailableError(detail)
        if self._device is not None and detail != self._device:
            self.close()
            # never quietly on the CPU what was begun on an accelerator
            raise InferenceUnavailableError(f"the device was {self._device} and is {detail}")
        self._device = detail
        logger.info("inference runs on %s in process %d", detail, child.pid)
        return child

    def _ask(self, child: subprocess.Popen[bytes], question: dict[str, str]) -> None:
        assert child.stdin is not None
        try:
            child.stdin.write(json.dumps(question).encode() + b"\n")
            child.stdin.flush()
        except BrokenPipeError as error:
            self.close()
            raise InferenceLostError("the child ended between two studies") from error

    def _answer(self, child: subprocess.Popen[bytes], timeout: timedelta) -> tuple[Reply, str]:
        assert child.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            deadline = time.monotonic() + timeout.total_seconds()
            while not selector.select(max(0.0, deadline - time.monotonic())):
                if time.monotonic() >= deadline:
                    self.close()
                    raise InferenceTimeoutError(f"no answer within {timeout}")
        line = child.stdout.readline()
        if not line:
            self.close()
            raise InferenceLostError(f"the child ended with exit code {child.returncode}")
        answer: dict[str, Any] = json.loads(line)
        return Reply(answer["reply"]), str(answer["detail"])
