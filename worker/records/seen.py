"""What a job saw of its study's series, as rows of the ledger."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from sqlalchemy import delete, insert, literal, select
from sqlalchemy.orm import Session

from dicom_node.reading.series_choice import SeriesChoice, passed_over
from dicom_node.reading.series_description import SeriesDescription
from model.grade import Contrast
from model.space.quality import Quality, list_warnings
from worker.records.database import PreprocessingQuality, SeriesCandidate, SeriesRole

TABLES = (SeriesCandidate, SeriesRole, PreprocessingQuality)


def copy_seen(session: Session, from_job_id: int, to_job_id: int) -> None:
    """Let a job that goes on with another's result show what that one saw."""
    for table in TABLES:
        others = [column for column in table.__table__.columns if column.name != "job_id"]
        rows = select(literal(to_job_id), *others).where(table.job_id == from_job_id)
        session.execute(insert(table).from_select(["job_id", *(column.name for column in others)], rows))


@dataclass(frozen=True, slots=True)
class Seen:
    """Every volume of a study as one job described it, and what it chose so far.

    `series_ids` are row ids, keyed by Series Instance UID.
    """

    job_id: int
    series_ids: Mapping[str, int]
    described: Sequence[SeriesDescription]
    choices: Mapping[Contrast, SeriesChoice] = field(default_factory=dict)
    quality: Quality | None = None

    def with_choices(self, choices: Mapping[Contrast, SeriesChoice]) -> "Seen":
        """The same with a choice made."""
        return replace(self, choices=choices)

    def with_quality(self, quality: Quality) -> "Seen":
        """The same with the way to BraTS space measured."""
        return replace(self, quality=quality)

    def write(self, session: Session) -> None:
        """Put it down in place of what an earlier attempt of the job saw."""
        for table in TABLES:
            session.execute(delete(table).where(table.job_id == self.job_id))
        if self.quality is not None:
            warnings = ",".join(list_warnings(self.quality))
            session.add(PreprocessingQuality(job_id=self.job_id, warnings=warnings, **asdict(self.quality)))
        session.add_all(
            SeriesCandidate(
                job_id=self.job_id,
                series_id=self.series_ids[one.series_instance_uid],
                part=one.part,
                role=one.role,
                confidence=one.confidence,
                evidence=one.evidence,
                passed_over=passed_over(one, self.described, self.choices),
            )
            for one in self.described
        )
        session.add_all(
            SeriesRole(
                job_id=self.job_id,
                contrast=contrast,
                series_id=self.series_ids[choice.series_instance_uid],
                part=choice.part,
                confidence=choice.confidence,
                evidence=choice.evidence,
            )
            for contrast, choice in self.choices.items()
        )
