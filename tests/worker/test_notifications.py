"""What a real webhook and a real mail server are told, and what happens when they are away."""

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from pydantic import ValidationError
from sqlalchemy import select, text, update

from tests.certificates import Authority
from tests.faults.service import wait_for
from tests.worker.deliveries import job_to_deliver, make_object
from tests.worker.test_indexing import freeze_now, make_study
from worker.commands.doctor_ledger import examine_ledger
from worker.records.database import Delivery, DestinationState, Job, Notification
from worker.running.embedded import embedded_redis_url
from worker.settings import Settings
from worker.states import DeliveryState, JobState
from worker.upkeep.census import take_census
from worker.upkeep.notifications import forget_told, notify


class Webhook(ThreadingHTTPServer):
    """Keeps what is posted to it; answers as it is told to."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.messages = []
        self.answer = 204

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/hook"


class _Handler(BaseHTTPRequestHandler):
    server: "Webhook"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.answer == 204:
            self.server.messages.append(json.loads(body))
        self.send_response(self.server.answer)
        self.end_headers()

    def log_message(self, *_):
        pass


class Mailbox:
    """Keeps what an SMTP server is given, and the logins that it is asked for."""

    def __init__(self):
        self.mails = []
        self.logins = []

    def authenticate(self, _server, session, _envelope, _mechanism, login):
        self.logins.append((session.ssl is not None, login.login.decode(), login.password.decode()))
        return AuthResult(success=login.password == b"s3:cret", handled=False)

    async def handle_DATA(self, _server, _session, envelope):  # noqa: N802 - aiosmtpd's name
        self.mails.append((envelope.mail_from, envelope.rcpt_tos, envelope.content.decode()))
        return "250 kept"


@pytest.fixture
def webhook():
    with Webhook() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@contextmanager
def mail_server(mailbox, **options):
    """A mail server on a free port; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    controller = Controller(mailbox, hostname="127.0.0.1", port=port, **options)
    controller.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        controller.stop()


@pytest.fixture
def make_held(make_node):
    """A node with settings, and a job of its ledger that was given up."""

    def make(state=JobState.HELD, **settings):
        node = make_node(**settings)
        make_study(node.sessions, node.spool)
        freeze_now(node.sessions)
        change(node, update(Job).values(state=state, reason_code="grade_failed", ended_at=text("now()")))
        return node

    return make


def change(node, statement):
    with node.sessions.begin() as session:
        session.execute(statement)


def rows(node):
    with node.sessions() as session:
        return session.scalars(select(Notification).order_by(Notification.id)).all()


def pass_time(node):
    change(node, update(Notification).values(not_before=None))


def events(webhook):
    return [message["event"] for message in webhook.messages]


def test_a_held_job_is_told_once_without_a_word_of_the_patient(webhook, make_held):
    node = make_held(notify_url=webhook.url)
    assert [notify(node), notify(node)] == [1, 0]
    (message,) = webhook.messages
    assert (message["event"], message["study"], message["job"]) == ("held", 1, 1)
    assert (message["state"], message["reason_code"]) == ("held", "grade_failed")
    assert message.keys() == {
        *("notification", "message", "event", "study", "job", "destination"),
        *("state", "reason_code", "noted_at"),
    }
    assert not any(word in json.dumps(message) for word in ("P1", "Test^Patient", "1.2.3"))


def test_a_study_of_two_patients_is_told_once_and_its_jobs_are_not(webhook, make_node):
    node = make_node(notify_url=webhook.url)
    for patient in ("P1", "P2"):
        make_study(node.sessions, node.spool, 1, study="9.9", series="9.9.1", PatientID=patient)
    assert [notify(node), notify(node)] == [1, 0]
    assert webhook.messages[0]["reason_code"] == "study_held"
    assert (webhook.messages[0]["study"], webhook.messages[0]["job"]) == (1, None)


@pytest.mark.parametrize(("chosen", "told"), [({}, []), ({"notify_on": ["not_gradable"]}, ["not_gradable"])])
def test_what_is_told_is_chosen(webhook, make_held, chosen, told):
    notify(make_held(JobState.NOT_GRADABLE, notify_url=webhook.url, **chosen))
    assert events(webhook) == told


