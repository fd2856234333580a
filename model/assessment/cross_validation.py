"""Checkpoints on patients that they never saw: one cohort, one report, whoever trained them."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from model.assessment.evaluation import evaluate, require_both_grades
from model.assessment.evaluation_measure import Measured, judge_tumour_free, measure
from model.assessment.evaluation_report import report, write_evaluation
from model.assessment.grad_cam import GradCam
from model.card import CARD_NAME, Card, CheckpointError, read_card, verify
from model.cohorts.brats import Cohort, Patient
from model.cohorts.folds import cross_validation, leave_source_out
from model.cohorts.unseen import deal, patient_hashes, seen_by
from model.gates import Judgement
from model.metrics import RESAMPLES
from model.predict import Predictor
from model.training.train_cohort import Sides, hold_out

_VALIDATION_PARTS = 5
"""Of the patients of the other sources, one of so many parts validates."""

_log = logging.getLogger(__name__)


def all_sides(patients: Sequence[Patient], folds: int | None, seed: int) -> list[Sides]:
    """Hold out each of so many folds once, or else each source. Raises `CohortError`."""
    splits = leave_source_out(patients) if folds is None else cross_validation(patients, folds, seed)
    return [hold_out(split, folds or _VALIDATION_PARTS, seed) for split in splits]


def train_all(sides: Sequence[Sides], out: Path, train: Callable[[Sides, Path], object]) -> list[Path]:
    """Train a checkpoint for each split in `out`/1, `out`/2 …; one that is finished there is kept."""
    folders = [out / str(number) for number in range(1, len(sides) + 1)]
    for each, folder in zip(sides, folders, strict=True):
        if _is_finished(each, folder):
            _log.info("%s is finished", folder)
        else:
            _log.info("training %s: %d patients held out", folder, len(each.held_out))
            train(each, folder)
    return folders


def _is_finished(sides: Sides, folder: Path) -> bool:
    """Whether a checkpoint of these patients is there. Raises `CheckpointError` where it is of others."""
    if not (folder / CARD_NAME).exists():
        return False
    if read_card(folder).training.patients != patient_hashes((*sides.train, *sides.validation)):
        raise CheckpointError(f"{folder} holds a checkpoint of another split: name a new folder")
    return True


def evaluate_unseen(
    folders: Sequence[Path],
    cohort: Cohort,
    out: Path,
    *,
    allow_seen: bool = False,
    grad_cam: bool = False,
    step: Callable[[], None] = lambda: None,
    resamples: int = RESAMPLES,
) -> str:
    """Grade each patient by the first checkpoint that never saw it, write the evaluation and give its report.

    With one checkpoint for each fold of a cohort the figures are out of fold. The first that grades anyone
    judges those without a tumour, whom no training of a cohort sees. Raises `CohortError` and
    `CheckpointError`.
    """
    patients = cohort.patients
    require_both_grades(patients)
    cards = [verify(folder) for folder in folders]
    require_alike(cards)
    dealt = deal(cards, patients, allow_seen=allow_seen)
    parts, places, seen, used, tumour_free = [], [], set[str](), list[Card](), list[Judgement]()
    for folder, card, part in zip(folders, cards, dealt, strict=True):
        if not part:
            continue
        chosen = [patients[place] for place in part]
        explainer, predictor = GradCam(folder) if grad_cam else None, Predictor(folder)
        if not used:
            tumour_free = judge_tumour_free(predictor, cohort.tumour_free, step)
        parts.append(measure(predictor, chosen, step, explainer))
        places.append(part)
        seen |= seen_by(card, chosen)
        used.append(card)
    measured = Measured.join(parts, places)
    labels = tuple(each.label for each in used)
    evaluation = evaluate(
        used[0],
        patients,
        measured,
        resamples,
        seen=frozenset(seen),
        checkpoints=labels,
        tumour_free=tumour_free,
    )
    write_evaluation(out, used[0], patients, measured, evaluation)
    return report(used[0], measured, evaluation)


def require_alike(cards: Sequence[Card]) -> None:
    """Raise `CheckpointError` where checkpoints can't stand for one training: their probabilities differ."""
    kinds = {(card.architecture, card.input.normalisation, card.pooling, card.threshold) for card in cards}
    if len(kinds) > 1 or len({card.training.kind for card in cards}) > 1:
        raise CheckpointError(
            "these checkpoints differ in architecture, normalisation, pooling, threshold or kind of "
            "training, and their figures can't be pooled: name the folds of one training"
        )
    digests = [card.weights_sha256 for card in cards]
    if len(set(digests)) < len(digests):
        raise CheckpointError("the same weights were named twice: name each checkpoint once")
