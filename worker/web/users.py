"""Accounts of the web page: passwords as Argon2id digests (RFC 9106), and the limit of failed logins."""

import hashlib
import threading
from datetime import timedelta
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.orm import Session, sessionmaker

from worker.records.database import LoginAttempt, WebSession, WebUser
from worker.records.user_role import UserRole

SHORTEST_PASSWORD: Final = 12
LONGEST_PASSWORD: Final = 1024
LONGEST_NAME: Final = 64
ATTEMPTS_OF_A_NAME: Final = 5
ATTEMPTS_OF_AN_ADDRESS: Final = 30
ATTEMPTS_COUNT_FOR: Final = timedelta(minutes=15)

_hasher = PasswordHasher()
_at_a_time = threading.Semaphore(2)
"""Each password takes 64 MiB and a processor: a flood of logins must not take them all."""
_NOBODY: Final = _hasher.hash("nobody has this password")
"""Looked at for a name that has no account, so that the time tells nothing."""


class UserError(Exception):
    """An account can't be made or changed as asked. The message says why."""


class TooManyAttemptsError(Exception):
    """Too many logins have failed; trying again helps after `ATTEMPTS_COUNT_FOR`."""


def add_user(session: Session, name: str, password: str, role: UserRole) -> WebUser:
    """Make an account; raises UserError."""
    if not name or len(name) > LONGEST_NAME or not name.isprintable() or name != name.strip():
        raise UserError(f"a user's name is 1 to {LONGEST_NAME} printable characters")
    if session.scalar(select(WebUser.id).where(WebUser.name == name)) is not None:
        raise UserError(f"there is a user {name} already")
    user = WebUser(name=name, password_hash=_hash(password), role=role)
    session.add(user)
    session.flush()
    return user


def find_user(session: Session, name: str) -> WebUser:
    """Find an account by its name; raises UserError."""
    user = session.scalars(select(WebUser).where(WebUser.name == name)).one_or_none()
    if user is None:
        raise UserError(f"there is no user {name}")
    return user


def set_password(session: Session, user: WebUser, password: str) -> None:
    """Give an account another password and end its sessions and tokens; raises UserError."""
    user.password_hash = _hash(password)
    end_sessions(session, user)


def set_role(session: Session, user: WebUser, role: UserRole) -> None:
    """Let an account do something else and end its sessions and tokens; raises UserError."""
    if user.role is role:
        raise UserError(f"user {user.name} is {role.value} already")
    user.role = role
    end_sessions(session, user)


def disable_user(session: Session, user: WebUser) -> None:
    """Let an account in no more and end its sessions and tokens; what it did stays in the ledger."""
    session.execute(update(WebUser).where(WebUser.id == user.id).values(disabled_at=func.now()))
    end_sessions(session, user)


def enable_user(session: Session, user: WebUser) -> None:
    """Let a disabled account in again."""
    session.execute(update(WebUser).where(WebUser.id == user.id).values(disabled_at=None))


def end_sessions(session: Session, user: WebUser) -> None:
    """End all logins and tokens of an account."""
    session.execute(delete(WebSession).where(WebSession.user_id == user.id))


def authenticate(sessions: sessionmaker[Session], name: str, password: str, address: str) -> WebUser | None:
    """Find the account of name and password; None where they don't belong together or it is disabled.

    An attempt is noted before the password is looked at, so that many at a time count as many; a login that
    succeeds takes back what was noted of its name and address. Raises TooManyAttemptsError.
    """
    name_sha256 = hashlib.sha256(name.lower().encode()).hexdigest()
    _note_attempt(sessions, name_sha256, address)
    with sessions.begin() as session:
        user = session.scalars(
            select(WebUser).where(WebUser.name == name, WebUser.disabled_at.is_(None))
        ).one_or_none()
        if not _matches(_NOBODY if user is None else user.password_hash, password) or user is None:
            return None
        if _hasher.check_needs_rehash(user.password_hash):
            user.password_hash = _hasher.hash(password)
        session.execute(
            delete(LoginAttempt).where(
                LoginAttempt.name_sha256 == name_sha256, LoginAttempt.address == address
            )
        )
        session.flush()
        session.expunge(user)
        return user


def _note_attempt(sessions: sessionmaker[Session], name_sha256: str, address: str) -> None:
    with sessions.begin() as session:
        old = LoginAttempt.tried_at < func.now() - ATTEMPTS_COUNT_FOR
        session.execute(delete(LoginAttempt).where(old))
        attempt = LoginAttempt(name_sha256=name_sha256, address=address)
        session.add(attempt)
        session.flush()
        attempt_id = attempt.id
    with sessions.begin() as session:
        of_name, of_address = session.execute(
            select(
                func.count().filter(LoginAttempt.name_sha256 == name_sha256, LoginAttempt.address == address),
                func.count().filter(LoginAttempt.address == address),
            ).where(or_(LoginAttempt.name_sha256 == name_sha256, LoginAttempt.address == address))
        ).one()
        if of_name > ATTEMPTS_OF_A_NAME or of_address > ATTEMPTS_OF_AN_ADDRESS:
            session.execute(delete(LoginAttempt).where(LoginAttempt.id == attempt_id))
            refused = True
        else:
            refused = False
    if refused:
        raise TooManyAttemptsError


def _hash(password: str) -> str:
    if len(password) < SHORTEST_PASSWORD:
        raise UserError(f"a password has at least {SHORTEST_PASSWORD} characters")
    if len(password) > LONGEST_PASSWORD:
        raise UserError(f"a password has at most {LONGEST_PASSWORD} characters")
    return _hasher.hash(password)


def _matches(password_hash: str, password: str) -> bool:
    if len(password) > LONGEST_PASSWORD:
        return False
    with _at_a_time:
        try:
            return _hasher.verify(password_hash, password)
        except VerifyMismatchError:
            return False
