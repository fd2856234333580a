"""The tables of the ledger, and how a connection to them is made.

Columns named after a DICOM attribute hold its value; times are UTC by PostgreSQL's clock.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import (
    URL,
    BigInteger,
    CheckConstraint,
    ColumnClause,
    DateTime,
    Engine,
    Enum,
    ForeignKey,
    Identity,
    Index,
    MetaData,
    Text,
    UniqueConstraint,
    create_engine,
    func,
    literal_column,
    make_url,
)
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from dicom_node.reading.series_rules import SeriesRole as Role
from model.grade import Contrast, Grade, Verdict
from worker.records.comments import apply_comments
from worker.records.user_role import SessionKind, UserRole
from worker.states import (
    ACTIVE,
    UNDELIVERED,
    Completeness,
    DeliveryState,
    JobState,
    NotificationChannel,
    NotificationEvent,
    ReadingOrigin,
    StepOutcome,
    StudyState,
    WorkWord,
)

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


def _text_enum(words: type[StrEnum]) -> Enum:
    """Text with a CHECK: a PostgreSQL enum can't lose a word in a migration."""
    return Enum(
        words,
        name=words.__name__.lower(),
        native_enum=False,
        create_constraint=True,
        length=20,
        values_callable=lambda enum: [word.value for word in enum],
    )


_WORDS = (
    *(StudyState, Completeness, JobState, DeliveryState, StepOutcome, WorkWord, ReadingOrigin),
    *(Contrast, Grade, Verdict, Role),
    *(UserRole, SessionKind, NotificationEvent, NotificationChannel),
)


