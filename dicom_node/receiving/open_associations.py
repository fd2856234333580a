"""Which studies are being sent right now: markers in the spool that the completer reads.

    open/<uuid4>    line 1: host and process of the SCP; then one Study Instance UID a line

A hint, not a record: it may be lost or stale, and then a study is only found complete earlier or later.
"""

import logging
import os
import re
import socket
import time
import uuid
from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

import psutil

logger = logging.getLogger(__name__)

_TOUCH_SECONDS: Final = 5.0
_UID: Final = re.compile(r"[0-9.]{1,64}")


@dataclass(slots=True)
class _Marker:
    path: Path
    touched: float
    studies: set[str] = field(default_factory=set)


class OpenAssociations:
    """The markers of one SCP process. An association's own thread calls `delivered` and `closed`."""

    def __init__(self, spool_folder: Path) -> None:
        self._folder = spool_folder / "open"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._markers: dict[Hashable, _Marker] = {}

    def delivered(self, association: Hashable, study_instance_uid: str) -> None:
        """Note that an association has stored an object of a study; never fails."""
        now = time.monotonic()
        marker = self._markers.get(association)
        try:
            if marker is None:
                marker = self._markers[association] = _Marker(self._folder / str(uuid.uuid4()), now)
                marker.path.write_text(f"{socket.gethostname()} {os.getpid()}\n")
            if study_instance_uid not in marker.studies:
                marker.studies.add(study_instance_uid)
                with marker.path.open("a") as file:
                    file.write(f"{study_instance_uid}\n")
            elif now - marker.touched > _TOUCH_SECONDS:
                os.utime(marker.path)
                marker.touched = now
        except OSError as error:
            logger.warning("no marker of an open association: %s", type(error).__name__)

    def closed(self, association: Hashable) -> None:
        """Forget an association."""
        if marker := self._markers.pop(association, None):
            marker.path.unlink(missing_ok=True)


def studies_being_sent(spool_folder: Path, longest_silence: timedelta) -> frozenset[str]:
    """Study Instance UIDs that an open association delivered to; markers of the dead are removed.

    A marker is dead when its process is gone, or when nothing was delivered for `longest_silence`.
    """
    studies: set[str] = set()
    for path in (spool_folder / "open").glob("*"):
        try:
            modified, lines = path.stat().st_mtime, path.read_text().splitlines()
        except FileNotFoundError:
            continue
        if time.time() - modified > longest_silence.total_seconds() or _is_gone(lines, modified):
            path.unlink(missing_ok=True)
            continue
        studies.update(line for line in lines[1:] if _UID.fullmatch(line))
    return frozenset(studies)


def _is_gone(lines: list[str], modified: float) -> bool:
    """Whether the marker's process ran on this machine and runs no more."""
    host, _, pid = lines[0].partition(" ") if lines else ("", "", "")
    if host != socket.gethostname() or not pid.isdecimal():
        return False
    try:
        # a process younger than the marker only has the same number
        return psutil.Process(int(pid)).create_time() > modified + 1
    except psutil.NoSuchProcess:
        return True
