"""A message to a person, by webhook or by mail."""

import smtplib
import ssl
from collections.abc import Mapping
from email.message import EmailMessage
from typing import Final

import urllib3

from worker.settings import Settings

TIMEOUT_S: Final = 10.0

Message = Mapping[str, str | int | None]


class TellingError(Exception):
    """It could not be told. Trying again may help; the message names no address."""


def tell_by_webhook(settings: Settings, message: Message) -> None:
    """POST a message as JSON; raises TellingError unless the answer is 2xx."""
    assert settings.notify_url is not None
    with urllib3.PoolManager(timeout=urllib3.Timeout(TIMEOUT_S), retries=False) as pool:
        try:
            answer = pool.request("POST", settings.notify_url.get_secret_value(), json=dict(message))
        except urllib3.exceptions.HTTPError as error:
            raise TellingError(type(error).__name__) from error
    if not 200 <= answer.status < 300:
        raise TellingError(f"HTTP {answer.status}")


def tell_by_mail(settings: Settings, message: Message) -> None:
    """Send a message as plain text; raises TellingError."""
    assert settings.notify_smtp is not None
    assert settings.notify_mail_from is not None
    mail = EmailMessage()
    mail["Subject"] = f"{settings.ae_title}: {message['message']}"
    mail["From"] = settings.notify_mail_from
    mail["To"] = ", ".join(settings.notify_mail_to)
    mail.set_content("\n".join(f"{name}: {value}" for name, value in message.items() if value is not None))
    host, _, port = settings.notify_smtp.rpartition(":")
    try:
        with smtplib.SMTP(host, int(port), timeout=TIMEOUT_S) as server:
            if settings.notify_smtp_starttls:
                server.starttls(context=ssl.create_default_context(cafile=settings.notify_smtp_ca))
            if settings.notify_smtp_credentials_file is not None:
                user, _, password = settings.notify_smtp_credentials_file.read_text().strip().partition(":")
                server.login(user, password)
            server.send_message(mail)
    except (OSError, UnicodeError) as error:  # smtplib's own are OSErrors
        raise TellingError(type(error).__name__) from error
