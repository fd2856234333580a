"""Walking over the elements of an encoded data set (PS3.5 7.1, 7.5, A.4), under limits, decoding nothing."""

import struct
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from pydicom._dicom_dict import DicomDictionary  # datadict's lookups cost a call and an exception each

MAXIMUM_ELEMENTS: Final = 500_000
"""Elements and items of one data set, nested ones counted; a 2000-frame enhanced MR has about 200,000."""

MAXIMUM_DEPTH: Final = 32
"""Sequences in sequences; enhanced MR needs five, pydicom overflows its stack at about 250."""

PIXEL_DATA: Final = 0x7FE00010
_FIRST_TAG: Final = 0x00080000  # groups 0000 to 0006 are commands, file meta information and directories
_UNDEFINED: Final = 0xFFFFFFFF
_ITEM: Final = 0xFFFEE000
_ITEM_END: Final = 0xFFFEE00D
_SEQUENCE_END: Final = 0xFFFEE0DD

_SHORT_VRS: Final = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG_VRS: Final = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_BULK_VRS: Final = frozenset({b"OB", b"OW"})
_SEQUENCE_TAGS: Final = frozenset(tag for tag, entry in DicomDictionary.items() if entry[0] == "SQ")
_SHORT_TAGS: Final = frozenset(
    tag for tag, entry in DicomDictionary.items() if entry[0].encode() in _SHORT_VRS
)
_SHORT_LENGTH: Final = 0xFFFF

_explicit_header = struct.Struct("<HH2sH").unpack_from
_implicit_header = struct.Struct("<HHL").unpack_from
_long_length = struct.Struct("<L").unpack_from


class ElementError(Exception):
    """Bytes are not a data set, or exceed a limit. Trying again does not help."""


@dataclass(frozen=True, slots=True)
class Pixels:
    """Pixel Data of the data set itself: `length` in bytes as encoded.

    `fragments` counts those of encapsulated pixel data, without the offset table; None where it is native.
    """

    length: int
    fragments: int | None


class ElementWalk:
    """One pass over a data set; keeps where the elements of `tags` lie in its outermost level."""

    def __init__(self, data: memoryview, tags: AbstractSet[int]) -> None:
        self._data = data
        self._tags = tags
        self._places: dict[int, tuple[int, int]] = {}
        self._left = MAXIMUM_ELEMENTS
        self._pixels: Pixels | None = None

    def run(self, *, implicit: bool) -> Pixels | None:
        """Walk to the end. Raises `ElementError`."""
        try:
            self._data_set(0, len(self._data), implicit, 0, delimited=False)
        except struct.error as error:
            raise ElementError("cut short") from error
        return self._pixels

    def value(self, tag: int, at_most: int) -> bytes:
        """The first bytes of an element's value; empty where it is absent."""
        start, length = self._places.get(tag, (0, 0))
        return bytes(self._data[start : start + min(length, at_most)])

    def _data_set(self, position: int, end: int, implicit: bool, depth: int, *, delimited: bool) -> int:  # noqa: C901, PLR0912 (one loop: a call an element would double the time)
        data, tags, left = self._data, self._tags, self._left
        while position < end:
            left -= 1
            if left < 0:
                raise ElementError("too many elements")
            if implicit:
                group, number, length = _implicit_header(data, position)
                vr, start = b"", position + 8
            else:
                group, number, vr, length = _explicit_header(data, position)
                start = position + 8
                if vr in _LONG_VRS:
                    (length,) = _long_length(data, start)
                    start += 4
                elif vr not in _SHORT_VRS and group != 0xFFFE:
                    raise ElementError("an unknown VR")
            tag = group << 16 | number
            if group == 0xFFFE:
                if tag != _ITEM_END or not delimited or start > end:
                    raise ElementError("a misplaced delimiter")
                self._left = left
                return start
            if tag < _FIRST_TAG:
                raise ElementError("an element that no data set has")
            if length == _UNDEFINED or vr == b"SQ" or (implicit and tag in _SEQUENCE_TAGS):
                self._left = left
                position = self._nested(tag, vr, start, end, length, implicit, depth)
                left = self._left
            else:
                position = start + length
                if implicit and length > _SHORT_LENGTH and tag in _SHORT_TAGS:
                    raise ElementError("too long a value")
                if depth == 0 and tag == PIXEL_DATA:
                    self._found_pixels(Pixels(length, None))
            if position > end:
                raise ElementError("cut short")
            if depth == 0 and tag in tags:
                if tag in self._places:
                    raise ElementError("one element twice")
                self._places[tag] = (start, length)
        self._left = left
        if delimited:
            raise ElementError("cut short")
        return position

    def _nested(
        self, tag: int, vr: bytes, start: int, end: int, length: int, implicit: bool, depth: int
    ) -> int:
        if length != _UNDEFINED:
            if start + length > end:
                raise ElementError("cut short")
            return self._sequence(start, start + length, implicit, depth, delimited=False)
        if tag == PIXEL_DATA:
            if vr not in _BULK_VRS:
                raise ElementError("native pixel data of undefined length")
            return self._fragments(start, end, depth)
        if vr not in {b"", b"SQ", b"UN"}:
            raise ElementError("a value of undefined length")
        # A sequence that its sender knew only as UN is encoded implicitly (PS3.5 6.2.2 note 2).
        return self._sequence(start, end, implicit or vr == b"UN", depth, delimited=True)

    def _sequence(self, position: int, end: int, implicit: bool, depth: int, *, delimited: bool) -> int:
        if depth >= MAXIMUM_DEPTH:
            raise ElementError("sequences nested too deep")
        while position < end:
            tag, length, position = self._item(position, end)
            if tag == _SEQUENCE_END and delimited:
                return position
            if tag != _ITEM:
                raise ElementError("a sequence that holds no items")
            if length == _UNDEFINED:
                position = self._data_set(position, end, implicit, depth + 1, delimited=True)
            elif position + length > end:
                raise ElementError("cut short")
            else:
                position = self._data_set(position, position + length, implicit, depth + 1, delimited=False)
        if delimited:
            raise ElementError("cut short")
        return position

    def _fragments(self, start: int, end: int, depth: int) -> int:
        position, items = start, 0
        while position < end:
            tag, length, position = self._item(position, end)
            if tag == _SEQUENCE_END:
                if depth == 0:
                    self._found_pixels(Pixels(position - start, max(items - 1, 0)))
                return position
            if tag != _ITEM or length == _UNDEFINED:
                raise ElementError("malformed fragments")
            items += 1
            position += length
        raise ElementError("cut short")

    def _item(self, position: int, end: int) -> tuple[int, int, int]:
        """Tag and length of an item or delimiter, and the position behind them."""
        self._left -= 1
        if self._left < 0:
            raise ElementError("too many elements")
        group, number, length = _implicit_header(self._data, position)
        if position + 8 > end:
            raise ElementError("cut short")
        return group << 16 | number, length, position + 8

    def _found_pixels(self, pixels: Pixels) -> None:
        if self._pixels is not None:
            raise ElementError("one element twice")
        self._pixels = pixels
