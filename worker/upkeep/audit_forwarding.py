"""Audit events passed on to a site's audit record repository by syslog (RFC 5424 over UDP, TCP or TLS).

A receiver that is away holds nothing up: what it has not taken stays marked and is sent later, in order.
"""

import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

from pydantic import TypeAdapter
from sqlalchemy import func, select, update

from dicom_node.audit import AuditEvent
from dicom_node.audit_message import syslog_frame
from worker.node import Node
from worker.records.database import AuditRecord
from worker.settings import Settings
from worker.upkeep.audit import AUDIT_LOCK

logger = logging.getLogger(__name__)

TIMEOUT_S: Final = 5.0
EVENTS_AT_A_TIME: Final = 500
_EVENT: Final = TypeAdapter(AuditEvent)


def forward_audit_trail(node: Node) -> int:
    """Send what has not been forwarded; returns how many events the receiver's kernel took.

    An event may arrive twice where the line breaks; RFC 5424 knows no acknowledgement.
    """
    if node.settings.audit_forward_url is None:
        return 0
    with node.sessions.begin() as session:
        # a lock of its own: waiting for the network must not hold up the copying
        if not session.scalar(select(func.pg_try_advisory_xact_lock(AUDIT_LOCK + 1))):
            return 0
        rows = session.execute(
            select(AuditRecord.id, AuditRecord.body)
            .where(AuditRecord.forwarded_at.is_(None))
            .order_by(AuditRecord.id)
            .limit(EVENTS_AT_A_TIME)
        ).all()
        sent = _send([(row.id, _EVENT.validate_json(row.body)) for row in rows], node.settings)
        session.execute(update(AuditRecord).where(AuditRecord.id.in_(sent)).values(forwarded_at=func.now()))
    return len(sent)


def _send(events: list[tuple[int, AuditEvent]], settings: Settings) -> list[int]:
    sent: list[int] = []
    if not events:
        return sent
    try:
        with _receiver(settings) as write:
            for number, event in events:
                write(syslog_frame(event, settings.ae_title))
                sent.append(number)
    except OSError as error:
        logger.warning("audit receiver: %s; %d events wait", type(error).__name__, len(events) - len(sent))
    return sent


@contextmanager
def _receiver(settings: Settings) -> Iterator[Callable[[bytes], None]]:
    """Open the transport; over TCP each message is preceded by its length (RFC 6587, RFC 5425)."""
    parts = urlsplit(settings.audit_forward_url or "")
    assert isinstance(parts.hostname, str)
    assert parts.port is not None
    address = (parts.hostname, parts.port)
    if parts.scheme == "udp":
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            yield lambda message: _ignore(datagrams.sendto(message, address))
        return
    with socket.create_connection(address, TIMEOUT_S) as stream:
        if parts.scheme == "tcp":
            yield lambda message: stream.sendall(f"{len(message)} ".encode() + message)
            return
        context = ssl.create_default_context(cafile=settings.audit_forward_ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        with context.wrap_socket(stream, server_hostname=parts.hostname) as secure:
            yield lambda message: secure.sendall(f"{len(message)} ".encode() + message)


def _ignore(_: int) -> None:
    """Nothing to do with a count of bytes: a datagram goes whole or not at all."""
