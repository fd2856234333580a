"""The slow half of the sweep: whether ledger and files still agree."""

import logging
import time
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from worker.node import Node
from worker.records.database import Instance, ResultObject
from worker.records.heartbeat import forget_silent
from worker.study.reporting import object_path
from worker.upkeep.notifications import forget_told

logger = logging.getLogger(__name__)

ORPHAN_LIFETIME = timedelta(hours=24)
"""A result's bytes are on disk before its row: younger files may still get theirs."""


def take_census(node: Node) -> None:
    """Log rows without a file as critical, and remove old result files without a row."""
    with node.sessions.begin() as session:
        forget_silent(session)
        forget_told(session, node.settings)
        for sha256 in missing_files(session, node):
            logger.critical("the ledger names %s and its file is gone: restore it from a backup", sha256)
        for name in remove_orphans(session, node):
            logger.info("removed the result file %s, which no result names", name)


def missing_files(session: Session, node: Node) -> list[str]:
    """Digests of received and of built objects that have a row and no file."""
    received = select(Instance.sha256).where(Instance.purged_at.is_(None))
    missing = [
        sha256
        for sha256 in session.scalars(received.execution_options(yield_per=1000))
        if not node.spool.object_path(sha256).exists()
    ]
    made = select(ResultObject.sha256).where(ResultObject.purged_at.is_(None))
    built = session.scalars(made.execution_options(yield_per=1000))
    folder = node.settings.results_folder
    return [*missing, *(sha256 for sha256 in built if not object_path(folder, sha256).exists())]


def remove_orphans(session: Session, node: Node) -> list[str]:
    """Remove result files older than a day that no row names, a killed writer's too; returns their names."""
    oldest = time.time() - ORPHAN_LIFETIME.total_seconds()
    files = [path for path in node.settings.results_folder.glob("??/*") if path.stat().st_mtime < oldest]
    named = set(
        session.scalars(
            select(ResultObject.sha256).where(ResultObject.sha256.in_([path.stem for path in files]))
        )
    )
    orphans = [path for path in files if path.suffix != ".dcm" or path.stem not in named]
    for path in orphans:
        path.unlink()
    return [path.name for path in orphans]
