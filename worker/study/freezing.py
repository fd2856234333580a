"""A study that is complete gets its manifest frozen as a version, and a job."""

import hashlib
import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, insert, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from dicom_node.logs import about
from worker.records import ledger
from worker.records.database import (
    Instance,
    Job,
    ManifestEntry,
    RoleDecision,
    Series,
    Study,
    StudyVersion,
    WorkDecision,
)
from worker.settings import Settings
from worker.states import Completeness, StudyState
from worker.study.completeness import is_past, sources_of
from worker.study.indexing import INCOMPLETE, hold_study

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CompletenessRule:
    """When a study is taken as complete."""

    quiet_period: timedelta
    maximum_wait: timedelta = timedelta(minutes=90)
    hold_incomplete: bool = False
    source_ae_titles: Collection[str] = ()
    """Senders that have to agree to the count."""

    @classmethod
    def of(cls, settings: Settings) -> "CompletenessRule":
        """Take the rule from the settings."""
        return cls(
            settings.quiet_period,
            settings.maximum_wait,
            settings.when_incomplete == "hold",
            frozenset(source.ae_title for source in settings.sources),
        )


def freeze_complete_studies(
    session: Session, rule: CompletenessRule, being_sent: Collection[str] = ()
) -> list[int]:
    """Freeze the manifest of each complete study and queue its job; returns the study numbers.

    `being_sent` holds the Study Instance UIDs that an open association delivers to.
    """
    quiet = session.scalars(
        select(Study)
        .where(Study.state == StudyState.OPEN, is_past(Study.last_instance_at, rule.quiet_period))
        .order_by(Study.id)
        .with_for_update(skip_locked=True)
    ).all()
    frozen = []
    for study in quiet:
        completeness = _completeness(session, study, rule, being_sent)
        if completeness is Completeness.UNVERIFIED and rule.hold_incomplete:
            hold_study(
                session, study, f"{INCOMPLETE}: the longest wait is over and its source has not agreed"
            )
        elif completeness is not None:
            version = _freeze(session, study, completeness)
            if version is not None:
                version.received_at = _newest_reception(session, version.id)
            frozen.append(study.id)
    return frozen


def freeze_decisions(session: Session, study: Study) -> int:
    """Freeze a stable study anew after a person decided; returns the new version's number."""
    newest = session.scalars(
        select(StudyVersion)
        .where(StudyVersion.study_id == study.id)
        .order_by(StudyVersion.number.desc())
        .limit(1)
    ).one()
    _freeze(session, study, newest.completeness)
    return newest.number + 1


def freeze_released(session: Session, study: Study) -> int:
    """Freeze a study that a person took as it is, complete or not; returns the new version's number."""
    _freeze(session, study, Completeness.UNVERIFIED)
    return session.scalars(
        select(func.max(StudyVersion.number)).where(StudyVersion.study_id == study.id)
    ).one()


def manifest_digest(
    instances: Iterable[tuple[str, str]],
    decision_ids: Sequence[int] = (),
    work_decision_ids: Sequence[int] = (),
) -> str:
    """SHA-256 over the sorted (SOP Instance UID, content SHA-256) pairs and what persons decided.

    Each decision counts as itself: the same role set again, and each retry, is a new version.
    """
    lines = sorted(f"{sop_instance_uid}\0{sha256}\n" for sop_instance_uid, sha256 in instances)
    lines += [f"decision\0{decision_id}\n" for decision_id in sorted(decision_ids)]
    lines += [f"work\0{decision_id}\n" for decision_id in sorted(work_decision_ids)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _completeness(
    session: Session, study: Study, rule: CompletenessRule, being_sent: Collection[str]
) -> Completeness | None:
    """What the study can be frozen as now; None while it is waited for."""
    asked = bool(sources_of(session, study.id, rule.source_ae_titles))
    if study.study_instance_uid not in being_sent:
        if not asked:
            return Completeness.QUIET
        if study.source_agreements >= 2:
            return Completeness.VERIFIED
    late = session.scalar(select(is_past(Study.opened_at, rule.maximum_wait)).where(Study.id == study.id))
    return Completeness.UNVERIFIED if late else None


def _newest_reception(session: Session, version_id: int) -> datetime | None:
    return session.scalar(
        select(func.max(Instance.received_at))
        .join(ManifestEntry, ManifestEntry.instance_id == Instance.id)
        .where(ManifestEntry.study_version_id == version_id)
    )


def _freeze(session: Session, study: Study, completeness: Completeness) -> StudyVersion | None:
    """Make a version of what the study holds; None where it has one already."""
    # of an instance whose header was corrected only the newest revision counts
    instances = session.execute(
        select(Instance.id, Instance.sop_instance_uid, Instance.sha256)
        .join(Series)
        .where(Series.study_id == study.id)
        .ext(distinct_on(Instance.sop_instance_uid))
        .order_by(Instance.sop_instance_uid, Instance.received_at.desc(), Instance.id.desc())
    ).all()
    versions = session.scalars(select(StudyVersion).where(StudyVersion.study_id == study.id)).all()
    decisions = session.scalars(select(RoleDecision.id).where(RoleDecision.study_id == study.id)).all()
    work_decisions = session.scalars(select(WorkDecision.id).where(WorkDecision.study_id == study.id)).all()
    digest = manifest_digest(
        [(row.sop_instance_uid, row.sha256) for row in instances], decisions, work_decisions
    )
    study.state = StudyState.STABLE
    if any(version.manifest_sha256 == digest for version in versions):
        return None
    version = StudyVersion(
        study_id=study.id, number=len(versions) + 1, manifest_sha256=digest, completeness=completeness
    )
    session.add(version)
    session.flush()
    session.execute(
        insert(ManifestEntry),
        [{"study_version_id": version.id, "instance_id": row.id} for row in instances],
    )
    older = session.scalars(
        select(Job.id).where(Job.study_version_id.in_([version.id for version in versions]))
    ).all()
    ledger.supersede_jobs(session, older)
    ledger.ensure_job(session, version.id)
    if completeness is Completeness.UNVERIFIED:
        with about(study_id=study.id):
            logger.warning("study %d goes on although its completeness is unverified", study.id)
    return version
