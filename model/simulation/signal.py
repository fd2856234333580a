"""What a voxel of each tissue shows: relaxation times and the signal equations of the four series.

Relaxation times are round literature values at 3 T (Stanisz 2005, Wansapura 1999); T1 shortens at 1.5 T.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from math import exp, log

GD_RELAXIVITY = 4.3  # per mM per s


class Tissue(StrEnum):
    """Everything a simulated voxel can be made of, air aside."""

    WHITE = "white"
    GREY = "grey"
    CSF = "csf"
    VESSEL = "vessel"
    DURA = "dura"
    BONE = "bone"
    FAT = "fat"
    MUSCLE = "muscle"
    NECROSIS = "necrosis"
    SOLID = "solid"
    OEDEMA = "oedema"
    ENHANCING = "enhancing"
    BLOOD = "blood"
    GLIOSIS = "gliosis"
    FLOWING = "flowing CSF"


@dataclass(frozen=True, slots=True)
class Relaxation:
    """T1 and T2 in ms, proton density relative to water, Gd concentration in mM after injection."""

    t1: float
    t2: float
    density: float
    gadolinium: float = 0.0

    def enhanced(self) -> "Relaxation":
        """Return the same tissue with its gadolinium: R1 = R1₀ + r₁·C."""
        return replace(self, t1=1000.0 / (1000.0 / self.t1 + GD_RELAXIVITY * self.gadolinium))


RELAXATION_3T: dict[Tissue, Relaxation] = {
    Tissue.WHITE: Relaxation(850, 77, 0.71, 0.01),
    Tissue.GREY: Relaxation(1350, 93, 0.80, 0.02),
    Tissue.CSF: Relaxation(4300, 1800, 1.0),
    Tissue.VESSEL: Relaxation(1700, 38, 0.80, 0.9),
    Tissue.DURA: Relaxation(1000, 25, 0.45, 0.40),
    Tissue.BONE: Relaxation(500, 12, 0.16),
    Tissue.FAT: Relaxation(370, 105, 0.75),
    Tissue.MUSCLE: Relaxation(1200, 45, 0.70, 0.10),
    Tissue.NECROSIS: Relaxation(2300, 330, 0.95, 0.02),
    Tissue.SOLID: Relaxation(1750, 170, 0.88, 0.01),
    Tissue.OEDEMA: Relaxation(1500, 140, 0.86, 0.01),
    Tissue.ENHANCING: Relaxation(1500, 120, 0.84, 0.35),
    Tissue.BLOOD: Relaxation(520, 60, 0.80),
    Tissue.GLIOSIS: Relaxation(1300, 125, 0.82, 0.01),
    # inflow is not inverted, which shortens T1 as FLAIR sees it
    Tissue.FLOWING: Relaxation(2600, 1800, 1.0),
}


@dataclass(frozen=True, slots=True)
class Protocol:
    """How one series is acquired: times in ms; `ti` 0 means no inversion; `gadolinium` after injection."""

    tr: float
    te: float
    ti: float = 0.0
    gadolinium: bool = False

    def signal(self, tissue: Relaxation) -> float:
        """Magnitude of the (inversion) spin echo: ρ·|1 − 2e^(−TI/T1) + e^(−TR/T1)|·e^(−TE/T2)."""
        tissue = tissue.enhanced() if self.gadolinium else tissue
        recovered = 1 - exp(-self.tr / tissue.t1)
        if self.ti:
            recovered = abs(1 - 2 * exp(-self.ti / tissue.t1) + exp(-self.tr / tissue.t1))
        return tissue.density * recovered * exp(-self.te / tissue.t2)


def nulling_ti(tr: float, t1: float) -> float:
    """Inversion time in ms at which a tissue of this T1 gives no signal."""
    return t1 * log(2 / (1 + exp(-tr / t1)))
