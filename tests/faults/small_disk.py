"""A file system so small that a test can fill it, without being root."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

_BLOCK = 4096
_TRIES = 20
_MOUNT = 'mount -t tmpfs -o size="$1" tmpfs "$2" && echo mounted && exec cat'


@dataclass(frozen=True)
class SmallDisk:
    """A tmpfs; its blocks have 4 KiB."""

    folder: Path

    @property
    def _filler(self) -> Path:
        return self.folder / "filler"

    def fill(self, *, leave_blocks: int) -> None:
        """Leave so many free blocks and no more, even where the node still tidies up after its sender."""
        self._filler.touch()
        for _ in range(_TRIES):
            more = psutil.disk_usage(str(self.folder)).free // _BLOCK - leave_blocks
            if more == 0:
                return
            self._filler.write_bytes(bytes(self._filler.stat().st_size + more * _BLOCK))
        raise AssertionError(f"{more} blocks more than {leave_blocks} are free, and it doesn't settle")

    def free(self) -> None:
        self._filler.unlink()


@contextmanager
def small_disk(mount_point: Path, size: str = "3m") -> Iterator[SmallDisk]:
    """A file system of its own, in a user's own namespace; other processes reach it through /proc.

    Skips the test where the kernel lets nobody mount in a namespace of his own.
    """
    mount_point.mkdir(parents=True, exist_ok=True)
    command = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        _MOUNT,
        "sh",
        size,
        str(mount_point),
    ]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stderr is not None
            if holder.stdout.readline() != b"mounted\n":
                pytest.skip(f"needs a user namespace to mount in: {holder.stderr.read().decode().strip()}")
            yield SmallDisk(Path(f"/proc/{holder.pid}/root{mount_point.absolute()}"))
        finally:
            holder.kill()
