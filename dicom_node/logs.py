"""How every process of the service logs: one line a record, as text or as JSON.

A JSON line has `time` (UTC), `level`, `logger`, `message` and `process`, and where known the ledger's
own numbers, `job_id` and `study_id`. Nothing else that hangs on a record is written: a library's attributes,
and the words of its exceptions, may quote a patient's data.
"""

import logging
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal

from pythonjsonlogger.json import JsonFormatter

LogFormat = Literal["text", "json"]

TEXT = "%(asctime)s %(levelname)s %(name)s %(message)s"
LEDGER_IDS = ("job_id", "study_id")

_about: ContextVar[Mapping[str, int]] = ContextVar("about", default={})  # noqa: B039 - never changed in place


class JsonLines(JsonFormatter):
    """Writes a record as one line of JSON."""

    def add_fields(
        self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]
    ) -> None:
        """Choose what is written."""
        own = {name: getattr(record, name) for name in LEDGER_IDS if hasattr(record, name)}
        log_data |= {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.message,
            "process": record.process,
            **_about.get(),
            **own,
        }
        if "exc_info" in message_dict:
            log_data["exception"] = message_dict["exc_info"]

    def formatException(self, ei: Any) -> str:  # noqa: ANN401, N802 - logging's own
        """Tell types and places only."""
        return describe_without_message(ei[1])


def make_formatter(log_format: LogFormat) -> logging.Formatter:
    """Make the formatter of a handler."""
    return JsonLines() if log_format == "json" else logging.Formatter(TEXT)


def configure_logging(log_format: LogFormat) -> None:
    """Let this process log to stderr; each composition root calls it once. Celery's do it by its signals."""
    handler = logging.StreamHandler()
    handler.setFormatter(make_formatter(log_format))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    log_warnings(log_format)


def log_warnings(log_format: LogFormat) -> None:
    """Let no library's warning stand between lines of JSON: it becomes one."""
    logging.captureWarnings(log_format == "json")


@contextmanager
def about(**ledger_ids: int) -> Iterator[None]:
    """Name what is worked on, `job_id` or `study_id`, in every record logged inside, by this thread."""
    token = _about.set({**_about.get(), **ledger_ids})
    try:
        yield
    finally:
        _about.reset(token)


def describe_without_message(error: BaseException) -> str:
    """Build a traceback of the exception and its causes, types only."""
    parts: list[str] = []
    seen: BaseException | None = error
    while seen is not None:
        parts.insert(0, f"{_places(seen.__traceback__)}{type(seen).__module__}.{type(seen).__qualname__}")
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return "\n\nwhich led to\n\n".join(parts)


def _places(trace: TracebackType | None) -> str:
    return "".join(traceback.format_tb(trace))
