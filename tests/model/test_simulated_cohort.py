import json
from pathlib import Path

import numpy as np
import pytest

from model.cohorts.brats import enhancing_ml, load_labels, load_patient, read_cohort, read_patients, tumour_on
from model.grade import Grade
from model.simulation.samples import grade_of, simulated_patient
from model.simulation.simulate import Parameters
from model.simulation.simulated_cohort import (
    TEST_SEEDS,
    TEST_SHA256,
    describe_test_set,
    digest,
    write_patient,
)
from model.simulation.template import Head


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    return folder, [write_patient(seed, Head.SRI24, folder) for seed in (18, 21)]


def test_a_simulated_patient_is_read_as_one_of_brats(cohort):
    folder, (_, place) = cohort
    (patient,) = read_patients(folder)
    assert patient.grade is grade_of(21) is Grade.HGG
    assert patient.name == place.name
    stack = load_patient(patient).stack
    labels = load_labels(patient)
    assert labels is not None
    assert set(np.unique(labels)) <= {0, 1, 2, 4}
    drawn = json.loads((place / "parameters.json").read_text())
    assert drawn["head"] == "SRI24"
    assert enhancing_ml(labels) == pytest.approx((labels == 4).sum() / 1000)
    tumour = tumour_on(stack, labels)
    assert tumour.any()
    # outside the brain there is nothing, and the tumour is in it
    assert not stack.array[~stack.mask[:, None].repeat(3, axis=1)].any()
    flair = stack.array[:, 0]
    assert np.median(flair[tumour]) > np.median(flair[stack.mask & ~tumour])


def test_read_from_files_a_patient_looks_as_it_did_when_it_was_drawn(cohort):
    """Else the gates, which know drawn patients, keep back those that were written."""
    folder, _ = cohort
    (patient,) = read_patients(folder)
    read, drawn = load_patient(patient).stack, simulated_patient(21, Head.SRI24).stack
    assert np.array_equal(read.mask, drawn.mask)
    # a file holds whole numbers
    assert np.abs(read.array - drawn.array).max() < 0.1


def test_a_patient_without_tumour_lies_apart_and_has_no_grade(cohort):
    folder, (place, other) = cohort
    assert place.parent == folder / "NONE"
    assert grade_of(18) is None
    patients, tumour_free = read_cohort(folder)
    assert [each.name for each in patients] == [other.name]
    assert [each.name for each in tumour_free] == [place.name]
    assert load_patient(tumour_free[0]).stack.mask.any()
    assert {path.name.split("_")[-1] for path in Path(place).glob("*.nii.gz")} == {
        "flair.nii.gz",
        "t1.nii.gz",
        "t1ce.nii.gz",
        "t2.nii.gz",
        "seg.nii.gz",
    }


def test_the_test_set_is_the_one_that_figures_were_measured_on():
    drawn = describe_test_set()
    assert sum(each["grade"] != "none" for each in drawn) == 400
    assert len(drawn) == len(TEST_SEEDS)
    assert digest(drawn) == TEST_SHA256


def test_another_patient_gives_another_digest():
    drawn: list[Parameters] = [{"grade": "HGG", "radius_mm": 12.0}]
    assert digest(drawn) != digest([{"grade": "HGG", "radius_mm": 12.00001}])
    assert digest(drawn) == digest([{"radius_mm": 12.0000000001, "grade": "HGG"}])
