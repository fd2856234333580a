from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.cohorts.brats import Patient, SamePatientError
from model.cohorts.folds import FoldError, cross_validation, leave_source_out
from model.grade import Grade


def patient(number, grade=Grade.HGG, source="CBICA"):
    return Patient(f"{source}_{number}", f"{source}_{number}", grade, source, {}, None)


@given(
    st.lists(
        st.tuples(st.sampled_from(list(Grade)), st.sampled_from(["CBICA", "2013"])), min_size=5, max_size=60
    ),
    st.integers(2, 5),
    st.integers(0, 9),
)
def test_each_is_tested_once_and_strata_are_spread(kinds, folds, seed):
    patients = [patient(number, *kind) for number, kind in enumerate(kinds)]
    splits = cross_validation(patients, folds, seed)
    assert Counter(each.id for split in splits for each in split.test) == Counter(p.id for p in patients)
    for kind in set(kinds):
        counts = [sum((p.grade, p.source) == kind for p in split.test) for split in splits]
        assert max(counts) - min(counts) <= 1
    assert splits == cross_validation(patients, folds, seed)


def test_a_patient_twice_and_too_many_folds_are_refused():
    with pytest.raises(SamePatientError):
        cross_validation([patient(1), patient(1), patient(2)], 2, 0)
    with pytest.raises(FoldError, match="2 patients"):
        cross_validation([patient(1), patient(2)], 3, 0)


def test_a_source_left_out_is_not_trained_on():
    patients = [patient(1), patient(2, source="2013"), patient(3, source="2013")]
    for split in leave_source_out(patients):
        assert not {p.source for p in split.train} & {p.source for p in split.test}
    with pytest.raises(FoldError, match="one source"):
        list(leave_source_out(patients[1:]))