class Base(DeclarativeBase):
    """All tables of the ledger."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text,
        int: BigInteger,
        datetime: DateTime(timezone=True),
        **{words: _text_enum(words) for words in _WORDS},
    }


class Study(Base):
    """One study as its sender identifies it."""

    __tablename__ = "study"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(unique=True)
    patient_id: Mapped[str]
    issuer_of_patient_id: Mapped[str]
    patient_name: Mapped[str]
    patient_birth_date: Mapped[str]
    patient_sex: Mapped[str]
    accession_number: Mapped[str] = mapped_column(index=True)
    study_date: Mapped[str]
    study_description: Mapped[str]
    state: Mapped[StudyState] = mapped_column(default=StudyState.OPEN)
    hold_reason: Mapped[str | None]
    opened_at: Mapped[datetime] = mapped_column(
        server_default=func.now(), doc="When it became open, at first or by a late instance"
    )
    source_asked_at: Mapped[datetime | None]
    source_agreements: Mapped[int] = mapped_column(
        default=0, server_default="0", doc="Counts of the source in a row that were equal to ours"
    )
    first_instance_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_instance_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (Index(None, "state", "last_instance_at"),)


class Series(Base):
    """One series of a study."""

    __tablename__ = "series"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"))
    series_instance_uid: Mapped[str]
    modality: Mapped[str]
    series_number: Mapped[int | None]
    series_description: Mapped[str]
    manufacturer: Mapped[str] = mapped_column(default="", server_default="")
    manufacturer_model_name: Mapped[str] = mapped_column(default="", server_default="")
    station_name: Mapped[str] = mapped_column(default="", server_default="")

    study: Mapped[Study] = relationship()
    __table_args__ = (UniqueConstraint("study_id", "series_instance_uid"),)


class Instance(Base):
    """One received object; the spool holds its bytes under `sha256`."""

    __tablename__ = "instance"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    series_id: Mapped[int] = mapped_column(ForeignKey("series.id"), index=True)
    sop_instance_uid: Mapped[str]
    sop_class_uid: Mapped[str]
    transfer_syntax_uid: Mapped[str]
    sha256: Mapped[str]
    size_bytes: Mapped[int]
    calling_ae_title: Mapped[str]
    received_at: Mapped[datetime]
    indexed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    purged_at: Mapped[datetime | None]

    series: Mapped[Series] = relationship()
    __table_args__ = (UniqueConstraint("sop_instance_uid", "sha256"),)


class StudyVersion(Base):
    """A frozen manifest: what the study held when it was quiet, and what a person had said of its series."""

    __tablename__ = "study_version"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"))
    number: Mapped[int]
    manifest_sha256: Mapped[str]
    completeness: Mapped[Completeness] = mapped_column(
        default=Completeness.QUIET, server_default=Completeness.QUIET.value
    )
    frozen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    received_at: Mapped[datetime | None]

    study: Mapped[Study] = relationship()
    __table_args__ = (
        UniqueConstraint("study_id", "number"),
        UniqueConstraint("study_id", "manifest_sha256"),
    )


class ManifestEntry(Base):
    """One instance of a frozen manifest."""

    __tablename__ = "manifest_entry"

    study_version_id: Mapped[int] = mapped_column(ForeignKey("study_version.id"), primary_key=True)
    instance_id: Mapped[int] = mapped_column(ForeignKey("instance.id"), primary_key=True)


class Result(Base):
    """What was answered for one input: what the network said, or why it wasn't asked.

    The same input never makes a second row.
    """

    __tablename__ = "result"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"))
    result_uid: Mapped[str] = mapped_column(
        unique=True, doc="SHA-256 of input, checkpoint and pipeline version"
    )
    verdict: Mapped[Verdict | None]
    grade: Mapped[Grade | None]
    probability: Mapped[float | None]
    is_calibrated: Mapped[bool | None]
    threshold: Mapped[float | None]
    slice_count: Mapped[int | None]
    attention_ml: Mapped[float | None]
    appearance_distance: Mapped[float | None]
    reason_code: Mapped[str | None] = mapped_column(doc="Why there is no grade")
    reason: Mapped[str | None] = mapped_column(doc="The same in a sentence")
    model_name: Mapped[str]
    model_version: Mapped[str]
    checkpoint_sha256: Mapped[str]
    trained_on_simulated: Mapped[bool]
    pipeline_version: Mapped[str]
    manufacturer: Mapped[str] = mapped_column(default="", server_default="")
    manufacturer_model_name: Mapped[str] = mapped_column(default="", server_default="")
    station_name: Mapped[str] = mapped_column(default="", server_default="")
    predecessor_id: Mapped[int | None] = mapped_column(ForeignKey("result.id"), index=True)
    is_replaced: Mapped[bool] = mapped_column(default=False, server_default="false")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)

    __table_args__ = (
        CheckConstraint("probability BETWEEN 0 AND 1", name="probability"),
        CheckConstraint("(grade IS NULL) = (reason_code IS NOT NULL)", name="graded_or_not"),
        CheckConstraint(
            "(grade IS NOT NULL) = (verdict IS NOT DISTINCT FROM 'graded')", name="verdict_of_grade"
        ),
        CheckConstraint(
            "(probability IS NOT NULL) = (coalesce(verdict, '') IN ('graded', 'indeterminate'))",
            name="verdict_of_probability",
        ),
        Index(
            None,
            *("study_id", "id"),
            postgresql_include=["verdict", "grade", "is_replaced", "model_name", "model_version"],
        ),
        Index("ix_result_successor", "created_at", postgresql_where="predecessor_id IS NOT NULL"),
    )


class Job(Base):
    """The work on one study version: a state, and a fenced claim on it."""

    __tablename__ = "job"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    study_version_id: Mapped[int] = mapped_column(ForeignKey("study_version.id"), unique=True)
    state: Mapped[JobState] = mapped_column(default=JobState.PREPARE)
    reason_code: Mapped[str | None]
    reason: Mapped[str | None]
    result_uid: Mapped[str | None]
    result_id: Mapped[int | None] = mapped_column(ForeignKey("result.id"), index=True)
    fence: Mapped[int] = mapped_column(default=0, server_default="0")
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    claimed_by: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    not_before: Mapped[datetime | None]
    hinted_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ended_at: Mapped[datetime | None]

    study_version: Mapped[StudyVersion] = relationship()
    result: Mapped[Result | None] = relationship()
    __table_args__ = (
        Index(
            "ix_job_active",
            "state",
            "hinted_at",
            postgresql_where=f"state IN ({', '.join(repr(state.value) for state in ACTIVE)})",
        ),
        Index(None, "ended_at"),
        Index("ix_job_held", "created_at", postgresql_where="state = 'held'"),
        Index("ix_job_failed", "ended_at", postgresql_where="state IN ('held', 'not_gradable')"),
    )


class SecondReading(Base):
    """What another checkpoint made of a job's input; never sent, and never a study's result."""

    __tablename__ = "second_reading"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"))
    origin: Mapped[ReadingOrigin]
    verdict: Mapped[Verdict]
    grade: Mapped[Grade | None]
    probability: Mapped[float | None]
    threshold: Mapped[float]
    model_name: Mapped[str]
    model_version: Mapped[str]
    checkpoint_sha256: Mapped[str]
    trained_on_simulated: Mapped[bool]
    pipeline_version: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)

    __table_args__ = (
        UniqueConstraint("job_id", "checkpoint_sha256"),
        CheckConstraint("probability BETWEEN 0 AND 1", name="probability"),
        CheckConstraint("(grade IS NOT NULL) = (verdict = 'graded')", name="verdict_of_grade"),
        CheckConstraint(
            "(probability IS NOT NULL) = (verdict IN ('graded', 'indeterminate'))",
            name="verdict_of_probability",
        ),
    )


class StepRun(Base):
    """One claim of one step: who, when, and how it ended."""

    __tablename__ = "step_run"

    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"), primary_key=True)
    fence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    step: Mapped[JobState]
    claimed_by: Mapped[str]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]
    outcome: Mapped[StepOutcome | None]
    detail: Mapped[str | None]


class SeriesRole(Base):
    """The series a job took for a contrast, and why."""

    __tablename__ = "series_role"

    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"), primary_key=True)
    contrast: Mapped[Contrast] = mapped_column(primary_key=True)
    series_id: Mapped[int] = mapped_column(ForeignKey("series.id"))
    part: Mapped[str] = mapped_column(default="", server_default="", doc="Volume of a mixed series")
    confidence: Mapped[float]
    evidence: Mapped[str]

    series: Mapped[Series] = relationship()


class SeriesCandidate(Base):
    """What a job made of one series, or of one volume of a mixed one, chosen or not."""

    __tablename__ = "series_candidate"

    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"), primary_key=True)
    series_id: Mapped[int] = mapped_column(ForeignKey("series.id"), primary_key=True)
    part: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[Role]
    confidence: Mapped[float]
    evidence: Mapped[str]
    passed_over: Mapped[str | None] = mapped_column(doc="Why it was left out, or another taken before it")


class RoleDecision(Base):
    """A person's word on which series shows a contrast; the newest of a contrast counts."""

    __tablename__ = "role_decision"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"), index=True)
    contrast: Mapped[Contrast]
    series_id: Mapped[int] = mapped_column(ForeignKey("series.id"))
    part: Mapped[str]
    decided_by: Mapped[str]
    decided_at: Mapped[datetime] = mapped_column(server_default=func.now())


