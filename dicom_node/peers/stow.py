"""Sending by DICOMweb: STOW-RS to store, QIDO-RS to ask whether an object arrived (PS3.18 10.5, 10.6).

One object a request, over one kept connection, so that an answer or a lost one speaks of one object, as with
C-STORE. The file goes out as it lies on the disk, streamed. Nothing is redirected, no proxy is taken from the
environment.
"""

import json
import ssl
import uuid
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

import urllib3
from pydantic import ConfigDict
from pydicom import dcmread

from dicom_node.peers.scu import (
    CONNECTION_TIMEOUT,
    RESPONSE_TIMEOUT,
    AssociationError,
    InstanceKey,
    ScuError,
    SendOutcome,
    Sent,
)
from dicom_node.results.result_kind import DEFAULT_KINDS, ResultKind, check_kinds
from dicom_node.tls import TlsError, web_context

_CHUNK_BYTES: Final = 1 << 20
_LONGEST_ANSWER_BYTES: Final = 4 << 20
_FAILED_SOP_SEQUENCE, _FAILURE_REASON = "00081198", "00081197"
_REFERENCED_SOP_SEQUENCE, _WARNING_REASON = "00081199", "00081196"
_SOP_INSTANCE_UID = "00080018"
_SOP_CLASS_NOT_SUPPORTED: Final = 0x0122

# What an answer says of the service, not of the object: nothing else would get through either
BUSY_STATUSES: Final = frozenset({408, 429, 503})
WRONG_SETTING_STATUSES: Final = frozenset({*range(300, 400), 401, 403, 404, 405, 406, 407, 410, 501})
# What it says of the object
REFUSED_OBJECT_STATUSES: Final = frozenset({400, 411, 413, 422})


