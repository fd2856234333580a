"""What a running `gliograde up` or `demo` was started with, for the other commands of its data folder.

The options of `up` stand in no file and no variable. While it runs they lie in the data folder, locked; a
lock ends with its process, so what a service that was killed had been told counts no more.
"""

import fcntl
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from worker.settings import Settings

_NAME = "running.json"
_TOLD = {"ae_title", "bind_address", "dicom_port", "peers", "destinations"}
"""Nothing secret: a destination names the files of its credentials only."""


@contextmanager
def told_to_others(settings: Settings) -> Iterator[None]:
    """Let other commands know, until this ends, what this process runs with."""
    path = settings.data_folder / _NAME
    part = path.with_name(f".{uuid.uuid4()}.part")
    with part.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(settings.model_dump_json(include=_TOLD))
        file.flush()
        part.rename(path)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def settings_in_force() -> Settings:
    """Settings of this process; where a service runs on its data folder, with what that was started with."""
    settings = Settings()
    return Settings(**_told(settings.data_folder))


def _told(data_folder: Path) -> dict[str, Any]:
    try:
        file = (data_folder / _NAME).open()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            told: dict[str, Any] = json.load(file)
            return told
    return {}
