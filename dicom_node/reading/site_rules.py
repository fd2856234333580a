"""A site's own word on its series: rules of the settings that go before our tables."""

import re
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicom_node.reading.series_rules import SeriesRole

Condition = str | float | tuple[float, float]
"""A regular expression (searched, in any case), a number, or the lowest and the highest number allowed."""

_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")


class SiteRole(StrEnum):
    """What a rule may call a series."""

    FLAIR = "flair"
    T1CE = "t1ce"
    T2 = "t2"
    T1 = "t1"
    OTHER = "other"
    IGNORE = "ignore"

    @property
    def series_role(self) -> SeriesRole | None:
        """The role that is meant, None where the series is to be ignored."""
        return None if self is SiteRole.IGNORE else SeriesRole(self.value)


class SiteRule(BaseModel):
    """All conditions must hold: each names a DICOM attribute and what one of its values must be.

    An attribute that is absent holds no condition. Attributes of multi-frame objects are also found in the
    functional groups that all frames share, and in those of the first frame.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: SiteRole = Field(description="flair, t1ce, t2, t1, other, or ignore")
    conditions: Mapping[str, Condition] = Field(min_length=1, description="DICOM keyword to expected value")

    @field_validator("conditions")
    @classmethod
    def _known_words(cls, value: Mapping[str, Condition]) -> Mapping[str, Condition]:
        for keyword, condition in value.items():
            if tag_for_keyword(keyword) is None:
                raise ValueError(f"{keyword} is no DICOM keyword")
            if isinstance(condition, str):
                try:
                    re.compile(condition)
                except re.error as error:
                    raise ValueError(f"the condition of {keyword} is no regular expression") from error
            if isinstance(condition, tuple) and condition[0] > condition[1]:
                raise ValueError(f"the range of {keyword} runs backwards")
        return value

    def matches(self, header: Dataset) -> bool:
        """Whether every condition holds for the series that the header belongs to."""
        return all(
            any(_holds(condition, value) for value in _values(header, keyword))
            for keyword, condition in self.conditions.items()
        )


def first_match(rules: Sequence[SiteRule], header: Dataset) -> tuple[int, SiteRole] | None:
    """Return the number (from 1) and the role of the first rule that matches, None where none does."""
    return next(
        ((number, rule.role) for number, rule in enumerate(rules, start=1) if rule.matches(header)), None
    )


def _values(header: Dataset, keyword: str) -> Iterator[Any]:
    """Yield the values of an attribute at the top, and in the functional groups of the first frame."""
    datasets = [header]
    for sequence in _GROUPS:
        for group in header.get(sequence, ())[:1]:
            datasets += [element.value[0] for element in group if element.VR == "SQ" and element.value]
    for dataset in datasets:
        value = dataset.get(keyword)
        if value is not None:
            yield from value if isinstance(value, MultiValue) else [value]


def _holds(condition: Condition, value: Any) -> bool:  # noqa: ANN401 (a pydicom value)
    if isinstance(condition, str):
        return re.search(condition, str(value), re.IGNORECASE) is not None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return False
    low, high = condition if isinstance(condition, tuple) else (condition, condition)
    return low <= number <= high