class WorkDecision(Base):
    """A person's word that a study is put to work again; a row is never changed."""

    __tablename__ = "work_decision"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"), index=True)
    decision: Mapped[WorkWord]
    decided_by: Mapped[str]
    decided_at: Mapped[datetime] = mapped_column(server_default=func.now())


class PreprocessingQuality(Base):
    """How well a job's study was brought to BraTS space: `model.space.quality.Quality`, by its names."""

    __tablename__ = "preprocessing_quality"

    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"), primary_key=True)
    brain_ml: Mapped[float]
    outside_grid: Mapped[float]
    atlas_similarity: Mapped[float]
    atlas_overlap: Mapped[float]
    head_rotation_degrees: Mapped[float]
    flair_similarity: Mapped[float]
    t2_similarity: Mapped[float]
    flair_overlap: Mapped[float]
    t2_overlap: Mapped[float]
    flair_rotation_degrees: Mapped[float]
    t2_rotation_degrees: Mapped[float]
    flair_shift_mm: Mapped[float]
    t2_shift_mm: Mapped[float]
    flair_coverage: Mapped[float]
    t1ce_coverage: Mapped[float]
    t2_coverage: Mapped[float]
    warnings: Mapped[str] = mapped_column(doc="Measures beyond their warning limits, separated by commas")


