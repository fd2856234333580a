"""Stage D: one series for each contrast, or why the study can't be graded or waits for a person."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dicom_node.reading.contrast_agent import Agent
from dicom_node.reading.series_description import (
    ACCEPTED_CONFIDENCE,
    ROLE_NAMES,
    SeriesDescription,
    are_alike,
)
from dicom_node.reading.series_rules import Plane, SeriesRole
from model.grade import Contrast

SET_BY_A_PERSON: Final = "set by a person"


class NotGradableError(Exception):
    """The study can't be graded as it is; trying again helps only when it has changed.

    `reason_code` is a machine's word for it, `sentence` one for a technologist, without text
    of the patient.
    """

    def __init__(self, reason_code: str, sentence: str) -> None:
        super().__init__(f"{reason_code}: {sentence}")
        self.reason_code = reason_code
        self.sentence = sentence


class UncertainRolesError(NotGradableError):
    """A series may be the one that is needed, or may not: the study waits for a person to say so."""

    def __init__(self, sentence: str) -> None:
        super().__init__("roles_uncertain", f"{sentence}; say which with `gliograde roles`")


@dataclass(frozen=True, slots=True)
class SeriesChoice:
    """The series taken for a contrast, or one volume of it, and why."""

    contrast: Contrast
    name: str
    series_instance_uid: str
    confidence: float
    evidence: str
    part: str
    sop_instance_uids: frozenset[str]

    @property
    def is_decided(self) -> bool:
        """Whether a person chose it, which no check of ours overrules."""
        return self.evidence.startswith(SET_BY_A_PERSON)


@dataclass(frozen=True, slots=True)
class PlainT1:
    """A T1 before contrast agent to compare the chosen one with; `alike` where both are of one protocol."""

    sop_instance_uids: frozenset[str]
    alike: bool


SeriesPart = tuple[str, str]
"""Series Instance UID and label of the part."""


def select_series(
    series: Sequence[SeriesDescription],
    decided: Mapping[Contrast, SeriesPart] | None = None,
    accepted_confidence: float = ACCEPTED_CONFIDENCE,
) -> dict[Contrast, SeriesChoice]:
    """Choose one series for each contrast; what a person decided is taken as it is.

    Raises `NotGradableError` where there are no MR series or nothing comes near to a contrast, and
    `UncertainRolesError` where only doubtful series do, or two tie.
    """
    seen = "; ".join(description.label for description in sorted(series, key=_by_number)) or "no series"
    if series and all(description.modality != "MR" for description in series):
        modalities = ", ".join(sorted({description.modality or "unknown" for description in series}))
        raise NotGradableError("not_mr", f"the study holds no MR images, only {modalities}")
    chosen = _decided(series, decided or {})
    taken = [(choice.series_instance_uid, choice.part) for choice in chosen.values()]
    free = [one for one in series if (one.series_instance_uid, one.part) not in taken]
    open_contrasts = [contrast for contrast in Contrast if contrast not in chosen]
    candidates = {
        contrast: [one for one in free if one.role.contrast is contrast and one.exclusion is None]
        for contrast in open_contrasts
    }
    if missing := [contrast for contrast in open_contrasts if not candidates[contrast]]:
        names = " and no ".join(ROLE_NAMES[SeriesRole(contrast.value)] for contrast in missing)
        unknown = any(
            one.exclusion is None and one.role is SeriesRole.T1 and one.agent is Agent.UNKNOWN for one in free
        )
        remedy = (
            "; if a T1 was acquired after contrast agent, say so with `gliograde roles`" if unknown else ""
        )
        sentence = f"no {names} series found; seen: {seen}{remedy}"
        raise NotGradableError("missing_" + "_".join(missing), sentence)
    for contrast in open_contrasts:
        best = _best([one for one in candidates[contrast] if one.confidence >= accepted_confidence])
        name = ROLE_NAMES[SeriesRole(contrast.value)]
        if not best:
            raise UncertainRolesError(f"no {name} series is certain; seen: {seen}")
        if len(best) > 1:
            raise UncertainRolesError(f"{len(best)} {name} series are equally suitable; seen: {seen}")
        chosen[contrast] = _choice(contrast, best[0], best[0].confidence, best[0].evidence)
    return {contrast: chosen[contrast] for contrast in Contrast}


def plain_t1(series: Sequence[SeriesDescription], choices: Mapping[Contrast, SeriesChoice]) -> PlainT1 | None:
    """Find a T1 from before contrast agent, one of the same protocol as the chosen T1 where there is one."""
    choice = choices[Contrast.T1CE]
    chosen = _of_part(series, (choice.series_instance_uid, choice.part))
    before = [
        one
        for one in series
        if one.exclusion is None
        and one.role is SeriesRole.T1
        and one is not chosen
        and (one.agent is Agent.BEFORE or "" < one.acquired_at < chosen.acquired_at)
    ]
    if not before:
        return None
    best = max(before, key=lambda one: (are_alike(one, chosen), *(rank(one) for _, rank in _PREFERENCES)))
    return PlainT1(best.sop_instance_uids, are_alike(best, chosen))


def passed_over(
    one: SeriesDescription,
    series: Sequence[SeriesDescription],
    choices: Mapping[Contrast, SeriesChoice],
) -> str | None:
    """Say why a volume is left out, or which was taken before it; None where neither is so."""
    taken = {(choice.series_instance_uid, choice.part): choice for choice in choices.values()}
    if (one.series_instance_uid, one.part) in taken:
        return None
    if one.exclusion is not None:
        return one.exclusion
    choice = choices.get(one.role.contrast) if one.role.contrast else None
    if choice is None:
        return None
    chosen = _of_part(series, (choice.series_instance_uid, choice.part))
    if choice.is_decided:
        return f"{chosen.name} was {SET_BY_A_PERSON}"
    word, _ = next(
        ((word, rank) for word, rank in _PREFERENCES if rank(chosen) > rank(one)), ("more certain", None)
    )
    if one.confidence < min(chosen.confidence, ACCEPTED_CONFIDENCE):
        word = "more certain"
    return f"{chosen.name} is taken before it: {word}"


def _decided(
    series: Sequence[SeriesDescription], decided: Mapping[Contrast, SeriesPart]
) -> dict[Contrast, SeriesChoice]:
    present = {(one.series_instance_uid, one.part) for one in series}
    if lost := [contrast for contrast, part in decided.items() if part not in present]:
        raise UncertainRolesError(
            f"the series that a person set for {' and '.join(lost)} is no longer what it was"
        )
    return {
        contrast: _choice(contrast, _of_part(series, part), 1.0, SET_BY_A_PERSON)
        for contrast, part in decided.items()
    }


def _of_part(series: Sequence[SeriesDescription], part: SeriesPart) -> SeriesDescription:
    return next(one for one in series if (one.series_instance_uid, one.part) == part)


def _choice(contrast: Contrast, one: SeriesDescription, confidence: float, evidence: str) -> SeriesChoice:
    return SeriesChoice(
        contrast=contrast,
        name=one.name,
        series_instance_uid=one.series_instance_uid,
        part=one.part,
        sop_instance_uids=one.sop_instance_uids,
        confidence=confidence,
        evidence=evidence,
    )


_PREFERENCES: Final[Sequence[tuple[str, Callable[[SeriesDescription], Any]]]] = (
    ("more certain", lambda one: one.confidence >= 0.9),
    ("axial or 3-D", lambda one: one.plane is Plane.AXIAL or one.voxel_mm3 <= 2.0),
    ("not spoiled", lambda one: not one.spoiled),
    ("original images", lambda one: not one.derived),
    ("without fat saturation", lambda one: not one.fat_saturated),
    ("covers more", lambda one: round(one.coverage_mm / 10)),
    ("smaller voxels", lambda one: -round(one.voxel_mm3, 1)),
    ("acquired later", lambda one: one.acquired_at),
)
"""What is preferred, the weightiest first: coverage to the centimetre, and of repeats the last."""


def _best(candidates: Sequence[SeriesDescription]) -> list[SeriesDescription]:
    """Return the best candidates: more than one where nothing tells them apart."""
    ranks = [tuple(rank(one) for _, rank in _PREFERENCES) for one in candidates]
    return [one for one, rank in zip(candidates, ranks, strict=True) if rank == max(ranks)]


def _by_number(description: SeriesDescription) -> tuple[int, str, str]:
    return description.series_number or 0, description.series_instance_uid, description.part
