"""What a result says, and the one place where it is put into words."""

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from pydicom import Dataset

from model.gates import NOT_JUDGED, Judgement
from model.grade import Contrast, Grade, GradePrediction, Verdict

MANUFACTURER = "gliograde"
"""Manufacturer (0008,0070) of every object that we build; by it we know ours when one comes back."""
RESEARCH_SENTENCE = "RESEARCH USE ONLY - NOT FOR CLINICAL DIAGNOSIS"
CLASSES_SENTENCE = (
    "The network tells the glioblastoma collection (HGG) from the lower-grade collection (LGG, WHO 2/3); "
    "it does not state a histological or molecular grade."
)
ATTENTION_SENTENCE = (
    "Attention is where the network looked, on a fixed scale 0-1; it is not an outline of the tumour."
)
EXTENT_SENTENCE = (
    "The network is shown 56 slices, 1 mm apart, about 63 % of the brain: of a tumour above or below them it "
    "says nothing."
)
HATCH_SENTENCE = "What is hatched was not shown to the network."
PICTURE_SENTENCES = f"{ATTENTION_SENTENCE} {EXTENT_SENTENCE} {HATCH_SENTENCE}"
"""What stands below every picture of attention."""
NOT_GRADED_WORDS = "NOT GRADED"
NOT_GRADED_SENTENCE = "No image was assessed: this says nothing of whether there is a tumour, or which."
_GRADE_WORDS = {Grade.HGG: "HIGH-GRADE GLIOMA (HGG)", Grade.LGG: "LOW-GRADE GLIOMA (LGG)"}
_VERDICT_WORDS = {
    Verdict.INDETERMINATE: "INDETERMINATE",
    Verdict.NO_TUMOUR_SEEN: f"{NOT_GRADED_WORDS}, NO TUMOUR SEEN",
    Verdict.OUT_OF_DISTRIBUTION: f"{NOT_GRADED_WORDS}, UNUSUAL IMAGES",
}
CONTRAST_WORDS = {Contrast.FLAIR: "FLAIR", Contrast.T1CE: "T1 post-contrast", Contrast.T2: "T2"}


@dataclass(frozen=True, slots=True)
class Algorithm:
    """The algorithm as TID 4019 identifies it.

    `parameters` are "name=value" texts; `training_statement` says what the checkpoint was trained on,
    `limits` are sentences on its calibration and on the gates before a grade.
    """

    name: str
    version: str
    checkpoint_sha256: str
    training_statement: str
    parameters: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()

    @property
    def version_text(self) -> str:
        """Version and the checkpoint's whole digest."""
        return f"{self.version}, checkpoint sha256 {self.checkpoint_sha256}"

    @property
    def short_text(self) -> str:
        """Name, version and the start of the digest, for a line on an image."""
        return f"{self.name} {self.version}, checkpoint {self.checkpoint_sha256[:12]}"


@dataclass(frozen=True, slots=True)
class SeriesRole:
    """Which series was taken for a contrast, and why.

    `evidence` is our own wording of header facts, never free text of the series; `confidence` is 0-1.
    """

    contrast: Contrast
    series_instance_uid: str
    evidence: str
    confidence: float

    @property
    def text(self) -> str:
        """One line for the report."""
        return (
            f"{CONTRAST_WORDS[self.contrast]}: series {self.series_instance_uid}, "
            f"confidence {self.confidence:.2f}: {self.evidence}"
        )

    @property
    def short_text(self) -> str:
        """The same for a line on an image, which names no UID."""
        return f"{CONTRAST_WORDS[self.contrast]}: {self.evidence} (confidence {self.confidence:.2f})"


@dataclass(frozen=True, slots=True)
class Device:
    """This installation as the observer of the report; `uid` stays the same for its lifetime."""

    uid: str
    name: str
    model_name: str
    software_version: str
    serial_number: str
    manufacturer: str = MANUFACTURER


