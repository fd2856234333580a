"""Figures of the last days, from the views that docs/query.md describes."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from sqlalchemy import text
from sqlalchemy.orm import Session

PERIODS: Final = (7, 30, 90, 365)
MOST_FAILURES: Final = 200


@dataclass(frozen=True, slots=True)
class Turnaround:
    """Seconds from a complete study to its last object at a destination, of jobs that ended on one day."""

    day: date
    count: int
    median: float
    percentile_95: float


@dataclass(frozen=True, slots=True)
class GradesOfDay:
    """Grades given on one day."""

    day: date
    hgg: int
    lgg: int


@dataclass(frozen=True, slots=True)
class FailuresOfReason:
    """How many things still need a person, by what they are."""

    kind: str
    reason_code: str
    count: int


@dataclass(frozen=True, slots=True)
class Failure:
    """One thing that a person has to look at."""

    kind: str
    study_id: int
    destination: str | None
    state: str
    reason_code: str | None
    reason: str | None
    since: datetime | None
    objects: int | None
    """How many of a study's objects the destination refused."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How two models agree on the studies that both have seen; `agreement` is that of those both graded."""

    older_model: str
    newer_model: str
    count: int
    other_verdicts: int
    agreement: float | None
    mean_change: float | None


@dataclass(frozen=True, slots=True)
class Drift:
    """What was graded in one week of the studies of one scanner, named by their T1 post-contrast series."""

    manufacturer: str
    model: str
    station: str
    week: date
    count: int
    mean_probability: float
    hgg_share: float

    @property
    def scanner(self) -> str:
        """The scanner in one line."""
        return " ".join(filter(None, (self.manufacturer, self.model, self.station))) or "not named"


def read_turnaround(session: Session, days: int) -> list[Turnaround]:
    """Read the turnaround by day, oldest first."""
    rows = session.execute(
        text("""
            SELECT ended_at::date, count(*),
                   percentile_cont(0.5) WITHIN GROUP (ORDER BY delivery_seconds),
                   percentile_cont(0.95) WITHIN GROUP (ORDER BY delivery_seconds)
            FROM v_turnaround
            WHERE state = 'done' AND delivery_seconds IS NOT NULL
              AND ended_at > now() - :days * interval '1 day'
            GROUP BY 1 ORDER BY 1
        """),
        {"days": days},
    )
    return [Turnaround(*row) for row in rows]


def read_grades(session: Session, days: int) -> list[GradesOfDay]:
    """Count the grades by day, oldest first."""
    rows = session.execute(
        text("""
            SELECT created_at::date, count(*) FILTER (WHERE grade = 'HGG'),
                   count(*) FILTER (WHERE grade = 'LGG')
            FROM v_results WHERE created_at > now() - :days * interval '1 day' GROUP BY 1 ORDER BY 1
        """),
        {"days": days},
    )
    return [GradesOfDay(*row) for row in rows]


def count_failures(session: Session, days: int) -> list[FailuresOfReason]:
    """Count what still needs a person by its reason, most frequent first."""
    rows = session.execute(
        text("""
            SELECT kind, coalesce(reason_code, state) AS code, count(*) FROM v_failures
            WHERE since > now() - :days * interval '1 day' GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2
        """),
        {"days": days},
    )
    return [FailuresOfReason(*row) for row in rows]


def read_failures(session: Session, days: int) -> list[Failure]:
    """Read what needs a person, newest first."""
    rows = session.execute(
        text("""
            SELECT kind, study_id, destination, state, reason_code, reason, since, objects FROM v_failures
            WHERE since > now() - :days * interval '1 day' ORDER BY since DESC, study_id DESC LIMIT :most
        """),
        {"days": days, "most": MOST_FAILURES},
    )
    return [Failure(*row) for row in rows]


def read_agreement(session: Session, days: int) -> list[Agreement]:
    """Compare the models that have seen the same studies."""
    rows = session.execute(
        text("""
            SELECT older_model, newer_model, count(*),
                   count(*) FILTER (WHERE older_verdict <> newer_verdict), avg(agree::int)::float8,
                   avg(abs(probability_change))::float8
            FROM v_model_agreement WHERE created_at > now() - :days * interval '1 day'
            GROUP BY 1, 2 ORDER BY 1, 2
        """),
        {"days": days},
    )
    return [Agreement(*row) for row in rows]


def shows_simulated(session: Session, days: int) -> bool:
    """Tell whether any of these numbers comes from weights that have seen simulated tumours only."""
    asked = text("""
        SELECT EXISTS (SELECT FROM v_results
                       WHERE trained_on_simulated AND created_at > now() - :days * interval '1 day')
    """)
    return bool(session.scalar(asked, {"days": days}))


def read_drift(session: Session, days: int) -> list[Drift]:
    """Follow what is graded of each scanner's studies by week: a jump is a scanner that was changed."""
    rows = session.execute(
        text("""
            SELECT manufacturer, manufacturer_model_name, station_name, date_trunc('week', created_at)::date,
                   count(*), avg(probability)::float8, avg((grade = 'HGG')::int)::float8
            FROM v_results
            WHERE is_current AND verdict = 'graded' AND created_at > now() - :days * interval '1 day'
            GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
        """),
        {"days": days},
    )
    return [Drift(*row) for row in rows]
