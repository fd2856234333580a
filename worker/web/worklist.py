"""The worklist: where each study stands, a page at a time, and the search for one."""

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from model.grade import Grade
from worker.answers.tables import delivered_text, state_text
from worker.records.database import Study
from worker.records.queries import StudyStanding, study_standings
from worker.records.wanted import Wanted

PAGE_ROWS = 25
MOST_FOUND = 50


@dataclass(frozen=True, slots=True)
class WorklistItem:
    """One study as the worklist shows it: no name and no Patient ID; times are UTC."""

    study_id: int
    accession_number: str
    study_date: str
    received_at: datetime
    instances: int
    state: str
    grade: Grade | None
    probability: float | None
    trained_on_simulated: bool | None
    delivered: str
    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class WorklistPage:
    """Some studies, newest first; `before` asks for the next page and is None on the last."""

    items: list[WorklistItem]
    before: int | None


def read_worklist(session: Session, wanted: Wanted, before: int | None = None) -> WorklistPage:
    """Read one page of the studies that are wanted, those with a lower number than `before`."""
    standings = study_standings(session, PAGE_ROWS + 1, replace(wanted, before_study=before))
    items = [_item(standing) for standing in standings[:PAGE_ROWS]]
    return WorklistPage(items, items[-1].study_id if len(standings) > PAGE_ROWS else None)


def find_studies(session: Session, words: str) -> list[int]:
    """Numbers of the studies of an accession number or a Patient ID, given in full; newest first."""
    found = select(Study.id).where(or_(Study.accession_number == words, Study.patient_id == words))
    return list(session.scalars(found.order_by(Study.id.desc()).limit(MOST_FOUND)))


def _item(standing: StudyStanding) -> WorklistItem:
    return WorklistItem(
        study_id=standing.study_id,
        accession_number=standing.accession_number,
        study_date=standing.study_date,
        received_at=standing.first_instance_at,
        instances=standing.instances,
        state=state_text(standing).plain,
        grade=standing.grade,
        probability=standing.probability,
        trained_on_simulated=standing.trained_on_simulated,
        delivered=delivered_text(standing),
        seconds=standing.seconds,
        reason=standing.hold_reason or standing.reason or "",
    )
