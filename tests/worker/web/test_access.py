"""Every route and every role; logins, sessions, forms and headers."""

import json
import logging
import re
from datetime import timedelta

import pytest
from fastapi.routing import APIRoute
from pydantic import ValidationError
from sqlalchemy import create_engine, select, text, update
from sqlalchemy.orm import sessionmaker
from starlette.routing import Mount

from dicom_node.audit import AuditEventId
from tests.worker.web.browser import PATIENT, UID, Browser, password_of
from worker.records.database import AuditRecord, LoginAttempt, WebSession, WebUser
from worker.records.user_role import SessionKind, UserRole
from worker.settings import Settings
from worker.upkeep.audit import copy_audit_trail
from worker.web import figures
from worker.web.app import ROUTERS, make_app
from worker.web.guard import GUARDS, Web
from worker.web.headers import HEADERS
from worker.web.logins import open_session
from worker.web.users import ATTEMPTS_OF_A_NAME, ATTEMPTS_OF_AN_ADDRESS, UserError, add_user, set_password

VIEWER, OPERATOR, ADMIN = UserRole
PUBLIC = None
NEEDED = {
    ("GET", "/live"): PUBLIC,
    ("GET", "/ready"): PUBLIC,
    ("GET", "/login"): PUBLIC,
    ("POST", "/login"): PUBLIC,
    ("GET", "/"): VIEWER,
    ("POST", "/find"): VIEWER,
    ("GET", "/studies/{study_id}"): VIEWER,
    ("GET", "/studies/{study_id}/attention"): VIEWER,
    ("GET", "/studies/{study_id}/objects/{position}/{layer}.png"): VIEWER,
    ("GET", "/studies/{study_id}/report"): VIEWER,
    ("POST", "/studies/{study_id}/retry"): OPERATOR,
    ("POST", "/studies/{study_id}/release"): OPERATOR,
    ("POST", "/studies/{study_id}/dismiss"): OPERATOR,
    ("POST", "/studies/{study_id}/roles"): OPERATOR,
    ("POST", "/studies/{study_id}/known-grade"): OPERATOR,
    ("GET", "/figures"): VIEWER,
    ("GET", "/waiting"): VIEWER,
    ("GET", "/docs"): VIEWER,
    ("GET", "/users"): ADMIN,
    ("POST", "/users/{user_id}/disable"): ADMIN,
    ("POST", "/users/{user_id}/enable"): ADMIN,
    ("GET", "/api/v1/openapi.json"): VIEWER,
    ("GET", "/api/v1/studies"): VIEWER,
    ("GET", "/api/v1/studies/{study_id}"): VIEWER,
    ("GET", "/api/v1/studies/{study_id}/report"): VIEWER,
    ("GET", "/api/v1/failures"): VIEWER,
    ("GET", "/api/v1/turnaround"): VIEWER,
    ("GET", "/api/v1/grades"): VIEWER,
    ("GET", "/api/v1/agreement"): VIEWER,
    ("GET", "/api/v1/drift"): VIEWER,
    ("POST", "/logout"): VIEWER,
}
AWAY = "postgresql+psycopg://nobody@127.0.0.1:1/none"
FIELDS = {"grade": "HGG", "words": "x", "t1ce": "9", "reason": "x"}


def place(path):
    """The path of study 1, user 1, and an object of the study."""
    return path.format(study_id=1, user_id=1, position=1, layer="plain")


def ask(browser, method, path, **headers):
    if method == "GET":
        return browser.get(place(path), **headers)
    logged_in = browser.get("/").status_code == 200
    fields = FIELDS | {"form_token": browser.token("/" if logged_in else "/login")}
    return browser.client.post(place(path), data=fields, headers=headers)


def is_refused(answer, path):
    """By no login, or by too small a role."""
    if path.startswith("/api/") and answer.status_code == 401:
        return "login"
    if answer.status_code == 303 and answer.headers["location"] == "/login" and path != "/logout":
        return "login"
    return "role" if answer.status_code == 403 else ""


def test_each_route_is_in_the_table_and_has_the_guard_that_the_table_says(web):
    found = {}
    for route in (route for router in ROUTERS for route in router.routes):
        assert isinstance(route, APIRoute)
        assert route.methods is not None
        (method,) = route.methods
        found[method, route.path] = [
            item.call for item in route.dependant.dependencies if item.call in GUARDS
        ]
    assert found.keys() == NEEDED.keys()
    for key, needed in NEEDED.items():
        assert [GUARDS[guard] for guard in found[key]] == ([] if needed is PUBLIC else [needed]), key
    app = make_app(web)
    assert [route.path for route in app.routes if isinstance(route, Mount)] == ["/static"]
    assert len(app.routes) == len(ROUTERS) + 1


