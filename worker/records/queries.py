"""What people ask the ledger: where each study stands, and what its result is."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import ARRAY, BigInteger, ColumnElement, Select, any_, exists, func, literal, select
from sqlalchemy.orm import Session, aliased

from model.grade import Contrast, Grade, Verdict
from worker.records.database import (
    Delivery,
    Instance,
    Job,
    PreprocessingQuality,
    Result,
    ResultObject,
    Series,
    SeriesRole,
    StepRun,
    Study,
    StudyVersion,
)
from worker.records.wanted import Wanted
from worker.states import DELIVERED, Completeness, DeliveryState, JobState, StepOutcome, StudyState

EVERY_STUDY = Wanted()


@dataclass(frozen=True, slots=True)
class TakenSeries:
    """The series a study's job took for a contrast."""

    series_number: int | None
    series_description: str
    confidence: float
    evidence: str


@dataclass(frozen=True, slots=True)
class StudyStanding:
    """One study, its newest version's job and result. `patient_id` is for the analyst, never for a log."""

    study_id: int
    study_instance_uid: str
    patient_id: str
    accession_number: str
    study_date: str
    study_state: StudyState
    hold_reason: str | None
    instances: int
    first_instance_at: datetime
    last_instance_at: datetime
    version: int | None
    completeness: Completeness | None
    job_id: int | None
    job_state: JobState | None
    reason_code: str | None
    reason: str | None
    preprocessing_warnings: str | None
    frozen_at: datetime | None
    ended_at: datetime | None
    result_uid: str | None
    verdict: Verdict | None
    grade: Grade | None
    probability: float | None
    is_calibrated: bool | None
    attention_ml: float | None
    appearance_distance: float | None
    model_name: str | None
    model_version: str | None
    checkpoint_sha256: str | None
    trained_on_simulated: bool | None
    now: datetime
    roles: dict[Contrast, TakenSeries] = field(default_factory=dict)
    deliveries: Counter[DeliveryState] = field(default_factory=Counter)
    step_seconds: dict[JobState, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """From the last instance to the end of the work, or until now."""
        return max(0.0, ((self.ended_at or self.now) - self.last_instance_at).total_seconds())

    @property
    def delivered(self) -> tuple[int, int]:
        """Deliveries made, and all of them."""
        made = sum(self.deliveries[state] for state in DELIVERED)
        return made, self.deliveries.total()


def study_standings(
    session: Session, limit: int | None = None, wanted: Wanted = EVERY_STUDY
) -> list[StudyStanding]:
    """Every study that is wanted with its newest job, newest study first."""
    # asked a study at a time, so that a page of the newest reads no other
    instances = (
        select(func.count())
        .join_from(Series, Instance, Instance.series_id == Series.id)
        .where(Series.study_id == Study.id)
        .scalar_subquery()
    )
    rows = session.execute(
        select(
            Study.id.label("study_id"),
            Study.study_instance_uid,
            Study.patient_id,
            Study.accession_number,
            Study.study_date,
            Study.state.label("study_state"),
            Study.hold_reason,
            instances.label("instances"),
            Study.first_instance_at,
            Study.last_instance_at,
            StudyVersion.number.label("version"),
            StudyVersion.completeness,
            Job.id.label("job_id"),
            Job.state.label("job_state"),
            Job.reason_code,
            Job.reason,
            PreprocessingQuality.warnings.label("preprocessing_warnings"),
            StudyVersion.frozen_at,
            Job.ended_at,
            Result.result_uid,
            Result.verdict,
            Result.grade,
            Result.probability,
            Result.is_calibrated,
            Result.attention_ml,
            Result.appearance_distance,
            Result.model_name,
            Result.model_version,
            Result.checkpoint_sha256,
            Result.trained_on_simulated,
            func.now().label("now"),
        )
        .select_from(Study)
        .outerjoin(StudyVersion, (StudyVersion.study_id == Study.id) & is_newest_version())
        .outerjoin(Job, Job.study_version_id == StudyVersion.id)
        .outerjoin(PreprocessingQuality, PreprocessingQuality.job_id == Job.id)
        .outerjoin(Result, Result.id == Job.result_id)
        .where(*wanted.conditions())
        .order_by(Study.id.desc())
        .limit(limit)
    ).mappings()
    standings = [StudyStanding(**row) for row in rows]
    _add_details(
        session, {standing.job_id: standing for standing in standings if standing.job_id is not None}
    )
    return standings


def state_counts(session: Session) -> dict[JobState, int]:
    """How many jobs are in each state."""
    rows = session.execute(select(Job.state, func.count()).group_by(Job.state))
    return {state: count for state, count in rows}  # noqa: C416 - rows aren't tuples to a type checker


def live_results() -> Select[int]:
    """Ids of the results that were sent or will be: not those whose job ended before anything was sent."""
    return select(Result.id).where(
        exists().where(Job.result_id == Result.id, Job.state != JobState.SUPERSEDED).correlate(Result)
    )


def is_newest_version() -> ColumnElement[bool]:
    """No later version of the study has taken this StudyVersion's place."""
    newer = aliased(StudyVersion)
    later = (newer.study_id == StudyVersion.study_id) & (newer.number > StudyVersion.number)
    return ~select(newer.id).where(later).correlate(StudyVersion).exists()


def _add_details(session: Session, by_job: dict[int, StudyStanding]) -> None:
    # one parameter whatever their number: of those a statement takes no more than 65,535
    jobs = literal(list(by_job), ARRAY(BigInteger))
    roles = session.execute(
        select(SeriesRole, Series.series_number, Series.series_description)
        .join(Series, Series.id == SeriesRole.series_id)
        .where(SeriesRole.job_id == any_(jobs))
    )
    for role, number, description in roles:
        taken = TakenSeries(number, description, role.confidence, role.evidence)
        by_job[role.job_id].roles[role.contrast] = taken
    deliveries = session.execute(
        select(Job.id, Delivery.state, func.count())
        .join(ResultObject, ResultObject.result_id == Job.result_id)
        .join(Delivery, Delivery.result_object_id == ResultObject.id)
        .where(Job.id == any_(jobs))
        .group_by(Job.id, Delivery.state)
    )
    for job_id, state, count in deliveries:
        by_job[job_id].deliveries[state] = count
    seconds: defaultdict[tuple[int, JobState], float] = defaultdict(float)
    runs = session.scalars(
        select(StepRun).where(StepRun.job_id == any_(jobs), StepRun.outcome == StepOutcome.DONE)
    )
    for run in runs:
        if run.finished_at is not None:
            seconds[run.job_id, run.step] += (run.finished_at - run.started_at).total_seconds()
    for (job_id, step), value in seconds.items():
        by_job[job_id].step_seconds[step] = value
