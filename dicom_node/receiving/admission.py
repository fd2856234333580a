"""Who may associate: the allow-list, and the answers to those who may not (PS3.8 9.3.4)."""

import struct
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv6Address, ip_address
from typing import Final, Protocol

from dicom_node.settings import AllowedPeer

_ASSOCIATE_REQUEST: Final = struct.Struct(">BxLHxx16s16s")
"""The head of an A-ASSOCIATE-RQ PDU: type, length, protocol version, called and calling AE title."""


class Refusal(StrEnum):
    """Why a connection is turned away."""

    ADDRESS = "address not in the allow-list"
    CROWDED = "too many connections that ask for nothing"
    TOO_LATE = "no whole association request in time"
    HANDSHAKE = "TLS handshake failed"
    NO_REQUEST = "not an association request"
    CALLING_AE_TITLE = "no row of the allow-list"
    CALLED_AE_TITLE = "called AE title is not ours"
    LOCAL_LIMIT = "too many associations"


_ANSWERS: Final[Mapping[Refusal, tuple[int, int, int]]] = {
    Refusal.CALLING_AE_TITLE: (0x01, 0x01, 0x03),
    Refusal.CALLED_AE_TITLE: (0x01, 0x01, 0x07),
    Refusal.LOCAL_LIMIT: (0x02, 0x03, 0x02),
}
"""A-ASSOCIATE-RJ result, source and reason (PS3.8 table 9-21); the others get a closed connection."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks for an association. The AE titles came over the network; the fingerprint is proven.

    `certificate_sha256` is None without TLS.
    """

    calling_ae_title: str
    called_ae_title: str
    address: str
    certificate_sha256: str | None


@dataclass(frozen=True, slots=True)
class Limits:
    """Associations at a time, in all and for one AE title at one address."""

    associations: int
    associations_per_peer: int


class AllowList:
    """The rows of AE title, address and certificate that may associate with us."""

    def __init__(self, peers: Sequence[AllowedPeer], ae_title: str, limits: Limits) -> None:
        self._peers = tuple(peers)
        self._ae_title = ae_title.strip()
        self._limits = limits

    def knows(self, address: str) -> bool:
        """Whether any row is for this address."""
        return any(_is_at(peer, address) for peer in self._peers)

    def refusal(self, caller: Caller, present: Sequence[Caller]) -> Refusal | None:
        """Why a caller is turned away, or None; `present` are those that have an association now."""
        if not any(_matches(peer, caller) for peer in self._peers):
            return Refusal.CALLING_AE_TITLE
        if caller.called_ae_title != self._ae_title:
            return Refusal.CALLED_AE_TITLE
        name = (caller.calling_ae_title, caller.address)
        own = sum((other.calling_ae_title, other.address) == name for other in present)
        if len(present) >= self._limits.associations or own >= self._limits.associations_per_peer:
            return Refusal.LOCAL_LIMIT
        return None


class Gate(Protocol):
    """Knows who is in. Every `admit` that lets a caller in is followed by one `leave`."""

    def admit(self, caller: Caller) -> Refusal | None:
        """Let a caller in, or say why not."""

    def leave(self, caller: Caller) -> None:
        """Note that a caller's association has ended; from any thread."""


class LocalGate:
    """The gate of a process that receives alone."""

    def __init__(self, allow_list: AllowList) -> None:
        self._allow_list = allow_list
        self._present: list[Caller] = []
        self._lock = threading.Lock()

    def admit(self, caller: Caller) -> Refusal | None:
        """Let a caller in, or say why not."""
        with self._lock:
            refusal = self._allow_list.refusal(caller, self._present)
            if refusal is None:
                self._present.append(caller)
        return refusal

    def leave(self, caller: Caller) -> None:
        """Note that a caller's association has ended."""
        with self._lock:
            self._present.remove(caller)


def parse_caller(request: bytes, address: str, certificate_sha256: str | None) -> Caller:
    """Read who asks from an A-ASSOCIATE-RQ PDU (PS3.8 table 9-11); at least 42 bytes of it."""
    _type, _length, _version, called, calling = _ASSOCIATE_REQUEST.unpack_from(request)
    return Caller(_text(calling), _text(called), address, certificate_sha256)


def rejection(refusal: Refusal) -> bytes:
    """Encode an A-ASSOCIATE-RJ PDU (PS3.8 table 9-21); empty where none is sent."""
    answer = _ANSWERS.get(refusal)
    return b"" if answer is None else struct.pack(">BxLx3B", 0x03, 4, *answer)


def _matches(peer: AllowedPeer, caller: Caller) -> bool:
    return (
        peer.ae_title.strip() == caller.calling_ae_title
        and _is_at(peer, caller.address)
        and peer.certificate_sha256 in {None, caller.certificate_sha256}
    )


def _is_at(peer: AllowedPeer, address: str) -> bool:
    found = ip_address(address.partition("%")[0])
    # What listens on :: sees callers of the older protocol as ::ffff:192.0.2.1.
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return found in peer.network


def _text(ae_title: bytes) -> str:
    return ae_title.decode("ascii", errors="replace").strip("\0 ")
