"""One volume of a study in our own words: what it is taken for, how sure that is, and why."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dicom_node.reading.contrast_agent import Agent
from dicom_node.reading.series_parts import WHOLE
from dicom_node.reading.series_rules import Physics, Plane, SeriesRole

ACCEPTED_CONFIDENCE: Final = 0.75
_ALIKE: Final = 0.05
MASK: Final = "its pixels are a mask, not an image"

ROLE_NAMES: Final[Mapping[SeriesRole, str]] = {
    SeriesRole.FLAIR: "FLAIR",
    SeriesRole.T1CE: "post-contrast T1-weighted",
    SeriesRole.T2: "T2-weighted",
    SeriesRole.T1: "T1-weighted, contrast agent not shown",
    SeriesRole.OTHER: "of no known weighting",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesDescription:
    """What the headers of one volume say; none of its text is the scanner's free text.

    `part` labels the volume where one series holds several. `confidence` (0 to 1) is that of `role`. One
    with an `exclusion` is never chosen. `coverage_mm` is the extent along the patient's inferior-superior
    axis. `acquired_at` sorts by time and is empty where the headers don't say.
    """

    series_instance_uid: str
    part: str = WHOLE
    sop_instance_uids: frozenset[str]
    series_number: int | None
    modality: str
    role: SeriesRole
    confidence: float
    evidence: str
    agent: Agent
    agent_recorded: bool
    physics: Physics
    instance_count: int
    slice_count: int
    plane: Plane
    coverage_mm: float
    voxel_mm3: float
    fat_saturated: bool
    spoiled: bool = False
    derived: bool = False
    acquired_at: str
    exclusion: str | None

    @property
    def name(self) -> str:
        """Series number and part."""
        number = "series without number" if self.series_number is None else f"series {self.series_number}"
        return f"{number} ({self.part})" if self.part else number

    @property
    def label(self) -> str:
        """The series in words, for a person who has the study before them."""
        if self.exclusion is not None:
            return f"{self.name}: left out, {self.exclusion}"
        doubt = "" if self.confidence >= ACCEPTED_CONFIDENCE else f", in doubt ({self.evidence})"
        return f"{self.name}: {ROLE_NAMES[self.role]}{doubt}"


def are_alike(one: SeriesDescription, other: SeriesDescription) -> bool:
    """Whether both are T1 of one protocol: the same plane, and times and voxels equal to 5 %."""
    pairs = (
        (one.physics.repetition_time, other.physics.repetition_time),
        (one.physics.echo_time, other.physics.echo_time),
        (one.voxel_mm3, other.voxel_mm3),
    )
    return (
        {one.role, other.role} <= {SeriesRole.T1, SeriesRole.T1CE}
        and one.plane is other.plane
        and all(a is not None and b is not None and math.isclose(a, b, rel_tol=_ALIKE) for a, b in pairs)
    )
