"""What a request asks for, parsed once for the pages and for the interface."""

from datetime import date
from typing import Annotated, Any

from fastapi import Depends, Form, Query
from pydantic import BeforeValidator

from model.grade import Contrast, Grade
from worker.records.wanted import Standing, Wanted


def _none_if_empty(value: Any) -> Any:  # noqa: ANN401 - whatever a form sends
    return None if value == "" else value


_EMPTY = BeforeValidator(_none_if_empty)
"""A field of a form that was left empty asks for nothing."""


def _wanted(
    state: Annotated[Standing | None, Query(description="Where the study stands"), _EMPTY] = None,
    grade: Annotated[Grade | None, Query(description="What it was graded"), _EMPTY] = None,
    since: Annotated[date | None, Query(description="Received on this day (UTC) or later"), _EMPTY] = None,
    until: Annotated[date | None, Query(description="Received on this day (UTC) or earlier"), _EMPTY] = None,
) -> Wanted:
    return Wanted(since=since, until=until, state=state, grade=grade)


def _named_series(
    flair: Annotated[str, Form(max_length=200)] = "",
    t1ce: Annotated[str, Form(max_length=200)] = "",
    t2: Annotated[str, Form(max_length=200)] = "",
) -> dict[Contrast, str]:
    chosen = {Contrast.FLAIR: flair, Contrast.T1CE: t1ce, Contrast.T2: t2}
    return {contrast: series for contrast, series in chosen.items() if series}


WantedStudies = Annotated[Wanted, Depends(_wanted)]
NamedSeries = Annotated[dict[Contrast, str], Depends(_named_series)]
Before = Annotated[int | None, Query(ge=1, description="Studies of a lower number: the next page"), _EMPTY]
Days = Annotated[int, Query(ge=1, le=3660, description="How many days back")]