class ResultObject(Base):
    """One serialised DICOM object of a result, in sending order; resends use these same bytes."""

    __tablename__ = "result_object"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    result_id: Mapped[int] = mapped_column(ForeignKey("result.id"))
    position: Mapped[int]
    sop_class_uid: Mapped[str]
    sop_instance_uid: Mapped[str] = mapped_column(unique=True)
    series_instance_uid: Mapped[str]
    sha256: Mapped[str]
    size_bytes: Mapped[int]
    purged_at: Mapped[datetime | None]

    result: Mapped[Result] = relationship()
    __table_args__ = (UniqueConstraint("result_id", "position"),)


class DestinationState(Base):
    """One destination: the fenced claim on sending to it, and since when it has been failing."""

    __tablename__ = "destination_state"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    fence: Mapped[int] = mapped_column(default=0, server_default="0")
    claimed_by: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    not_before: Mapped[datetime | None]
    hinted_at: Mapped[datetime | None]
    failures: Mapped[int] = mapped_column(default=0, server_default="0", doc="Since it last took something")
    failing_since: Mapped[datetime | None]
    alerted_at: Mapped[datetime | None]
    detail: Mapped[str | None]


class Commitment(Base):
    """One request for storage commitment to one destination."""

    __tablename__ = "commitment"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    transaction_uid: Mapped[str] = mapped_column(unique=True)
    destination: Mapped[str] = mapped_column(ForeignKey("destination_state.name"))
    requested_at: Mapped[datetime] = mapped_column(server_default=func.now())
    answered_at: Mapped[datetime | None]


class Delivery(Base):
    """One object on its way to one destination."""

    __tablename__ = "delivery"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    result_object_id: Mapped[int] = mapped_column(ForeignKey("result_object.id"))
    destination: Mapped[str] = mapped_column(ForeignKey("destination_state.name"))
    state: Mapped[DeliveryState] = mapped_column(default=DeliveryState.PENDING)
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    status: Mapped[int | None] = mapped_column(doc="C-STORE response status of the last attempt")
    detail: Mapped[str | None]
    not_before: Mapped[datetime | None]
    sent_at: Mapped[datetime | None]
    failed_at: Mapped[datetime | None]

    result_object: Mapped[ResultObject] = relationship()
    __table_args__ = (
        UniqueConstraint("result_object_id", "destination"),
        CheckConstraint("(state = 'failed') = (failed_at IS NOT NULL)", name="failed_at"),
        Index(
            "ix_delivery_waiting",
            "destination",
            "not_before",
            postgresql_where=f"state IN ({', '.join(repr(state.value) for state in UNDELIVERED)})",
        ),
        Index("ix_delivery_failed", "failed_at", postgresql_where="state = 'failed'"),
    )


class AuditSegment(Base):
    """How far one file of the audit trail has been copied."""

    __tablename__ = "audit_segment"

    name: Mapped[str] = mapped_column(primary_key=True)
    copied_bytes: Mapped[int]
    last_sha256: Mapped[str]
    broken: Mapped[bool] = mapped_column(default=False, server_default="false")


study_of_record: ColumnClause[str] = literal_column(
    """substring(body, '"study_instance_uid":"([^"]{0,64})"')""", Text
)
"""Study Instance UID of an audit record, found in the text of its body, which the chain ties.

PostgreSQL would not parse JSON that holds a NUL. Quotes within a value are escaped: no other place matches.
"""


class AuditRecord(Base):
    """One event of the audit trail (PS3.15 A.5), tied to the row before it by `chain_sha256`."""

    __tablename__ = "audit_record"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False, doc="1, 2, 3 … without a gap")
    segment: Mapped[str]
    line_sha256: Mapped[str]
    occurred_at: Mapped[datetime]
    event_id: Mapped[str]
    outcome: Mapped[int]
    body: Mapped[str] = mapped_column(doc="The event as it stands in the segment, JSON")
    chain_sha256: Mapped[str]
    forwarded_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("segment", "line_sha256"),
        Index("ix_audit_record_study", study_of_record),
        Index("ix_audit_record_unforwarded", "id", postgresql_where="forwarded_at IS NULL"),
    )


