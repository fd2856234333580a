"""The project's words: contrasts, grades, and what a prediction says.

Training labels are glioblastoma collection (HGG) against lower-grade collection (LGG, WHO 2 and 3);
no histological or molecular grade is claimed.
"""

from dataclasses import dataclass
from enum import StrEnum


class Contrast(StrEnum):
    """The three MR contrasts the network sees, in its channel order."""

    FLAIR = "flair"
    T1CE = "t1ce"
    T2 = "t2"


class Grade(StrEnum):
    """The two classes the network tells apart."""

    HGG = "HGG"
    LGG = "LGG"


class Verdict(StrEnum):
    """Whether a study that the network has seen gets a grade, and if not, why not."""

    GRADED = "graded"
    INDETERMINATE = "indeterminate"
    """The probability is told; it is too near the threshold for a grade."""
    NO_TUMOUR_SEEN = "no_tumour_seen"
    OUT_OF_DISTRIBUTION = "out_of_distribution"
    """The images are unlike those that the network was trained on."""

    @property
    def tells_probability(self) -> bool:
        """Whether the probability may be told; without a tumour or with strange images it means nothing."""
        return self in (Verdict.GRADED, Verdict.INDETERMINATE)


@dataclass(frozen=True, slots=True)
class GradePrediction:
    """What the network says of one patient's stack.

    `probability` is that of HGG, 0–1. `slice_probabilities` and `slice_weights` hold one entry per slice of
    the stack in its slice order; the weights sum to 1 and are the share of each slice in `probability`.
    Whether it may be told as a grade is for `model.gates.judge` to say.
    """

    probability: float
    threshold: float
    slice_probabilities: tuple[float, ...]
    slice_weights: tuple[float, ...]

    @property
    def grade(self) -> Grade:
        """HGG where the probability reaches the threshold, else LGG."""
        return Grade.HGG if self.probability >= self.threshold else Grade.LGG
