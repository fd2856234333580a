"""Sessions on the server: a browser's cookie and a program's bearer token are random and kept as digests."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.orm import Session

from worker.records.database import WebSession, WebUser
from worker.records.user_role import SessionKind, UserRole

SEEN_AGAIN_AFTER: Final = timedelta(minutes=1)
"""That a session is in use is noted no more often than this."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks, as found by the token that came with the request."""

    session_id: int
    user_id: int
    name: str
    role: UserRole


def open_session(session: Session, user_id: int, kind: SessionKind, lifetime: timedelta) -> str:
    """Open a session and forget those that have expired; returns the token, which is kept nowhere."""
    session.execute(delete(WebSession).where(WebSession.expires_at < func.now()))
    token = secrets.token_urlsafe(32)
    session.add(
        WebSession(user_id=user_id, kind=kind, token_sha256=_digest(token), expires_at=func.now() + lifetime)
    )
    session.flush()
    return token


def find_visitor(session: Session, token: str, kind: SessionKind, idle: timedelta) -> Visitor | None:
    """Find whose token it is; None where it is unknown, expired, idle for too long, or its user disabled."""
    row = session.execute(
        select(WebSession.id, WebUser.id, WebUser.name, WebUser.role)
        .join(WebUser, WebUser.id == WebSession.user_id)
        .where(
            WebSession.token_sha256 == _digest(token),
            WebSession.kind == kind,
            WebSession.expires_at > func.now(),
            or_(WebSession.seen_at > func.now() - idle, WebSession.kind == SessionKind.BEARER),
            WebUser.disabled_at.is_(None),
        )
    ).one_or_none()
    return None if row is None else Visitor(*row)


def note_use(session: Session, session_id: int) -> None:
    """Note that a person uses a session, so that it doesn't end by idleness."""
    session.execute(
        update(WebSession)
        .where(WebSession.id == session_id, WebSession.seen_at < func.now() - SEEN_AGAIN_AFTER)
        .values(seen_at=func.now())
    )


def close_session(session: Session, session_id: int) -> None:
    """Log out."""
    session.execute(delete(WebSession).where(WebSession.id == session_id))


def form_token(cookie: str) -> str:
    """What a form must send along with this cookie; another site can't read the one nor make the other."""
    return hashlib.sha256(f"form\n{cookie}".encode()).hexdigest()


def is_form_token(cookie: str, token: str) -> bool:
    """Whether the form was made for this cookie."""
    return bool(cookie) and hmac.compare_digest(form_token(cookie).encode(), token.encode())


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
