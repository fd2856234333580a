"""One claim from taking to writing back: its lease kept alive, its failure recorded."""

import logging
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from worker.node import Node
from worker.records import ledger
from worker.records.heartbeat import own_name
from worker.records.lease import LeaseKeeper
from worker.records.ledger import Claim, StaleClaimError
from worker.records.schema import check_revision
from worker.states import JobState

logger = logging.getLogger(__name__)


def take_claim(node: Node, job_id: int, state: JobState) -> Claim | None:
    """Claim a job in its own short transaction; None where there is nothing to do.

    Raises SchemaError where the database was upgraded under this process.
    """
    with node.sessions.begin() as session:
        check_revision(session)
        return ledger.claim_job(
            session,
            job_id,
            state,
            claimed_by=own_name(),
            lease=node.settings.lease,
            maximum_attempts=node.settings.maximum_attempts,
        )


class ClaimedStep:
    """Context in which one claimed step runs.

    While it is open, for at most the step timeout, a thread renews the lease. Leaving it by an exception
    gives the job back as a failed attempt, unless it was postponed, with the exception's type only (its
    message might name a patient), and lets the exception on.
    """

    def __init__(self, node: Node, claim: Claim) -> None:
        self.node = node
        self.claim = claim
        self.next_state: JobState | None = None
        self._is_given_back = False
        settings = node.settings
        self._keeper = LeaseKeeper(
            f"job {claim.job_id}: {claim.state}", settings.lease, self._renew, settings.step_timeout
        )

    def __enter__(self) -> Self:
        self._keeper.__enter__()
        return self

    def advance(
        self,
        to_state: JobState,
        write: Callable[[Session], None] | None = None,
        **values: Any,  # noqa: ANN401 - column values
    ) -> None:
        """Move the job on and let `write` add its rows, all in one transaction fenced by the claim."""
        with self.node.sessions.begin() as session:
            ledger.advance_job(session, self.claim, to_state, **values)
            if write is not None:
                write(session)
        self.next_state = to_state

    def postpone(
        self,
        delay: timedelta,
        detail: str,
        reason_code: str | None = None,
        write: Callable[[Session], None] | None = None,
    ) -> None:
        """Give the job back for a while because something outside isn't ready; `write` as in `advance`."""
        with self.node.sessions.begin() as session:
            ledger.postpone_job(session, self.claim, delay, detail, reason_code)
            if write is not None:
                write(session)
        self._is_given_back = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._keeper.__exit__(kind, error, trace)
        if kind is None or self._is_given_back or issubclass(kind, StaleClaimError):
            return
        settings = self.node.settings
        try:
            with self.node.sessions.begin() as session:
                ledger.fail_step(
                    session, self.claim, kind.__name__, settings.maximum_attempts, settings.retry_delay
                )
        except (StaleClaimError, OperationalError):
            logger.warning("job %d: the failure could not be recorded; its lease will end", self.claim.job_id)

    def _renew(self) -> None:
        with self.node.sessions.begin() as session:
            ledger.renew_lease(session, self.claim, self.node.settings.lease)
