"""What a C-STORE request is answered with."""

from enum import IntEnum


class StoreStatus(IntEnum):
    """C-STORE response statuses we give (PS3.4 table B.2-1)."""

    SUCCESS = 0x0000
    OUT_OF_RESOURCES = 0xA700
    DATASET_MISMATCH = 0xA900
    CANNOT_UNDERSTAND = 0xC000


class RefusedError(Exception):
    """An object is answered with a failure; sending the same object again does not help."""

    def __init__(self, status: StoreStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
