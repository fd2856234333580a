"""Which patients a checkpoint has never seen; only on those does it show what a new patient would get.

A card names the patients that its weights were fitted to or chosen by, as hashes: enough to recognise them
in another folder, under another of their BraTS names too. A hash of a guessable name hides nothing.
"""

import hashlib
from collections.abc import Iterable, Sequence

from model.card import Card
from model.cohorts.brats import Patient
from model.cohorts.brats_names import CohortError

_NAMED_AT_MOST = 12


class SeenPatientsError(CohortError):
    """A cohort with patients that every checkpoint at hand has seen in its training."""


def patient_hashes(patients: Iterable[Patient]) -> tuple[str, ...]:
    """SHA-256 of each patient's id in lower case, which is the same for all its BraTS names; sorted."""
    return tuple(sorted({hashlib.sha256(each.id.lower().encode()).hexdigest() for each in patients}))


def seen_by(card: Card, patients: Sequence[Patient]) -> set[str]:
    """Ids of the patients that the checkpoint of this card was trained on."""
    return {each.id for each in patients if patient_hashes([each])[0] in card.training.patients}


def deal(cards: Sequence[Card], patients: Sequence[Patient], *, allow_seen: bool) -> list[list[int]]:
    """Give each patient to the first checkpoint that has not seen it: places of patients, by checkpoint.

    Where all have seen it, the first gets it if `allow_seen`; else raises `SeenPatientsError`.
    """
    seen = [seen_by(card, patients) for card in cards]
    dealt: list[list[int]] = [[] for _ in cards]
    refused = []
    for place, patient in enumerate(patients):
        chosen = next((index for index, each in enumerate(seen) if patient.id not in each), None)
        if chosen is None:
            refused.append(patient.name)
        dealt[chosen or 0].append(place)
    if refused and not allow_seen:
        more = f" and {len(refused) - _NAMED_AT_MOST} more" if len(refused) > _NAMED_AT_MOST else ""
        raise SeenPatientsError(
            f"{len(refused)} of {len(patients)} patients were trained on: "
            f"{', '.join(refused[:_NAMED_AT_MOST])}{more}; evaluate on those that split.csv beside the "
            "checkpoint says were held out, name the checkpoints of all folds, or allow it with "
            "--allow-seen, which marks every figure as a training figure"
        )
    return dealt
