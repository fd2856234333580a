"""How a page is made: the templates, what each of them is given, and the words for times and numbers."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from dicom_node.results.report import ATTENTION_SENTENCE, HATCH_SENTENCE, RESEARCH_SENTENCE
from model.card import SIMULATED_STATEMENT
from worker.records.user_role import UserRole
from worker.version import VERSION
from worker.web.guard import web_of
from worker.web.logins import form_token

FOLDER: Final = Path(__file__).parent


def _moment(value: datetime | None) -> str:
    return "" if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _day(value: str) -> str:
    """A DICOM date (YYYYMMDD) as people write it; anything else as it came."""
    return f"{value[:4]}-{value[4:6]}-{value[6:]}" if len(value) == 8 and value.isdecimal() else value


_environment = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters |= {"moment": _moment, "day": _day}
_environment.globals |= {
    "version": VERSION,
    "research": RESEARCH_SENTENCE,
    "simulated_statement": SIMULATED_STATEMENT,
    "attention_sentence": f"{ATTENTION_SENTENCE} {HATCH_SENTENCE}",
}


def render(request: Request, template: str, code: int = 200, /, **values: object) -> HTMLResponse:
    """Make a page; it knows who is logged in, what that person may do, and the token of its forms."""
    visitor = getattr(request.state, "visitor", None)
    cookie = request.cookies.get(web_of(request).cookie, "")
    known = {
        "visitor": visitor,
        "may_decide": visitor is not None and visitor.role.covers(UserRole.OPERATOR),
        "may_rule": visitor is not None and visitor.role.covers(UserRole.ADMIN),
        "form_token": form_token(cookie),
        "path": request.url.path,
    }
    return HTMLResponse(_environment.get_template(template).render(known | values), code)
