"""Headers of every answer, a limit on every question, and a log that names routes, not what was asked."""

import logging
import time
from collections.abc import Callable
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.log_privacy import without_words

logger = logging.getLogger(__name__)

LARGEST_FORM: Final = 16 * 1024
STATIC: Final = "/static/"
PROBES: Final = frozenset({"/live", "/ready"})
"""Asked for every few seconds by a machine: nothing to log at the usual level."""
POLICY: Final = (
    "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class SafeAnswers:
    """Adds the headers, keeps pages out of caches, and refuses a form that is too large or of no length.

    What nobody has caught ends here and is answered by `tell_failure`: what the framework would answer has
    no headers, and what it would log might quote a patient's data.
    """

    def __init__(self, app: ASGIApp, *, encrypted: bool, tell_failure: Callable[[Request], Response]) -> None:
        self._app = app
        self._tell_failure = tell_failure
        self._headers = dict(HEADERS)
        if encrypted:
            self._headers["Strict-Transport-Security"] = "max-age=31536000"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, code, is_answered = time.monotonic(), 500, False
        caching = "no-cache" if scope["path"].startswith(STATIC) else "no-store"

        async def send_safely(message: Message) -> None:
            nonlocal code, is_answered
            if message["type"] == "http.response.start":
                code, is_answered = message["status"], True
                headers = MutableHeaders(scope=message)
                headers.update(self._headers)
                headers["Cache-Control"] = caching
            await send(message)

        if _is_too_large(scope):
            await PlainTextResponse("too large\n", 413)(scope, receive, send_safely)
        else:
            try:
                await self._app(scope, receive, send_safely)
            except Exception as error:  # noqa: BLE001 - the border of a request: told without its words
                logger.error("a request failed with %s", without_words(error))  # noqa: TRY400
                # half an answer can't be taken back: the server closes its connection
                if not is_answered:
                    await self._tell_failure(Request(scope))(scope, receive, send_safely)
        # the route's own pattern: what stands in its place may be anything that a person types
        route = getattr(scope.get("route"), "path", "no route")
        level = logging.DEBUG if route in PROBES else logging.INFO
        logger.log(level, "%s %s %d %.0f ms", scope["method"], route, code, 1000 * (time.monotonic() - began))


def _is_too_large(scope: Scope) -> bool:
    if scope["method"] in {"GET", "HEAD"}:
        return False
    length = Headers(scope=scope).get("content-length", "")
    return not length.isdecimal() or int(length) > LARGEST_FORM
