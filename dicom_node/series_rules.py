"""The tables that tell MR series apart; `dicom_node.series` applies them.

Thresholds of spin echo and gradient echo at 1 to 3 T: repetition, echo and inversion time in milliseconds.
Text rules are searched in lower-cased text whose punctuation other than + - / * has become blanks.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from model.grade import Contrast


class SeriesRole(StrEnum):
    """What a series is to us; the first three are the contrasts the network sees."""

    FLAIR = "flair"
    T1CE = "t1ce"
    T2 = "t2"
    T1 = "t1"
    OTHER = "other"

    @property
    def contrast(self) -> Contrast | None:
        """The network's contrast of this role, None for plain T1 and others."""
        return Contrast(self.value) if self.value in set(Contrast) else None


class Plane(StrEnum):
    """The anatomical plane nearest to the slices."""

    AXIAL = "axial"
    CORONAL = "coronal"
    SAGITTAL = "sagittal"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Physics:
    """What a header says of the pulse sequence; None where it says nothing. Times in milliseconds."""

    repetition_time: float | None = None
    echo_time: float | None = None
    inversion_time: float | None = None
    gradient_echo: bool = False
    inversion_recovery: bool = False


def words(*alternatives: str) -> re.Pattern[str]:
    """Match one of the alternatives as a whole word (digits and letters to either side end the match)."""
    return re.compile(r"(?<![^\W_])(?:" + "|".join(alternatives) + r")(?![^\W_])")


EXCLUDED_IMAGE_TYPES: Final = frozenset(
    {
        "LOCALIZER",
        "SCOUT",
        "ADC",
        "FA",
        "TRACEW",
        "COLFA",
        "TENSOR_B0",
        "MIP",
        "MNIP",
        "MPR",
        "PROJECTION IMAGE",
        "CSA MIP",
        "CSA MPR",
        "CSA RESAMPLED",
        "SUBTRACT",
        "SUBTRACTION",
        "RCBF",
        "RCBV",
        "TTP",
        "MTT",
        "P",
        "PHASE",
        "PHASE MAP",
        "R",
        "I",
        "T1 MAP",
        "T2 MAP",
        "ASL",
        "PERFUSION",
        "DIFFUSION",
        "FMRI",
        "MOSAIC",
        "SCREEN SAVE",
        "VELOCITY MAP",
    }
)
"""Values of Image Type (PS3.3 C.8.3.1.1.1 and vendors' own) of images that are no plain anatomy."""

EXCLUDED_TEXT: Final = (
    (
        "a localizer or calibration",
        words("loc(?:ali[sz]er)?", "scout", "survey", "3[- ]?plane", "calib\\w*", "shim", "field ?map"),
    ),
    ("diffusion", words("dwi", "dti", "diff\\w*", "adc", "trace", "fa")),
    ("perfusion", words("perf\\w*", "dsc", "dce", "asl", "cbv", "ttp")),
    ("susceptibility or spectroscopy", words("ep2d\\w*", "bold", "swi", "swan", "t2\\*\\w*", "mrs")),
    ("angiography or flow", words("tof", "mra", "mrv", "venc")),
    (
        "computed from other images",
        words("mip", "mpr", "sub", "subtraction", "synth\\w*", "map", "phoenix\\w*"),
    ),
    ("a region or mask", words("roi", "mask", "seg\\w*")),
    ("not the brain", words("(?:[ctl]-?)?spine", "orbits?", "sella", "iac", "neck")),
)
"""Reasons to leave a series out by its text, with the words that say so."""

TEXT_ROLES: Final = (
    (SeriesRole.OTHER, words("stir", "dir", "psir", "pd", "pdw")),
    (SeriesRole.T1, words("t1\\w*[ -]?flair", "flair[ -]?t1\\w*")),
    (SeriesRole.FLAIR, words("\\w*flair\\w*", "dark[- ]?fluid", "da-?fl", "t?2?_?tirm")),
    (SeriesRole.T1, words("s?3?d?t1\\w*", "\\w*mp-?rage\\w*", "bravo", "f?spgr", "tfe", "vibe", "flash")),
    (SeriesRole.T2, words("s?3?d?t2\\w*")),
)
"""First hit names the weighting by text; T1-FLAIR is a T1, not a FLAIR."""


