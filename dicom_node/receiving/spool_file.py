"""One file of the spool: preamble, file meta information of a fixed length, the data set as received.

The sidecar (who sent the object, to whom, when, and the identity of its bytes) is JSON in Private Information
(0002,0102), which PS3.10 table 7.1-1 leaves to whoever names himself in Private Information Creator UID.
Blanks pad it, so that the data set begins at `HEAD_BYTES` and can be written before its head is known.
"""

import struct
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Final, Self

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass as validated_dataclass

from dicom_node.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, derive_uid

HEAD_BYTES: Final = 2048
_SIDECAR_CREATOR_UID: Final = derive_uid("gliograde", "sidecar of a spool file")
_PREAMBLE: Final = bytes(128) + b"DICM"
_SIDECAR_TAG: Final = struct.pack("<HH2sH", 0x0002, 0x0102, b"OB", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reception:
    """What one object says it is, and who sent it. Every text in it came over the network."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    study_instance_uid: str
    series_instance_uid: str
    calling_ae_title: str
    called_ae_title: str
    peer_address: str
    association_id: str
    received_at: datetime
    certificate_sha256: str | None = None


@validated_dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid"))
class SpoolEntry(Reception):
    """One object in the spool: a `Reception` with the identity of its bytes.

    `sha256` is that of the data set as it came over the network and `size` its length in bytes,
    both without preamble and file meta information.
    """

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int = Field(ge=0)

    @classmethod
    def of(cls, reception: Reception, sha256: str, size: int) -> Self:
        """Join what was said of an object with what its bytes are."""
        # dataclasses.asdict copies every value deeply, which was a tenth of the time of a reception
        said = {name: getattr(reception, name) for name in _RECEPTION_FIELDS}
        return cls(**said, sha256=sha256, size=size)


_RECEPTION_FIELDS: Final = tuple(field.name for field in fields(Reception))
_SIDECAR: Final = TypeAdapter(SpoolEntry)


def build_head(entry: SpoolEntry) -> bytes:
    """Preamble, prefix and file meta information (PS3.10 7.1) of an object, `HEAD_BYTES` in all."""
    elements = b"".join(
        (
            struct.pack("<HH2sHL2s", 0x0002, 0x0001, b"OB", 0, 2, b"\0\1"),
            _short(0x0002, b"UI", entry.sop_class_uid),
            _short(0x0003, b"UI", entry.sop_instance_uid),
            _short(0x0010, b"UI", entry.transfer_syntax_uid),
            _short(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
            _short(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
            _short(0x0100, b"UI", _SIDECAR_CREATOR_UID),
        )
    )
    room = HEAD_BYTES - len(_PREAMBLE) - 12 - len(elements) - len(_SIDECAR_TAG) - 4
    sidecar = _SIDECAR.dump_json(entry)
    # An AE title has 16 characters and a UID 64: only an entry that never came over a network could be
    # longer.
    if len(sidecar) > room:
        raise ValueError("a sidecar longer than any that comes over the network")
    length = struct.pack("<HH2sHL", 0x0002, 0x0000, b"UL", 4, HEAD_BYTES - len(_PREAMBLE) - 12)
    return b"".join((_PREAMBLE, length, elements, _SIDECAR_TAG, struct.pack("<L", room), sidecar.ljust(room)))


def read_entry(path: Path) -> SpoolEntry:
    """Read the sidecar of a spool file. Raises FileNotFoundError, or pydantic's ValidationError."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    return _SIDECAR.validate_json(head.partition(_SIDECAR_TAG)[2][4:])


def _short(element: int, vr: bytes, value: str) -> bytes:
    text = value.encode("ascii", errors="replace")
    text += b"\0" if len(text) % 2 and vr == b"UI" else b" " * (len(text) % 2)
    return struct.pack("<HH2sH", 0x0002, element, vr, len(text)) + text