def test_what_is_old_is_not_told(webhook, make_held):
    node = make_held(notify_url=webhook.url)
    change(node, update(Job).values(ended_at=text("now() - interval '2 days'")))
    assert notify(node) == 0


def test_a_webhook_that_fails_is_told_later_and_the_mail_goes(webhook, make_held):
    mailbox = Mailbox()
    with mail_server(mailbox) as address:
        node = make_held(
            notify_url=webhook.url,
            notify_mail_to=("a@example.org", "b@example.org"),
            notify_mail_from="node@example.org",
            notify_smtp=address,
        )
        webhook.answer = 500
        assert notify(node) == 1
    ((sender, receivers, mail),) = mailbox.mails
    assert (sender, receivers) == ("node@example.org", ["a@example.org", "b@example.org"])
    assert "Subject: GLIOGRADE: a study waits for a person" in mail
    assert "reason_code: grade_failed" in mail
    assert "1.2.3" not in mail
    row = rows(node)[0]
    assert (row.channel, row.attempts, row.detail, row.told_at) == ("webhook", 1, "HTTP 500", None)
    assert notify(node) == 0
    assert rows(node)[0].attempts == 1
    webhook.answer = 204
    pass_time(node)
    assert notify(node) == 1
    assert events(webhook) == ["held"]


@pytest.mark.parametrize(
    ("authority", "offers_tls", "password", "detail", "logins"),
    [
        ("ours", True, "s3:cret", None, 1),
        ("ours", True, "old", "SMTPAuthenticationError", 1),
        ("another", True, "s3:cret", "SSLCertVerificationError", 0),
        ("ours", False, "s3:cret", "SMTPNotSupportedError", 0),
    ],
)
def test_a_password_goes_by_tls_to_the_server_of_our_authority_alone(
    make_held, tmp_path, authority, offers_tls, password, detail, logins
):
    authorities = {name: Authority(tmp_path, name) for name in ("ours", "another")}
    served = authorities[authority].issue("mail").files
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(served.certificate, served.key)
    (tmp_path / "login").write_text(f"node:{password}\n")
    mailbox = Mailbox()
    options = {"tls_context": tls, "require_starttls": True} if offers_tls else {"auth_require_tls": False}
    options |= {"authenticator": mailbox.authenticate, "auth_required": offers_tls}
    with mail_server(mailbox, **options) as address:
        node = make_held(
            notify_mail_to=("a@example.org",),
            notify_mail_from="node@example.org",
            notify_smtp=address,
            notify_smtp_starttls=True,
            notify_smtp_ca=authorities["ours"].path,
            notify_smtp_credentials_file=tmp_path / "login",
        )
        assert notify(node) == (detail is None)
    assert rows(node)[0].detail == detail
    # aiosmtpd asks its authenticator for each mechanism that the client tries
    assert set(mailbox.logins) == ({(True, "node", password)} if logins else set())
    assert len(mailbox.mails) == (detail is None)


