"""T1 before or after contrast agent: what one series says of it, and what the whole study makes of that.

A name goes before the tag, because technicians often fill the tag for the whole study, and real series after
contrast agent often lack it.
"""

from dataclasses import dataclass
from enum import StrEnum

from pydicom.dataset import Dataset

from dicom_node.reading.series_headers import agent_recorded, agent_text, bolus_lead_seconds
from dicom_node.reading.series_words import agent_words

TAG_ALONE = 0.80
"""Confidence in an agent that only the Contrast/Bolus module records."""


class Agent(StrEnum):
    """What a series says of contrast agent."""

    BEFORE = "before"
    AFTER = "after"
    BOTH = "both"
    RECORDED = "recorded"
    """The Contrast/Bolus module names one; the series' name doesn't say."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class AgentEvidence:
    """What a series says of contrast agent, how far that is believed (0 to 1), and in words why."""

    agent: Agent
    confidence: float
    evidence: str
    recorded: bool = False
    """Whether the Contrast/Bolus module names an agent."""

    @property
    def given(self) -> bool:
        """Whether it is taken as acquired after contrast agent."""
        return self.agent in (Agent.AFTER, Agent.RECORDED)


def read_agent(header: Dataset) -> AgentEvidence:
    """Read what the header of one series says of contrast agent."""
    agent, confidence, evidence = _read(header)
    return AgentEvidence(agent, confidence, evidence, agent_recorded(header))


def _read(header: Dataset) -> tuple[Agent, float, str]:  # noqa: PLR0911 (a decision table)
    without, after = agent_words(agent_text(header))
    lead = bolus_lead_seconds(header)
    if without and after:
        return Agent.BOTH, 0.40, "name says both before and after contrast agent"
    if without:
        return Agent.BEFORE, 0.97, "name says before contrast agent"
    if after and lead is not None and lead < 0:
        return Agent.BOTH, 0.40, "name says after contrast agent, the agent's start time says before"
    if after:
        return Agent.AFTER, 0.97, "name says after contrast agent"
    if lead is not None and lead < 0:
        return Agent.BEFORE, 0.90, "contrast agent was started after this acquisition"
    if lead is not None:
        return Agent.AFTER, 0.90, "contrast agent was started before this acquisition"
    if agent_recorded(header):
        return Agent.RECORDED, TAG_ALONE, "contrast agent is recorded, name doesn't say"
    return Agent.UNKNOWN, 0.97, "nothing says that contrast agent was given"
