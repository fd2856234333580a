"""What `gliograde doctor` says of one thing it looked at."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How one thing was found."""

    OK = "ok"
    WARNING = "warning"
    """Work goes on; a person should look soon."""
    FAILED = "failed"
    """Something doesn't work."""
    SKIPPED = "skipped"
    """It could not be looked at."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it was found, and what to do about it (empty where nothing)."""

    check: str
    verdict: Verdict
    detail: str
    advice: str = ""


def ok(check: str, detail: str) -> Finding:
    """Find a thing in order."""
    return Finding(check, Verdict.OK, detail)


def warning(check: str, detail: str, advice: str) -> Finding:
    """Find a thing that a person should look at soon."""
    return Finding(check, Verdict.WARNING, detail, advice)


def failed(check: str, detail: str, advice: str) -> Finding:
    """Find a thing that doesn't work."""
    return Finding(check, Verdict.FAILED, detail, advice)
