import csv
import json

import numpy as np
import pytest

from model.assessment.baselines import bright_share, enhancing_rule, source_only
from model.assessment.evaluation import OneGradeError, evaluate
from model.assessment.evaluation_measure import Measured, measure
from model.assessment.evaluation_report import report, write_evaluation
from model.attention_scores import AttentionScores
from model.cohorts.brats import Patient, load_patient, read_patients
from model.gates import NO_GATES_STATEMENT, NOT_JUDGED, Judgement
from model.grade import Grade, GradePrediction, Verdict
from model.predict import Prediction
from model.space.volume import Volume
from tests.model.cohort import write_case


class BrightT1ce:
    """Calls HGG what is bright in T1ce; attends to bright FLAIR."""

    def predict(self, stack):
        p = float(stack.array[:, 1].max() > 8)
        prediction = GradePrediction(p, 0.5, (p,), (1.0,))
        return Prediction(prediction, Volume((stack.array[:, 0] > 2).astype(np.float32), stack.affine))


def patients_of(*kinds):
    return [Patient(str(n), str(n), g, source, {}, None) for n, (g, source) in enumerate(kinds)]


UNSEEN = Judgement(Verdict.NO_TUMOUR_SEEN, "No tumour seen.", 0.0, 1.0)
CONFOUNDED = patients_of(*[(Grade.HGG, "CBICA")] * 10, *[(Grade.LGG, "TCIA09")] * 10)


def test_source_alone_parts_a_confounded_cohort():
    shares = source_only(CONFOUNDED)
    assert shares[:10].tolist() == [1] * 10
    assert shares[10:].tolist() == [0] * 10


def test_enhancing_rule_is_fitted_on_others():
    millilitres = np.array([9.0] * 10 + [0.5] * 10)
    assert enhancing_rule(CONFOUNDED, millilitres).tolist() == [1] * 10 + [0] * 10


def test_one_grade_alone_is_refused(card):
    with pytest.raises(OneGradeError, match="HGG and of LGG"):
        evaluate(card, CONFOUNDED[:3], measured_of(np.ones(3)))


def test_folders_are_measured_from_disk(tmp_path):
    write_case(tmp_path / "HGG" / "Brats18_CBICA_A_1", enhancing=20)
    write_case(tmp_path / "LGG" / "Brats18_TCIA09_1_1")
    patients = read_patients(tmp_path)
    done = []
    measured = measure(BrightT1ce(), patients, lambda: done.append(1))
    assert len(done) == 2
    assert measured.enhancing_ml.tolist() == pytest.approx([32, 0], rel=0.1)
    assert measured.bright.tolist() == [bright_share(load_patient(each).stack) for each in patients]
    assert not np.isnan(measured.attention).any()
    assert (measured.attention[:, AttentionScores._fields.index("sign")] > 0.9).all()


def measured_of(p):
    """Probabilities, which are the share of bright pixels too; the last patient's grade is kept back."""
    unknown, scores = np.full(len(p), np.nan), np.full((len(p), len(AttentionScores._fields)), np.nan)
    judgement = np.array([NOT_JUDGED] * (len(p) - 1) + [UNSEEN], dtype=object)
    return Measured(p, judgement, p, unknown, unknown, unknown, scores, scores)


@pytest.fixture
def evaluated(card):
    """Nine of ten HGG and all LGG right, no segmentations."""
    p = np.array([0.9] * 9 + [0.2] + [0.1] * 10)
    measured = measured_of(p)
    return measured, evaluate(card, CONFOUNDED, measured, resamples=50)


