"""Keeping a claim alive while its holder works."""

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from threading import Event, Thread
from types import TracebackType
from typing import Self

from sqlalchemy.exc import OperationalError

from worker.records.ledger import StaleClaimError

logger = logging.getLogger(__name__)


class LeaseKeeper:
    """Context in which a thread calls `renew` three times a lease, until the claim is found to be lost.

    With `longest` it gives up after that: a holder that hangs must not keep its claim.
    """

    def __init__(
        self, name: str, lease: timedelta, renew: Callable[[], None], longest: timedelta = timedelta.max
    ) -> None:
        self._name = name
        self._lease = lease
        self._renew = renew
        self._longest = longest
        self._ended = Event()
        self._thread = Thread(target=self._keep, name=f"lease-of-{name}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _keep(self) -> None:
        deadline = time.monotonic() + self._longest.total_seconds()
        while not self._ended.wait(self._lease.total_seconds() / 3):
            if time.monotonic() > deadline:
                logger.error("%s hangs; its claim is given up", self._name)
                return
            try:
                self._renew()
            except StaleClaimError:
                return
            except OperationalError:
                logger.warning("%s: PostgreSQL is away, the lease is not renewed", self._name)
