"""Files that survive a power cut: on disk for good before anyone is told of them."""

import os
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
