"""DICOM over TLS: 1.2 or newer, both ends with a certificate of the site's authority (PS3.15 B.12)."""

import hashlib
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ConfigDict

_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2; those of 1.3 are all right as they are."""


class TlsError(Exception):
    """A certificate, key or authority can't be used. Trying again helps after the files have been mended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files: our certificate with its chain, its private key unencrypted, and the authority of peers."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    certificate: Path
    key: Path
    authority: Path


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """Make the context of our Storage SCP: no peer without a certificate. Raises `TlsError`."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, files)
    context.verify_mode = ssl.CERT_REQUIRED
    # A resumed session would skip the look at the peer's certificate, which may have ended meanwhile.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    return context


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """Make a context to send with; the peer's certificate must name the host. Raises `TlsError`."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, files)


def web_context(authority: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """Make a context for HTTPS: the server's certificate must name the host. Raises `TlsError`.

    Without `authority` the system's authorities are trusted; `certificate` with `key` is shown if asked for.
    """
    for path in (authority, certificate, key):
        if path is not None:
            _check_readable(path)
    try:
        context = ssl.create_default_context(cafile=authority)
    except (ssl.SSLError, ValueError) as error:
        raise TlsError(f"no certificate authority: {authority}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is not None and key is not None:
        _load_own(context, certificate, key)
    return context


def fingerprint(certificate: bytes) -> str:
    """SHA-256 of a DER certificate in lower-case hex, as `openssl x509 -fingerprint -sha256` has it."""
    return hashlib.sha256(certificate).hexdigest()


def _context(protocol: int, files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_ciphers(_CIPHERS)
    for path in (files.certificate, files.key, files.authority):
        _check_readable(path)
    _load_own(context, files.certificate, files.key)
    try:
        context.load_verify_locations(files.authority)
    except (ssl.SSLError, ValueError) as error:
        raise TlsError(f"no certificate authority: {files.authority}") from error
    if not context.get_ca_certs():
        raise TlsError(f"no certificate authority: {files.authority}")
    return context


def _load_own(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    try:
        # With an empty password an encrypted key is an error; with none, a question on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, ValueError) as error:
        raise TlsError(f"no certificate and matching key: {certificate}, {key}") from error


def _check_readable(path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise TlsError(f"can't be read ({error.strerror}): {path}") from error
