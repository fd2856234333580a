"""What a checkpoint makes of each patient of a cohort: with the tumour, without it, and where it looked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from model.assessment.baselines import bright_share
from model.assessment.shortcuts import blanked, mirrored
from model.attention_scores import AttentionScores, Mask, score_attention
from model.cohorts.brats import Patient, TumourFree, enhancing_ml, load_labels, load_patient, tumour_on
from model.gates import Judgement
from model.grade import Contrast, Grade
from model.metrics import Numbers
from model.predict import Prediction
from model.space.stack import Stack

DEPICTED = 4
"""Patients of each grade whose attention is shown."""
_FLAIR = list(Contrast).index(Contrast.FLAIR)
_UNKNOWN = AttentionScores(*[np.nan] * len(AttentionScores._fields))


class Grader(Protocol):
    """What grades a stack; a `Predictor`."""

    def predict(self, stack: Stack) -> Prediction:
        """Grade a stack."""


class Explainer(Protocol):
    """What else says where the network looked; a `GradCam`."""

    def explain(self, stack: Stack, levels: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        """Give a map like attention, (slice, row, column), of these slices of a stack; 0 elsewhere."""


class Picture(NamedTuple):
    """The slice of a patient with most tumour, or most attention where none is segmented; (224, 224) each."""

    patient: Patient
    probability: float
    flair: npt.NDArray[np.float32]
    attention: npt.NDArray[np.float32]
    tumour: Mask


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """One entry per patient; from `blanked` on nan where there is no segmentation, or no tumour in it."""

    probability: Numbers
    judgement: npt.NDArray[np.object_]
    """What the gates say, a `Judgement` each."""
    bright: Numbers
    """`bright_share` of the brain."""
    blanked: Numbers
    """Probability of HGG with the tumour blanked."""
    mirrored: Numbers
    """Probability of HGG with the tumour replaced by what the other hemisphere has there."""
    enhancing_ml: Numbers
    attention: npt.NDArray[np.float64]
    """Columns as in `AttentionScores`."""
    grad_cam: npt.NDArray[np.float64]
    """As `attention`; all nan where it was not asked for."""
    pictures: tuple[Picture, ...] = ()

    @classmethod
    def join(cls, parts: Sequence["Measured"], places: Sequence[Sequence[int]]) -> "Measured":
        """Put what several checkpoints made of their patients into the order of the cohort.

        `places` has each part's patients' places in the cohort.
        """
        order = np.argsort(np.concatenate([np.asarray(each, dtype=np.intp) for each in places]))
        columns = {
            each.name: np.concatenate([getattr(part, each.name) for part in parts])[order]
            for each in fields(cls)
            if each.name != "pictures"
        }
        pictures = sorted(
            (each for part in parts for each in part.pictures), key=lambda each: each.patient.id
        )
        chosen = {each.id for each in _depicted([each.patient for each in pictures])}
        return cls(**columns, pictures=tuple(each for each in pictures if each.patient.id in chosen))


def measure(
    grader: Grader,
    patients: Sequence[Patient],
    step: Callable[[], None] = lambda: None,
    explainer: Explainer | None = None,
) -> Measured:
    """Grade every patient, with the tumour and without; `step` is called after each. Raises `CohortError`."""
    depicted = {each.id for each in _depicted(patients)}
    rows, judgements, attention, grad_cam, pictures = [], [], [], [], []
    for patient in patients:
        numbers, judgement, own_scores, other_scores, picture = _measure_one(grader, explainer, patient)
        rows.append(numbers)
        judgements.append(judgement)
        attention.append(own_scores)
        grad_cam.append(other_scores)
        if patient.id in depicted:
            pictures.append(picture)
        step()
    probability, bright, without, exchanged, millilitres = np.array(rows).T
    return Measured(
        probability,
        np.array(judgements, dtype=object),
        bright,
        without,
        exchanged,
        millilitres,
        np.array(attention),
        np.array(grad_cam),
        tuple(pictures),
    )


def judge_tumour_free(
    grader: Grader, people: Sequence[TumourFree], step: Callable[[], None] = lambda: None
) -> list[Judgement]:
    """Say what the gates say of those without a tumour; `step` is called after each. Raises `CohortError`."""
    judgements = []
    for each in people:
        judgements.append(grader.predict(load_patient(each).stack).judgement)
        step()
    return judgements


def _measure_one(
    grader: Grader, explainer: Explainer | None, patient: Patient
) -> tuple[tuple[float, ...], Judgement, AttentionScores, AttentionScores, Picture]:
    prepared = load_patient(patient)
    stack = prepared.stack
    prediction = grader.predict(stack)
    always = prediction.grade_prediction.probability, bright_share(stack)
    labels = load_labels(patient)
    tumour = np.zeros_like(stack.mask) if labels is None else tumour_on(stack, labels)
    picture = _depict(patient, stack, prediction, tumour)
    if labels is None or not tumour.any():
        millilitres = np.nan if labels is None else enhancing_ml(labels)
        return (*always, np.nan, np.nan, millilitres), prediction.judgement, _UNKNOWN, _UNKNOWN, picture
    without = (
        grader.predict(control(prepared.placed, labels)).grade_prediction.probability
        for control in (blanked, mirrored)
    )
    other_scores = _UNKNOWN
    if explainer is not None:
        seen = explainer.explain(stack, np.flatnonzero(tumour.any(axis=(1, 2))))
        other_scores = score_attention(seen, tumour, stack.mask)
    own_scores = score_attention(prediction.attention.array, tumour, stack.mask)
    return (*always, *without, enhancing_ml(labels)), prediction.judgement, own_scores, other_scores, picture


def _depict(patient: Patient, stack: Stack, prediction: Prediction, tumour: Mask) -> Picture:
    attention = prediction.attention.array
    area = (tumour if tumour.any() else attention).sum(axis=(1, 2))
    level = int(area.argmax())
    return Picture(
        patient,
        prediction.grade_prediction.probability,
        stack.array[level, _FLAIR].copy(),
        attention[level].copy(),
        tumour[level].copy(),
    )


def _depicted(patients: Sequence[Patient]) -> list[Patient]:
    return [each for grade in Grade for each in [one for one in patients if one.grade is grade][:DEPICTED]]
