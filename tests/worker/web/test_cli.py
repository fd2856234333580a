"""Accounts on the command line, and the page as its own process with TLS."""

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from datetime import UTC, datetime

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from tests.certificates import Authority
from tests.worker.web.browser import Browser, password_of
from worker.cli import app
from worker.records.database import AuditRecord
from worker.settings import Settings
from worker.upkeep.audit import copy_audit_trail
from worker.web.address import WebAddressError, is_exposed, open_socket, url_of


@pytest.fixture
def environment(node, database_url):
    return {
        "GLIOGRADE_DATABASE_URL": database_url,
        "GLIOGRADE_DATA_FOLDER": str(node.settings.data_folder),
    }


@pytest.fixture
def run(environment):
    """Run `gliograde user …`, the password from standard input."""

    def call(*arguments, password=""):
        return CliRunner().invoke(app, ["user", *arguments], env=environment, input=f"{password}\n")

    return call


def test_accounts_are_kept_on_the_command_line(run, web):
    assert run("add", "dr-a", "--role", "operator", password=password_of("a")).exit_code == 0
    browser = Browser(web)
    assert browser.log_in("dr-a", password_of("a")).status_code == 303
    assert run("password", "dr-a", password=password_of("b")).exit_code == 0
    assert browser.get("/").headers["location"] == "/login"
    assert browser.log_in("dr-a", password_of("b")).status_code == 303
    assert run("disable", "dr-a").exit_code == 0
    assert browser.log_in("dr-a", password_of("b")).status_code == 401
    listed = run("list").output
    assert re.search(r"dr-a +│ operator │", listed)
    assert datetime.now(UTC).strftime("%Y-%m-%d") in listed
    assert "disabled" in str(run("token", "dr-a").exception)
    assert run("enable", "dr-a").exit_code == 0
    assert browser.log_in("dr-a", password_of("b")).status_code == 303


def test_a_role_is_changed_and_logins_and_tokens_end(node, run, web):
    browser = Browser(web)
    browser.log_in("viewer")
    bearer = {"Authorization": f"Bearer {run('token', 'viewer').output.strip()}"}
    assert run("role", "viewer", "--role", "operator").exit_code == 0
    assert browser.get("/").headers["location"] == "/login"
    assert browser.get("/api/v1/studies", **bearer).status_code == 401
    assert browser.log_in("viewer").status_code == 303
    assert "viewer (operator)" in browser.get("/").text
    assert "operator already" in str(run("role", "viewer", "--role", "operator").exception)
    assert browser.get("/").status_code == 200
    assert "no user" in str(run("role", "nobody", "--role", "admin").exception)
    assert run("role", "viewer").exit_code == 2
    copy_audit_trail(node)
    with web.sessions() as session:
        bodies = session.scalars(select(AuditRecord.body)).all()
    assert sum("web account is now operator: viewer" in body for body in bodies) == 1


def test_a_token_opens_the_interface(run, web):
    made = run("token", "viewer", "--days", "1")
    answer = Browser(web).get("/api/v1/studies", Authorization=f"Bearer {made.output.strip()}")
    assert (answer.status_code, answer.json()) == (200, {"items": [], "before": None})


def test_a_password_is_no_argument_and_a_short_one_is_refused(run):
    assert run("add", "dr-a", "secret-password").exit_code == 2
    assert "at least 12" in str(run("add", "dr-a", password="short").exception)
    assert "no user" in str(run("disable", "nobody").exception)


@pytest.mark.parametrize(
    ("changes", "exposed"),
    [
        ({}, False),
        ({"web_address": "::1"}, False),
        ({"web_address": "localhost"}, False),
        ({"web_address": "0.0.0.0"}, True),
        ({"web_address": "0.0.0.0", "web_proxies": ["10.0.0.1"]}, False),
        ({"web_address": "0.0.0.0", "web_certificate": "page.crt", "web_key": "page.key"}, False),
    ],
)
def test_an_address_on_the_network_without_tls_is_exposed(changes, exposed):
    assert is_exposed(Settings(**changes)) is exposed


def test_a_taken_port_is_told():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(web_port=taken.getsockname()[1])
        with pytest.raises(WebAddressError, match=f"can't listen on 127.0.0.1:{settings.web_port}"):
            open_socket(settings)
    assert url_of(Settings(web_address="::1", web_port=80)) == "http://[::1]:80/"


def test_the_page_is_served_by_tls_until_it_is_stopped(environment, tmp_path):
    files = Authority(tmp_path).issue("page").files
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    settings = {
        "GLIOGRADE_WEB_PORT": str(port),
        "GLIOGRADE_WEB_CERTIFICATE": str(files.certificate),
        "GLIOGRADE_WEB_KEY": str(files.key),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "worker.cli", "web"],
        env={**os.environ, **environment, **settings, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert f"https://127.0.0.1:{port}/" in process.stdout.readline()
        context = ssl.create_default_context(cafile=files.authority)
        context.check_hostname = False
        with urllib.request.urlopen(f"https://127.0.0.1:{port}/login?ZZCANARY", context=context) as answer:
            assert answer.headers["Set-Cookie"].startswith("__Host-gliograde=")
            assert "server" not in answer.headers
    finally:
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
    assert "GET /login 200" in log
    assert "ZZCANARY" not in log
