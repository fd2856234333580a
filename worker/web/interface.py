"""The interface for programs, /api/v1: the same data as JSON. It only reads."""

from dataclasses import dataclass

from fastapi import APIRouter, Request

from worker.answers.study_story import StudyStory, tell_story
from worker.web import figures
from worker.web.asking import Before, Days, WantedStudies
from worker.web.figures import Agreement, Drift, Failure, GradesOfDay, Turnaround
from worker.web.guard import Ledger, Reader, WebOf, note_look
from worker.web.study_pages import find_row, read_report
from worker.web.worklist import WorklistPage, read_worklist

router = APIRouter(prefix="/api/v1")


@dataclass(frozen=True, slots=True)
class ReportText:
    """The content tree of a Structured Report, one item a line."""

    text: str


@router.get("/studies")
def list_studies(
    session: Ledger, visitor: Reader, wanted: WantedStudies, before: Before = None
) -> WorklistPage:
    """List studies, newest first, a page at a time."""
    del visitor
    return read_worklist(session, wanted, before)


@router.get("/studies/{study_id}")
def get_study(request: Request, session: Ledger, visitor: Reader, study_id: int) -> StudyStory:
    """Tell a study's story: series and their roles, versions, steps, result, deliveries, events."""
    note_look(request, visitor, find_row(session, study_id), "study viewed")
    return tell_story(session, study_id)


@router.get("/studies/{study_id}/report")
def get_report(request: Request, session: Ledger, visitor: Reader, web: WebOf, study_id: int) -> ReportText:
    """Give the newest Structured Report as text."""
    note_look(request, visitor, find_row(session, study_id), "report viewed")
    return ReportText(read_report(session, web, study_id))


@router.get("/failures")
def list_failures(session: Ledger, visitor: Reader, days: Days = 30) -> list[Failure]:
    """List what a person has to look at."""
    del visitor
    return figures.read_failures(session, days)


@router.get("/turnaround")
def list_turnaround(session: Ledger, visitor: Reader, days: Days = 30) -> list[Turnaround]:
    """Give median and 95th percentile of the turnaround in seconds, by day."""
    del visitor
    return figures.read_turnaround(session, days)


@router.get("/grades")
def list_grades(session: Ledger, visitor: Reader, days: Days = 30) -> list[GradesOfDay]:
    """Count grades by day."""
    del visitor
    return figures.read_grades(session, days)


@router.get("/agreement")
def list_agreement(session: Ledger, visitor: Reader, days: Days = 30) -> list[Agreement]:
    """Compare models on the studies that both have seen."""
    del visitor
    return figures.read_agreement(session, days)


@router.get("/drift")
def list_drift(session: Ledger, visitor: Reader, days: Days = 30) -> list[Drift]:
    """Follow grades by week and scanner."""
    del visitor
    return figures.read_drift(session, days)
