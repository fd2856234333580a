"""What each series of a study is: told from headers, with the evidence in words.

Stages as in a decision table: what can't be used is left out (A), name and pulse sequence vote on the
weighting (B), contrast agent is weighed for a T1 (C), over the whole study. `series_choice` then
chooses (D). A site's own rules go before A to C.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from pydicom.dataset import Dataset

from dicom_node.association import MR_STORAGE_CLASSES
from dicom_node.reading.contrast_agent import Agent, AgentEvidence, read_agent
from dicom_node.reading.series_description import MASK, SeriesDescription
from dicom_node.reading.series_headers import (
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
from dicom_node.reading.series_parts import WHOLE, split_series
from dicom_node.reading.series_rules import (
    EXCLUDED_IMAGE_TYPES,
    OTHER_BODY_PARTS,
    Physics,
    SeriesRole,
    physics_confidence,
    physics_role,
)
from dicom_node.reading.series_words import EXCLUDED_TEXT, FAT_SATURATED, REFORMATTED, SPOILED, text_roles
from dicom_node.reading.site_rules import SiteRole, SiteRule, first_match
from dicom_node.reading.slices import GeometryError, SlicePlane, stacked
from dicom_node.reading.study_agent import weighed

MINIMUM_SLICES: Final = 10
MINIMUM_COVERAGE_MM: Final = 100.0
SITE_RULE_CONFIDENCE: Final = 0.98


def describe_study(
    series: Iterable[Sequence[Dataset]], site_rules: Sequence[SiteRule] = ()
) -> list[SeriesDescription]:
    """Describe every volume of a study, given the headers of each series' instances."""
    described = [
        replace(describe_series(part, site_rules), part=label)
        for headers in series
        for label, part in _volumes(headers).items()
    ]
    return [weighed(description, described) for description in described]


def _volumes(headers: Sequence[Dataset]) -> dict[str, list[Dataset]]:
    """Return the volumes of an MR series; nothing else is worth splitting."""
    if any(header.get("Modality") != "MR" for header in headers):
        return {WHOLE: list(headers)}
    return split_series(headers)


def describe_series(headers: Sequence[Dataset], site_rules: Sequence[SiteRule] = ()) -> SeriesDescription:
    """Describe one volume by itself from the headers of all its instances (pixel data may be absent).

    Raises ValueError where there is no instance or more than one Series Instance UID.
    """
    uids = {str(header.get("SeriesInstanceUID", "")) for header in headers}
    if len(uids) != 1:
        raise ValueError(f"{len(uids)} series where one is described")
    first = headers[0]
    text = series_text(first)
    planes = series_planes(headers)
    physics, agent = read_physics(first), read_agent(first)
    role, confidence, evidence = _role(text, physics, agent)
    exclusions = [*_unusable(headers, planes)]
    if (rule := first_match(site_rules, first)) is None:
        exclusions = [*_unwanted(first, text), *exclusions]
    else:
        number, called = rule
        exclusions = [f"site rule {number} ignores it"] if called is SiteRole.IGNORE else exclusions
        role, confidence, evidence = (
            called.series_role or role,
            0.98,
            f"site rule {number} says {called.upper()}",
        )
        agent = AgentEvidence(
            Agent.AFTER if role is SeriesRole.T1CE else Agent.BEFORE, 0.98, evidence, agent.recorded
        )
    return SeriesDescription(
        series_instance_uid=uids.pop(),
        sop_instance_uids=frozenset(str(header.get("SOPInstanceUID")) for header in headers),
        series_number=integer(first.get("SeriesNumber")),
        modality=str(first.get("Modality", "")),
        role=role,
        confidence=confidence,
        evidence=evidence,
        agent=agent.agent,
        agent_recorded=agent.recorded,
        physics=physics,
        instance_count=len(headers),
        slice_count=len(planes),
        plane=nearest_plane(planes),
        coverage_mm=coverage_mm(planes),
        voxel_mm3=voxel_mm3(planes),
        fat_saturated="FS" in text_values(first, "ScanOptions") or FAT_SATURATED.search(text) is not None,
        spoiled=SPOILED.search(text) is not None,
        derived=bool({"DERIVED", "SECONDARY"} & set(text_values(first, "ImageType")[:2])),
        acquired_at=_acquired_at(first),
        exclusion=next(iter(exclusions), None),
    )


