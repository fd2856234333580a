"""Child processes of `gliograde up`: started with a log each, watched, and stopped in order."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

STOP_PATIENCE = timedelta(seconds=30)


class ProcessEndedError(Exception):
    """A process of the service ended by itself; the message carries the last line of its log."""


class NotReadyError(Exception):
    """A process of the service did not get ready in time. Trying again may help on a busy machine."""


@dataclass(frozen=True, slots=True)
class Child:
    """A running process and its log."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path


class Processes:
    """Python processes of one service; leaving the context stops them, last started first."""

    def __init__(self, logs_folder: Path, environment: Mapping[str, str]) -> None:
        self._logs_folder = logs_folder
        self._environment = {**os.environ, **environment, "PYTHONUNBUFFERED": "1"}
        self._children: list[Child] = []

    def start(self, name: str, arguments: Sequence[str]) -> Child:
        """Start `python -m <arguments>`, in its own session so that a terminal's Ctrl-C passes it by."""
        self._logs_folder.mkdir(parents=True, exist_ok=True)
        log = self._logs_folder / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(  # noqa: S603 - our own modules, no shell
                [sys.executable, "-m", *arguments],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        child = Child(name, process, log)
        self._children.append(child)
        return child

    def check(self) -> None:
        """Raise ProcessEndedError if any child has ended."""
        for child in self._children:
            if (code := child.process.poll()) is not None:
                lines = child.log.read_text(errors="replace").strip().splitlines() or ["nothing"]
                raise ProcessEndedError(
                    f"{lines[-1]} ({child.name} ended with exit code {code}; log: {child.log})"
                )

    def wait_for_line(self, child: Child, line: str, patience: timedelta) -> None:
        """Wait until the child's log contains `line`; raises ProcessEndedError or NotReadyError."""
        deadline = time.monotonic() + patience.total_seconds()
        while line not in child.log.read_text(errors="replace"):
            self.check()
            if time.monotonic() > deadline:
                raise NotReadyError(f"{child.name} isn't ready after {patience}; see {child.log}")
            time.sleep(0.1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in reversed(self._children):
            child.process.terminate()
        deadline = time.monotonic() + STOP_PATIENCE.total_seconds()
        for child in reversed(self._children):
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                # its whole session, for a worker's forked children
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.process.pid, 9)
                child.process.wait()
