"""`python -m tests.faults.failing_worker …`: a Celery worker that is killed at one point, told by FAIL_AT.

before-STEP   after the claim of the step, before any of its work
during-STEP   when its files are written and not yet published
commit-STEP   after its transaction's last statement and before the commit
after-STEP    after the commit, before the next hint
lost-STEP     it lives on, and the commit's answer is lost: it can't know whether it was done; once
lost-index    the same, of a transaction that indexes objects
raise-prepare preparing raises, with a patient's name in the message
"""

import logging
import os
import signal
import sys

from celery.__main__ import main
from sqlalchemy.exc import OperationalError

import tests.faults.brief_worker  # noqa: F401 - shows the network few slices
from dicom_node.receiving.spool import Spool
from tests.faults.service import CANARY
from worker.delivery import sending
from worker.study import claimed, pipeline, workspace
from worker.study.claimed import ClaimedStep
from worker.study.workspace import Workspace

POINT, _, STEP = os.environ["FAIL_AT"].partition("-")
logger = logging.getLogger(__name__)
lost: list[str] = []


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def before_step(enter):
    def wrapped(self):
        if self.claim.state == STEP:
            die()
        return enter(self)

    return wrapped


def during_step(exists):
    def wrapped(self, step):
        if step == STEP and sys._getframe(1).f_code.co_name == "publish":
            die()
        return exists(self, step)

    return wrapped


def around_advance(advance):
    def wrapped(self, to_state, write=None, **values):
        def write_and_die(session):
            if write is not None:
                write(session)
            session.flush()
            die()

        is_step = self.claim.state == STEP
        advance(self, to_state, write_and_die if is_step and POINT == "commit" else write, **values)
        if is_step and POINT == "after":
            die()
        if is_step and POINT == "lost":
            lose_answer()

    return wrapped


def before_mark(mark_indexed):
    def wrapped(self, entry):
        lose_answer()
        mark_indexed(self, entry)

    return wrapped


def lose_answer():
    """Fail as a connection does that breaks while a commit is under way; the first time only."""
    if not lost:
        lost.append(POINT)
        logger.warning("the answer to a commit is lost")
        raise OperationalError("COMMIT", None, ConnectionError())


def raise_with_name(*_, **__):
    raise ValueError(f"{CANARY}^X can't be prepared")


if POINT == "before":
    claimed.ClaimedStep.__enter__ = before_step(ClaimedStep.__enter__)  # type: ignore[method-assign]
    # a sender that came first would end the job, and the point would never be reached
    sending.send_due = lambda *_: None
elif POINT == "during":
    workspace.Workspace.of = during_step(Workspace.of)  # type: ignore[method-assign]
elif (POINT, STEP) == ("lost", "index"):
    Spool.mark_indexed = before_mark(Spool.mark_indexed)  # type: ignore[method-assign]
elif POINT in ("commit", "after", "lost"):
    claimed.ClaimedStep.advance = around_advance(ClaimedStep.advance)  # type: ignore[method-assign]
elif POINT == "raise":
    pipeline.prepare = raise_with_name
else:
    raise SystemExit(f"no such point: {POINT}")

if __name__ == "__main__":
    main()
