"""What must be true of a data set before we take it, found in one pass over its element headers.

The pass looks at tags, VRs and lengths (PS3.5 7.1, 7.5, A.4) and at nine values; it decodes nothing else and
copies nothing, so it may run over a mapped file of any size. It is our own because pydicom leaves nested
sequences unchecked (and later overflows its stack on them), and is four times slower on a usual header.
"""

import mmap
import re
from dataclasses import dataclass
from typing import Final

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.association import MR_STORAGE_CLASSES
from dicom_node.receiving.elements import ElementError, ElementWalk, Pixels
from dicom_node.receiving.store_status import RefusedError, StoreStatus

MAXIMUM_HEADER_BYTES: Final = 64 * 1024 * 1024
"""All of a data set but its pixel data; a 2000-frame enhanced MR has about 10 MB."""

MAXIMUM_PIXEL_BYTES: Final = 4 * 1024 * 1024 * 1024
"""Decoded: a compressed object that claims more would take a worker's memory, not a scanner's time."""

_UID_TAGS: Final = {
    "SOPClassUID": 0x00080016,
    "SOPInstanceUID": 0x00080018,
    "StudyInstanceUID": 0x0020000D,
    "SeriesInstanceUID": 0x0020000E,
}
_SAMPLES_PER_PIXEL: Final = 0x00280002
_NUMBER_OF_FRAMES: Final = 0x00280008
_ROWS: Final = 0x00280010
_COLUMNS: Final = 0x00280011
_BITS_ALLOCATED: Final = 0x00280100
_READ_TAGS: Final = frozenset(
    {*_UID_TAGS.values(), _SAMPLES_PER_PIXEL, _NUMBER_OF_FRAMES, _ROWS, _COLUMNS, _BITS_ALLOCATED}
)
_UID: Final = re.compile(rb"[0-9]+(\.[0-9]+)*")  # leading zeros are illegal but met; a UID never is a path
_FRAMES: Final = re.compile(rb"\+?[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class ObjectHeader:
    """What an object is filed under: dotted numbers of at most 64 characters, nothing else."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str


def read_header(data: bytes | bytearray | memoryview | mmap.mmap, transfer_syntax_uid: str) -> ObjectHeader:
    """Read a data set's UIDs, having checked that it is whole.

    `data` is a data set as it came over the network, in a transfer syntax that is neither big endian nor
    deflated. Raises `RefusedError` (0xC000) where it isn't well formed, exceeds a limit, lacks a UID, or
    where its pixel data are cut short or don't agree with rows, columns and frames (PS3.3 C.7.6.3).
    """
    try:
        with memoryview(data) as view:
            walk = ElementWalk(view, _READ_TAGS)
            pixels = walk.run(implicit=transfer_syntax_uid == ImplicitVRLittleEndian)
            header = _header(walk)
            _check_pixels(walk, pixels, header, transfer_syntax_uid)
            _check_size(len(view) - (pixels.length if pixels else 0))
    except ElementError as error:
        raise RefusedError(StoreStatus.CANNOT_UNDERSTAND, str(error)) from error
    return header


def check_command(header: ObjectHeader, sop_class_uid: str, sop_instance_uid: str) -> None:
    """Raise `RefusedError` (0xA900) where the C-STORE command names another object than its data set."""
    if sop_instance_uid != header.sop_instance_uid:
        raise RefusedError(StoreStatus.DATASET_MISMATCH, "SOP Instance UID of command and data set differ")
    if sop_class_uid != header.sop_class_uid:
        raise RefusedError(StoreStatus.DATASET_MISMATCH, "SOP Class UID of command and data set differ")


def _check_size(header_bytes: int) -> None:
    if header_bytes > MAXIMUM_HEADER_BYTES:
        raise ElementError("too large a header")


def _header(walk: ElementWalk) -> ObjectHeader:
    return ObjectHeader(*(_uid(walk, keyword, tag) for keyword, tag in _UID_TAGS.items()))


def _uid(walk: ElementWalk, keyword: str, tag: int) -> str:
    value = walk.value(tag, at_most=65).rstrip(b"\0 ")
    if len(value) > 64 or not _UID.fullmatch(value):
        raise ElementError(f"{keyword} is absent or malformed")
    return value.decode("ascii")


def _check_pixels(
    walk: ElementWalk, pixels: Pixels | None, header: ObjectHeader, transfer_syntax_uid: str
) -> None:
    if pixels is None:
        if header.sop_class_uid in MR_STORAGE_CLASSES:
            raise ElementError("no pixel data")
        return
    frames = _number_of_frames(walk)
    bits = frames * _number(walk, _ROWS) * _number(walk, _COLUMNS) * _number(walk, _BITS_ALLOCATED)
    size = (bits * _number(walk, _SAMPLES_PER_PIXEL) + 7) // 8
    if not 0 < size <= MAXIMUM_PIXEL_BYTES:
        raise ElementError("rows, columns and frames that can't be")
    native = transfer_syntax_uid in (ImplicitVRLittleEndian, ExplicitVRLittleEndian)
    if native != (pixels.fragments is None):
        raise ElementError("pixel data not encoded as the transfer syntax says")
    if pixels.fragments is None:
        if pixels.length != size + size % 2:
            raise ElementError("pixel data whose length doesn't agree with rows, columns and frames")
    elif pixels.fragments < frames:
        raise ElementError("fewer compressed frames than announced")


def _number(walk: ElementWalk, tag: int) -> int:
    value = walk.value(tag, at_most=3)
    if len(value) != 2:
        raise ElementError("a description of the pixels is absent or malformed")
    return int.from_bytes(value, "little")


def _number_of_frames(walk: ElementWalk) -> int:
    value = walk.value(_NUMBER_OF_FRAMES, at_most=16).strip(b"\0 ")
    if not value:
        return 1
    if not _FRAMES.fullmatch(value):
        raise ElementError("the number of frames is malformed")
    return int(value)
