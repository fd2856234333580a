"""What a network must beat: rules that need no network, fitted on other patients than tested on."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from model.cohorts.brats import Patient
from model.cohorts.folds import cross_validation
from model.grade import Contrast, Grade
from model.metrics import Numbers
from model.space.stack import Stack

_FOLDS = 5
_BRIGHT_T1CE, _BRIGHT_FLAIR = 3.0, 1.5


def source_only(patients: Sequence[Patient], seed: int = 0) -> Numbers:
    """Share of HGG among other patients of the same source, out of fold; shape (patient,).

    A patient of a source that no other fold has gets the share of HGG among all.
    """
    place = {patient.id: index for index, patient in enumerate(patients)}
    shares = np.zeros(len(patients))
    for split in cross_validation(patients, min(_FOLDS, len(patients)), seed):
        all_of = Counter(each.source for each in split.train)
        hgg_of = Counter(each.source for each in split.train if each.grade is Grade.HGG)
        for each in split.test:
            seen = all_of[each.source]
            shares[place[each.id]] = (
                hgg_of[each.source] / seen if seen else hgg_of.total() / max(all_of.total(), 1)
            )
    return shares


def enhancing_rule(patients: Sequence[Patient], millilitres: Numbers, seed: int = 0) -> Numbers:
    """Call HGG above the enhancing volume that parts the other folds best: 1 or 0, shape (patient,)."""
    place = {patient.id: index for index, patient in enumerate(patients)}
    called = np.zeros(len(patients))
    for split in cross_validation(patients, min(_FOLDS, len(patients)), seed):
        train = [place[each.id] for each in split.train]
        is_hgg = np.array([each.grade is Grade.HGG for each in split.train])
        cut = _best_cut(millilitres[train], is_hgg)
        for each in split.test:
            called[place[each.id]] = millilitres[place[each.id]] > cut
    return called


def bright_share(stack: Stack) -> float:
    """Give the share of the brain that is bright both after contrast agent and on FLAIR: larger in HGG."""
    t1ce, flair = (stack.array[:, list(Contrast).index(each)] for each in (Contrast.T1CE, Contrast.FLAIR))
    bright = (t1ce > _BRIGHT_T1CE) & (flair > _BRIGHT_FLAIR) & stack.mask
    return float(bright.sum() / max(int(stack.mask.sum()), 1))


def _best_cut(values: Numbers, is_hgg: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float:
    """Give the cut with the highest balanced accuracy, the lowest where several have it."""
    if is_hgg.all() or not is_hgg.any():
        return -1.0 if is_hgg.all() else float("inf")
    cuts = [-1.0, *np.unique(values).tolist()]
    scores = [(values[is_hgg] > cut).mean() + (values[~is_hgg] <= cut).mean() for cut in cuts]
    return float(cuts[int(np.argmax(scores))])