def _acquired_at(header: Dataset) -> str:
    """Date and time of the acquisition, by series or content where only those are said."""
    for kind in ("Acquisition", "Series", "Content"):
        moment = (
            header.get(f"{kind}DateTime")
            or f"{header.get(kind + 'Date') or ''}{header.get(kind + 'Time') or ''}"
        )
        if moment:
            return str(moment)
    return ""


def _role(text: str, physics: Physics, agent: AgentEvidence) -> tuple[SeriesRole, float, str]:
    """Stage B: text and pulse sequence each have a vote; then the contrast agent for a T1."""
    role, confidence, evidence = _vote(text_roles(text), physics)
    if role is not SeriesRole.T1:
        return role, confidence, evidence
    if agent.given or agent.agent is Agent.BOTH:
        role = SeriesRole.T1CE
    return role, min(confidence, agent.confidence), f"{evidence}; {agent.evidence}"


def _vote(said: frozenset[SeriesRole], physics: Physics) -> tuple[SeriesRole, float, str]:  # noqa: PLR0911 (a decision table)
    shown = physics_role(physics)
    names = " or ".join(sorted(role.upper() for role in said))
    if not said and shown is None:
        return SeriesRole.OTHER, 0.0, "neither name nor pulse sequence tells the weighting"
    if shown is None and len(said) == 1:
        return next(iter(said)), 0.75, f"name says {names}, {physics.text}"
    if shown is None:
        return SeriesRole.OTHER, 0.40, f"name says {names}, {physics.text}"
    if not said:
        confidence = physics_confidence(physics)
        return shown, confidence, f"pulse sequence ({physics.text}) says {shown.upper()}, name says nothing"
    if shown in said:
        return shown, 0.97, f"name and pulse sequence ({physics.text}) say {shown.upper()}"
    if SeriesRole.T2 in said and shown is SeriesRole.FLAIR:
        # A FLAIR is T2-weighted, so both are true and the inversion decides.
        return SeriesRole.FLAIR, 0.97, f"name says T2, pulse sequence ({physics.text}) says FLAIR"
    if SeriesRole.OTHER in said:
        return (
            SeriesRole.OTHER,
            0.90,
            f"name says that it is another contrast, pulse sequence ({physics.text}) {shown.upper()}",
        )
    return min(said), 0.40, f"name says {names}, pulse sequence ({physics.text}) says {shown.upper()}"


def _unwanted(first: Dataset, text: str) -> Iterator[str]:
    """Stage A, what a site rule may overrule: yield the reasons to leave the series out by what it is."""
    image_type = {value.upper() for value in text_values(first, "ImageType")}
    if unwanted := EXCLUDED_IMAGE_TYPES & image_type:
        yield f"image type {min(unwanted)}"
    if first.get("ComplexImageComponent") in ("PHASE", "REAL", "IMAGINARY"):
        yield f"{first.ComplexImageComponent.lower()} images"
    if is_echo_planar(first):
        yield "echo planar or diffusion-weighted"
    body_part = str(first.get("BodyPartExamined") or "").upper()
    if any(part in body_part for part in OTHER_BODY_PARTS):
        yield "not the brain"
    physics = read_physics(first)
    # Siemens calls an MPRAGE t1_mpr; a real reformat isn't ORIGINAL
    is_mprage = physics.inversion_time is not None and "ORIGINAL" in image_type and physics.gradient_echo
    for reason, pattern in EXCLUDED_TEXT:
        if pattern.search(text) and not (reason == REFORMATTED and is_mprage):
            yield reason


def _unusable(headers: Sequence[Dataset], planes: Sequence[SlicePlane]) -> Iterator[str]:
    """Stage A, what nobody may overrule: yield the reasons why these images are no volume of a head."""
    if headers[0].get("Modality") != "MR" or any(
        h.get("SOPClassUID") not in MR_STORAGE_CLASSES for h in headers
    ):
        yield "not MR images"
    if any(header.get("SamplesPerPixel", 1) != 1 for header in headers):
        yield "colour images"
    if any(header.get("BitsAllocated") == 1 for header in headers):
        yield MASK
    if len({read_physics(header).echo_time for header in headers}) > 1:
        yield "several echo times in one series"
    if len(planes) < MINIMUM_SLICES:
        yield f"{len(planes)} slices where {MINIMUM_SLICES} are needed"
    if (covered := coverage_mm(planes)) < MINIMUM_COVERAGE_MM:
        yield f"covers {covered:.0f} mm of the head where {MINIMUM_COVERAGE_MM:.0f} are needed"
    try:
        stacked(planes)
    except GeometryError as error:
        yield str(error)
