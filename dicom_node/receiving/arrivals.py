"""A connection before its association: TLS handshake and A-ASSOCIATE-RQ, without blocking or a thread."""

import selectors
import socket
import ssl
import struct
import time
from datetime import timedelta
from typing import Final

from dicom_node.receiving.admission import Refusal
from dicom_node.tls import fingerprint

MAXIMUM_REQUEST_BYTES: Final = 131_072
"""An A-ASSOCIATE-RQ with all 128 presentation contexts and 30 transfer syntaxes in each has 120,000."""

_MINIMUM_REQUEST_BYTES: Final = 68
_PDU_HEAD: Final = struct.Struct(">BxL")
_ASSOCIATE_REQUEST: Final = 0x01


class ArrivalError(Exception):
    """A connection came to nothing; `refusal` is None where the peer left by itself, as health checks do.

    The peer may try again.
    """

    def __init__(self, refusal: Refusal | None) -> None:
        super().__init__(refusal)
        self.refusal = refusal


class Arrival:
    """One accepted connection. Raises OSError where the peer has gone already."""

    def __init__(
        self,
        connection: socket.socket,
        address: tuple[str, int],
        timeout: timedelta,
        context: ssl.SSLContext | None,
    ) -> None:
        connection.setblocking(False)
        if context is not None:
            connection = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        self.connection = connection
        self.address = address
        self.deadline = time.monotonic() + timeout.total_seconds()
        self.request = bytearray()
        self._wanted = _PDU_HEAD.size
        self._shaken = context is None

    @property
    def certificate_sha256(self) -> str | None:
        """Fingerprint of the peer's certificate; None without TLS."""
        if not isinstance(self.connection, ssl.SSLSocket):
            return None
        certificate = self.connection.getpeercert(binary_form=True)
        return None if certificate is None else fingerprint(certificate)

    def advance(self) -> int:
        """Go on as far as the peer has come.

        Returns what to wait for, `EVENT_READ` or `EVENT_WRITE`, or 0 when `request` is whole. Never reads
        behind the request. Raises `ArrivalError`.
        """
        try:
            self._shake_hands()
            while len(self.request) < self._wanted:
                received = self.connection.recv(self._wanted - len(self.request))
                if not received:
                    raise ArrivalError(Refusal.NO_REQUEST if self.request else None)
                self.request += received
                if len(self.request) == _PDU_HEAD.size:
                    self._wanted += self._request_length()
        except ssl.SSLWantWriteError:
            return selectors.EVENT_WRITE
        except (BlockingIOError, ssl.SSLWantReadError):
            return selectors.EVENT_READ
        except OSError as error:
            failed = self._shaken or isinstance(error, ConnectionError | ssl.SSLEOFError)
            raise ArrivalError(None if failed else Refusal.HANDSHAKE) from error
        return 0

    def _shake_hands(self) -> None:
        if not self._shaken:
            assert isinstance(self.connection, ssl.SSLSocket)
            self.connection.do_handshake()
            self._shaken = True

    def _request_length(self) -> int:
        pdu_type, length = _PDU_HEAD.unpack(self.request)
        if pdu_type != _ASSOCIATE_REQUEST or not _MINIMUM_REQUEST_BYTES <= length <= MAXIMUM_REQUEST_BYTES:
            raise ArrivalError(Refusal.NO_REQUEST)
        return int(length)
