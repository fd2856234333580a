"""The spool: received objects on disk, durable before their sender hears Success.

    tmp/<uuid4>-<n>.part            being written; swept when older than an hour
    obj/<aa>/<sha256>.dcm           one received object, named by the SHA-256 of its data set as received
    inbox/<sha256>.dcm              the same file, by a hard link, until the database has indexed it
    quarantine/<sha256>.bin, .json  what was refused, for a person to look at

An object's sidecar, who sent it and when, stands in its own file meta information (`spool_file`),
so that one fsync keeps both. It comes when the file has its names, so that the file system's journal is
written once for all of them. A power cut before it may leave torn bytes under a name: no sender has heard of
those, and `is_intact` tells them before they are indexed. No name comes from the network. The database is an
index of this folder and can be rebuilt from it.
"""

import contextlib
import errno
import hashlib
import itertools
import logging
import mmap
import os
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from pydantic import ValidationError
from pydantic_core import to_json

from dicom_node.durable import SharedSync, sync_folder, write_durably
from dicom_node.receiving.quarantine import make_room
from dicom_node.receiving.spool_file import HEAD_BYTES, Reception, SpoolEntry, build_head, read_entry

logger = logging.getLogger(__name__)

PART_LIFETIME: Final = timedelta(hours=1)
QUARANTINE_BYTES: Final = 16 * 1024 * 1024
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class SpoolError(Exception):
    """An object could not be kept. Trying again can help once the disk is well again."""


class SpoolFullError(SpoolError):
    """Too little space is left. Trying again helps once space has been freed."""


class Spool:
    """A folder of received objects; several processes may share it.

    Made once for each process. Making it creates the folders and sweeps what a killed process left behind.
    """

    def __init__(self, root: Path, minimum_free_bytes: int = 0) -> None:
        self._root = root
        self._minimum_free_bytes = minimum_free_bytes
        self._tmp, self._obj, self._inbox, self._quarantine = (
            root / name for name in ("tmp", "obj", "inbox", "quarantine")
        )
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        buckets = (self._obj / f"{byte:02x}" for byte in range(256))
        for folder in (self._tmp, self._obj, self._inbox, self._quarantine, *buckets):
            folder.mkdir(exist_ok=True)
        sync_folder(self._obj)
        sync_folder(root)
        self._inbox_sync = SharedSync(self._inbox)
        self._own, self._parts = uuid.uuid4().hex, itertools.count()
        self._sweep_parts()

    def object_path(self, sha256: str) -> Path:
        """Where the DICOM file of an object lies (PS3.10 file, meta information first)."""
        return self._obj / sha256[:2] / f"{sha256}.dcm"

    def check_space(self, size: int = 0) -> None:
        """Raise `SpoolFullError` where `size` more bytes would leave less than the minimum free."""
        usage = os.statvfs(self._root)
        if usage.f_bavail * usage.f_frsize - size < self._minimum_free_bytes:
            raise SpoolFullError("the spool's disk has less free space than the minimum")

    def begin(self, size: int = 0) -> "Part":
        """Begin to keep a data set, of at least `size` bytes. Raises `SpoolFullError` or `SpoolError`."""
        self.check_space(size)
        with _spool_errors():
            return Part(self, self._new_part())

    def store(self, dataset_bytes: bytes | memoryview, reception: Reception) -> SpoolEntry:
        """Keep one data set that is at hand as a whole; raises as `Part.write` and `Part.keep`."""
        part = self.begin(len(dataset_bytes))
        part.write(dataset_bytes)
        return part.keep(reception)

    def entries(self) -> Iterator[SpoolEntry]:
        """Yield what the database has not indexed yet, in no particular order.

        An unreadable sidecar is logged and left for a person; it doesn't hold up the others.
        """
        for path in self._inbox.iterdir():
            try:
                entry = read_entry(path)
                # A power cut may have taken the second name, which is made durable only by `mark_indexed`.
                if not (target := self.object_path(entry.sha256)).exists():
                    _link(path, target)
            except FileNotFoundError:
                continue  # another process has indexed it meanwhile
            except ValidationError:
                logger.error("spool: unreadable sidecar %s", path.name)  # noqa: TRY400 (would print its content)
                continue
            yield entry

    def oldest_unindexed(self) -> datetime | None:
        """When the oldest object in the inbox was written, readable or not; None where it is empty."""
        written = []
        for path in self._inbox.glob("*.dcm"):
            with contextlib.suppress(FileNotFoundError):
                written.append(path.stat().st_mtime)
        return datetime.fromtimestamp(min(written), UTC) if written else None

    def mark_indexed(self, entries: Iterable[SpoolEntry]) -> None:
        """Take entries out of the inbox. Done twice, or lost in a power cut, it does no harm."""
        hashes = [entry.sha256 for entry in entries]
        for folder in {self.object_path(sha256).parent for sha256 in hashes}:
            sync_folder(folder)
        for sha256 in hashes:
            self._inbox_path(sha256).unlink(missing_ok=True)

    def rescan(self) -> int:
        """Put every object back into the inbox, to build the index anew; returns how many."""
        objects = list(self._obj.glob("??/*.dcm"))
        for path in objects:
            _link(path, self._inbox / path.name)
        return len(objects)

    def quarantine(self, dataset_bytes: bytes | memoryview, reason: str, reception: Reception) -> None:
        """Keep a copy of a refused data set, at most its first 16 MiB, with the reason; best effort."""
        sha256 = hashlib.sha256(dataset_bytes).hexdigest()
        record = to_json({"reason": reason} | asdict(reception))
        target = self._quarantine / f"{sha256}.bin"
        try:
            make_room(self._quarantine, min(len(dataset_bytes), QUARANTINE_BYTES))
            self.check_space(min(len(dataset_bytes), QUARANTINE_BYTES))
            self._write(target, (dataset_bytes[:QUARANTINE_BYTES],))
            self._write(target.with_suffix(".json"), (record,))
        except (OSError, SpoolFullError) as error:
            logger.warning("spool: no quarantine copy of %s: %s", sha256, type(error).__name__)

    def is_intact(self, entry: SpoolEntry) -> bool:
        """Whether an object's bytes are those that were received. Raises FileNotFoundError."""
        with self.object_path(entry.sha256).open("rb") as file:
            file.seek(HEAD_BYTES)
            return hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256

    def give_names(self, part: str, sha256: str) -> bool:
        """Give a part its two names; False where the object has been indexed, which needs no second copy.

        One that has not may be torn, and is replaced.
        """
        # Paths as text: pathlib's would be a tenth of what a reception costs.
        inbox, target = f"{self._inbox}/{sha256}.dcm", f"{self._obj}/{sha256[:2]}/{sha256}.dcm"
        if os.access(target, os.F_OK) and not os.access(inbox, os.F_OK):  # as above
            return False
        # The inbox first: what has its other name and isn't there has been indexed.
        try:
            os.link(part, inbox)
        except FileExistsError:
            os.link(part, f"{part}.link")
            os.replace(f"{part}.link", inbox)  # noqa: PTH105
        os.replace(part, target)  # noqa: PTH105
        return True

    def sync_names(self) -> None:
        """Make the names that were given durable."""
        self._inbox_sync.sync()

    def take_names(self, sha256: str, status: os.stat_result) -> None:
        """Take its names from the file of this status, not from another that has got them meanwhile."""
        for path in (self._inbox_path(sha256), self.object_path(sha256)):
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(path.stat(), status):
                    path.unlink()

    def _inbox_path(self, sha256: str) -> Path:
        return self._inbox / f"{sha256}.dcm"

    def _write(self, path: Path, chunks: Iterable[bytes | memoryview]) -> None:
        """Bytes to a temporary name, fsync, rename."""
        write_durably(path, Path(self._new_part()), chunks)

    def _new_part(self) -> str:
        return f"{self._tmp}/{self._own}-{next(self._parts)}.part"

    def _sweep_parts(self) -> None:
        oldest = time.time() - PART_LIFETIME.total_seconds()
        for part in self._tmp.glob("*.part"):
            try:
                if part.stat().st_mtime < oldest:
                    part.unlink()
            except FileNotFoundError:
                continue  # another process sweeps too