@dataclass(frozen=True, slots=True)
class Times:
    """Repetition, echo and inversion time in milliseconds; an absent inversion time is 0."""

    repetition: float
    echo: float
    inversion: float


def _is_flair(times: Times, physics: Physics) -> bool:
    inverted = times.inversion >= 1400 or (physics.inversion_recovery and physics.inversion_time is None)
    return inverted and times.echo >= 60 and times.repetition >= 4000


def _is_t1(times: Times, physics: Physics) -> bool:
    if 300 <= times.inversion < 1400 and times.echo < 40:
        return True
    if physics.gradient_echo:
        return times.echo <= 10 and times.repetition <= 2500
    return not physics.inversion_recovery and times.echo <= 35 and times.repetition <= 1200


def _is_t2(times: Times, physics: Physics) -> bool:
    slow = times.repetition >= 2000 and times.echo >= 60
    return slow and times.inversion < 1400 and not physics.gradient_echo


def _is_other(times: Times, physics: Physics) -> bool:
    short_inversion = physics.inversion_time is not None and 0 < times.inversion < 300
    proton_density = times.repetition >= 1800 and times.echo < 45 and times.inversion == 0
    return short_inversion or proton_density or (physics.gradient_echo and times.echo > 12)


PHYSICS_ROLES: Final[tuple[tuple[SeriesRole, Callable[[Times, Physics], bool]], ...]] = (
    (SeriesRole.FLAIR, _is_flair),
    (SeriesRole.T1, _is_t1),
    (SeriesRole.OTHER, _is_other),
    (SeriesRole.T2, _is_t2),
)
"""First hit names the weighting by the pulse sequence."""


def physics_role(physics: Physics) -> SeriesRole | None:
    """Return the weighting that the pulse sequence gives, None where the header doesn't tell."""
    if physics.repetition_time is None or physics.echo_time is None:
        return None
    times = Times(physics.repetition_time, physics.echo_time, physics.inversion_time or 0.0)
    return next((role for role, rule in PHYSICS_ROLES if rule(times, physics)), None)


def text_role(text: str) -> SeriesRole | None:
    """Return the weighting that the series' text names, None where it names none."""
    return next((role for role, pattern in TEXT_ROLES if pattern.search(text)), None)


WITHOUT_AGENT: Final = (
    words(
        "(?:w/?o|without|no|ohne|sans|senza|sin|sem|utan|uten|uden|zonder|bez|\u0431\u0435\u0437|ej)"
        "(?:[ -]?[^\\W_]+)?",
        "(?:pre|pr\u00e4)\\w*(?:[ -]?[^\\W_]+)?",
        "nativ\\w*",
        "avant(?:[ -]?\\w+)?",
        "before(?:[ -]?\\w+)?",
        "vor(?:[ -]?\\w+)?",
        "plain",
    ),
    re.compile(r"(?:^|\s|t1w?)-(?:c|k|km|gd)(?![^\W_])"),
    re.compile("\u5e73\u626b"),
)
"""Says: no contrast agent. Each swallows the word behind it, which is often "contrast"."""

WITH_AGENT: Final = (
    words("post(?!erior)\\w*", "avec", "apr[e\u00e8]s", "dopo", "nach", "enh\\w*", "inj\\w*"),
    words(
        "c", "k", "km", "ce", "gd\\w*", "gado\\w*", "mdc", "[ck]ontr(?:ast\\w*)?", "t1w?(?:c|ce|gd|km|post)"
    ),
    words("\u0441 ?\u043a(?:\u043e\u043d\u0442\u0440\\w*|\u0443)", "\u043a\u0443"),
    words("dotarem", "gadovist", "magnevist", "prohance", "multihance", "omniscan", "clariscan", "elucirem"),
    re.compile(r"\+ ?(?:c|k|km|gd)(?![^\W_])|(?<![^\W_])c\+"),
    re.compile("\u589e\u5f3a|\u9020\u5f71|\u5f3a\u5316"),
)
"""Says: after contrast agent, in the languages we have met and by the agents' trade names."""

NO_AGENT_VALUES: Final = frozenset({"", "NO", "NONE", "N/A", "NA", "0", "N", "UNKNOWN", "NIL", "NEIN", "NON"})
"""Values of Contrast/Bolus Agent that technicians enter to say that none was given."""
