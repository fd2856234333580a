"""What a person says of a study's series, and what the node made of them.

A decision is a row that is never changed; of each contrast the newest counts. A study version is a manifest
together with the decisions made so far: a decision freezes a new version, and a job never goes back. So the
job of one version always sees the same instances and the same decisions.
"""

import getpass
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ScalarSelect, func, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from dicom_node.reading.series_choice import SeriesPart
from dicom_node.reading.series_parts import WHOLE
from dicom_node.reading.series_rules import SeriesRole
from model.grade import Contrast
from worker.records import database
from worker.records.database import Instance, RoleDecision, Series, SeriesCandidate, Study
from worker.states import StudyState
from worker.study.freezing import freeze_decisions


class RolesError(Exception):
    """A study, series or contrast isn't there, or can't be decided on now. The message says which."""


@dataclass(frozen=True, slots=True)
class SeriesStanding:
    """One volume of a study, what it is taken for and why, or why it is passed over.

    `role` and what follows are None where no job has looked at it yet. `taken_as` is the contrast that
    this job took it for. The series' own name is for the person who asks, never for a log.
    """

    series_number: int | None
    series_instance_uid: str
    series_description: str
    part: str
    instances: int
    role: SeriesRole | None
    confidence: float | None
    evidence: str | None
    passed_over: str | None
    taken_as: Contrast | None
    decided_as: Contrast | None
    decided_by: str | None
    decided_at: datetime | None


def own_name() -> str:
    """Name of the user who runs this process, by number where it has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def parse_roles(texts: Sequence[str]) -> dict[Contrast, str]:
    """Read CONTRAST=SERIES as a person writes it; raises RolesError."""
    named: dict[Contrast, str] = {}
    for text in texts:
        word, _, series = text.partition("=")
        if word.lower() not in set(Contrast) or not series:
            raise RolesError(f"{text}: say flair, t1ce or t2, then = and a series, as in t1ce=5")
        if named.setdefault(Contrast(word.lower()), series) != series:
            raise RolesError(f"two series are named for {word.lower()}")
    return named


def find_study(session: Session, name: str) -> Study:
    """Find a study by our number or by its Study Instance UID; raises RolesError."""
    by_number = Study.id == int(name) if name.isdecimal() and len(name) < 19 else None
    by_uid = Study.study_instance_uid == name
    study = session.scalars(select(Study).where(by_uid if by_number is None else by_number | by_uid)).first()
    if study is None:
        raise RolesError(f"there is no study {name}")
    return study


def load_decisions(session: Session, study_id: int) -> dict[Contrast, SeriesPart]:
    """Read which series a person set for a study's contrasts."""
    rows = session.execute(
        select(RoleDecision.contrast, Series.series_instance_uid, RoleDecision.part)
        .join(Series, Series.id == RoleDecision.series_id)
        .where(RoleDecision.study_id == study_id)
        .ext(distinct_on(RoleDecision.contrast))
        .order_by(RoleDecision.contrast, RoleDecision.id.desc())
    )
    return {contrast: (uid, part) for contrast, uid, part in rows}


def decide_roles(
    session: Session, study_id: int, named: Mapping[Contrast, str], decided_by: str
) -> int | None:
    """Record what a person says, and put the study to work again; returns the new version's number.

    `named` gives a series by its number or UID, and one volume of it behind a colon ("4:TE 95"). None is
    returned where the study is still arriving: the decision then counts for its coming version. Raises
    RolesError.
    """
    study = session.get_one(Study, study_id, with_for_update=True)
    if study.state is StudyState.HELD:
        raise RolesError(f"study {study.id} is held and can't be graded: {study.hold_reason}")
    decided = load_decisions(session, study.id)
    for contrast, name in named.items():
        series, part = _find_series(session, study.id, name)
        decided[contrast] = (series.series_instance_uid, part)
        session.add(
            RoleDecision(
                study_id=study.id, contrast=contrast, series_id=series.id, part=part, decided_by=decided_by
            )
        )
    if len(set(decided.values())) < len(decided):
        raise RolesError("one series can't be set for two contrasts")
    session.flush()
    return freeze_decisions(session, study) if study.state is StudyState.STABLE else None


def series_standings(session: Session, study_id: int) -> Sequence[SeriesStanding]:
    """Every series of a study as the last job that looked saw it, by series number."""
    job_id = _last_look(study_id)
    counts = (
        select(Instance.series_id, func.count(Instance.sop_instance_uid.distinct()).label("instances"))
        .group_by(Instance.series_id)
        .subquery()
    )
    part = func.coalesce(SeriesCandidate.part, WHOLE).label("part")
    rows = session.execute(
        select(Series, part, counts.c.instances, SeriesCandidate, database.SeriesRole.contrast)
        .join(counts, counts.c.series_id == Series.id)
        .outerjoin(
            SeriesCandidate, (SeriesCandidate.series_id == Series.id) & (SeriesCandidate.job_id == job_id)
        )
        .outerjoin(
            database.SeriesRole,
            (database.SeriesRole.series_id == Series.id)
            & (database.SeriesRole.job_id == job_id)
            & (database.SeriesRole.part == SeriesCandidate.part),
        )
        .where(Series.study_id == study_id)
        .order_by(Series.series_number.asc().nulls_last(), Series.id, part)
    ).all()
    newest = session.scalars(
        select(RoleDecision)
        .where(RoleDecision.study_id == study_id)
        .ext(distinct_on(RoleDecision.contrast))
        .order_by(RoleDecision.contrast, RoleDecision.id.desc())
    )
    decisions = {(row.series_id, row.part): row for row in newest}
    return [
        SeriesStanding(
            series_number=series.series_number,
            series_instance_uid=series.series_instance_uid,
            series_description=series.series_description,
            part=label,
            instances=instances,
            role=candidate and candidate.role,
            confidence=candidate and candidate.confidence,
            evidence=candidate and candidate.evidence,
            passed_over=candidate and candidate.passed_over,
            taken_as=contrast,
            decided_as=decision.contrast if decision else None,
            decided_by=decision.decided_by if decision else None,
            decided_at=decision.decided_at if decision else None,
        )
        for series, label, instances, candidate, contrast in rows
        for decision in [decisions.get((series.id, label))]
    ]


def _last_look(study_id: int) -> ScalarSelect[int]:
    """The newest job of a study that has described its series."""
    return (
        select(func.max(SeriesCandidate.job_id))
        .join(Series, Series.id == SeriesCandidate.series_id)
        .where(Series.study_id == study_id)
        .scalar_subquery()
    )


def _find_series(session: Session, study_id: int, name: str) -> tuple[Series, str]:
    word, _, part = name.partition(":")
    found = [
        series
        for series in session.scalars(select(Series).where(Series.study_id == study_id))
        if word in (str(series.series_number), series.series_instance_uid)
    ]
    if not found:
        raise RolesError(f"study {study_id} has no series {word}")
    if len(found) > 1:
        raise RolesError(
            f"study {study_id} has {len(found)} series {word}: name one by its Series Instance UID"
        )
    (series,) = found
    parts = session.scalars(
        select(SeriesCandidate.part).where(
            SeriesCandidate.series_id == series.id, SeriesCandidate.job_id == _last_look(study_id)
        )
    ).all()
    if parts and part not in parts:
        choices = ", ".join(f"{word}:{label}" for label in sorted(parts) if label)
        raise RolesError(
            f"say which volume of series {word}: {choices}" if choices else f"series {word} is one volume"
        )
    return series, part
