"""Which studies a person asks for."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum

from sqlalchemy import ColumnElement, or_, select

from model.grade import Grade
from worker.records.database import Job, Result, Series, Study
from worker.states import JobState, StudyState


class Standing(StrEnum):
    """Where a study stands, in the words of `status`."""

    ARRIVING = "arriving"
    PREPARE = JobState.PREPARE.value
    GRADE = JobState.GRADE.value
    REPORT = JobState.REPORT.value
    DELIVER = JobState.DELIVER.value
    DONE = JobState.DONE.value
    NOT_GRADABLE = JobState.NOT_GRADABLE.value
    HELD = JobState.HELD.value
    SUPERSEDED = JobState.SUPERSEDED.value


@dataclass(frozen=True, slots=True)
class Wanted:
    """A filter on studies; what is None doesn't filter. Days are UTC, and both are included."""

    since: date | None = None
    until: date | None = None
    state: Standing | None = None
    grade: Grade | None = None
    model: str | None = None
    scanner: str | None = None
    minimum_probability: float | None = None
    maximum_probability: float | None = None
    before_study: int | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """Build conditions on a study, its newest job and that job's result.

        `model` is a name, or name and version; `scanner` a part of what a series says of its scanner.
        """
        conditions: list[ColumnElement[bool]] = []
        if self.since is not None:
            conditions.append(Study.first_instance_at >= _midnight(self.since))
        if self.until is not None:
            conditions.append(Study.first_instance_at < _midnight(self.until) + timedelta(days=1))
        if self.state is not None:
            conditions.append(_stands(self.state))
        if self.grade is not None:
            conditions.append(Result.grade == self.grade)
        if self.model is not None:
            named = Result.model_name + " " + Result.model_version
            conditions.append(or_(Result.model_name == self.model, named == self.model))
        if self.scanner is not None:
            conditions.append(_is_from(self.scanner))
        if self.minimum_probability is not None:
            conditions.append(Result.probability >= self.minimum_probability)
        if self.maximum_probability is not None:
            conditions.append(Result.probability <= self.maximum_probability)
        if self.before_study is not None:
            conditions.append(Study.id < self.before_study)
        return conditions


def _stands(state: Standing) -> ColumnElement[bool]:
    if state is Standing.ARRIVING:
        return Study.state == StudyState.OPEN
    in_job = (Study.state == StudyState.STABLE) & (Job.state == JobState(state.value))
    return or_(in_job, Study.state == StudyState.HELD) if state is Standing.HELD else in_job


def _is_from(scanner: str) -> ColumnElement[bool]:
    named = Series.manufacturer + " " + Series.manufacturer_model_name + " " + Series.station_name
    theirs = (Series.study_id == Study.id) & named.icontains(scanner, autoescape=True)
    return select(Series.id).where(theirs).correlate(Study).exists()


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