@dataclass(frozen=True, slots=True)
class Predecessor:
    """The earlier report of the same study that this one replaces."""

    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What every answer to a study carries, graded or not.

    `result_id` is the hash of what the answer rests on; all UIDs derive from it. `created_at` is fixed once
    by the job, so that building twice gives the same bytes; it must carry a time zone.
    """

    algorithm: Algorithm
    result_id: str
    created_at: datetime
    device: Device
    predecessor: Predecessor | None = None
    research_use_only: bool = True

    def __post_init__(self) -> None:
        if self.created_at.utcoffset() is None:
            raise ValueError("created_at must carry a time zone")

    def series_description(self, kind: str) -> str:
        """Series Description: the kind of object, marked for research; it never holds the result."""
        return f"{kind} (RESEARCH)" if self.research_use_only else kind

    def dicom_date_time(self, header: Dataset) -> tuple[str, str]:
        """`created_at` as DA and TM, in the zone of the header's Timezone Offset From UTC where it has one.

        Without an offset there the zone of `created_at` is kept: the site's own, by convention.
        """
        moment = self.created_at
        offset = str(header.get("TimezoneOffsetFromUTC") or "")
        if len(offset) == 5 and offset[0] in "+-" and offset[1:].isdigit():
            sign = -1 if offset[0] == "-" else 1
            ahead = sign * timedelta(hours=int(offset[1:3]), minutes=int(offset[3:5]))
            moment = moment.astimezone(timezone(ahead))
        return moment.strftime("%Y%m%d"), moment.strftime("%H%M%S.%f")

    @property
    def research_comments(self) -> tuple[str, ...]:
        """The sentence that comes first, where it holds."""
        return (RESEARCH_SENTENCE,) if self.research_use_only else ()


@dataclass(frozen=True, slots=True)
class NeededSeries:
    """A contrast that grading needs, and the series that look like it, by their numbers."""

    contrast: Contrast
    series: tuple[str, ...]

    @property
    def words(self) -> str:
        """Name the series that look like it."""
        return f"looks like it: series {', '.join(self.series)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NotGraded(Statement):
    """Why a study has no grade: `reason` is our own sentence, `received` one line for each series.

    `needed` is what there is of each contrast.
    """

    reason: str
    received: tuple[str, ...]
    needed: tuple[NeededSeries, ...] = ()

    @property
    def headline(self) -> str:
        """The answer in one line."""
        return f"AI result: {NOT_GRADED_WORDS} - {self.reason}"

    @property
    def comments(self) -> tuple[str, ...]:
        """What the report says, the most important first."""
        return (*self.research_comments, self.headline, NOT_GRADED_SENTENCE, *self.received)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report(Statement):
    """Everything that the objects sent back say of one study that the network has seen.

    Whether its grade and its probability are told is for `judgement` to say.
    """

    prediction: GradePrediction
    roles: tuple[SeriesRole, ...]
    judgement: Judgement = NOT_JUDGED

    def __post_init__(self) -> None:
        Statement.__post_init__(self)  # a class with slots is made anew, which super() doesn't see
        if not 0 <= self.prediction.probability <= 1:
            raise ValueError(f"a probability lies in 0-1, not {self.prediction.probability}")

    @property
    def percent_text(self) -> str:
        """Probability of HGG in percent, to one decimal.

        More decimals where rounding would carry it over the threshold, so that number and grade never
        contradict each other.
        """
        probability, threshold = self.prediction.probability, self.prediction.threshold
        for decimals in range(1, 12):
            text = f"{100 * probability:.{decimals}f}"
            if (float(text) >= 100 * threshold) == (probability >= threshold):
                return text
        return repr(100 * probability)

    @property
    def threshold_text(self) -> str:
        """Decision threshold in percent."""
        return f"{100 * self.prediction.threshold:g} %"

    @property
    def headline(self) -> str:
        """The result in one line."""
        return " - ".join(words for words in (self.result_words, self.probability_words) if words)

    @property
    def grade(self) -> Grade | None:
        """The grade that is told; None where a gate keeps it back."""
        return self.prediction.grade if self.judgement.verdict is Verdict.GRADED else None

    @property
    def tells_probability(self) -> bool:
        """Whether the probability is told."""
        return self.judgement.verdict.tells_probability

    @property
    def grade_words(self) -> str:
        """The predicted class in words, or what stands in its place."""
        return _VERDICT_WORDS[self.judgement.verdict] if self.grade is None else _GRADE_WORDS[self.grade]

    @property
    def result_words(self) -> str:
        """The class under its heading; what is no grade isn't called a prediction."""
        return f"AI {'result' if self.grade is None else 'prediction'}: {self.grade_words}"

    @property
    def probability_words(self) -> str:
        """Probability and the threshold that made it a grade; empty where it isn't told."""
        if not self.tells_probability:
            return ""
        return f"probability of HGG {self.percent_text} % (threshold {self.threshold_text})"

    @property
    def comments(self) -> tuple[str, ...]:
        """The report's opening sentences, the most important first."""
        why = (self.judgement.sentence,) if self.judgement.sentence else ()
        limits = (EXTENT_SENTENCE, CLASSES_SENTENCE, self.algorithm.training_statement)
        return (*self.research_comments, self.headline, *why, *limits, *self.algorithm.limits)

    @property
    def algorithm_parameters(self) -> tuple[str, ...]:
        """What TID 4019 lists as parameters: threshold, the algorithm's own, then the series taken."""
        threshold = f"decision_threshold={self.prediction.threshold:g}"
        return (threshold, *self.algorithm.parameters, *(role.text for role in self.roles))
