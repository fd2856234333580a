"""Figures, what waits for a person, accounts, and the description of the interface for programs."""

from collections import Counter
from collections.abc import Callable

from fastapi import APIRouter, HTTPException, Request, status
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from markupsafe import Markup
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from worker.records.database import WebSession, WebUser
from worker.web import figures
from worker.web.asking import Days
from worker.web.charts import MOST_COLOURS, draw_bars, draw_lines
from worker.web.figures import PERIODS, Drift
from worker.web.guard import Admin, Ledger, Reader, SignedForm, Viewer, WebOf
from worker.web.pages import render
from worker.web.users import disable_user, enable_user

router = APIRouter(include_in_schema=False)


@router.get("/figures")
def show_figures(request: Request, session: Ledger, visitor: Viewer, days: Days = 30) -> HTMLResponse:
    """Show turnaround, grades, failures, drift and how models agree."""
    del visitor
    turnaround = figures.read_turnaround(session, days)
    grades = figures.read_grades(session, days)
    failures = figures.count_failures(session, days)
    drift = figures.read_drift(session, days)
    return render(
        request,
        "figures.html",
        days=days,
        periods=PERIODS,
        turnaround=turnaround,
        turnaround_chart=draw_lines(
            "Turnaround by day, seconds",
            [f"{row.day:%m-%d}" for row in turnaround],
            {
                "median": [row.median for row in turnaround],
                "95th percentile": [row.percentile_95 for row in turnaround],
            },
        ),
        grades=grades,
        grades_chart=draw_bars(
            "Grades by day",
            [f"{row.day:%m-%d}" for row in grades],
            {"HGG": [float(row.hgg) for row in grades], "LGG": [float(row.lgg) for row in grades]},
        ),
        failures=failures,
        failures_chart=draw_bars(
            "Still needs a person, by reason",
            [row.reason_code for row in failures],
            {"count": [float(row.count) for row in failures]},
        ),
        drift=drift,
        drift_chart=_draw_drift(drift),
        simulated=figures.shows_simulated(session, days),
        agreement=figures.read_agreement(session, days),
    )


@router.get("/waiting")
def waiting(request: Request, session: Ledger, visitor: Viewer, days: Days = 30) -> HTMLResponse:
    """Show what a person has to look at."""
    del visitor
    rows = figures.read_failures(session, days)
    return render(request, "waiting.html", days=days, periods=PERIODS, rows=rows)


@router.get("/users")
def users(request: Request, session: Ledger, visitor: Admin) -> HTMLResponse:
    """Show the accounts."""
    del visitor
    rows = session.execute(
        select(WebUser, func.count(WebSession.id), func.max(WebSession.seen_at))
        .outerjoin(WebSession, (WebSession.user_id == WebUser.id) & (WebSession.expires_at > func.now()))
        .group_by(WebUser.id)
        .order_by(WebUser.name)
    ).all()
    return render(request, "users.html", rows=rows)


@router.post("/users/{user_id}/disable")
def disable(session: Ledger, visitor: Admin, web: WebOf, signed: SignedForm, user_id: int) -> Response:
    """Let an account in no more; nobody locks out themselves."""
    del signed
    if user_id == visitor.user_id:
        raise HTTPException(status.HTTP_409_CONFLICT, "you can't disable your own account")
    return _change(session, web, visitor.name, user_id, disable_user, "web account disabled")


@router.post("/users/{user_id}/enable")
def enable(session: Ledger, visitor: Admin, web: WebOf, signed: SignedForm, user_id: int) -> Response:
    """Let a disabled account in again."""
    del signed
    return _change(session, web, visitor.name, user_id, enable_user, "web account enabled")


@router.get("/docs")
def docs(request: Request, visitor: Viewer) -> HTMLResponse:
    """Describe the interface for programs; nothing is fetched from elsewhere."""
    del visitor
    return render(request, "docs.html", api=request.app.openapi())


@router.get("/api/v1/openapi.json")
def openapi(request: Request, visitor: Reader) -> JSONResponse:
    """Describe the interface for programs to programs."""
    del visitor
    return JSONResponse(request.app.openapi())


def _change(
    session: Session,
    web: WebOf,
    person: str,
    user_id: int,
    change: Callable[[Session, WebUser], None],
    detail: str,
) -> Response:
    user = session.get(WebUser, user_id) if 0 < user_id < 2**63 else None
    if user is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "there is no such account")
    change(session, user)
    session.commit()
    web.audit.decision(
        f"{detail}: {user.name}", person=person, ae_title=web.settings.ae_title, study_instance_uid=""
    )
    return RedirectResponse("/users", status.HTTP_303_SEE_OTHER)


def _draw_drift(drift: list[Drift]) -> Markup:
    """Draw the scanners with most results, as many as there are colours; the numbers below have all."""
    counts: Counter[str] = Counter()
    for row in drift:
        counts[row.scanner] += row.count
    weeks = sorted({row.week for row in drift})
    found = {(row.scanner, row.week): row.mean_probability for row in drift}
    lines = {
        scanner: [found.get((scanner, week)) for week in weeks]
        for scanner, _ in counts.most_common(MOST_COLOURS)
    }
    return draw_lines("Mean P(HGG) by week and scanner", [f"{week:%m-%d}" for week in weeks], lines)