class Part:
    """A data set on its way to the disk; ends by `keep` or `drop`, and by any error of its own."""

    def __init__(self, spool: Spool, path: str) -> None:
        self._spool = spool
        self._path = path
        self._hash = hashlib.sha256()
        self._name: str | None = None
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.lseek(self._descriptor, HEAD_BYTES, os.SEEK_SET)
        self.size = 0

    def write(self, chunk: bytes | memoryview) -> None:
        """Append; raises `SpoolFullError` or `SpoolError`, and then nothing is left of it."""
        with self._dropped_on_error():
            self._hash.update(chunk)
            self.size += len(chunk)
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]

    @contextmanager
    def dataset(self) -> Iterator[memoryview]:
        """All that was written, mapped and not copied."""
        if not self.size:
            yield memoryview(b"")
            return
        with (
            mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as file,
            file[HEAD_BYTES:] as dataset,
        ):
            yield dataset

    def keep(self, reception: Reception) -> SpoolEntry:
        """Keep it in the transfer syntax it came in; when this returns it survives a power cut.

        The same bytes again change nothing. Raises as `write`; then nothing lies under a final name.
        """
        entry = SpoolEntry.of(reception, self._hash.hexdigest(), self.size)
        with self._dropped_on_error():
            os.pwrite(self._descriptor, build_head(entry), 0)
            if self._spool.give_names(self._path, entry.sha256):
                self._name = entry.sha256
                os.fsync(self._descriptor)
                self._spool.sync_names()
                self._close()
        self.drop()
        return entry

    def drop(self) -> None:
        """Throw away what has not been kept; done twice it does no harm."""
        if self._descriptor < 0:
            return
        try:
            if self._name is not None:
                self._spool.take_names(self._name, os.fstat(self._descriptor))
            Path(self._path).unlink(missing_ok=True)
        finally:
            self._close()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)

    @contextmanager
    def _dropped_on_error(self) -> Iterator[None]:
        try:
            with _spool_errors():
                yield
        except SpoolError:
            self.drop()
            raise


@contextmanager
def _spool_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise SpoolFullError("the spool's disk is full") from error
        word = errno.errorcode.get(error.errno or 0, "unknown")
        raise SpoolError(f"the spool could not be written: {word}") from error


def _link(existing: Path, name: Path) -> None:
    """Give a file a second name, unless that is taken."""
    try:
        name.hardlink_to(existing)
    except FileExistsError:
        return
