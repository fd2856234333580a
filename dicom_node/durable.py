"""Files that survive a power cut: on disk for good before anyone is told of them."""

import os
import threading
from collections.abc import Iterable
from pathlib import Path


def write_durably(path: Path, part: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Write to the new file `part`, fsync, rename to `path`; the name is durable after `sync_folder`.

    `part` lies on the same file system. Raises OSError, and then `part` is gone.
    """
    try:
        with part.open("xb") as file:
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class SharedSync:
    """`sync_folder` for threads that write into one folder: who asks while one sync runs shares the next."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._changed = threading.Condition()
        self._begun = 0
        self._done = 0
        self._is_running = False

    def sync(self) -> None:
        """Return when every name that the caller made before is durable. Raises OSError."""
        with self._changed:
            # One that has begun may have missed the caller's name.
            wanted = self._begun + 1
            while self._is_running:
                self._changed.wait()
                if self._done >= wanted:
                    return
            self._is_running = True
            self._begun += 1
            number = self._begun
        done = self._done
        try:
            sync_folder(self._folder)
            done = number
        finally:
            with self._changed:
                self._done = done
                self._is_running = False
                self._changed.notify_all()
