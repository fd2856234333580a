import numpy as np
import pytest

from model.baselines import enhancing_rule, source_only, without_tumour
from model.brats import Patient, read_patients
from model.evaluation import Measured, OneGradeError, measure, report
from model.grade import Grade, GradePrediction
from model.predict import Prediction
from model.stack import Stack
from model.volume import Volume
from tests.model.cohort import write_case


class BrightT1ce:
    """Calls HGG what is bright in T1ce; attends to bright FLAIR."""

    def predict(self, stack):
        p = float(stack.array[:, 1].max() > 8)
        prediction = GradePrediction(p, 0.5, (p,), (1.0,))
        return Prediction(prediction, Volume((stack.array[:, 0] > 2).astype(np.float32), stack.affine))


def patients_of(*kinds):
    return [Patient(str(n), str(n), g, source, {}, None) for n, (g, source) in enumerate(kinds)]


CONFOUNDED = patients_of(*[(Grade.HGG, "CBICA")] * 10, *[(Grade.LGG, "TCIA09")] * 10)


def test_source_alone_parts_a_confounded_cohort():
    shares = source_only(CONFOUNDED)
    assert shares[:10].tolist() == [1] * 10
    assert shares[10:].tolist() == [0] * 10


def test_enhancing_rule_is_fitted_on_others():
    millilitres = np.array([9.0] * 10 + [0.5] * 10)
    assert enhancing_rule(CONFOUNDED, millilitres).tolist() == [1] * 10 + [0] * 10


def test_blanking_leaves_nothing_of_the_tumour():
    tumour = np.zeros((1, 224, 224), bool)
    tumour[0, 100:110, 100:110] = True
    stack = Stack(np.ones((1, 3, 224, 224), np.float32), np.ones((1, 224, 224), bool), np.eye(4))
    array = without_tumour(stack, tumour).array
    assert not array[0, :, 92:118, 105].any()
    assert array[0, :, 90, 105].all()


def test_one_grade_alone_is_refused():
    with pytest.raises(OneGradeError, match="HGG and of LGG"):
        measure(BrightT1ce(), CONFOUNDED[:3])


def test_folders_are_measured_from_disk(tmp_path):
    write_case(tmp_path / "HGG" / "Brats18_CBICA_A_1", enhancing=20)
    write_case(tmp_path / "LGG" / "Brats18_TCIA09_1_1")
    patients = read_patients(tmp_path)
    done = []
    measured = measure(BrightT1ce(), patients, lambda: done.append(1))
    assert len(done) == 2
    assert measured.enhancing_ml.tolist() == pytest.approx([32, 0], rel=0.1)
    assert not np.isnan(measured.dice).any()


def test_report_names_baselines_paper_and_statement(card):
    p = np.array([0.9] * 9 + [0.2] + [0.1] * 10)
    unknown = np.full(20, np.nan)
    text = report(card, CONFOUNDED, Measured(p, unknown, unknown, unknown, unknown))
    assert "| F1 HGG | 0.947 |" in text
    assert "Of 10 HGG 9 were called HGG;\nof 10 LGG 10" in text
    assert "| all HGG | 0.500 | 0.667 | 0.000 | 0.000 |" in text
    assert "| source only, out of fold | 1.000 |" in text
    assert "BraTS 2018 | 0.755 | 0.911 | 0.667 | 0.615 |" in text
    assert "simulated tumours, not for clinical use" in text
    assert "attention was not scored" in text
