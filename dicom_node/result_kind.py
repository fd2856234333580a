"""The kinds of object that go back, as a destination may choose among them."""

from enum import StrEnum

from pydicom.uid import SecondaryCaptureImageStorage


class ResultKind(StrEnum):
    """What an object is to its reader."""

    IMAGES = "images"
    REPORT = "report"


def kind_of(sop_class_uid: str) -> ResultKind:
    """Kind of an object of ours: images are Secondary Captures, all else is a report."""
    return ResultKind.IMAGES if sop_class_uid == SecondaryCaptureImageStorage else ResultKind.REPORT
