"""Worklist, one study, its attention and report, and what an operator decides on it."""

from collections.abc import Callable
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, HTTPException, Query, Request, status
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session

from dicom_node.results.show import render_text
from model.grade import Contrast, Grade
from worker.answers.study_story import tell_story
from worker.records.database import Feedback, Study
from worker.records.wanted import Standing
from worker.study.decisions import RolesError, decide_roles
from worker.study.interventions import InterventionError, dismiss_study, release_study, retry_study
from worker.web.asking import Before, NamedSeries, WantedStudies
from worker.web.guard import Ledger, Operator, SignedForm, Viewer, Web, WebOf, note_look
from worker.web.logins import Visitor
from worker.web.pages import render
from worker.web.pictures import Layer, PictureError, draw_layer, newest_pictures, read_object
from worker.web.worklist import find_studies, read_worklist

router = APIRouter(include_in_schema=False)

SAID = {
    "retry": "retried",
    "release": "released",
    "dismiss": "dismissed",
    "roles": "roles set",
    "known-grade": "feedback given",
}
"""What a form says, and how the audit trail and the page tell of it."""


@router.get("/")
def worklist(
    request: Request, session: Ledger, visitor: Viewer, wanted: WantedStudies, before: Before = None
) -> HTMLResponse:
    """Show where each study stands."""
    del visitor
    page = read_worklist(session, wanted, before)
    filters = {name: getattr(wanted, name) for name in ("state", "grade", "since", "until")}
    named = {name: str(value) for name, value in filters.items() if value is not None}
    return render(
        request,
        "worklist.html",
        page=page,
        filters=filters,
        older="/?" + urlencode(named | {"before": page.before}) if page.before else "",
        newest="/?" + urlencode(named) if before else "",
        states=list(Standing),
        grades=list(Grade),
    )


@router.post("/find")
def find(
    request: Request,
    session: Ledger,
    visitor: Viewer,
    signed: SignedForm,
    words: Annotated[str, Form(max_length=64)] = "",
) -> Response:
    """Find studies by accession number or Patient ID, which therefore stand in no address."""
    del visitor, signed
    found = find_studies(session, words.strip()) if words.strip() else []
    if len(found) == 1:
        return RedirectResponse(f"/studies/{found[0]}", status.HTTP_303_SEE_OTHER)
    return render(request, "found.html", found=found)


@router.get("/studies/{study_id}")
def study(
    request: Request,
    session: Ledger,
    visitor: Viewer,
    study_id: int,
    said: Annotated[str, Query(max_length=20)] = "",
) -> HTMLResponse:
    """Tell a study's story."""
    row = find_row(session, study_id)
    note_look(request, visitor, row, "study viewed")
    return _study_page(request, session, row, said=SAID.get(said, ""))


@router.get("/studies/{study_id}/attention")
def attention(request: Request, session: Ledger, visitor: Viewer, web: WebOf, study_id: int) -> HTMLResponse:
    """Show the viewer."""
    row = find_row(session, study_id)
    pictures = newest_pictures(session, study_id)
    if pictures is None or not pictures.slices:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "this study has no attention images")
    note_look(request, visitor, row, "attention viewed")
    layered = True
    try:
        first = read_object(session, web.settings.results_folder, pictures.result_id, pictures.slices[0])
        draw_layer(session, web.spool, first, Layer.SCALE)
    except PictureError:
        layered = False
    return render(request, "attention.html", study=row, pictures=pictures, layered=layered)


@router.get("/studies/{study_id}/objects/{position}/{layer}.png")
def picture(
    request: Request,
    session: Ledger,
    visitor: Viewer,
    web: WebOf,
    study_id: int,
    position: int,
    layer: Layer,
) -> Response:
    """Serve one layer of one image of the newest result."""
    row = find_row(session, study_id)
    pictures = newest_pictures(session, study_id)
    if pictures is None or position not in {pictures.summary, *pictures.slices}:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "there is no such image")
    note_look(request, visitor, row, "image viewed")
    try:
        image = read_object(session, web.settings.results_folder, pictures.result_id, position)
        return Response(draw_layer(session, web.spool, image, layer), media_type="image/png")
    except PictureError as error:
        raise HTTPException(status.HTTP_404_NOT_FOUND, str(error)) from error


@router.get("/studies/{study_id}/report")
def report(request: Request, session: Ledger, visitor: Viewer, web: WebOf, study_id: int) -> HTMLResponse:
    """Show the Structured Report as text."""
    row = find_row(session, study_id)
    note_look(request, visitor, row, "report viewed")
    return render(request, "report.html", study=row, text=read_report(session, web, study_id))


