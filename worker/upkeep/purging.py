"""Retention: the files of studies that are over and done with go, the rows that tell of them stay.

A study whose files went can still be asked about. More of it, or a retry, waits for a person: what the
network would see is no longer here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sqlalchemy import ColumnElement, Select, and_, func, or_, select, update
from sqlalchemy.orm import Session

from dicom_node.receiving.spool import Spool
from worker.records.database import Delivery, Instance, Job, Result, ResultObject, Series, Study, StudyVersion
from worker.records.queries import is_newest_version, live_results
from worker.states import ACTIVE, UNSETTLED, JobState, StudyState
from worker.study.completeness import is_past
from worker.study.reporting import object_path


class NotPurgeableError(Exception):
    """The study is still being worked on, or a person has to look at it. Wait, or decide first."""


@dataclass(frozen=True, slots=True)
class Purgeable:
    """A study whose files may go, and how much that frees."""

    study_id: int
    study_instance_uid: str
    files: int
    size_bytes: int


def purgeable_studies(
    session: Session, older_than: timedelta | None = None, study_id: int | None = None, *, results: bool
) -> list[Purgeable]:
    """Studies that ended, owe no destination anything, and were quiet for `older_than`; oldest first.

    With `results` the objects that we built count too. Raises NotPurgeableError for a `study_id` that may
    not go yet.
    """
    conditions = [_is_over()]
    if older_than is not None:
        conditions.append(_was_quiet_for(older_than))
    if study_id is not None:
        conditions.append(Study.id == study_id)
    studies = session.execute(
        select(Study.id, Study.study_instance_uid).where(*conditions).order_by(Study.id)
    ).all()
    if study_id is not None and not studies:
        raise NotPurgeableError(
            f"study {study_id} may not be purged: it arrives, is worked on or held, or a delivery is open"
        )
    found = [_weigh(session, number, uid, results=results) for number, uid in studies]
    return [item for item in found if item.files]


def purge_study(
    session: Session,
    spool: Spool,
    results_folder: Path,
    study_id: int,
    older_than: timedelta | None = None,
    *,
    results: bool,
) -> bool:
    """Remove a study's files if it still may go; False where it no longer may. Twice does no harm.

    Its row stays locked until the caller commits, so that an instance that arrives is indexed after it.
    Broken off, the rows are not marked and the next time takes up the rest.
    """
    conditions = [Study.id == study_id, _is_over()]
    if older_than is not None:
        conditions.append(_was_quiet_for(older_than))
    if session.scalar(select(Study.id).where(*conditions).with_for_update()) is None:
        return False
    for sha256 in session.scalars(_received(study_id)):
        spool.object_path(sha256).unlink(missing_ok=True)
    series = select(Series.id).where(Series.study_id == study_id)
    session.execute(
        update(Instance)
        .where(Instance.series_id.in_(series), Instance.purged_at.is_(None))
        .values(purged_at=func.now())
    )
    if results:
        for sha256 in session.scalars(_built(study_id)):
            object_path(results_folder, sha256).unlink(missing_ok=True)
        own = select(Result.id).where(Result.study_id == study_id)
        session.execute(
            update(ResultObject)
            .where(ResultObject.result_id.in_(own), ResultObject.purged_at.is_(None))
            .values(purged_at=func.now())
        )
    return True


def _is_over() -> ColumnElement[bool]:
    """Stable, no job at work, the newest not held, and nothing owed to a destination."""
    going_on = (
        select(Job.id)
        .join(StudyVersion, StudyVersion.id == Job.study_version_id)
        .where(
            StudyVersion.study_id == Study.id,
            # an older one that is held has had its answer: the newer version
            or_(Job.state.in_(ACTIVE), and_(Job.state == JobState.HELD, is_newest_version())),
        )
        .correlate(Study)
    )
    owed = (
        select(Delivery.id)
        .join(ResultObject, ResultObject.id == Delivery.result_object_id)
        .join(Result, Result.id == ResultObject.result_id)
        .where(Result.study_id == Study.id, Result.id.in_(live_results()), Delivery.state.in_(UNSETTLED))
        .correlate(Study)
    )
    return (Study.state == StudyState.STABLE) & ~going_on.exists() & ~owed.exists()


def _was_quiet_for(duration: timedelta) -> ColumnElement[bool]:
    lately = (
        select(Job.id)
        .join(StudyVersion, StudyVersion.id == Job.study_version_id)
        .where(
            StudyVersion.study_id == Study.id,
            or_(Job.ended_at.is_(None), Job.ended_at > func.now() - duration),
        )
        .correlate(Study)
    )
    return is_past(Study.last_instance_at, duration) & ~lately.exists()


def _received(study_id: int) -> Select[str]:
    return (
        select(Instance.sha256)
        .join(Series, Series.id == Instance.series_id)
        .where(Series.study_id == study_id, Instance.purged_at.is_(None))
    )


def _built(study_id: int) -> Select[str]:
    return (
        select(ResultObject.sha256)
        .join(Result, Result.id == ResultObject.result_id)
        .where(Result.study_id == study_id, ResultObject.purged_at.is_(None))
    )


def _weigh(session: Session, study_id: int, uid: str, *, results: bool) -> Purgeable:
    sizes: Sequence[int] = session.scalars(_received(study_id).with_only_columns(Instance.size_bytes)).all()
    if results:
        built = _built(study_id).with_only_columns(ResultObject.size_bytes)
        sizes = [*sizes, *session.scalars(built)]
    return Purgeable(study_id, uid, len(sizes), sum(sizes))
