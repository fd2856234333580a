"""Keeping the folder of refused objects within bounds, so that refusing can't fill the disk."""

from pathlib import Path
from typing import Final

MAXIMUM_BYTES: Final = 1024 * 1024 * 1024
MAXIMUM_OBJECTS: Final = 2000


def make_room(
    folder: Path, size: int, maximum_bytes: int = MAXIMUM_BYTES, maximum_objects: int = MAXIMUM_OBJECTS
) -> None:
    """Remove the oldest refused objects until one of `size` bytes fits in. Raises OSError."""
    found = []
    for path in folder.glob("*.bin"):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue  # another process makes room too
        found.append((status.st_mtime_ns, status.st_size, path))
    found.sort()
    held = sum(entry[1] for entry in found)
    count = len(found)
    for _, file_size, path in found:
        if held + size <= maximum_bytes and count < maximum_objects:
            return
        path.unlink(missing_ok=True)
        path.with_suffix(".json").unlink(missing_ok=True)
        held -= file_size
        count -= 1