@router.post("/studies/{study_id}/retry")
def retry(
    request: Request, session: Ledger, visitor: Operator, signed: SignedForm, study_id: int
) -> Response:
    """Grade a study anew, or send again what was refused of it."""
    del signed
    return _decide(
        request, session, visitor, study_id, "retry", lambda: retry_study(session, study_id, visitor.name)
    )


@router.post("/studies/{study_id}/release")
def release(
    request: Request, session: Ledger, visitor: Operator, signed: SignedForm, study_id: int
) -> Response:
    """Take a study as it is that is held as incomplete."""
    del signed
    return _decide(
        request, session, visitor, study_id, "release", lambda: release_study(session, study_id, visitor.name)
    )


@router.post("/studies/{study_id}/dismiss")
def dismiss(
    request: Request,
    session: Ledger,
    visitor: Operator,
    signed: SignedForm,
    study_id: int,
    reason: Annotated[str, Form(max_length=200, pattern=r"\S")],
) -> Response:
    """Say that what was refused of a study need not be delivered, and why."""
    del signed

    def decide() -> object:
        return dismiss_study(session, study_id, visitor.name)

    return _decide(request, session, visitor, study_id, "dismiss", decide, f": {reason}")


@router.post("/studies/{study_id}/roles")
def roles(
    request: Request,
    session: Ledger,
    visitor: Operator,
    signed: SignedForm,
    study_id: int,
    named: NamedSeries,
) -> Response:
    """Say which series to take, and grade anew."""
    del signed

    def decide() -> object:
        if not named:
            raise RolesError("choose a series for at least one contrast")
        return decide_roles(session, study_id, named, visitor.name)

    return _decide(request, session, visitor, study_id, "roles", decide)


@router.post("/studies/{study_id}/known-grade")
def known_grade(
    request: Request,
    session: Ledger,
    visitor: Operator,
    signed: SignedForm,
    study_id: int,
    grade: Annotated[Grade, Form()],
    source: Annotated[str, Form(min_length=1, max_length=40)] = "pathology",
) -> Response:
    """Record the grade as known from elsewhere."""
    del signed

    def decide() -> None:
        session.add(Feedback(study_id=study_id, grade=grade, source=source, given_by=visitor.name))

    return _decide(request, session, visitor, study_id, "known-grade", decide)


def read_report(session: Session, web: Web, study_id: int) -> str:
    """Read the newest report of a study as text; raises HTTPException where it has none."""
    pictures = newest_pictures(session, study_id)
    if pictures is None or pictures.report is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "this study has no report")
    try:
        return render_text(
            read_object(session, web.settings.results_folder, pictures.result_id, pictures.report)
        )
    except PictureError as error:
        raise HTTPException(status.HTTP_404_NOT_FOUND, str(error)) from error


def _decide(
    request: Request,
    session: Session,
    visitor: Visitor,
    study_id: int,
    said: str,
    decide: Callable[[], object],
    why: str = "",
) -> Response:
    """Do what a form says and tell the audit trail who said it; what can't be done is told on the page."""
    uid = find_row(session, study_id).study_instance_uid
    web: Web = request.app.state.web
    try:
        decide()
        session.commit()
    except (RolesError, InterventionError) as error:
        session.rollback()
        row = find_row(session, study_id)
        note_look(request, visitor, row, "study viewed")
        return _study_page(request, session, row, status.HTTP_409_CONFLICT, problem=str(error))
    web.audit.decision(
        SAID[said] + why, person=visitor.name, ae_title=web.settings.ae_title, study_instance_uid=uid
    )
    return RedirectResponse(f"/studies/{study_id}?said={said}", status.HTTP_303_SEE_OTHER)


def _study_page(
    request: Request, session: Session, row: Study, code: int = 200, *, said: str = "", problem: str = ""
) -> HTMLResponse:
    return render(
        request,
        "study.html",
        code,
        study=row,
        story=tell_story(session, row.id),
        pictures=newest_pictures(session, row.id),
        contrasts={Contrast.FLAIR: "FLAIR", Contrast.T1CE: "T1 post-contrast", Contrast.T2: "T2"},
        grades=list(Grade),
        said=said,
        problem=problem,
    )


def find_row(session: Session, study_id: int) -> Study:
    """Find a study by our number; raises HTTPException."""
    row = session.get(Study, study_id) if 0 < study_id < 2**63 else None
    if row is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "there is no such study")
    return row
