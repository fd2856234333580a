"""Do the pixels look like the contrast that the headers claim? The volumes must lie on one grid, aligned.

Ours, and calibrated on two real gliomas and simulated heads (tests/model/test_contrast_check.py): a swapped
or a mistaken series is seen; series that are not aligned give no verdict, not a wrong one.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

MINIMUM_VOXELS = 1000
RISE_SIGMAS = 4.0
MINIMUM_RISE = 0.0005
"""Share of the brain that rises by contrast agent; met: 0.0013 (simulated head) to 0.023 (real glioma)."""
BALANCE = 0.6
BRIGHT_FLUID = 0.85
"""Quantile of T2 above which fluid lies; a large tumour alone can fill the brightest 5 %, as in seed 106."""
DARK_RANK = 0.25
MINIMUM_DARK = 0.1
FLUID_BALANCE = 0.2


class Verdict(StrEnum):
    """What the pixels say of a claim."""

    CONFIRMED = "confirmed"
    CONTRADICTED = "contradicted"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class ContrastCheck:
    """A score, -1 to 1, positive for the claim; the verdict; and both in words for the evidence."""

    score: float
    verdict: Verdict
    words: str


def confirm_contrast_agent(t1ce: Array, t1: Array, mask: Mask) -> ContrastCheck:
    """Ask whether voxels of `mask` rose beyond noise from T1 to T1ce: vessels, choroid plexus, tumour.

    All three have one shape; NaN where a series does not reach. Intensities are matched by median and MAD,
    and the score is (risen - fallen) / (risen + fallen) of the shares beyond 4 robust deviations.
    """
    after, before = _inside(mask, t1ce, t1)
    if len(after) < MINIMUM_VOXELS:
        return ContrastCheck(
            0.0, Verdict.UNCLEAR, "T1 before contrast agent doesn't cover enough of the brain"
        )
    change = _standardised(_standardised(after) - _standardised(before))
    risen, fallen = float((change > RISE_SIGMAS).mean()), float((change < -RISE_SIGMAS).mean())
    words = f"{risen:.2%} of the brain brighter than in T1 before contrast agent, {fallen:.2%} darker"
    if max(risen, fallen) < MINIMUM_RISE:
        return ContrastCheck(0.0, Verdict.CONTRADICTED, f"no contrast uptake: {words}")
    score = (risen - fallen) / (risen + fallen)
    if score >= BALANCE:
        return ContrastCheck(score, Verdict.CONFIRMED, f"contrast uptake: {words}")
    if score <= -BALANCE:
        return ContrastCheck(
            score, Verdict.CONTRADICTED, f"looks like the one before contrast agent: {words}"
        )
    return ContrastCheck(score, Verdict.UNCLEAR, f"contrast uptake unclear: {words}")


def confirm_dark_fluid(flair: Array, t2: Array, mask: Mask) -> ContrastCheck:
    """Ask whether what is brightest in T2, fluid above all, is dark in FLAIR, and not the other way round.

    All three have one shape; NaN where a series does not reach. The score is the share of the brightest
    15 % of T2 that is in FLAIR's darkest quarter, less the same with the two exchanged. Oedema, bright in
    both, lowers the score and does not turn it.
    """
    dark, bright = _inside(mask, flair, t2)
    if len(dark) < MINIMUM_VOXELS:
        return ContrastCheck(0.0, Verdict.UNCLEAR, "FLAIR and T2 don't cover enough of the brain together")
    in_flair, in_t2 = _dark_share(dark, bright), _dark_share(bright, dark)
    score = in_flair - in_t2
    words = f"{in_flair:.0%} of what is brightest in T2 is dark in FLAIR, {in_t2:.0%} the other way round"
    if max(in_flair, in_t2) < MINIMUM_DARK:
        return ContrastCheck(score, Verdict.CONTRADICTED, f"fluid is as bright in FLAIR as in T2: {words}")
    if score >= FLUID_BALANCE:
        return ContrastCheck(score, Verdict.CONFIRMED, f"dark fluid: {words}")
    if score <= -FLUID_BALANCE:
        return ContrastCheck(score, Verdict.CONTRADICTED, f"FLAIR and T2 look exchanged: {words}")
    return ContrastCheck(score, Verdict.UNCLEAR, f"dark fluid unclear: {words}")


def _inside(mask: Mask, *arrays: Array) -> list[npt.NDArray[np.float64]]:
    """Values of each array in the mask where all of them are finite."""
    seen = mask & np.logical_and.reduce([np.isfinite(array) for array in arrays])
    return [array[seen].astype(np.float64) for array in arrays]


def _standardised(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Median to 0, MAD (scaled to a normal distribution's deviation) to 1."""
    centred = values - np.median(values)
    return np.asarray(centred / max(1.4826 * float(np.median(np.abs(centred))), 1e-9))


def _dark_share(values: npt.NDArray[np.float64], by: npt.NDArray[np.float64]) -> float:
    """Share of what is brightest in `by` that lies in the darkest quarter of `values`."""
    brightest = by >= np.quantile(by, BRIGHT_FLUID)
    return float((values[brightest] <= np.quantile(values, DARK_RANK)).mean())