@pytest.mark.slow
def test_beat_and_a_worker_tell_by_themselves(webhook, make_held, database_url, tmp_path):
    node = make_held()
    with embedded_redis_url(tmp_path / "redis") as redis_url, ExitStack() as stack:
        environment = os.environ | {
            "GLIOGRADE_DATABASE_URL": database_url,
            "GLIOGRADE_REDIS_URL": redis_url,
            "GLIOGRADE_DATA_FOLDER": str(node.settings.data_folder),
            "GLIOGRADE_NOTIFY_URL": webhook.url,
        }
        for arguments in (["beat", "--pidfile="], ["worker", "--pool", "solo", "--queues", "send"]):
            process = subprocess.Popen(
                [sys.executable, "-m", "celery", "--app", "worker", *arguments],
                env=environment,
                cwd=tmp_path,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
        wait_for(lambda: webhook.messages, "the message")
    assert events(webhook) == ["held"]


def test_servers_that_are_away_hold_nothing_up(make_held, caplog):
    node = make_held(
        notify_url="http://127.0.0.1:1/secret",
        notify_mail_to=("a@example.org",),
        notify_mail_from="node@example.org",
        notify_smtp="127.0.0.1:1",
    )
    assert notify(node) == 0
    assert [row.attempts for row in rows(node)] == [1, 1]
    assert "secret" not in caplog.text
    pass_time(node)
    assert notify(node) == 0
    with node.sessions() as session:
        delays = session.scalars(select(Notification.not_before - text("now()"))).all()
    assert all(5 < delay.total_seconds() <= 10 for delay in delays)


def test_one_message_tells_of_all_that_a_destination_refused(webhook, make_node):
    node = make_node(
        notify_url=webhook.url,
        destinations=({"name": "pacs", "ae_title": "PACS", "address": "127.0.0.1", "port": 104},),
    )
    job_id = job_to_deliver(node, make_object(), make_object())
    assert notify(node) == 0
    change(node, update(Delivery).values(state=DeliveryState.FAILED, failed_at=text("now()")))
    assert [notify(node), notify(node)] == [1, 0]
    (message,) = webhook.messages
    assert (message["event"], message["job"], message["destination"]) == ("delivery_failed", job_id, "pacs")


def test_a_destination_is_told_of_when_it_is_down_and_when_it_is_up_again(webhook, make_node):
    node = make_node(notify_url=webhook.url)
    with node.sessions.begin() as session:
        session.add(DestinationState(name="pacs", failing_since=text("now() - interval '20 minutes'")))
    assert notify(node) == 0
    long = update(DestinationState).values(failing_since=text("now() - interval '40 minutes'"))
    for _ in range(2):
        change(node, long)
        assert [notify(node), notify(node)] == [1, 0]
        change(node, update(DestinationState).values(failing_since=None))
        assert [notify(node), notify(node)] == [1, 0]
    assert events(webhook) == ["destination_down", "destination_up"] * 2
    assert {message["destination"] for message in webhook.messages} == {"pacs"}


def forget(node):
    with node.sessions.begin() as session:
        forget_told(session, node.settings)


def test_what_was_told_a_month_ago_is_forgotten_and_not_told_again(webhook, make_held):
    node = make_held(notify_url=webhook.url)
    notify(node)
    forget(node)
    assert len(rows(node)) == 1
    change(node, update(Notification).values(told_at=text("now() - interval '31 days'")))
    forget(node)
    # its job ended a moment ago: without the row it would be news
    assert len(rows(node)) == 1
    change(node, update(Job).values(ended_at=text("now() - interval '31 days'")))
    take_census(node)
    assert rows(node) == []
    assert notify(node) == 0
    assert events(webhook) == ["held"]


def test_a_destination_that_stays_down_is_not_forgotten_and_its_recovery_goes_with_it(webhook, make_node):
    node = make_node(notify_url=webhook.url)
    with node.sessions.begin() as session:
        session.add(DestinationState(name="pacs", failing_since=text("now() - interval '40 days'")))
    notify(node)
    old = update(Notification).values(told_at=text("now() - interval '31 days'"))
    change(node, old)
    forget(node)
    assert notify(node) == 0
    change(node, update(DestinationState).values(failing_since=None))
    notify(node)
    change(node, old)
    for _ in range(2):
        forget(node)
        assert notify(node) == 0
    assert rows(node) == []
    assert events(webhook) == ["destination_down", "destination_up"]


def test_what_could_not_be_told_is_kept(make_held):
    node = make_held(notify_url="http://127.0.0.1:1/")
    notify(node)
    old = text("now() - interval '31 days'")
    change(node, update(Notification).values(created_at=old))
    change(node, update(Job).values(ended_at=old))
    forget(node)
    assert len(rows(node)) == 1


def test_the_doctor_tells_what_could_not_be_told(make_held, engine):
    node = make_held(notify_url="http://127.0.0.1:1/")
    notify(node)
    change(node, update(Notification).values(created_at=text("now() - interval '2 hours'")))
    finding = {item.check: item for item in examine_ledger(engine, node.settings)}["notifications"]
    assert finding.detail.startswith("1 could not be told for more than an hour: ")


def test_without_settings_nothing_is_noted(make_held):
    node = make_held()
    assert notify(node) == 0
    assert rows(node) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"notify_url": "ftp://host"},
        {"notify_mail_to": ("a@example.org",)},
        {"notify_smtp": "host"},
        {"notify_smtp_credentials_file": "/file"},
    ],
)
def test_settings_that_tell_nobody_are_refused(settings):
    with pytest.raises(ValidationError):
        Settings(**settings)