@dataclass(frozen=True, slots=True, kw_only=True)
class WebDestination:
    """A DICOMweb server that we send to; `url` is what stands before "/studies".

    `authority`: who must have signed the server's certificate (PEM), the system's authorities by default;
    `certificate` and `key`: ours, where the server asks for one. `bearer_token_file` or
    `basic_credentials_file` ("user:password") is read anew for each study. The others as in
    `scu.Destination`; `calling_ae_title` names us in the audit trail alone.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    url: str
    calling_ae_title: str = "GLIOGRADE"
    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    bearer_token_file: Path | None = None
    basic_credentials_file: Path | None = None
    verify_by_query: bool = True
    response_timeout: timedelta = RESPONSE_TIMEOUT
    objects: tuple[ResultKind, ...] = DEFAULT_KINDS
    storage_commitment: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_kinds(self.objects)
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("a DICOMweb URL is http(s)://host[:port]/path, without a query")
        if parts.username is not None:
            raise ValueError("credentials belong into a file, not into the URL")
        if (self.certificate is None) != (self.key is None):
            raise ValueError("our certificate and its key go together")
        secrets = [path for path in (self.bearer_token_file, self.basic_credentials_file) if path]
        if len(secrets) > 1:
            raise ValueError("a bearer token or basic credentials, not both")
        if secrets and parts.scheme == "http" and not _is_loopback(parts.hostname):
            raise ValueError("credentials are not sent over plain http: use https")

    @property
    def label(self) -> str:
        """How the audit trail names it."""
        return self.name

    @property
    def place(self) -> str:
        """Where it is, for a person."""
        return self.url

    @property
    def uses_tls(self) -> bool:
        """Whether what is sent is encrypted."""
        return self.url.startswith("https:")


def store(files: Sequence[Path], destination: WebDestination) -> Iterator[SendOutcome]:
    """Send DICOM files byte for byte by STOW-RS, in order; yields as the server answers.

    Raises `AssociationError` before the first outcome where the service isn't reached or takes nothing,
    pydicom's InvalidDicomError where a file is no DICOM.
    """
    with _connected(destination) as (pool, headers):
        ended = answered = False
        for path in files:
            uid = str(dcmread(path, specific_tags=["SOPInstanceUID"], stop_before_pixels=True).SOPInstanceUID)
            if not ended:
                try:
                    outcome = _store_one(pool, headers, destination, path, uid)
                except AssociationError:
                    if not answered:
                        raise
                    ended = True
                else:
                    answered = True
                    ended = outcome.outcome is Sent.UNKNOWN
                    yield outcome
                    continue
            yield SendOutcome(path, uid, Sent.NOT_SENT)


def find_stored(destination: WebDestination, wanted: Iterable[InstanceKey]) -> frozenset[str]:
    """SOP Instance UIDs of those that the server says it holds: QIDO-RS, one query a series.

    An answer cut short by the server's own limit names fewer, and those are sent again. Raises
    `AssociationError`, or `ScuError` where the server can't say.
    """
    keys = set(wanted)
    found: set[str] = set()
    with _connected(destination) as (pool, headers):
        for study, series in sorted({(key.study_instance_uid, key.series_instance_uid) for key in keys}):
            path = f"studies/{study}/series/{series}/instances?includefield={_SOP_INSTANCE_UID}"
            answer = _ask(pool, headers, destination, path)
            found |= {str(uid) for item in _items(answer) for uid in _values(item, _SOP_INSTANCE_UID)}
    return frozenset(found & {key.sop_instance_uid for key in keys})


def ask_anything(destination: WebDestination) -> None:
    """See whether the service answers a query, by one that finds nobody; errors as `find_stored`."""
    with _connected(destination) as (pool, headers):
        _ask(pool, headers, destination, "studies?StudyInstanceUID=2.25.0&limit=1")


def _store_one(
    pool: urllib3.PoolManager,
    headers: Mapping[str, str],
    destination: WebDestination,
    path: Path,
    sop_instance_uid: str,
) -> SendOutcome:
    boundary = uuid.uuid4().hex
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    tail = f"\r\n--{boundary}--\r\n".encode()
    content_type = f'multipart/related; type="application/dicom"; boundary={boundary}'
    length = len(head) + path.stat().st_size + len(tail)
    try:
        status, answer = _request(
            pool,
            "POST",
            f"{destination.url.rstrip('/')}/studies",
            {**headers, "Content-Type": content_type, "Content-Length": str(length)},
            _stream(head, path, tail),
        )
    except urllib3.exceptions.HTTPError as error:
        _raise_unreached(destination, error)
        return SendOutcome(path, sop_instance_uid, Sent.UNKNOWN)
    _raise_of_service(destination, status)
    outcome, reason = _judge(status, answer)
    return SendOutcome(path, sop_instance_uid, outcome, reason, status)


def _judge(status: int, answer: bytes) -> tuple[Sent, int | None]:
    """What became of the one object of a request, and its failure or warning reason (PS3.18 10.5.3)."""
    if status == 415:
        return Sent.NOT_ACCEPTED, None
    if status in REFUSED_OBJECT_STATUSES:
        return Sent.REFUSED, None
    if status not in (200, 202, 409):
        return Sent.UNKNOWN, None
    (said, *_) = [*_items(_parsed(answer)), {}]
    for failed in _values(said, _FAILED_SOP_SEQUENCE):
        reason = _number(failed, _FAILURE_REASON)
        return (Sent.NOT_ACCEPTED, None) if reason == _SOP_CLASS_NOT_SUPPORTED else (Sent.REFUSED, reason)
    for stored in _values(said, _REFERENCED_SOP_SEQUENCE):
        warning = _number(stored, _WARNING_REASON)
        return (Sent.SENT_WARNING, warning) if warning else (Sent.SENT, 0x0000)
    # Not named: 200 says that all was stored, 409 that nothing was, and 202 leaves it open
    return {200: (Sent.SENT, 0x0000), 409: (Sent.REFUSED, None)}.get(status, (Sent.UNKNOWN, None))


def _ask(
    pool: urllib3.PoolManager, headers: Mapping[str, str], destination: WebDestination, path: str
) -> Any:  # noqa: ANN401 - JSON
    try:
        status, answer = _request(pool, "GET", f"{destination.url.rstrip('/')}/{path}", headers, None)
    except urllib3.exceptions.HTTPError as error:
        _raise_unreached(destination, error)
        raise ScuError(f"{destination.name} cut the line during a query") from error
    if status in (204, 404) and "/instances" in path:
        return []
    if status in (401, 403):
        _raise_of_service(destination, status)
    if status not in (200, 204):
        raise ScuError(f"{destination.name} answers a query with HTTP {status}")
    return _parsed(answer)


@contextmanager
def _connected(destination: WebDestination) -> Iterator[tuple[urllib3.PoolManager, Mapping[str, str]]]:
    context: ssl.SSLContext | None = None
    try:
        if destination.uses_tls:
            context = web_context(destination.authority, destination.certificate, destination.key)
        headers = {"Accept": "application/dicom+json", **_authorization(destination)}
    except (TlsError, OSError, UnicodeError) as error:
        words = f"TLS: {error}" if isinstance(error, TlsError) else "its credentials can't be read"
        raise AssociationError(f"{destination.name}: {words}", transient=False) from error
    timeout = urllib3.Timeout(
        connect=CONNECTION_TIMEOUT.total_seconds(), read=destination.response_timeout.total_seconds()
    )
    with urllib3.PoolManager(ssl_context=context, timeout=timeout, retries=False) as pool:
        yield pool, headers


def _authorization(destination: WebDestination) -> dict[str, str]:
    if destination.bearer_token_file is not None:
        return {"Authorization": f"Bearer {destination.bearer_token_file.read_text().strip()}"}
    if destination.basic_credentials_file is not None:
        credentials = destination.basic_credentials_file.read_text().strip()
        return {"Authorization": f"Basic {b64encode(credentials.encode()).decode()}"}
    return {}


def _request(
    pool: urllib3.PoolManager,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: Iterator[bytes] | None,
) -> tuple[int, bytes]:
    response = pool.request(method, url, body=body, headers=headers, redirect=False, preload_content=False)
    try:
        answer = response.read(_LONGEST_ANSWER_BYTES)
        response.drain_conn()
    finally:
        response.release_conn()
    return response.status, answer


def _stream(head: bytes, path: Path, tail: bytes) -> Iterator[bytes]:
    yield head
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
    yield tail


def _raise_unreached(destination: WebDestination, error: urllib3.exceptions.HTTPError) -> None:
    """Raise where the request can't have begun; else whatever was sent may have arrived."""
    if isinstance(error, urllib3.exceptions.SSLError):
        raise AssociationError(f"{destination.name}: TLS can't be agreed on", transient=False) from error
    if isinstance(error, (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)):
        raise AssociationError(f"{destination.name} is not reached", transient=True) from error


def _raise_of_service(destination: WebDestination, status: int) -> None:
    if status in BUSY_STATUSES:
        raise AssociationError(f"{destination.name} answers HTTP {status}", transient=True)
    if status in WRONG_SETTING_STATUSES:
        raise AssociationError(f"{destination.name} answers HTTP {status}", transient=False)


def _parsed(answer: bytes) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(answer) if answer else []
    except ValueError:
        return []


def _items(answer: Any) -> list[Any]:  # noqa: ANN401 - JSON
    """Data sets of an answer in the DICOM JSON model; some servers leave out the list around a single one."""
    return answer if isinstance(answer, list) else [answer]


def _values(dataset: Any, tag: str) -> list[Any]:  # noqa: ANN401 - JSON
    element = dataset.get(tag) if isinstance(dataset, dict) else None
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def _number(dataset: Any, tag: str) -> int | None:  # noqa: ANN401 - JSON
    return next((value for value in _values(dataset, tag) if isinstance(value, int)), None)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
