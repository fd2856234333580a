"""The kinds of object that go back, as a destination may choose among them."""

from collections.abc import Collection
from enum import StrEnum
from typing import Final

from pydicom.uid import (
    EncapsulatedPDFStorage,
    KeyObjectSelectionDocumentStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)


class ResultKind(StrEnum):
    """What an object is to its reader, in the order of sending: what is named goes before what names it."""

    IMAGES = "images"
    """Summary page and attention images for everyone."""
    ATTENTION_MAP = "attention_map"
    """The attention as numbers, for software."""
    REGION = "region"
    """Where the attention is at least one half, for viewers that overlay segments."""
    PDF = "pdf"
    """The summary page with its words as text, for record systems."""
    REPORT = "report"
    """The Structured Report."""
    KEY_OBJECTS = "key_objects"
    """What to open first."""


DEFAULT_KINDS: Final = (ResultKind.IMAGES, ResultKind.REPORT)
"""What is always built, and what a destination gets that doesn't choose."""

_KINDS: Final = {
    SecondaryCaptureImageStorage: ResultKind.IMAGES,
    ParametricMapStorage: ResultKind.ATTENTION_MAP,
    SegmentationStorage: ResultKind.REGION,
    EncapsulatedPDFStorage: ResultKind.PDF,
    KeyObjectSelectionDocumentStorage: ResultKind.KEY_OBJECTS,
}


def check_kinds(kinds: Collection[ResultKind]) -> None:
    """Raise ValueError where a destination would get references to what it doesn't get."""
    if ResultKind.KEY_OBJECTS in kinds and ResultKind.IMAGES not in kinds:
        raise ValueError("key_objects name the images: a destination that gets them needs images too")


def kind_of(sop_class_uid: str) -> ResultKind:
    """Kind of an object of ours; the report goes out in more than one SOP class."""
    return _KINDS.get(sop_class_uid, ResultKind.REPORT)  # type: ignore[call-overload,no-any-return]
