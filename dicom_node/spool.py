"""The spool: received objects on disk, durable before their sender hears Success.

    tmp/<uuid4>.part                being written; swept when older than an hour
    obj/<aa>/<sha256>.dcm           one received object, named by the SHA-256 of its data set as received
    obj/<aa>/<sha256>.json          its sidecar once the database has indexed it
    inbox/<sha256>.json             its sidecar until then
    quarantine/<sha256>.bin, .json  what was refused, for a person to look at

No name comes from the network. The database is an index of this folder and can be rebuilt from it.
"""

import errno
import hashlib
import logging
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import pydicom.config
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as validated_dataclass
from pydantic_core import to_json
from pydicom.uid import UID
from pynetdicom.dsutils import create_file_meta, encode_file_meta

from dicom_node.durable import sync_folder, write_durably
from dicom_node.quarantine import make_room
from dicom_node.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

logger = logging.getLogger(__name__)

PART_LIFETIME: Final = timedelta(hours=1)
QUARANTINE_BYTES: Final = 16 * 1024 * 1024
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class SpoolError(Exception):
    """An object could not be kept. Trying again can help once the disk is well again."""


class SpoolFullError(SpoolError):
    """Too little space is left. Trying again helps once space has been freed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reception:
    """What one object says it is, and who sent it. Every text in it came over the network."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    study_instance_uid: str
    series_instance_uid: str
    calling_ae_title: str
    called_ae_title: str
    peer_address: str
    association_id: str
    received_at: datetime


@validated_dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid"))
class SpoolEntry(Reception):
    """One object in the spool: a `Reception` with the identity of its bytes.

    `sha256` is that of the data set as it came over the network and `size` its length in bytes,
    both without preamble and file meta information.
    """

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int = Field(ge=0)


_SIDECAR: Final = TypeAdapter(SpoolEntry)


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
        self._sweep_parts()

    def object_path(self, sha256: str) -> Path:
        """Where the DICOM file of an object lies (PS3.10 file, meta information first)."""
        return self._obj / sha256[:2] / f"{sha256}.dcm"

    def check_space(self, size: int = 0) -> None:
        """Raise `SpoolFullError` where `size` more bytes would leave less than the minimum free."""
        if shutil.disk_usage(self._root).free - size < self._minimum_free_bytes:
            raise SpoolFullError("the spool's disk has less free space than the minimum")

    def store(self, dataset_bytes: bytes | memoryview, reception: Reception) -> SpoolEntry:
        """Keep one data set in the transfer syntax it came in; when this returns it survives a power cut.

        The same bytes again change nothing. Raises `SpoolFullError` or `SpoolError`; then nothing lies
        under a final name.
        """
        sha256 = hashlib.sha256(dataset_bytes).hexdigest()
        entry = SpoolEntry(**asdict(reception), sha256=sha256, size=len(dataset_bytes))
        path = self.object_path(sha256)
        try:
            if not path.exists():
                self.check_space(entry.size)
                self._write(path, (_file_head(entry), dataset_bytes))
            # Also for bytes that were here: another thread may have renamed them and not synced yet.
            sync_folder(path.parent)
            # Inbox before its later place: the sidecar moves that way, so it can't be missed in between.
            if not self._inbox_path(entry).exists() and not path.with_suffix(".json").exists():
                self._write(self._inbox_path(entry), (_SIDECAR.dump_json(entry),))
            sync_folder(self._inbox)
        except OSError as error:
            raise _spool_error(error) from error
        return entry

    def entries(self) -> Iterator[SpoolEntry]:
        """Yield what the database has not indexed yet, in no particular order.

        An unreadable sidecar is logged and left for a person; it doesn't hold up the others.
        """
        for path in self._inbox.glob("*.json"):
            try:
                yield _SIDECAR.validate_json(path.read_bytes())
            except FileNotFoundError:
                continue  # another process has indexed it meanwhile
            except ValidationError:
                logger.error("spool: unreadable sidecar %s", path.name)  # noqa: TRY400 (would print its content)

    def mark_indexed(self, entry: SpoolEntry) -> None:
        """Move the sidecar out of the inbox. Done twice, or lost in a power cut, it does no harm."""
        try:
            self._inbox_path(entry).replace(self.object_path(entry.sha256).with_suffix(".json"))
        except FileNotFoundError:
            logger.info("spool: %s was indexed already", entry.sha256)

    def rescan(self) -> int:
        """Put every sidecar back into the inbox, to build the index anew; returns how many."""
        sidecars = list(self._obj.glob("??/*.json"))
        for path in sidecars:
            path.replace(self._inbox / path.name)
        return len(sidecars)

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

    def _inbox_path(self, entry: SpoolEntry) -> Path:
        return self._inbox / f"{entry.sha256}.json"

    def _write(self, path: Path, chunks: Iterable[bytes | memoryview]) -> None:
        """Bytes to a temporary name, fsync, rename; the caller syncs the folder."""
        write_durably(path, self._tmp / f"{uuid.uuid4()}.part", chunks)

    def _sweep_parts(self) -> None:
        oldest = time.time() - PART_LIFETIME.total_seconds()
        for part in self._tmp.glob("*.part"):
            try:
                if part.stat().st_mtime < oldest:
                    part.unlink()
            except FileNotFoundError:
                continue  # another process sweeps too


def _file_head(entry: SpoolEntry) -> bytes:
    """Preamble, prefix and file meta information (PS3.10 7.1)."""
    class_uid, instance_uid, transfer_syntax = (
        UID(value, validation_mode=pydicom.config.IGNORE)
        for value in (entry.sop_class_uid, entry.sop_instance_uid, entry.transfer_syntax_uid)
    )
    meta = create_file_meta(
        sop_class_uid=class_uid,
        sop_instance_uid=instance_uid,
        transfer_syntax=transfer_syntax,
        implementation_uid=IMPLEMENTATION_CLASS_UID,
        implementation_version=IMPLEMENTATION_VERSION_NAME,
    )
    return bytes(128) + b"DICM" + encode_file_meta(meta)


def _spool_error(error: OSError) -> SpoolError:
    if error.errno in _FULL:
        return SpoolFullError("the spool's disk is full")
    return SpoolError(f"the spool could not be written: {errno.errorcode.get(error.errno or 0, 'unknown')}")