def test_baselines_and_the_paper_stand_beside(evaluated):
    _, evaluation = evaluated
    assert evaluation.checkpoint.estimates["F1 of HGG"].value == pytest.approx(18 / 19)
    all_hgg, source, bright = evaluation.baselines
    assert (all_hgg.estimates["balanced accuracy"].value, all_hgg.estimates["F1 of LGG"].value) == (0.5, 0)
    assert "AUC" not in all_hgg.estimates
    assert source.estimates["AUC"].value == 1
    assert set(bright.estimates) == {"AUC"}
    assert bright.estimates["AUC"].value == evaluation.checkpoint.estimates["AUC"].value
    published = evaluation.published.estimates
    assert published["F1 of HGG"].value == pytest.approx(0.9111, abs=5e-5)
    assert published["F1 of LGG"].low < published["F1 of LGG"].value < published["F1 of LGG"].high
    assert (evaluation.published.hgg, evaluation.published.lgg) == (42, 15)


def test_a_source_of_one_grade_has_no_area(evaluated):
    _, evaluation = evaluated
    assert [(row.name, row.hgg, row.lgg) for row in evaluation.by_source] == [
        ("CBICA", 10, 0),
        ("TCIA09", 0, 10),
    ]
    cbica = evaluation.by_source[0].estimates
    assert np.isnan(cbica["AUC"].value)
    assert cbica["sensitivity"].value == 0.9


def test_report_names_baselines_paper_and_statement(card, evaluated):
    text = report(card, *evaluated)
    assert "| F1 of HGG | 0.947 [" in text
    assert "| all HGG | 10 / 10 | – | 0.500 [" in text
    assert "| source only, out of fold | 10 / 10 | 1.000 [" in text
    assert "BraTS 2018 | 42 / 15 | – | 0.755 [" in text
    assert "| CBICA | 10 / 0 | – |" in text
    assert "simulated tumours, not for clinical use" in text
    assert "attention was not scored" in text
    assert "| 100% | 0.050 |" in text
    assert "| graded | 10 / 9 | 1 of 19 | 0 |" in text
    assert "| no tumour seen | 0 / 1 | 0 of 1 | 0 |" in text
    assert NO_GATES_STATEMENT in text


def test_those_without_a_tumour_stand_beside_by_verdict(card):
    evaluation = evaluate(
        card,
        CONFOUNDED,
        measured_of(np.full(20, 0.4)),
        resamples=20,
        tumour_free=[UNSEEN, UNSEEN, NOT_JUDGED],
    )
    by_verdict = {each.verdict: each for each in evaluation.judged}
    assert set(by_verdict) == set(Verdict)
    assert by_verdict[Verdict.NO_TUMOUR_SEEN] == (Verdict.NO_TUMOUR_SEEN, 0, 1, 0, 2)
    assert by_verdict[Verdict.GRADED] == (Verdict.GRADED, 10, 9, 10, 1)


def test_files_hold_every_patient_and_every_number(tmp_path, card, evaluated):
    measured, evaluation = evaluated
    write_evaluation(tmp_path / "new", card, CONFOUNDED, measured, evaluation)
    with (tmp_path / "new" / "patients.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["probability"]) for row in rows] == measured.probability.tolist()
    assert [row["called"] for row in rows] == ["HGG"] * 9 + ["LGG"] * 11
    assert rows[0]["enhancing_ml"] == ""
    assert [row["verdict"] for row in rows] == ["graded"] * 19 + ["no_tumour_seen"]
    assert (rows[0]["attention_ml"], rows[-1]["attention_ml"]) == ("", "0.0")
    record = json.loads((tmp_path / "new" / "results.json").read_text(), parse_constant=pytest.fail)
    assert record["weights_sha256"] == card.weights_sha256
    by_name = {each["name"]: each for each in record["tables"]}
    assert record["verdicts"]["graded"] == {"hgg": 10, "lgg": 9, "wrong": 1, "tumour_free": 0}
    assert by_name["CBICA"]["AUC"] == {"value": None, "low": None, "high": None}
    with (tmp_path / "new" / "results.csv").open(newline="") as file:
        figures = {(row["name"], row["figure"]): row["value"] for row in csv.DictReader(file)}
    assert float(figures["this checkpoint", "AUC"]) == by_name["this checkpoint"]["AUC"]["value"]
    assert (tmp_path / "new" / "report.md").read_text() == report(card, measured, evaluation)
