"""Which series of a study is FLAIR, T1 after contrast agent, T2: told from headers, with the evidence.

Each series is described by itself (`describe_series`); `select_series` then chooses one for each contrast
or says why the study can't be graded. What the text says and what the pulse sequence says must agree.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pydicom.dataset import Dataset

from dicom_node.association import MR_STORAGE_CLASSES
from dicom_node.series_headers import (
    agent_recorded,
    coverage_mm,
    integer,
    is_echo_planar,
    nearest_plane,
    read_physics,
    series_planes,
    series_text,
    text_values,
    voxel_mm3,
)
from dicom_node.series_rules import (
    EXCLUDED_IMAGE_TYPES,
    EXCLUDED_TEXT,
    WITH_AGENT,
    WITHOUT_AGENT,
    Plane,
    SeriesRole,
    physics_role,
    text_role,
)
from dicom_node.slices import SlicePlane
from model.grade import Contrast

ACCEPTED_CONFIDENCE: Final = 0.75
MINIMUM_SLICES: Final = 10
MINIMUM_COVERAGE_MM: Final = 100.0

_NAMES: Final[Mapping[SeriesRole, str]] = {
    SeriesRole.FLAIR: "FLAIR",
    SeriesRole.T1CE: "T1-weighted after contrast agent",
    SeriesRole.T2: "T2-weighted",
    SeriesRole.T1: "T1-weighted, contrast agent not shown",
    SeriesRole.OTHER: "of no known weighting",
}


class NotGradableError(Exception):
    """The study can't be graded as it is; trying again helps only when it has changed.

    `reason_code` is a machine's word for it, `sentence` one for a technologist, without text
    of the patient.
    """

    def __init__(self, reason_code: str, sentence: str) -> None:
        super().__init__(f"{reason_code}: {sentence}")
        self.reason_code = reason_code
        self.sentence = sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesDescription:
    """What the headers of one series say; none of its text is the scanner's free text.

    `confidence` (0 to 1) is that of `role`. A series with an `exclusion` is never chosen.
    `coverage_mm` is the extent along the patient's inferior-superior axis.
    """

    series_instance_uid: str
    series_number: int | None
    modality: str
    role: SeriesRole
    confidence: float
    evidence: str
    instance_count: int
    slice_count: int
    plane: Plane
    coverage_mm: float
    voxel_mm3: float
    fat_saturated: bool
    acquired_at: str
    exclusion: str | None

    @property
    def label(self) -> str:
        """The series in words, for a person who has the study before them."""
        number = "series without number" if self.series_number is None else f"series {self.series_number}"
        if self.exclusion is not None:
            return f"{number}: left out, {self.exclusion}"
        doubt = "" if self.confidence >= ACCEPTED_CONFIDENCE else f", in doubt ({self.evidence})"
        return f"{number}: {_NAMES[self.role]}{doubt}"


@dataclass(frozen=True, slots=True)
class SeriesChoice:
    """The series taken for a contrast, and why."""

    contrast: Contrast
    series_instance_uid: str
    confidence: float
    evidence: str


def describe_series(headers: Sequence[Dataset]) -> SeriesDescription:
    """Describe one series from the headers of all its instances (pixel data may be absent).

    Raises ValueError where there is no instance or more than one Series Instance UID.
    """
    uids = {str(header.get("SeriesInstanceUID", "")) for header in headers}
    if len(uids) != 1:
        raise ValueError(f"{len(uids)} series where one is described")
    first = headers[0]
    text = series_text(first)
    planes = series_planes(headers)
    role, confidence, evidence = _role(text, first)
    return SeriesDescription(
        series_instance_uid=uids.pop(),
        series_number=integer(first.get("SeriesNumber")),
        modality=str(first.get("Modality", "")),
        role=role,
        confidence=confidence,
        evidence=evidence,
        instance_count=len(headers),
        slice_count=len(planes),
        plane=nearest_plane(planes),
        coverage_mm=coverage_mm(planes),
        voxel_mm3=voxel_mm3(planes),
        fat_saturated="FS" in text_values(first, "ScanOptions") or "fs" in text.split(),
        acquired_at=f"{first.get('AcquisitionDate') or ''}{first.get('AcquisitionTime') or ''}",
        exclusion=next(_exclusions(headers, text, planes), None),
    )


def select_series(series: Sequence[SeriesDescription]) -> dict[Contrast, SeriesChoice]:
    """Choose one series for each contrast.

    Raises `NotGradableError` where there are no MR series, a contrast is missing, or two series tie.
    """
    seen = "; ".join(description.label for description in sorted(series, key=_by_number)) or "no series"
    if series and all(description.modality != "MR" for description in series):
        modalities = ", ".join(sorted({description.modality or "unknown" for description in series}))
        raise NotGradableError("not_mr", f"the study holds no MR images, only {modalities}")
    best = {contrast: _best(series, contrast) for contrast in Contrast}
    if missing := [contrast for contrast, choices in best.items() if not choices]:
        names = " and no ".join(_NAMES[SeriesRole(contrast.value)] for contrast in missing)
        raise NotGradableError("missing_" + "_".join(missing), f"no {names} series found; seen: {seen}")
    for contrast, choices in best.items():
        if len(choices) > 1:
            raise NotGradableError(
                f"ambiguous_{contrast}",
                f"{len(choices)} {_NAMES[SeriesRole(contrast.value)]} series are equally suitable; "
                f"seen: {seen}",
            )
    return {
        contrast: SeriesChoice(contrast, chosen.series_instance_uid, chosen.confidence, chosen.evidence)
        for contrast, (chosen,) in best.items()
    }


def _best(series: Sequence[SeriesDescription], contrast: Contrast) -> list[SeriesDescription]:
    """Return the best candidates: more than one where nothing tells them apart."""
    candidates = [
        description
        for description in series
        if description.role.contrast is contrast
        and description.exclusion is None
        and description.confidence >= ACCEPTED_CONFIDENCE
    ]
    if not candidates:
        return []
    top = max(_preference(description) for description in candidates)
    return [description for description in candidates if _preference(description) == top]


def _preference(description: SeriesDescription) -> tuple[bool, bool, float, float, str]:
    """Rank: axial or 3-D, no fat saturation, coverage to the centimetre, small voxels, then the repeat."""
    axial_or_3d = description.plane is Plane.AXIAL or description.voxel_mm3 <= 2.0
    return (
        axial_or_3d,
        not description.fat_saturated,
        round(description.coverage_mm / 10),
        -round(description.voxel_mm3, 1),
        description.acquired_at,
    )


def _by_number(description: SeriesDescription) -> tuple[int, str]:
    return description.series_number or 0, description.series_instance_uid


def _role(text: str, header: Dataset) -> tuple[SeriesRole, float, str]:
    """Stage B: text and pulse sequence each have a vote; then the contrast agent for a T1."""
    said = text_role(text)
    physics = read_physics(header)
    shown = physics_role(physics)
    timing = f"TR {physics.repetition_time:g}, TE {physics.echo_time:g}" if shown else "no timing"
    if shown and physics.inversion_time:
        timing += f", TI {physics.inversion_time:g}"
    role, confidence, evidence = _vote(said, shown, timing)
    if role is not SeriesRole.T1:
        return role, confidence, evidence
    role, certainty, agent = _agent(text, header)
    return role, min(confidence, certainty), f"{evidence}; {agent}"


def _vote(said: SeriesRole | None, shown: SeriesRole | None, timing: str) -> tuple[SeriesRole, float, str]:
    if said is None and shown is None:
        return SeriesRole.OTHER, 0.0, "neither name nor pulse sequence tells the weighting"
    if said is None or shown is None:
        if shown is None and said is not None:
            return said, 0.75, f"name says {said.upper()}, {timing}"
        assert shown is not None
        return shown, 0.70, f"pulse sequence ({timing}) says {shown.upper()}, name says nothing"
    if said is shown:
        return said, 0.97, f"name and pulse sequence ({timing}) say {said.upper()}"
    if (said, shown) == (SeriesRole.T2, SeriesRole.FLAIR):
        # A FLAIR is T2-weighted, so both are true and the inversion decides.
        return SeriesRole.FLAIR, 0.97, f"name says T2, pulse sequence ({timing}) says FLAIR"
    return SeriesRole.OTHER, 0.40, f"name says {said.upper()}, pulse sequence ({timing}) says {shown.upper()}"


def _agent(text: str, header: Dataset) -> tuple[SeriesRole, float, str]:
    """Stage C: T1 before or after contrast agent.

    The name goes before the tag, which technicians often fill for the whole study.
    """
    rest, without = text, False
    for pattern in WITHOUT_AGENT:
        rest, count = pattern.subn(" ", rest)
        without = without or count > 0
    with_agent = any(pattern.search(rest) for pattern in WITH_AGENT)
    if without and with_agent:
        return SeriesRole.T1, 0.40, "name says both before and after contrast agent"
    if without:
        return SeriesRole.T1, 0.97, "name says before contrast agent"
    if with_agent:
        return SeriesRole.T1CE, 0.97, "name says after contrast agent"
    if agent_recorded(header):
        return SeriesRole.T1CE, 0.80, "contrast agent is recorded, name doesn't say"
    return SeriesRole.T1, 0.97, "nothing says that contrast agent was given"


def _exclusions(headers: Sequence[Dataset], text: str, planes: Sequence[SlicePlane]) -> Iterator[str]:
    """Stage A: yield the reasons to leave the series out, the plainest first."""
    first = headers[0]
    if first.get("Modality") != "MR" or any(h.get("SOPClassUID") not in MR_STORAGE_CLASSES for h in headers):
        yield "not MR images"
    if any(header.get("SamplesPerPixel", 1) != 1 for header in headers):
        yield "colour images"
    if unwanted := EXCLUDED_IMAGE_TYPES & {value.upper() for value in text_values(first, "ImageType")}:
        yield f"image type {min(unwanted)}"
    if is_echo_planar(first):
        yield "echo planar or diffusion-weighted"
    yield from (reason for reason, pattern in EXCLUDED_TEXT if pattern.search(text))
    if len({read_physics(header).echo_time for header in headers}) > 1:
        yield "several echo times in one series"
    if len(planes) < MINIMUM_SLICES:
        yield f"{len(planes)} slices where {MINIMUM_SLICES} are needed"
    if (covered := coverage_mm(planes)) < MINIMUM_COVERAGE_MM:
        yield f"covers {covered:.0f} mm of the head where {MINIMUM_COVERAGE_MM:.0f} are needed"
