"""C-STORE requests and responses as bytes: command sets (PS3.7 9.3.1), always Implicit VR Little Endian."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_CLASS_UID, _FIELD, _MESSAGE_ID, _RESPONDED_TO = 0x0002, 0x0100, 0x0110, 0x0120
_DATASET_TYPE, _STATUS, _INSTANCE_UID = 0x0800, 0x0900, 0x1000
_STORE_REQUEST, _STORE_RESPONSE, _NO_DATASET = 0x0001, 0x8001, 0x0101
_ELEMENT: Final = struct.Struct("<HHL")
_PDV_HEAD: Final = struct.Struct(">BxLLBB")
_COMMAND_AND_LAST: Final = 0x03


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """A C-STORE request whose data set is yet to come; the UIDs are as they came over the network."""

    context_id: int
    message_id: int
    class_uid: bytes
    instance_uid: bytes

    @property
    def sop_class_uid(self) -> str:
        """Affected SOP Class UID."""
        return _text(self.class_uid)

    @property
    def sop_instance_uid(self) -> str:
        """Affected SOP Instance UID."""
        return _text(self.instance_uid)

    def response(self, status: int) -> bytes:
        """Encode the response as a P-DATA-TF PDU of one fragment (PS3.8 9.3.5)."""
        body = b"".join(
            (
                _element(_CLASS_UID, self.class_uid),
                _number(_FIELD, _STORE_RESPONSE),
                _number(_RESPONDED_TO, self.message_id),
                _number(_DATASET_TYPE, _NO_DATASET),
                _number(_STATUS, status),
                _element(_INSTANCE_UID, self.instance_uid),
            )
        )
        length = len(body) + 12  # the group length element comes first
        head = _PDV_HEAD.pack(0x04, length + 6, length + 2, self.context_id, _COMMAND_AND_LAST)
        return b"".join((head, _element(0x0000, struct.pack("<L", len(body))), body))


def parse_store_request(context_id: int, command: bytes) -> StoreRequest | None:
    """Read a command set; None where it is another message, or none that announces a data set."""
    found = dict(_elements(command))
    try:
        field, message_id, dataset_type = (
            int.from_bytes(found[number], "little") for number in (_FIELD, _MESSAGE_ID, _DATASET_TYPE)
        )
        if field != _STORE_REQUEST or dataset_type == _NO_DATASET or message_id > 0xFFFF:
            return None
        return StoreRequest(context_id, message_id, found[_CLASS_UID], found[_INSTANCE_UID])
    except KeyError:
        return None


def _elements(command: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + _ELEMENT.size <= len(command):
        group, number, length = _ELEMENT.unpack_from(command, position)
        position += _ELEMENT.size
        if group != 0 or position + length > len(command):
            return
        yield number, command[position : position + length]
        position += length


def _element(number: int, value: bytes) -> bytes:
    return _ELEMENT.pack(0, number, len(value)) + value


def _number(number: int, value: int) -> bytes:
    return struct.pack("<HHLH", 0, number, 2, value)


def _text(uid: bytes) -> str:
    return uid.rstrip(b"\0 ").decode("ascii", errors="replace")
