"""How often pynetdicom's reactor of an association looks around: at once after something came, else seldom.

pynetdicom polls a thousand times a second, for each association that is open, whatever it does. All that it
could find comes through the socket, so the socket can tell it.
"""

import threading
import time
from typing import Final

IDLE_SECONDS: Final = 0.05
_QUICK_SECONDS: Final = 0.5
"""For this long after something went to pynetdicom, what it does about it is not kept waiting."""


class Pace(threading.Event):
    """Stands in the place of the checkpoint that pynetdicom's reactor waits at in each of its rounds."""

    def __init__(self) -> None:
        super().__init__()
        self.set()
        self._news = threading.Event()
        self._quick_until = 0.0

    @property
    def is_quick(self) -> bool:
        """Whether something came a moment ago."""
        return time.monotonic() < self._quick_until

    def hurry(self) -> None:
        """Note that something came for pynetdicom."""
        self._quick_until = time.monotonic() + _QUICK_SECONDS
        self._news.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait as the checkpoint does, and then for news, but not for long: an abort of our own is none."""
        passed = super().wait(timeout)
        self._news.clear()
        if not self.is_quick:
            self._news.wait(IDLE_SECONDS)
        return passed