class Heartbeat(Base):
    """One worker, as its own consumer last said that it lives."""

    __tablename__ = "heartbeat"

    worker: Mapped[str] = mapped_column(primary_key=True, doc="host:pid, as in job.claimed_by")
    queues: Mapped[str]
    started_at: Mapped[datetime]
    beaten_at: Mapped[datetime]


class SweepState(Base):
    """The newest sweep: one row, made with the table, so that a sweep that never came is missed too."""

    __tablename__ = "sweep_state"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    ended_at: Mapped[datetime] = mapped_column(server_default=func.now())
    oldest_unindexed_at: Mapped[datetime | None]

    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)


class Feedback(Base):
    """What is known of a study's grade from elsewhere; a row is never changed, the newest counts."""

    __tablename__ = "feedback"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"))
    grade: Mapped[Grade]
    source: Mapped[str]
    given_by: Mapped[str]
    given_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (Index(None, "study_id", "id", postgresql_include=["grade"]),)


class WebUser(Base):
    """One account of the web page."""

    __tablename__ = "web_user"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]
    role: Mapped[UserRole]
    disabled_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class WebSession(Base):
    """One login of a browser, or one token of a program; of its secret only a digest is kept."""

    __tablename__ = "web_session"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("web_user.id"), index=True)
    kind: Mapped[SessionKind]
    token_sha256: Mapped[str] = mapped_column(unique=True)
    opened_at: Mapped[datetime] = mapped_column(server_default=func.now())
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]

    user: Mapped[WebUser] = relationship()


class LoginAttempt(Base):
    """One login that has failed, or is being tried; the name as a digest, for people type passwords there."""

    __tablename__ = "login_attempt"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name_sha256: Mapped[str]
    address: Mapped[str]
    tried_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)


class Notification(Base):
    """One event that a person is told by one channel, once: the outbox. Names no patient."""

    __tablename__ = "notification"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    event_key: Mapped[str] = mapped_column(doc="What makes the event this one and no other")
    channel: Mapped[NotificationChannel]
    event: Mapped[NotificationEvent]
    study_id: Mapped[int | None]
    job_id: Mapped[int | None]
    destination: Mapped[str | None]
    state: Mapped[str]
    reason_code: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    detail: Mapped[str | None] = mapped_column(doc="Why it could not be told")
    not_before: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    told_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("event_key", "channel"),
        Index("ix_notification_waiting", "channel", "id", postgresql_where="told_at IS NULL"),
    )


apply_comments(Base.metadata)


class DatabaseUrlError(Exception):
    """The setting `database_url` is no URL of PostgreSQL. The message says how it is written."""


def create_ledger_engine(database_url: str, **options: Any) -> Engine:  # noqa: ANN401 - SQLAlchemy's own
    """Make an engine for one process; after a fork each process makes its own.

    Parameters stay out of errors and logs, because some of them name a patient. Raises DatabaseUrlError.
    """
    return create_engine(
        _postgres_url(database_url),
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={
            "connect_timeout": 5,
            "options": "-c timezone=UTC -c lock_timeout=5s -c statement_timeout=60s"
            " -c idle_in_transaction_session_timeout=60s",
        },
        **options,
    )


def is_unreachable(error: DBAPIError) -> bool:
    """Whether there was no connection, or it broke; else PostgreSQL didn't carry out a statement."""
    return error.statement is None or error.connection_invalidated


def _postgres_url(text: str) -> URL:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        url = None
    if url is None or url.drivername != "postgresql+psycopg":
        raise DatabaseUrlError(
            "GLIOGRADE_DATABASE_URL isn't a PostgreSQL URL; "
            "write it as postgresql+psycopg://USER:PASSWORD@HOST:5432/DATABASE"
        )
    return url