@pytest.mark.parametrize("role", [None, *UserRole])
def test_each_role_reaches_what_the_table_says_and_no_more(graded, web, log_in, role):
    browser = Browser(web) if role is None else log_in(role)
    for (method, path), needed in NEEDED.items():
        if needed is PUBLIC:
            continue
        refused = is_refused(ask(browser, method, path), path)
        if role is None:
            assert refused == "login" or path == "/logout", path
        else:
            assert refused == ("" if role.covers(needed) else "role"), path


def test_a_probe_is_told_whether_the_ledger_can_be_read_and_no_more(graded, web, caplog):
    browser = Browser(web)
    caplog.set_level(logging.INFO)
    assert (browser.get("/live").text, browser.get("/ready").text) == (
        "this process answers\n",
        "the ledger can be read\n",
    )
    with web.sessions.begin() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert (browser.get("/live").status_code, browser.get("/ready").status_code) == (200, 503)
    away = Web(web.settings, sessionmaker(create_engine(AWAY)), web.spool, web.audit)
    answer = Browser(away).get("/ready")
    assert (answer.status_code, answer.text) == (503, "PostgreSQL can't be reached\n")
    assert Browser(away).get("/live").status_code == 200
    assert not [record for record in caplog.records if record.name.startswith("worker")]


@pytest.mark.parametrize("role", UserRole)
def test_a_bearer_token_opens_the_interface_and_no_page(graded, web, role):
    with web.sessions.begin() as session:
        user = session.scalars(select(WebUser).where(WebUser.name == role)).one()
        token = open_session(session, user.id, SessionKind.BEARER, timedelta(days=1))
        cookie = open_session(session, user.id, SessionKind.BROWSER, timedelta(days=1))
    browser = Browser(web)
    for (method, path), needed in NEEDED.items():
        if needed is PUBLIC:
            continue
        answer = ask(browser, method, path, Authorization=f"Bearer {token}")
        if path.startswith("/api/"):
            assert answer.status_code == 200, path
            # one kind of token isn't taken for the other
            assert ask(browser, method, path, Authorization=f"Bearer {cookie}").status_code == 401
        else:
            assert answer.status_code in {303, 403}, path
            assert answer.headers.get("location", "/login") == "/login"


def test_a_form_of_another_page_or_site_is_refused(graded, web, log_in):
    browser = log_in(ADMIN)
    for method, path in NEEDED:
        if method == "GET":
            continue
        for token in ("", "0" * 64, Browser(web).token()):
            answer = browser.client.post(place(path), data={"form_token": token, **FIELDS})
            assert answer.status_code == 403, path
        headers = {"Sec-Fetch-Site": "cross-site"}
        fields = {"form_token": browser.token("/"), **FIELDS}
        assert browser.client.post(place(path), data=fields, headers=headers).status_code == 403
    assert browser.get("/").status_code == 200


def test_a_login_gives_a_new_token_and_a_logout_ends_it(web):
    browser = Browser(web)
    browser.get("/login")
    before = browser.client.cookies[web.cookie]
    browser.log_in("viewer")
    token = browser.client.cookies[web.cookie]
    assert token != before
    with web.sessions() as session:
        assert token not in session.scalars(select(WebSession.token_sha256)).all()
    assert browser.post("/logout").headers["location"] == "/login"
    browser.client.cookies.set(web.cookie, token)
    assert browser.get("/").headers["location"] == "/login"


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE web_session SET expires_at = now() - interval '1 second'",
        "UPDATE web_session SET seen_at = now() - interval '31 minutes'",
        "UPDATE web_user SET disabled_at = now()",
        "DELETE FROM web_session",
    ],
)
def test_a_session_ends(web, log_in, change):
    browser = log_in(VIEWER)
    with web.sessions.begin() as session:
        session.execute(text(change))
    assert browser.get("/").headers["location"] == "/login"
    assert browser.get("/api/v1/studies").status_code == 401


def test_a_page_that_refreshes_itself_keeps_no_session_alive(web, log_in):
    browser = log_in(VIEWER)

    def idle():
        with web.sessions.begin() as session:
            session.execute(update(WebSession).values(seen_at=text("now() - interval '20 minutes'")))

    def seconds():
        with web.sessions() as session:
            return session.scalar(text("SELECT extract(epoch FROM now() - seen_at) FROM web_session"))

    idle()
    assert browser.get("/", **{"X-Gliograde-Refresh": "1"}).status_code == 200
    assert seconds() >= 1200
    assert browser.get("/").status_code == 200
    assert seconds() < 1200


