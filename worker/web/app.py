"""The application: routers, headers, and what is said of an error. Nothing of a request stands in it."""

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request, status
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from worker.version import VERSION
from worker.web import entry, interface, other_pages, study_pages
from worker.web.guard import LoginNeededError, Web
from worker.web.headers import SafeAnswers
from worker.web.pages import FOLDER, render

logger = logging.getLogger(__name__)

INTERFACE = "/api/"
ROUTERS = (entry.router, study_pages.router, other_pages.router, interface.router)


def make_app(web: Web) -> FastAPI:
    """Make the application on resources that are open."""
    app = FastAPI(
        title="gliograde",
        summary="Where studies stand and what they were graded. Research use only.",
        version=VERSION,
        # its pages would fetch scripts from elsewhere; ours stand in other_pages
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    app.state.web = web
    for router in ROUTERS:
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=FOLDER / "static"), name="static")
    app.add_middleware(SafeAnswers, encrypted=web.settings.web_is_encrypted, tell_failure=_tell_failure)
    app.add_exception_handler(LoginNeededError, _ask_to_log_in)
    app.add_exception_handler(HTTPException, _tell_http_error)
    app.add_exception_handler(RequestValidationError, _tell_wrong_values)
    app.add_exception_handler(OperationalError, _tell_no_database)
    return app


def _ask_to_log_in(request: Request, error: Exception) -> Response:
    del request, error
    return RedirectResponse("/login", status.HTTP_303_SEE_OTHER)


def _tell_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _tell(request, error.status_code, str(error.detail), dict(error.headers or {}))


def _tell_wrong_values(request: Request, error: Exception) -> Response:
    """Name the fields that are wrong, and not what stood in them."""
    assert isinstance(error, RequestValidationError)
    fields = sorted({str(item["loc"][-1]) for item in error.errors()})
    return _tell(request, status.HTTP_422_UNPROCESSABLE_CONTENT, f"not understood: {', '.join(fields)}")


def _tell_no_database(request: Request, error: Exception) -> Response:
    logger.error("PostgreSQL can't be reached: %s", type(error).__name__)
    return _tell(request, status.HTTP_503_SERVICE_UNAVAILABLE, "the database can't be reached just now")


def _tell_failure(request: Request) -> Response:
    return _tell(
        request, status.HTTP_500_INTERNAL_SERVER_ERROR, "something went wrong here; the log says what"
    )


def _tell(request: Request, code: int, words: str, headers: dict[str, str] | None = None) -> Response:
    if request.url.path.startswith(INTERFACE):
        return JSONResponse({"detail": words}, code, headers)
    answer = render(request, "error.html", code, title=HTTPStatus(code).phrase, words=words)
    answer.headers.update(headers or {})
    return answer
