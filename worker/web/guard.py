"""Who may ask what: each route depends on one of these, and a test says that none was forgotten.

Pages take the cookie and nothing else; the interface for programs takes a bearer token or the cookie, and
only reads. A form needs the token that was made for its cookie.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any, Final

from fastapi import Depends, Form, HTTPException, Request, status
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.audit import AuditEvent, AuditEventId, AuditSpool
from dicom_node.receiving.spool import Spool
from worker.records.database import Study
from worker.records.user_role import SessionKind, UserRole
from worker.settings import Settings
from worker.web.logins import Visitor, find_visitor, is_form_token, note_use

VIEWS_COUNT_FOR: Final = timedelta(minutes=15)
"""A page that refreshes itself is one look at a study, not hundreds."""
POLL_HEADER: Final = "X-Gliograde-Refresh"
"""Sent by a page that refreshes itself: nobody need be there, so the login still ends by idleness."""


@dataclass(frozen=True, slots=True)
class Web:
    """What the web page has at hand, opened once at the composition root."""

    settings: Settings
    sessions: sessionmaker[Session]
    spool: Spool
    audit: AuditSpool
    looks: dict[tuple[int, int], float] = field(default_factory=dict)

    @property
    def cookie(self) -> str:
        """Name of the cookie; with the prefix a browser takes it by TLS only, and for this host only."""
        return "__Host-gliograde" if self.settings.web_is_encrypted else "gliograde"


class LoginNeededError(Exception):
    """A page was asked for without a login that is still good."""


def web_of(request: Request) -> Web:
    """What the application was made with."""
    web: Web = request.app.state.web
    return web


def ledger(request: Request) -> Iterator[Session]:
    """Yield a session on the ledger for one request."""
    with web_of(request).sessions() as session:
        yield session


Ledger = Annotated[Session, Depends(ledger)]
WebOf = Annotated[Web, Depends(web_of)]


def address_of(request: Request) -> str:
    """Address of whoever asks, as a proxy that we trust gives it."""
    return request.client.host if request.client else ""


def on_page(role: UserRole) -> Any:  # noqa: ANN401 - FastAPI's own
    """Depend on a browser's login whose user covers `role`; else LoginNeededError, or 403."""
    return Depends(_PAGE_GUARDS[role])


def on_interface(role: UserRole) -> Any:  # noqa: ANN401 - FastAPI's own
    """Depend on a bearer token or a browser's login whose user covers `role`; else 401 or 403."""
    return Depends(_INTERFACE_GUARDS[role])


def signed_form(request: Request, form_token: Annotated[str, Form()] = "") -> None:
    """Refuse a form that another site could have sent."""
    cookie = request.cookies.get(web_of(request).cookie, "")
    from_here = request.headers.get("sec-fetch-site", "same-origin") in {"same-origin", "none"}
    if not from_here or not is_form_token(cookie, form_token):
        raise HTTPException(status.HTTP_403_FORBIDDEN, "this form is too old: go back, load it again")


def note_look(request: Request, visitor: Visitor, study: Study, detail: str) -> None:
    """Tell the audit trail that a person looks at a patient's study, once for a while."""
    web, now = web_of(request), time.monotonic()
    key = (visitor.session_id, study.id)
    if now - web.looks.get(key, float("-inf")) < VIEWS_COUNT_FOR.total_seconds():
        return
    for old in [key for key, when in list(web.looks.items()) if now - when > VIEWS_COUNT_FOR.total_seconds()]:
        web.looks.pop(old, None)
    web.looks[key] = now
    web.audit.write(
        AuditEvent(
            event_id=AuditEventId.INSTANCES_ACCESSED,
            detail=detail,
            source=visitor.name,
            target=web.settings.ae_title,
            address=address_of(request),
            study_instance_uid=study.study_instance_uid,
            patient_id=study.patient_id,
        )
    )


def _by_cookie(request: Request, session: Session) -> Visitor | None:
    web = web_of(request)
    token = request.cookies.get(web.cookie)
    if token is None:
        return None
    visitor = find_visitor(session, token, SessionKind.BROWSER, web.settings.web_idle_timeout)
    if visitor is not None and POLL_HEADER not in request.headers:
        note_use(session, visitor.session_id)
        session.commit()
    request.state.visitor = visitor
    return visitor


def _by_bearer(request: Request, session: Session) -> Visitor | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    return find_visitor(session, token.strip(), SessionKind.BEARER, web_of(request).settings.web_idle_timeout)


def _page_guard(role: UserRole) -> Callable[..., Visitor]:
    def guard(request: Request, session: Ledger) -> Visitor:
        visitor = _by_cookie(request, session)
        if visitor is None:
            raise LoginNeededError
        return _require(visitor, role)

    return guard


def _interface_guard(role: UserRole) -> Callable[..., Visitor]:
    def guard(request: Request, session: Ledger) -> Visitor:
        bearer = "authorization" in request.headers
        visitor = _by_bearer(request, session) if bearer else _by_cookie(request, session)
        if visitor is None:
            raise HTTPException(
                status.HTTP_401_UNAUTHORIZED, "log in, or send a bearer token", {"WWW-Authenticate": "Bearer"}
            )
        return _require(visitor, role)

    return guard


def _require(visitor: Visitor, role: UserRole) -> Visitor:
    if not visitor.role.covers(role):
        raise HTTPException(status.HTTP_403_FORBIDDEN, f"this needs the role {role}")
    return visitor


_PAGE_GUARDS = {role: _page_guard(role) for role in UserRole}
_INTERFACE_GUARDS = {role: _interface_guard(role) for role in UserRole}
GUARDS = {guard: role for guards in (_PAGE_GUARDS, _INTERFACE_GUARDS) for role, guard in guards.items()}
"""The role that each guard asks for."""

Viewer = Annotated[Visitor, on_page(UserRole.VIEWER)]
Operator = Annotated[Visitor, on_page(UserRole.OPERATOR)]
Admin = Annotated[Visitor, on_page(UserRole.ADMIN)]
Reader = Annotated[Visitor, on_interface(UserRole.VIEWER)]
SignedForm = Annotated[None, Depends(signed_form)]