def test_a_disabled_user_does_not_get_in_and_a_password_ends_sessions(web, log_in):
    browser = log_in(VIEWER)
    with web.sessions.begin() as session:
        set_password(
            session, session.scalars(select(WebUser).where(WebUser.name == "viewer")).one(), "x" * 12
        )
    assert browser.get("/").headers["location"] == "/login"
    assert browser.log_in("viewer").status_code == 401
    assert browser.log_in("viewer", "x" * 12).status_code == 303
    admin = log_in(ADMIN)
    assert admin.post("/users/1/disable").status_code == 303
    assert browser.log_in("viewer", "x" * 12).status_code == 401
    assert admin.post("/users/1/enable").status_code == 303
    assert browser.log_in("viewer", "x" * 12).status_code == 303
    assert admin.post("/users/3/disable").status_code == 409


def test_failed_logins_are_limited_by_name_and_address(web):
    browser = Browser(web)
    for _ in range(ATTEMPTS_OF_A_NAME):
        assert browser.log_in("viewer", "wrong").status_code == 401
    blocked = browser.log_in("viewer")
    assert blocked.status_code == 429
    assert web.cookie not in re.findall("max-age=0", str(blocked.headers))
    # another user of the same address isn't kept out
    assert browser.log_in("operator").status_code == 303
    with web.sessions.begin() as session:
        session.execute(update(LoginAttempt).values(tried_at=text("now() - interval '16 minutes'")))
    assert browser.log_in("viewer").status_code == 303
    with web.sessions() as session:
        assert session.scalars(select(LoginAttempt)).all() == []


def test_an_address_that_tries_many_names_is_stopped(web):
    with web.sessions.begin() as session:
        session.add_all(
            LoginAttempt(name_sha256=str(number), address="testclient")
            for number in range(ATTEMPTS_OF_AN_ADDRESS)
        )
    assert Browser(web).log_in("viewer").status_code == 429


def test_what_is_typed_as_a_name_is_kept_nowhere(web):
    assert Browser(web).log_in("my secret password", "x").status_code == 401
    with web.sessions() as session:
        (attempt,) = session.scalars(select(LoginAttempt)).all()
    assert "secret" not in attempt.name_sha256
    assert b"secret" not in b"".join(path.read_bytes() for path in web.settings.audit_folder.iterdir())


@pytest.mark.parametrize(
    ("name", "password", "words"),
    [
        ("viewer", "long enough password", "already"),
        ("", "long enough password", "printable"),
        ("a\nb", "long enough password", "printable"),
        ("new", "short", "at least 12"),
        ("new", "x" * 1025, "at most"),
    ],
)
def test_an_account_that_makes_no_sense_is_refused(web, name, password, words):
    with web.sessions.begin() as session, pytest.raises(UserError, match=words):
        add_user(session, name, password, VIEWER)


def test_a_password_is_kept_as_argon2id(web):
    with web.sessions() as session:
        for user in session.scalars(select(WebUser)):
            assert user.password_hash.startswith("$argon2id$")
            assert password_of(user.role) not in user.password_hash


def test_each_answer_has_the_headers_and_only_static_files_are_cached(graded, web, log_in):
    browser = log_in(ADMIN)
    answers = [ask(browser, method, path) for method, path in NEEDED if method == "GET"]
    answers += [
        browser.get("/nowhere"),
        browser.get("/studies/9"),
        Browser(web).get("/"),
        browser.post("/find"),
    ]
    for answer in answers:
        assert answer.headers["cache-control"] == "no-store"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
    assert browser.get("/static/page.css").headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["/figures", "/api/v1/drift"])
def test_an_error_of_ours_has_the_headers_and_quotes_nothing(log_in, monkeypatch, caplog, path):
    def fail(*_):
        raise ValueError("ZZCANARY")

    browser = log_in(VIEWER)
    monkeypatch.setattr(figures, "read_drift", fail)
    with caplog.at_level(logging.INFO):
        answer = browser.get(path)
    assert (answer.status_code, answer.headers["cache-control"]) == (500, "no-store")
    assert HEADERS.items() <= {name: answer.headers.get(name) for name in HEADERS}.items()
    assert "something went wrong" in answer.text
    assert answer.headers["content-type"].startswith("application/json" if "api" in path else "text/html")
    assert "ZZCANARY" not in answer.text + caplog.text
    assert "a request failed with ValueError at test_access.py" in caplog.text
    assert f"GET {path} 500" in caplog.text


def test_pages_need_neither_inline_script_nor_style_nor_another_host(graded, log_in):
    browser = log_in(ADMIN)
    for method, path in NEEDED:
        if method == "POST" or path.startswith("/api/") or path.endswith(".png"):
            continue
        page = browser.get(place(path)).text
        assert not re.search(r"<script(?![^>]* src=)|<style| style=| on\w+=", page), path
        assert not re.search(r"(?:src|href|action)=\"(?:https?:)?//", page), path


