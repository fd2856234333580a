"""Exceptions in a log without their messages: a library's message may quote a patient's data."""

import logging
from pathlib import Path

from dicom_node.logs import describe_without_message

CELERY_TRACE = "celery.app.trace"
"""Celery's logger for tasks that raised."""


class WithoutMessages(logging.Filter):
    """Leaves an exception's types and the places it passed, and drops what it said."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record; every record passes."""
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            record.exc_text = describe_without_message(error)
            record.exc_info = None
            if isinstance(record.args, dict):
                hidden = {"exc": type(error).__name__, "traceback": record.exc_text}
                record.args = {**record.args, **hidden}
                record.__dict__["data"] = record.args
        return True


def without_words(error: BaseException) -> str:
    """Type and place of an error, for one line."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    return f"{type(error).__name__} at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"


def hide_messages_of_tasks() -> None:
    """Put the filter on; each composition root of Celery calls it once."""
    logger = logging.getLogger(CELERY_TRACE)
    if not any(isinstance(item, WithoutMessages) for item in logger.filters):
        logger.addFilter(WithoutMessages())
