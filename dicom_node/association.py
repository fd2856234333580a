"""What both ends of an association share: SOP classes, transfer syntaxes, and how pynetdicom is set."""

import contextlib
import socket
from functools import partial
from typing import Final

from pydicom.uid import (
    JPEG2000,
    UID,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
    RLELossless,
)
from pynetdicom import (
    _config,  # pynetdicom documents this module as its place for options
    evt,
)
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE

MR_STORAGE_CLASSES: Final[tuple[UID, ...]] = (
    MRImageStorage,
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
)
"""Storage SOP classes a grade can be computed from (PS3.4 B.5)."""

RECEIVED_TRANSFER_SYNTAXES: Final[tuple[UID, ...]] = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    JPEG2000Lossless,
    JPEG2000,
)
"""What we can decode. Deflated is left out as it inflates without limit, Big Endian as it is retired."""

MESSAGE_TRANSFER_SYNTAXES: Final[tuple[UID, ...]] = (ImplicitVRLittleEndian, ExplicitVRLittleEndian)
"""For services that move no objects; pynetdicom's default holds Deflated and Big Endian too."""

MAXIMUM_PDU_BYTES: Final = 131_072


def configure_pynetdicom() -> None:
    """Keep identifiers out of pynetdicom's log and make it send a file's own bytes.

    pynetdicom knows these options only as module globals; calling this again changes nothing.
    """
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    _config.STORE_SEND_CHUNKED_DATASET = True


def disable_nagle(event: evt.Event) -> None:
    """Send each PDU at once: Nagle's algorithm against delayed acknowledgement costs 40 ms an object."""
    connection = _connection(event)
    if connection is not None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def acknowledge_quickly(event: evt.Event) -> None:
    """Acknowledge what arrived at once, for peers that have left Nagle's algorithm on.

    Linux clears the option by itself, so it is set again after each read.
    """
    connection = _connection(event)
    if connection is not None and hasattr(socket, "TCP_QUICKACK"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def close_when_cut(event: evt.Event) -> None:
    """Handle EVT_CONN_OPEN: close the socket also where the peer has cut the connection.

    pynetdicom gives up when it can't shut such a connection down, and leaves it open.
    """
    wrapper = event.assoc.dul.socket
    if wrapper is None or wrapper.socket is None:
        return
    close = partial(close_connection, wrapper.socket)
    setattr(wrapper, "_shutdown_socket", close)  # noqa: B010 (a method can't be assigned for mypy)


def close_connection(connection: socket.socket) -> None:
    """Shut down and close, also where the peer has cut the connection."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def answer_to_request(association: Association) -> A_ASSOCIATE | None:
    """What the peer answered to our association request; None where it gave no answer.

    pynetdicom takes a rejection that comes at once for a connection that failed, and leaves it unread.
    """
    unread = association.dul.peek_next_pdu()
    return unread if isinstance(unread, A_ASSOCIATE) else association.acceptor.primitive


def _connection(event: evt.Event) -> socket.socket | None:
    wrapper = event.assoc.dul.socket
    return None if wrapper is None else wrapper.socket