def test_cookies_are_for_this_host_and_for_no_script(make_node, web):
    def cookie_of(used):
        return Browser(used, secure=True).get("/login").headers["set-cookie"].lower()

    plain = cookie_of(web)
    assert all(word in plain for word in ("httponly", "samesite=strict", "path=/"))
    assert "secure" not in plain
    settings = web.settings.model_copy(update={"web_proxies": ("127.0.0.1",)})
    behind = Web(settings, web.sessions, web.spool, web.audit)
    assert "; secure" in cookie_of(behind)
    assert cookie_of(behind).startswith("__host-")
    answer = Browser(behind, secure=True).get("/login")
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


def test_nothing_of_a_patient_stands_in_an_address_or_in_the_log(graded, log_in, caplog):
    caplog.set_level(logging.INFO)
    browser = log_in(ADMIN)
    found = browser.post("/find", words=PATIENT["PatientID"])
    assert found.headers["location"] == "/studies/1"
    browser.get(f"/{PATIENT['PatientID']}")
    browser.get(f"/?state={PATIENT['PatientID']}")
    addresses = []
    for method, path in NEEDED:
        if method == "GET" and not path.startswith("/api/"):
            addresses += re.findall(r'(?:href|src|action)="([^"]*)"', browser.get(place(path)).text)
    words = [UID, *PATIENT.values()]
    assert len(addresses) > 50
    assert not [address for address in addresses if any(word in address for word in words)]
    ours = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("worker"))
    assert "GET /studies/{study_id} 200" in ours
    assert not any(word in ours for word in words)


def test_logins_looks_and_refusals_stand_in_the_audit_trail(graded, web, log_in):
    browser = log_in(VIEWER)
    for _ in range(3):
        browser.get("/studies/1")
    Browser(web).log_in("viewer", "wrong")
    browser.post("/logout")
    copy_audit_trail(graded)
    with web.sessions() as session:
        events = [
            json.loads(body) for body in session.scalars(select(AuditRecord.body).order_by(AuditRecord.id))
        ]
    told = [(event["event_id"], event["detail"], event["source"], event["outcome"]) for event in events]
    assert told == [
        (AuditEventId.USER_AUTHENTICATION, "login", "viewer", 0),
        (AuditEventId.INSTANCES_ACCESSED, "study viewed", "viewer", 0),
        (AuditEventId.USER_AUTHENTICATION, "login", "", 4),
        (AuditEventId.USER_AUTHENTICATION, "logout", "viewer", 0),
    ]
    assert events[1]["patient_id"] == PATIENT["PatientID"]


@pytest.mark.parametrize(
    ("method", "path", "code", "detail"),
    [
        ("GET", "/studies/{study_id}", 200, "study viewed"),
        ("GET", "/studies/{study_id}/attention", 200, "attention viewed"),
        ("GET", "/studies/{study_id}/objects/{position}/{layer}.png", 200, "image viewed"),
        ("GET", "/studies/{study_id}/report", 200, "report viewed"),
        ("GET", "/api/v1/studies/{study_id}", 200, "study viewed"),
        ("GET", "/api/v1/studies/{study_id}/report", 200, "report viewed"),
        # why a decision can't be made is told on the page of the study
        ("POST", "/studies/{study_id}/release", 409, "study viewed"),
    ],
)
def test_each_way_to_look_at_a_patient_stands_in_the_audit_trail(
    graded, web, log_in, method, path, code, detail
):
    assert ask(log_in(OPERATOR), method, path).status_code == code
    copy_audit_trail(graded)
    accessed = AuditRecord.event_id == AuditEventId.INSTANCES_ACCESSED
    with web.sessions() as session:
        (event,) = map(json.loads, session.scalars(select(AuditRecord.body).where(accessed)))
    assert (event["detail"], event["source"]) == (detail, OPERATOR)
    assert (event["patient_id"], event["study_instance_uid"]) == (PATIENT["PatientID"], UID)


def test_a_large_form_or_one_of_unknown_length_is_refused(web, log_in):
    browser = log_in(VIEWER)
    fields = {"form_token": browser.token("/"), "words": "x" * 20000}
    assert browser.client.post("/find", data=fields).status_code == 413
    assert browser.client.post("/find", content=iter([b"words=x"])).status_code == 413


def test_tls_of_the_page_is_whole_or_not_at_all(tmp_path):
    with pytest.raises(ValidationError, match="web_certificate and web_key"):
        Settings(web_certificate=tmp_path / "page.crt")
