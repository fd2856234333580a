"""The card of a checkpoint: what the weights are, where they come from, and their digest.

A checkpoint is a folder with `card.json` and `model.safetensors`. Nothing here needs torch, so that the
command line and the report can name a checkpoint and check it without loading the network.
"""

import hashlib
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model.gates import NO_GATES_STATEMENT, Gates
from model.grade import Contrast, Grade

SCHEMA_VERSION: Final = 1
VERSION = r"^[A-Za-z0-9.+-]{1,12}$"
CARD_NAME = "card.json"
WEIGHTS_NAME = "model.safetensors"
PICKLE_SUFFIXES = frozenset({".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt"})


SIMULATED_STATEMENT = "Demonstration weights trained on simulated tumours, not for clinical use"


class CheckpointError(Exception):
    """A checkpoint that must not be used; the message says why and what to do.

    Trying again does not help: install the checkpoint anew or choose another.
    """


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InputDescription(_Frozen):
    """What the network expects of a stack."""

    contrasts: tuple[Contrast, Contrast, Contrast]
    size: tuple[int, int] = Field(description="Rows and columns of a slice, in pixels")
    slices: str = Field(description="Which slices of the patient are shown to the network")
    normalisation: str
    mean: tuple[float, float, float] | None = Field(
        default=None,
        description="Of each contrast in the training set, background too; null: each volume by itself",
    )
    deviation: tuple[float, float, float] | None = Field(
        default=None, description="Standard deviation that belongs to `mean`"
    )

    @property
    def needs_intensities(self) -> bool:
        """Whether the network sees intensities by the statistics of its training set, as the paper's does."""
        return self.mean is not None and self.deviation is not None


class Training(_Frozen):
    """How the weights came about."""

    kind: Literal["simulated", "real"]
    description: str
    cases: int = Field(ge=0, description="Patients trained on")
    samples: int = Field(ge=0, description="Slices trained on, augmented ones counted once")
    steps: int = Field(ge=0, description="Optimiser steps")
    seed: int
    seconds: float = Field(ge=0, description="Wall time of the whole training")
    patients: tuple[str, ...] = Field(
        default=(),
        description="`model.cohorts.unseen.patient_hashes` of those trained on and those that chose",
    )


class Metric(_Frozen):
    """One measured number with its 95 % interval."""

    name: str
    value: float
    low: float
    high: float
    n: int = Field(ge=1, description="Patients it was measured on")
    measured_on: str


class Calibration(_Frozen):
    """What temperature and bias were fitted on, and what they changed there."""

    patients: int = Field(ge=1)
    brier_before: float = Field(ge=0, le=1)
    brier_after: float = Field(ge=0, le=1)
    error_before: float = Field(
        ge=0, le=1, description="Expected calibration error, as evaluations report it"
    )
    error_after: float = Field(ge=0, le=1)
    measured_on: str


