"""The tables that tell MR series apart by header values; `dicom_node.reading.series` applies them.

Thresholds of spin echo and gradient echo at 1 to 3 T: repetition, echo and inversion time in milliseconds.
"""

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
    """What a header says of the pulse sequence; None where it says nothing. Times in milliseconds.

    `declared` is the weighting by Acquisition Contrast (PS3.3 C.8.13.3.1.2), which only enhanced objects
    carry.
    """

    repetition_time: float | None = None
    echo_time: float | None = None
    inversion_time: float | None = None
    gradient_echo: bool = False
    inversion_recovery: bool = False
    spin_echo: bool = False
    steady_state: bool = False
    declared: SeriesRole | None = None

    @property
    def text(self) -> str:
        """The times in words."""
        if self.repetition_time is None or self.echo_time is None:
            return "no timing" if self.declared is None else "acquisition contrast"
        inversion = f", TI {self.inversion_time:g}" if self.inversion_time else ""
        return f"TR {self.repetition_time:g}, TE {self.echo_time:g}{inversion}"


EXCLUDED_IMAGE_TYPES: Final = frozenset(
    {
        *("LOCALIZER", "SCOUT", "SCREEN SAVE", "MOSAIC", "REPORT", "CALIBRATION"),
        *("ADC", "FA", "TRACEW", "COLFA", "TENSOR_B0", "TENSOR", "DIFFUSION", "DIFFUSION_ANISO", "EADC"),
        *("MIP", "MNIP", "MPR", "PROJECTION IMAGE", "CSA MIP", "CSA MPR", "CSA RESAMPLED", "REFORMATTED"),
        *("RESAMPLED", "CPR", "MEAN", "STDDEV", "SUBTRACT", "SUBTRACTION", "SUB", "UNI"),
        *("RCBF", "RCBV", "RELCBF", "RELCBV", "TTP", "MTT", "ASL", "PERFUSION", "FMRI", "BOLD"),
        *(
            "P",
            "PHASE",
            "PHASE MAP",
            "R",
            "REAL",
            "I",
            "IMAGINARY",
            "VELOCITY MAP",
            "VELOCITY",
            "R_IR",
            "P_IR",
        ),
        *("T1 MAP", "T2 MAP", "T2_STAR MAP", "B0 MAP", "B1 MAP", "FIELD_MAP", "FIELD MAP", "MAP"),
        *("FAT", "F", "OPP_PHASE", "OUT_PHASE", "OP", "FAT_FRACTION", "FF", "SWI", "MINIMUM"),
    }
)
"""Values of Image Type (PS3.3 C.8.3.1.1.1 and vendors' own) of images that are no plain anatomy."""

IMAGE_TYPES: Final = EXCLUDED_IMAGE_TYPES | {
    *(
        "M",
        "M_SE",
        "M_FFE",
        "M_IR",
        "M_TSE",
        "M_GRASE",
        "SE",
        "FFE",
        "IR",
        "TSE",
        "NORM",
        "ND",
        "DIS2D",
        "DIS3D",
    ),
    *(
        "WATER",
        "W",
        "IN_PHASE",
        "IP",
        "SW_M",
        "SW_P",
        "SW_M_FFE",
        "SW_P_FFE",
        "P_FFE",
        "P_SE",
        "OTHER",
        "T1",
        "T2",
    ),
}
"""Values of Image Type that are said in a label: other words of a header could be a patient's."""

OTHER_BODY_PARTS: Final = (
    *("SPINE", "KNEE", "HIP", "SHOULDER", "ELBOW", "WRIST", "ANKLE", "FOOT", "HAND", "ABDOMEN", "PELVIS"),
    *("CHEST", "HEART", "BREAST", "PROSTATE", "LIVER", "THORAX", "UTERUS", "KIDNEY"),
)
"""Parts of Body Part Examined that say: not the head."""

DECLARED_ROLES: Final = {
    "FLUID_ATTENUATED": SeriesRole.FLAIR,
    "T1": SeriesRole.T1,
    "T2": SeriesRole.T2,
    **dict.fromkeys(
        ("STIR", "PROTON_DENSITY", "DIFFUSION", "PERFUSION", "T2_STAR", "TAGGING", "FLOW_ENCODED", "TOF"),
        SeriesRole.OTHER,
    ),
}
"""What Acquisition Contrast (PS3.3 C.8.13.3.1.2) says of the weighting."""


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
    (SeriesRole.OTHER, lambda _, physics: physics.steady_state),
    (SeriesRole.FLAIR, _is_flair),
    (SeriesRole.T1, _is_t1),
    (SeriesRole.OTHER, _is_other),
    (SeriesRole.T2, _is_t2),
)
"""First hit names the weighting by the pulse sequence."""


def physics_role(physics: Physics) -> SeriesRole | None:
    """Return the weighting that the pulse sequence gives, None where the header doesn't tell."""
    if physics.repetition_time is None or physics.echo_time is None:
        return physics.declared
    times = Times(physics.repetition_time, physics.echo_time, physics.inversion_time or 0.0)
    return next((role for role, rule in PHYSICS_ROLES if rule(times, physics)), physics.declared)


def physics_confidence(physics: Physics) -> float:
    """How far the pulse sequence alone is believed, 0 to 1: spin echoes yes, with inversion yet more.

    A gradient echo without a name may be a field map: it needs a person.
    """
    if physics.gradient_echo or not (physics.spin_echo or physics.inversion_recovery):
        return 0.70
    return 0.85 if physics.inversion_recovery and physics.inversion_time else 0.80


NO_AGENT_VALUES: Final = frozenset(
    {
        *("", "-", ".", "0", "N", "NA", "N/A", "NO", "NON", "NONE", "NIL", "NULL", "NEIN", "KEIN", "KEINE"),
        *("UNKNOWN", "WITHOUT", "OHNE", "SANS", "SENZA", "SIN", "SEM", "НЕТ", "БЕЗ", "无"),
        *("NOT GIVEN", "NO CONTRAST"),
    }
)
"""Values of Contrast/Bolus Agent that technicians enter to say that none was given."""
