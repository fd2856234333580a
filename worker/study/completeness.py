"""Asking a study's source whether all of it has arrived.

No one can promise that a study is complete: this is a second witness beside the quiet period.
"""

import logging
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from dicom_node.peers.scu import AssociationError, Destination, ScuError, count_instances
from worker.node import Node
from worker.records.database import Instance, Result, ResultObject, Series, Study
from worker.states import StudyState

logger = logging.getLogger(__name__)


def is_past(
    moment: InstrumentedAttribute[datetime] | InstrumentedAttribute[datetime | None], wait: timedelta
) -> ColumnElement[bool]:
    """Whether `wait` has passed since a moment, by PostgreSQL's clock."""
    return moment < func.now() - wait


def sources_of(session: Session, study_id: int, ae_titles: Collection[str]) -> set[str]:
    """Which of the AE titles sent instances of the study."""
    return set(
        session.scalars(
            select(Instance.calling_ae_title)
            .join(Series)
            .where(Series.study_id == study_id, Instance.calling_ae_title.in_(ae_titles))
            .distinct()
        )
    )


def ask_sources(node: Node) -> None:
    """Ask the sources of each quiet study for its counts, and record whether they are ours.

    A source that doesn't answer is left alone until the next time.
    """
    sources = {source.ae_title: source for source in node.settings.sources}
    silent: set[str] = set()
    with node.sessions() as session:
        due = session.execute(
            select(Study.id, Study.study_instance_uid)
            .where(
                Study.state == StudyState.OPEN,
                is_past(Study.last_instance_at, node.settings.quiet_period),
                Study.source_agreements < 2,
                Study.source_asked_at.is_(None)
                | is_past(Study.source_asked_at, node.settings.source_interval),
            )
            .order_by(Study.id)
        ).all()
    for study_id, study_instance_uid in due if sources else ():
        with node.sessions.begin() as session:
            senders = sources_of(session, study_id, sources)
            if not senders:
                continue
            session.execute(update(Study).where(Study.id == study_id).values(source_asked_at=func.now()))
            ours = _our_counts(session, study_id)
            own_series = _own_series(session, study_id)
        counts = [
            _count(sources[ae_title], study_instance_uid, silent)
            for ae_title in sorted(senders)
            if ae_title not in silent
        ]
        agreed = len(counts) == len(senders) and all(_agree(theirs, ours, own_series) for theirs in counts)
        _record(node, study_id, ours, agreed=agreed)


def _count(source: Destination, study_instance_uid: str, silent: set[str]) -> Mapping[str, int] | None:
    try:
        return count_instances(source, study_instance_uid)
    except AssociationError as error:
        silent.add(source.ae_title)
        logger.warning("source %s: %s", source.name, error)
    except ScuError as error:
        logger.warning("source %s: %s", source.name, error)
    return None


def _agree(theirs: Mapping[str, int] | None, ours: Mapping[str, int], own_series: Iterable[str]) -> bool:
    if theirs is None:
        return False
    return {uid: count for uid, count in theirs.items() if uid not in own_series} == ours


def _record(node: Node, study_id: int, ours: Mapping[str, int], *, agreed: bool) -> None:
    """Count an agreement in a row, unless more has arrived since the question was asked."""
    with node.sessions.begin() as session:
        study = session.get_one(Study, study_id, with_for_update=True)
        same = _our_counts(session, study_id) == ours
        study.source_agreements = study.source_agreements + 1 if agreed and same else 0


def _our_counts(session: Session, study_id: int) -> dict[str, int]:
    rows = session.execute(
        select(Series.series_instance_uid, func.count(Instance.sop_instance_uid.distinct()))
        .join(Instance)
        .where(Series.study_id == study_id)
        .group_by(Series.series_instance_uid)
    )
    return {uid: count for uid, count in rows}  # noqa: C416 - rows aren't tuples to a type checker


def _own_series(session: Session, study_id: int) -> set[str]:
    return set(
        session.scalars(
            select(ResultObject.series_instance_uid).join(Result).where(Result.study_id == study_id)
        )
    )
