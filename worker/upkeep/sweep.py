"""What beat asks for every few seconds: index, freeze, re-hint, tidy. Running it twice does no harm."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session

from dicom_node.receiving.open_associations import studies_being_sent
from worker.delivery.committing import apply_commitment_reports
from worker.node import Node
from worker.records import ledger
from worker.records.database import Job, SweepState
from worker.records.destinations import take_due_destinations
from worker.records.ledger import Hint
from worker.records.schema import check_revision
from worker.study.completeness import ask_sources
from worker.study.freezing import CompletenessRule, freeze_complete_studies
from worker.study.indexing import index_spool
from worker.study.workspace import list_workspaces, remove_workspaces
from worker.upkeep.audit import copy_audit_trail

logger = logging.getLogger(__name__)

SWEEP_LOCK = 0x676C696F
"""Advisory lock that keeps one sweep busy at a time; nothing's correctness rests on it."""


def sweep(node: Node) -> list[Hint]:
    """Bring the ledger up to date with the spool and the clock; returns the jobs to hint.

    A sweep that finds another one at work only hints: a backlog that takes minutes to index must not keep
    the other workers idle. Raises SchemaError where the database was upgraded under this process.
    """
    with node.sessions() as session:
        check_revision(session)
    with _alone(node.sessions.kw["bind"]) as alone:
        if alone:
            _catch_up(node)
    with node.sessions.begin() as session:
        return ledger.take_due_hints(session, node.settings.rehint_after)


def _catch_up(node: Node) -> None:
    indexed = index_spool(node.sessions, node.spool)
    ask_sources(node)
    being_sent = studies_being_sent(node.settings.spool_folder, node.settings.network_timeout)
    with node.sessions.begin() as session:
        frozen = freeze_complete_studies(session, CompletenessRule.of(node.settings), being_sent)
        held = ledger.hold_exhausted_jobs(session, node.settings.maximum_attempts)
    if indexed or frozen:
        logger.info("indexed %d instances, froze %d studies", indexed, len(frozen))
    for job_id in held:
        logger.error("job %d is held: its worker was lost too often", job_id, extra={"job_id": job_id})
    with node.sessions.begin() as session:
        _remove_ended_workspaces(session, node)
        # at the end: a sweep that breaks off each time is none
        session.execute(
            update(SweepState).values(ended_at=func.now(), oldest_unindexed_at=node.spool.oldest_unindexed())
        )


@dataclass(frozen=True, slots=True)
class Due:
    """What waits for a worker: jobs, and destinations by their row ids."""

    hints: Sequence[Hint]
    destination_ids: Sequence[int]


def keep_up(node: Node) -> Due:
    """All that is done every few seconds: audit trail, commitment reports, sweep; returns what is due."""
    copy_audit_trail(node)
    apply_commitment_reports(node)
    hints = sweep(node)
    with node.sessions.begin() as session:
        return Due(hints, take_due_destinations(session, node.settings.rehint_after))


@contextmanager
def _alone(engine: Engine) -> Iterator[bool]:
    """Hold the sweep's lock, outside of any transaction: a long sweep is no idle transaction."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        alone = bool(connection.scalar(select(func.pg_try_advisory_lock(SWEEP_LOCK))))
        try:
            yield alone
        finally:
            if alone:
                connection.execute(select(func.pg_advisory_unlock(SWEEP_LOCK)))


def _remove_ended_workspaces(session: Session, node: Node) -> None:
    present = list_workspaces(node.settings.jobs_folder)
    ended = session.scalars(select(Job.id).where(Job.id.in_(present), Job.ended_at.is_not(None)))
    remove_workspaces(node.settings.jobs_folder, set(ended))
