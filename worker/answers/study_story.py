"""All the ledger knows of one study, for the person who asks what happened to it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dicom_node.audit import AuditEventId
from model.grade import Grade, Verdict
from worker.records.database import (
    AuditRecord,
    Delivery,
    Instance,
    Job,
    ManifestEntry,
    Result,
    ResultObject,
    Series,
    StepRun,
    Study,
    StudyVersion,
    study_of_record,
)
from worker.states import Completeness, DeliveryState, JobState, StepOutcome, StudyState
from worker.study.decisions import SeriesStanding, series_standings


@dataclass(frozen=True, slots=True)
class StepStory:
    """One claim of one step; `seconds` is None while it runs, or where its worker was lost."""

    step: JobState
    claimed_by: str
    started_at: datetime
    seconds: float | None
    outcome: StepOutcome | None
    detail: str | None


@dataclass(frozen=True, slots=True)
class ResultStory:
    """What the network said; no grade and no probability where the study was answered without one.

    `verdict` is None where the network was not asked.
    """

    result_uid: str
    verdict: Verdict | None
    grade: Grade | None
    probability: float | None
    is_calibrated: bool | None
    attention_ml: float | None
    appearance_distance: float | None
    model: str
    trained_on_simulated: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class DeliveryStory:
    """One object on its way to one destination; `status` is the C-STORE status of the last attempt."""

    destination: str
    sop_instance_uid: str
    state: DeliveryState
    attempts: int
    status: int | None
    detail: str | None
    sent_at: datetime | None


@dataclass(frozen=True, slots=True)
class VersionStory:
    """One frozen manifest and the work on it."""

    number: int
    frozen_at: datetime
    completeness: Completeness
    instances: int
    job_id: int
    job_state: JobState
    reason_code: str | None
    reason: str | None
    ended_at: datetime | None
    steps: Sequence[StepStory]
    result: ResultStory | None
    deliveries: Sequence[DeliveryStory]


@dataclass(frozen=True, slots=True)
class EventStory:
    """One event of the audit trail that names the study."""

    occurred_at: datetime
    event: str
    outcome: int
    detail: str
    source: str
    target: str
    instances: int


@dataclass(frozen=True, slots=True)
class StudyStory:
    """One study from its first instance on; shows our number and UIDs, nothing of a patient."""

    study_id: int
    study_instance_uid: str
    state: StudyState
    hold_reason: str | None
    first_instance_at: datetime
    last_instance_at: datetime
    instances: int
    senders: Sequence[str]
    series: Sequence[SeriesStanding]
    versions: Sequence[VersionStory]
    events: Sequence[EventStory]


def tell_story(session: Session, study_id: int) -> StudyStory:
    """Read a study's story; its series as the newest job that looked saw them."""
    study = session.get_one(Study, study_id)
    received = select(Instance).join(Series).where(Series.study_id == study_id).subquery()
    return StudyStory(
        study_id=study.id,
        study_instance_uid=study.study_instance_uid,
        state=study.state,
        hold_reason=study.hold_reason,
        first_instance_at=study.first_instance_at,
        last_instance_at=study.last_instance_at,
        instances=session.scalars(select(func.count(received.c.sop_instance_uid.distinct()))).one(),
        senders=session.scalars(
            select(received.c.calling_ae_title).distinct().order_by(received.c.calling_ae_title)
        ).all(),
        series=series_standings(session, study_id),
        versions=_versions(session, study_id),
        events=_events(session, study.study_instance_uid),
    )


def _versions(session: Session, study_id: int) -> list[VersionStory]:
    rows = session.execute(
        select(StudyVersion, Job)
        .join(Job, Job.study_version_id == StudyVersion.id)
        .where(StudyVersion.study_id == study_id)
        .order_by(StudyVersion.number)
    ).all()
    counts = _manifest_counts(session, [version.id for version, _ in rows])
    return [
        VersionStory(
            number=version.number,
            frozen_at=version.frozen_at,
            completeness=version.completeness,
            instances=counts.get(version.id, 0),
            job_id=job.id,
            job_state=job.state,
            reason_code=job.reason_code,
            reason=job.reason,
            ended_at=job.ended_at,
            steps=_steps(session, job.id),
            result=None if job.result is None else _result(job.result),
            deliveries=_deliveries(session, job.result_id),
        )
        for version, job in rows
    ]


def _manifest_counts(session: Session, version_ids: Sequence[int]) -> dict[int, int]:
    rows = session.execute(
        select(ManifestEntry.study_version_id, func.count())
        .where(ManifestEntry.study_version_id.in_(version_ids))
        .group_by(ManifestEntry.study_version_id)
    )
    return {version_id: count for version_id, count in rows}  # noqa: C416 - rows aren't tuples to a type checker


def _steps(session: Session, job_id: int) -> list[StepStory]:
    runs = session.scalars(select(StepRun).where(StepRun.job_id == job_id).order_by(StepRun.fence))
    return [
        StepStory(
            step=run.step,
            claimed_by=run.claimed_by,
            started_at=run.started_at,
            seconds=_seconds(run),
            outcome=run.outcome,
            detail=run.detail,
        )
        for run in runs
    ]


def _seconds(run: StepRun) -> float | None:
    return None if run.finished_at is None else (run.finished_at - run.started_at).total_seconds()


def _result(result: Result) -> ResultStory:
    return ResultStory(
        result_uid=result.result_uid,
        verdict=result.verdict,
        grade=result.grade,
        is_calibrated=result.is_calibrated,
        attention_ml=result.attention_ml,
        appearance_distance=result.appearance_distance,
        probability=result.probability,
        model=f"{result.model_name} {result.model_version} {result.checkpoint_sha256[:12]}",
        trained_on_simulated=result.trained_on_simulated,
        created_at=result.created_at,
    )


def _deliveries(session: Session, result_id: int | None) -> list[DeliveryStory]:
    rows = session.execute(
        select(Delivery, ResultObject.sop_instance_uid)
        .join(ResultObject, ResultObject.id == Delivery.result_object_id)
        .where(ResultObject.result_id == result_id)
        .order_by(Delivery.destination, ResultObject.position)
    )
    return [
        DeliveryStory(
            destination=delivery.destination,
            sop_instance_uid=sop_instance_uid,
            state=delivery.state,
            attempts=delivery.attempts,
            status=delivery.status,
            detail=delivery.detail,
            sent_at=delivery.sent_at,
        )
        for delivery, sop_instance_uid in rows
    ]


def _events(session: Session, study_instance_uid: str) -> list[EventStory]:
    rows = session.execute(
        select(AuditRecord.occurred_at, AuditRecord.event_id, AuditRecord.outcome, AuditRecord.body)
        .where(study_of_record == study_instance_uid)
        .order_by(AuditRecord.occurred_at, AuditRecord.id)
    )
    bodies: list[tuple[datetime, str, int, dict[str, Any]]] = [
        (occurred_at, event_id, outcome, json.loads(body)) for occurred_at, event_id, outcome, body in rows
    ]
    return [
        EventStory(
            occurred_at=occurred_at,
            event=AuditEventId(event_id).meaning,
            outcome=outcome,
            detail=body["detail"],
            source=body["source"],
            target=body["target"],
            instances=sum(body["instances"].values()),
        )
        for occurred_at, event_id, outcome, body in bodies
    ]
