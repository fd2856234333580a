"""The audit trail's first half: events of PS3.15 A.5 in an append-only file, before anyone else sees them.

    audit/<uuid4>.jsonl     one segment of one process: a JSON object a line

Each line ends with the SHA-256 over the line before it and itself, so an edit, a removal or an insertion
shows. `worker` copies the lines into PostgreSQL; the files stay as the second witness. This works while
PostgreSQL and Redis are away. Lines may name a patient by Patient ID, as the standard asks for.
"""

import hashlib
import json
import logging
import os
import threading
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any, Final

from pydantic_core import to_json

from dicom_node.durable import sync_folder

logger = logging.getLogger(__name__)

SEGMENT_BYTES: Final = 16 * 1024 * 1024
REPEAT_AFTER: Final = timedelta(seconds=10)
"""Equal security alerts within this time become one line that counts them: a flood must not fill the disk."""
_REMEMBERED_ALERTS: Final = 1024


class AuditEventId(StrEnum):
    """What happened: coding scheme DCM, context group 400 (PS3.16)."""

    APPLICATION_ACTIVITY = "110100"
    BEGIN_TRANSFERRING = "110102"
    INSTANCES_ACCESSED = "110103"
    INSTANCES_TRANSFERRED = "110104"
    PROCEDURE_RECORD = "110111"
    SECURITY_ALERT = "110113"
    USER_AUTHENTICATION = "110114"

    @property
    def meaning(self) -> str:
        """The code's meaning in PS3.16."""
        return _MEANINGS[self]


_MEANINGS: Final = {
    AuditEventId.APPLICATION_ACTIVITY: "Application Activity",
    AuditEventId.BEGIN_TRANSFERRING: "Begin Transferring DICOM Instances",
    AuditEventId.INSTANCES_ACCESSED: "DICOM Instances Accessed",
    AuditEventId.INSTANCES_TRANSFERRED: "DICOM Instances Transferred",
    AuditEventId.PROCEDURE_RECORD: "Procedure Record",
    AuditEventId.SECURITY_ALERT: "Security Alert",
    AuditEventId.USER_AUTHENTICATION: "User Authentication",
}


class AuditOutcome(IntEnum):
    """EventOutcomeIndicator (PS3.15 A.5.1)."""

    SUCCESS = 0
    MINOR_FAILURE = 4
    SERIOUS_FAILURE = 8
    MAJOR_FAILURE = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One line of the trail.

    `source` and `target` are AE titles, `address` is the peer's; of a person's doing `source` is the person.
    `detail` is a word or two of ours, never text of a data set. `instances` counts objects by SOP class,
    `repeated` the equal alerts left out before.
    """

    event_id: AuditEventId
    outcome: AuditOutcome = AuditOutcome.SUCCESS
    detail: str = ""
    source: str = ""
    target: str = ""
    address: str = ""
    study_instance_uid: str = ""
    patient_id: str = ""
    instances: dict[str, int] = field(default_factory=dict)
    repeated: int = 0
    occurred_at: datetime = field(default_factory=lambda: datetime.now(UTC))


class AuditSpool:
    """The trail of one process; threads share it. An event is on disk for good when `write` returns."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._segment: Path | None = None
        self._process = 0
        self._previous = ""
        self._alerts: dict[tuple[str, str, str], tuple[float, int]] = {}

    def write(self, event: AuditEvent) -> None:
        """Append one event and fsync it.

        A trail that can't be written is logged and doesn't stop the work: the disk that fails here refuses
        objects too.
        """
        try:
            with self._lock:
                self._append(to_json(event))
        except OSError as error:
            logger.critical("audit trail not written: errno %s", error.errno)

    def alert(self, detail: str, *, source: str = "", address: str = "", target: str = "") -> None:
        """Write a security alert, counting instead of repeating one that was just written."""
        key, now = (detail, source, address), time.monotonic()
        with self._lock:
            last, repeated = self._alerts.get(key, (float("-inf"), 0))
            if now - last < REPEAT_AFTER.total_seconds():
                self._alerts[key] = (last, repeated + 1)
                return
            if len(self._alerts) >= _REMEMBERED_ALERTS:
                self._alerts.clear()
            self._alerts[key] = (now, 0)
        self.write(
            AuditEvent(
                event_id=AuditEventId.SECURITY_ALERT,
                outcome=AuditOutcome.MINOR_FAILURE,
                detail=detail,
                source=source,
                target=target,
                address=address,
                repeated=repeated,
            )
        )

    def activity(self, detail: str, ae_title: str) -> None:
        """Write that a part of the service started or stopped."""
        self.write(AuditEvent(event_id=AuditEventId.APPLICATION_ACTIVITY, detail=detail, source=ae_title))

    def decision(self, detail: str, *, person: str, ae_title: str, study_instance_uid: str) -> None:
        """Write what a person decided on a study."""
        self.write(
            AuditEvent(
                event_id=AuditEventId.PROCEDURE_RECORD,
                detail=detail,
                source=person,
                target=ae_title,
                study_instance_uid=study_instance_uid,
            )
        )

    def _append(self, body: bytes) -> None:
        # a forked child must not go on with its parent's chain
        if self._segment is None or self._process != os.getpid():
            self._begin()
        assert self._segment is not None
        digest = chain_digest(self._previous, body)
        try:
            with self._segment.open("ab") as file:
                file.write(body[:-1] + b',"sha256":"' + digest.encode() + b'"}\n')
                file.flush()
                os.fsync(file.fileno())
                size = file.tell()
        except OSError:
            self._segment = None  # a torn line ends its segment; the next event starts a whole one
            raise
        self._previous = digest
        if size > SEGMENT_BYTES:
            self._segment = None

    def _begin(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = uuid.uuid4().hex
        segment = self._folder / f"{name}.jsonl"
        segment.touch(mode=0o600, exist_ok=False)
        sync_folder(self._folder)
        self._segment, self._previous, self._process = segment, name, os.getpid()


def chain_digest(previous: str, body: bytes) -> str:
    """SHA-256 that ties an event to the one before it; a segment's first is tied to the segment's name."""
    return hashlib.sha256(previous.encode() + b"\n" + body).hexdigest()


class BrokenChainError(Exception):
    """A line of the audit trail was changed after it was written. Trying again can't help; look at it."""


def read_line(line: bytes, previous: str) -> tuple[bytes, str, dict[str, Any]]:
    """Split one whole line into body, digest and parsed body; raises BrokenChainError."""
    cut = line.rfind(b',"sha256":"')
    body, digest = line[:cut] + b"}", line[cut + 11 : cut + 75].decode(errors="replace")
    if cut < 0 or chain_digest(previous, body) != digest or line[cut + 75 :] != b'"}\n':
        raise BrokenChainError("a line of the audit trail doesn't follow from the line before it")
    parsed: dict[str, Any] = json.loads(body)
    return body, digest, parsed
