"""What the whole study says of contrast agent in a T1 series whose own name says nothing."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from dicom_node.reading.contrast_agent import Agent
from dicom_node.reading.series_description import SeriesDescription, are_alike
from dicom_node.reading.series_rules import SeriesRole
from dicom_node.reading.series_words import PERFUSION

DOUBTFUL_AGENT: Final = 0.60
"""Confidence in contrast agent that only the rest of the study speaks for: a person decides."""


def weighed(one: SeriesDescription, study: Sequence[SeriesDescription]) -> SeriesDescription:
    """Doubt a tag that tells no series apart; suspect contrast agent where one came after others like it."""
    others = [other for other in study if other is not one and other.modality == "MR"]
    word = None
    if one.role is SeriesRole.T1CE and one.agent is Agent.RECORDED:
        word = _tag_doubt(others)
    elif one.role is SeriesRole.T1 and one.agent is Agent.UNKNOWN:
        word = _suspicion(one, others)
    if word is None:
        return one
    return replace(
        one,
        role=SeriesRole.T1CE,
        confidence=min(one.confidence, DOUBTFUL_AGENT),
        evidence=f"{one.evidence}, but {word}",
    )


def _tag_doubt(others: Sequence[SeriesDescription]) -> str | None:
    for other in others:
        if other.agent_recorded and other.agent is Agent.BEFORE:
            return f"it is also recorded for {other.name}, whose name says before"
    usable = [other for other in others if other.exclusion is None]
    if usable and all(other.agent_recorded for other in usable):
        return "it is recorded for every series of the study"
    return None


def _suspicion(one: SeriesDescription, others: Sequence[SeriesDescription]) -> str | None:
    earlier = [other for other in others if other.acquired_at and other.acquired_at < one.acquired_at]
    for other in earlier:
        if other.agent in (Agent.AFTER, Agent.RECORDED):
            return f"{other.name}, acquired before it, says that it was"
        if other.exclusion == PERFUSION:
            return f"{other.name}, acquired before it, is a perfusion series"
        if other.exclusion is None and are_alike(one, other):
            return f"it repeats {other.name} in timing and geometry: before and after contrast agent?"
    return None
