"""The door: login, logout, and what is served to everybody."""

import secrets
from typing import Annotated

from fastapi import APIRouter, Form, Request, status
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from dicom_node.audit import AuditEvent, AuditEventId, AuditOutcome
from worker.records.schema import readiness
from worker.records.user_role import SessionKind
from worker.web.guard import Ledger, SignedForm, Viewer, Web, WebOf, address_of
from worker.web.logins import close_session, form_token, open_session
from worker.web.pages import render
from worker.web.users import ATTEMPTS_COUNT_FOR, TooManyAttemptsError, authenticate

router = APIRouter(include_in_schema=False)


@router.get("/live")
def live() -> PlainTextResponse:
    """Tell a probe that this process answers."""
    return PlainTextResponse("this process answers\n")


@router.get("/ready")
def ready(web: WebOf) -> PlainTextResponse:
    """Tell a probe whether the ledger can be read."""
    is_ready, words = readiness(web.sessions.kw["bind"])
    code = status.HTTP_200_OK if is_ready else status.HTTP_503_SERVICE_UNAVAILABLE
    return PlainTextResponse(f"{words}\n", code)


@router.get("/login")
def login_page(request: Request, web: WebOf) -> HTMLResponse:
    """Show the form; a browser without cookie gets one that only ties the form to it."""
    return _login_form(request, web, "", status.HTTP_200_OK)


@router.post("/login")
def login(
    request: Request,
    web: WebOf,
    signed: SignedForm,
    name: Annotated[str, Form(max_length=200)] = "",
    password: Annotated[str, Form(max_length=2000)] = "",
) -> Response:
    """Open a session under a new token, so that one known from before is worth nothing."""
    del signed
    address = address_of(request)
    try:
        user = authenticate(web.sessions, name, password, address)
    except TooManyAttemptsError:
        web.audit.alert("web login blocked", address=address, target=web.settings.ae_title)
        minutes = f"{ATTEMPTS_COUNT_FOR.total_seconds() / 60:.0f}"
        words = f"Too many logins have failed. Try again in {minutes} minutes."
        return _login_form(request, web, words, status.HTTP_429_TOO_MANY_REQUESTS)
    if user is None:
        # the name isn't told: it may be a password typed into the wrong field
        _note(web, "login", "", address, AuditOutcome.MINOR_FAILURE)
        words = "That name and password don't belong together."
        return _login_form(request, web, words, status.HTTP_401_UNAUTHORIZED)
    with web.sessions.begin() as session:
        token = open_session(session, user.id, SessionKind.BROWSER, web.settings.web_session_timeout)
    _note(web, "login", user.name, address)
    answer = RedirectResponse("/", status.HTTP_303_SEE_OTHER)
    _set_cookie(answer, web, token)
    return answer


@router.post("/logout")
def logout(request: Request, web: WebOf, session: Ledger, visitor: Viewer, signed: SignedForm) -> Response:
    """End the session here and in the browser."""
    del signed
    close_session(session, visitor.session_id)
    session.commit()
    _note(web, "logout", visitor.name, address_of(request))
    answer = RedirectResponse("/login", status.HTTP_303_SEE_OTHER)
    answer.delete_cookie(web.cookie, secure=web.settings.web_is_encrypted, httponly=True, samesite="strict")
    return answer


def _login_form(request: Request, web: Web, problem: str, code: int) -> HTMLResponse:
    cookie = request.cookies.get(web.cookie) or secrets.token_urlsafe(32)
    answer = render(request, "login.html", code, problem=problem, form_token=form_token(cookie))
    _set_cookie(answer, web, cookie)
    return answer


def _set_cookie(answer: Response, web: Web, value: str) -> None:
    answer.set_cookie(
        web.cookie, value, path="/", secure=web.settings.web_is_encrypted, httponly=True, samesite="strict"
    )


def _note(
    web: Web, detail: str, name: str, address: str, outcome: AuditOutcome = AuditOutcome.SUCCESS
) -> None:
    web.audit.write(
        AuditEvent(
            event_id=AuditEventId.USER_AUTHENTICATION,
            outcome=outcome,
            detail=detail,
            source=name,
            target=web.settings.ae_title,
            address=address,
        )
    )
