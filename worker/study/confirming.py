"""The choice of series put to the pixels: a claim that they contradict waits for a person."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from dicom_node.reading.series_choice import PlainT1, SeriesChoice, UncertainRolesError
from dicom_node.reading.series_description import ROLE_NAMES
from dicom_node.reading.series_rules import SeriesRole
from model.grade import Contrast
from model.space.contrast_check import ContrastCheck, Verdict, confirm_contrast_agent, confirm_dark_fluid

if TYPE_CHECKING:
    from model.space.preprocess import Placed

Checks = Mapping[Contrast, ContrastCheck]


def check_contrasts(placed: "Placed") -> Checks:
    """Look at what lies in BraTS space, within the brain; at T1ce only where a plain T1 lies there too."""
    seen, brain = placed.arrays, placed.mask
    checks = {Contrast.FLAIR: confirm_dark_fluid(seen[Contrast.FLAIR], seen[Contrast.T2], brain)}
    if placed.plain_t1 is not None:
        checks[Contrast.T1CE] = confirm_contrast_agent(seen[Contrast.T1CE], placed.plain_t1, brain)
    return checks


def confirm_choices(
    choices: Mapping[Contrast, SeriesChoice], checks: Checks, plain_t1: PlainT1 | None
) -> dict[Contrast, SeriesChoice]:
    """Add what the pixels say to the evidence; raises UncertainRolesError where they contradict it.

    What a person set is not asked about again. A T1 of another pulse sequence contradicts nothing: its
    contrast differs for other reasons too.
    """
    asked: Mapping[Contrast, Sequence[Contrast]] = {
        Contrast.FLAIR: (Contrast.FLAIR, Contrast.T2),
        Contrast.T1CE: (Contrast.T1CE,),
    }
    for contrast, check in checks.items():
        decided = any(choices[needed].is_decided for needed in asked[contrast])
        unlike = contrast is Contrast.T1CE and (plain_t1 is None or not plain_t1.alike)
        if check.verdict is Verdict.CONTRADICTED and not decided and not unlike:
            taken = choices[contrast]
            name = ROLE_NAMES[SeriesRole(contrast.value)]
            raise UncertainRolesError(
                f"{taken.name} was taken for {name} ({taken.evidence}), but its pixels say: {check.words}"
            )
    words = {Contrast.T1CE: ["no T1 before contrast agent to compare with"]}
    words |= {contrast: [check.words] for contrast, check in checks.items()}
    return {
        contrast: replace(choice, evidence="; ".join([choice.evidence, *words.get(contrast, ())]))
        for contrast, choice in choices.items()
    }
