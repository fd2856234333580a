"""The audit trail's second half: segments copied into PostgreSQL, as rows that are tied to one another."""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dicom_node.audit import BrokenChainError, read_line
from worker.node import Node
from worker.records.database import AuditRecord, AuditSegment

logger = logging.getLogger(__name__)

AUDIT_LOCK = 0x61756469
"""Advisory lock that lets one process at a time lengthen the chain."""
LINES_AT_A_TIME = 1000


@dataclass(frozen=True, slots=True)
class _Line:
    segment: str
    sha256: str
    body: str
    occurred_at: datetime
    event_id: str
    outcome: int


def copy_audit_trail(node: Node) -> int:
    """Copy what the segments hold and PostgreSQL doesn't; returns how many events. Twice does no harm."""
    copied = 0
    with node.sessions() as session:
        known = {
            row.name: row.copied_bytes
            for row in session.execute(select(AuditSegment.name, AuditSegment.copied_bytes))
        }
    for path in sorted(node.settings.audit_folder.glob("*.jsonl")):
        if path.stat().st_size == known.get(path.stem):
            continue
        with node.sessions.begin() as session:
            if not session.scalar(select(func.pg_try_advisory_xact_lock(AUDIT_LOCK))):
                return copied
            copied += _copy_segment(session, path)
    return copied


def verify_audit_trail(session: Session) -> int:
    """Count the rows of the chain; raises BrokenChainError where one was changed, removed or put in."""
    previous, count = "", 0
    last_of: dict[str, str] = {}
    while rows := _rows_after(session, count):
        for row in rows:
            count += 1
            digest = _chain(previous, row.segment, row.line_sha256, row.body)
            if row.id != count or row.chain_sha256 != digest or not _columns_agree(row):
                raise BrokenChainError(f"audit record {count} isn't what was written")
            previous, last_of[row.segment] = digest, row.line_sha256
        session.expunge_all()
    for name, last_sha256 in session.execute(select(AuditSegment.name, AuditSegment.last_sha256)):
        if last_of.get(name, name) != last_sha256:
            raise BrokenChainError(f"the last audit records of segment {name} are gone")
    return count


def _rows_after(session: Session, number: int) -> Sequence[AuditRecord]:
    rows = select(AuditRecord).where(AuditRecord.id > number).order_by(AuditRecord.id)
    return session.scalars(rows.limit(LINES_AT_A_TIME)).all()


def _columns_agree(row: AuditRecord) -> bool:
    body = json.loads(row.body)
    said = (body["event_id"], body["outcome"], datetime.fromisoformat(body["occurred_at"]))
    return said == (row.event_id, row.outcome, row.occurred_at)


def _copy_segment(session: Session, path: Path) -> int:
    state = session.get(AuditSegment, path.stem)
    if state is None:
        state = AuditSegment(name=path.stem, copied_bytes=0, last_sha256=path.stem, broken=False)
        session.add(state)
    if state.broken:
        return 0
    last = session.execute(
        select(AuditRecord.id, AuditRecord.chain_sha256).order_by(AuditRecord.id.desc()).limit(1)
    ).one_or_none()
    number, previous = (0, "") if last is None else last
    count = 0
    try:
        for line in _new_lines(path, state):
            number, count = number + 1, count + 1
            previous = _chain(previous, line.segment, line.sha256, line.body)
            session.add(
                AuditRecord(
                    id=number,
                    segment=line.segment,
                    line_sha256=line.sha256,
                    occurred_at=line.occurred_at,
                    event_id=line.event_id,
                    outcome=line.outcome,
                    body=line.body,
                    chain_sha256=previous,
                )
            )
    except BrokenChainError:
        logger.critical("ALERT audit segment %s was changed after it was written", path.name)
        state.broken = True
    return count


def _new_lines(path: Path, state: AuditSegment) -> Iterator[_Line]:
    """Whole lines that have not been copied; moves `state` along."""
    if path.stat().st_size < state.copied_bytes:
        raise BrokenChainError("a segment of the audit trail was cut")
    with path.open("rb") as file:
        file.seek(state.copied_bytes)
        for _ in range(LINES_AT_A_TIME):
            line = file.readline()
            if not line.endswith(b"\n"):
                return  # being written, or torn by a crash: then its segment has ended
            body, digest, event = read_line(line, state.last_sha256)
            state.copied_bytes, state.last_sha256 = state.copied_bytes + len(line), digest
            occurred_at = datetime.fromisoformat(event["occurred_at"])
            yield _Line(path.stem, digest, body.decode(), occurred_at, event["event_id"], event["outcome"])


def _chain(previous: str, segment: str, line_sha256: str, body: str) -> str:
    return hashlib.sha256(f"{previous}\n{segment}\n{line_sha256}\n{body}".encode()).hexdigest()
