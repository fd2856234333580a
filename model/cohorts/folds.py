"""Splits by patient: folds stratified by grade and source, and one source left out at a time."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from model.cohorts.brats import Patient, require_apart
from model.cohorts.brats_names import CohortError


class Split(NamedTuple):
    """Patients to train on and patients to test on; no one is on both sides."""

    name: str
    train: tuple[Patient, ...]
    test: tuple[Patient, ...]


class FoldError(CohortError):
    """Too few patients for the split asked for."""


def cross_validation(patients: Sequence[Patient], folds: int, seed: int) -> list[Split]:
    """Deal patients to folds so that each grade of each source is spread evenly; each is tested once.

    Raises `FoldError` where there are more folds than patients, `SamePatientError` where one comes twice.
    """
    if not 2 <= folds <= len(patients):
        raise FoldError(
            f"{len(patients)} patients can't be dealt to {folds} folds: choose 2 or more, and fewer"
        )
    random = np.random.default_rng(seed)
    strata: dict[tuple[str, str], list[Patient]] = defaultdict(list)
    for patient in sorted(patients, key=lambda each: each.id):
        strata[patient.grade, patient.source].append(patient)
    dealt = [strata[key][index] for key in sorted(strata) for index in random.permutation(len(strata[key]))]
    return [
        _split(f"fold {fold + 1} of {folds}", patients, {each.id for each in dealt[fold::folds]})
        for fold in range(folds)
    ]


def leave_source_out(patients: Sequence[Patient]) -> Iterator[Split]:
    """Test on each source in turn, trained on all others. Raises `FoldError` where there is but one."""
    sources = sorted({patient.source for patient in patients})
    if len(sources) < 2:
        raise FoldError("all patients come from one source: add a column source to the table of labels")
    for source in sources:
        yield _split(f"without {source}", patients, {each.id for each in patients if each.source == source})


def _split(name: str, patients: Sequence[Patient], tested: set[str]) -> Split:
    train = tuple(each for each in patients if each.id not in tested)
    test = tuple(each for each in patients if each.id in tested)
    require_apart(*([each.id] for each in (*train, *test)))
    return Split(name, train, test)