class Card(_Frozen):
    """Everything a reader of a result may ask about its checkpoint."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: str = Field(pattern=r"^[a-z0-9-]{1,32}$")
    version: str = Field(pattern=VERSION)
    architecture: Literal["attention-vgg16", "attention-vgg16-bn"]
    classes: tuple[Grade, Grade] = Field(description="Grade of each logit, in order")
    input: InputDescription
    pooling: Literal["attention-weighted-mean", "majority-vote"]
    flip_averaging: bool = Field(
        default=False, description="Whether each slice is graded mirrored left to right too, logits averaged"
    )
    temperature: float = Field(gt=0, description="Logits are divided by it before the softmax")
    bias: float = Field(default=0.0, description="Added to the log-odds of HGG after that")
    calibration: Calibration | None = Field(
        default=None,
        description="What temperature and bias were fitted on; None: the probability is as trained",
    )
    threshold: float = Field(ge=0, le=1, description="Probability of HGG from which a patient is called HGG")
    gates: Gates | None = Field(default=None, description="Limits beyond which no grade is told")
    training: Training
    metrics: tuple[Metric, ...]
    intended_use: str
    licence: str
    weights_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    self_test: tuple[float, float] | None = Field(
        default=None, description="Logits of the slice of `model.self_test`, computed when this was written"
    )

    @property
    def label(self) -> str:
        """Name, version and the first twelve digits of the digest: one line that identifies the weights."""
        return f"{self.name} {self.version} {self.weights_sha256[:12]}"

    @property
    def answer_sha256(self) -> str:
        """Digest of all in a checkpoint that decides an answer: weights, calibration, threshold and gates."""
        decisive = {"weights_sha256", "temperature", "bias", "threshold", "pooling", "gates"}
        return hashlib.sha256(self.model_dump_json(include=decisive).encode()).hexdigest()

    @property
    def calibration_statement(self) -> str:
        """One sentence: whether the probability is calibrated, and on what."""
        if self.calibration is None:
            return "The probability is not calibrated: read it as a score."
        on = self.calibration
        if (self.temperature, self.bias) == (1.0, 0.0):
            return (
                f"The probability was checked on {on.patients} patients, who gave no reason to correct it "
                f"({on.measured_on})."
            )
        return f"The probability is calibrated on {on.patients} patients ({on.measured_on})."

    @property
    def gates_statement(self) -> str:
        """One sentence: which gates a study has to pass before it gets a grade."""
        return NO_GATES_STATEMENT if self.gates is None else self.gates.statement

    @property
    def is_simulated(self) -> bool:
        """Whether the weights have only ever seen simulated tumours."""
        return self.training.kind == "simulated"

    @property
    def training_statement(self) -> str:
        """The sentence that stands wherever a number of these weights is shown."""
        if self.is_simulated:
            return SIMULATED_STATEMENT
        return f"Weights trained on {self.training.cases} patients; research use only"


def default_checkpoint_folder() -> Path:
    """Give the folder of the checkpoint that ships with the package."""
    return Path(__file__).parent / "checkpoints" / "simulated-v7"


def read_card(folder: Path) -> Card:
    """Read a checkpoint's card without looking at its weights.

    Raises `CheckpointError` where there is none, or it is of another schema.
    """
    path = folder / CARD_NAME
    try:
        text = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"no readable {CARD_NAME} in {folder} ({error.strerror}): name a checkpoint's folder"
        ) from error
    try:
        return Card.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise CheckpointError(
            f"{path} is no card of schema {SCHEMA_VERSION} ({where}: {first['msg']}): "
            "install a checkpoint made for this version of gliograde"
        ) from error


def read_weights(folder: Path) -> tuple[Card, bytes]:
    """Read the card and exactly those weight bytes whose digest it states.

    Raises `CheckpointError` for a pickle, an absent weights file or a digest that differs.
    """
    _refuse_pickle(folder)
    card = read_card(folder)
    path = folder / WEIGHTS_NAME
    try:
        weights = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"no readable {WEIGHTS_NAME} in {folder} ({error.strerror}): install the checkpoint again"
        ) from error
    digest = hashlib.sha256(weights).hexdigest()
    if digest != card.weights_sha256:
        raise CheckpointError(
            f"{path} has SHA-256 {digest}, its card says {card.weights_sha256}: "
            "the weights were changed or damaged; install the checkpoint again"
        )
    return card, weights


def verify(folder: Path) -> Card:
    """Check a checkpoint's card and the digest of its weights, and give the card."""
    return read_weights(folder)[0]


def _refuse_pickle(folder: Path) -> None:
    candidates = sorted(folder.iterdir()) if folder.is_dir() else [folder]
    pickles = [path.name for path in candidates if path.suffix.lower() in PICKLE_SUFFIXES]
    if pickles:
        raise CheckpointError(
            f"{pickles[0]} is a pickle, which can run code when it is read: "
            f"convert it to {WEIGHTS_NAME} with a {CARD_NAME} beside it and remove it"
        )
