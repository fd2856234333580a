import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.card import Card, CheckpointError
from model.checkpoint import load_checkpoint, save_checkpoint
from model.gates import FEATURES, Gates, IndeterminateBand, NoTumourGate, PatientStatistics, judge
from model.grade import GradePrediction, Verdict
from model.predict import Predictor
from model.training.fit_gates import (
    LOOKED_AT,
    MOST_INDETERMINATE,
    TOLERATED_ERROR,
    TUMOURS_KEPT,
    fit_appearance,
    fit_band,
    fit_gates,
    fit_judgement,
    fit_no_tumour,
)

NO_TUMOUR = NoTumourGate(
    least_ml=5, tumours=10, tumours_kept=1, tumour_free=10, tumour_free_stopped=1, measured_on="tests"
)
BAND = IndeterminateBand(
    low=0.4, high=0.6, patients=10, share_inside=0.1, error_inside=0.5, error_outside=0, measured_on="tests"
)


def usual_features(patients=200, seed=0):
    """Features that depend on each other, one of them always alike."""
    random = np.random.default_rng(seed)
    hidden = random.normal(size=(patients, 5))
    features = hidden @ np.random.default_rng(9).normal(size=(5, len(FEATURES)))
    features += 0.3 * random.normal(size=features.shape)
    features[:, -1] = 2
    return features


USUAL = fit_appearance(usual_features(), "tests")
ALL_GATES = Gates(no_tumour=NO_TUMOUR, indeterminate=BAND, appearance=USUAL)
TYPICAL = tuple(usual_features().mean(axis=0))


def statistics(probability=0.9, attention_ml=20.0, features=TYPICAL):
    return PatientStatistics(probability, attention_ml, tuple(features))


@pytest.mark.parametrize(
    ("patient", "verdict", "words"),
    [
        (statistics(), Verdict.GRADED, ""),
        (statistics(0.4), Verdict.INDETERMINATE, "between 40 % and 60 %"),
        (statistics(0.3999), Verdict.GRADED, ""),
        (statistics(0.6), Verdict.GRADED, ""),
        (statistics(attention_ml=5), Verdict.GRADED, ""),
        (statistics(attention_ml=4.9), Verdict.NO_TUMOUR_SEEN, "does not exclude a tumour"),
        (statistics(0.5, 0.0), Verdict.NO_TUMOUR_SEEN, "No tumour seen"),
        (statistics(0.5, 0.0, np.full(len(TYPICAL), 50.0)), Verdict.OUT_OF_DISTRIBUTION, "most unusual: "),
        (statistics(features=[float("nan")] * len(TYPICAL)), Verdict.OUT_OF_DISTRIBUTION, "unlike"),
        (statistics(features=[float("inf")] * len(TYPICAL)), Verdict.OUT_OF_DISTRIBUTION, "unlike"),
        (statistics(attention_ml=float("nan")), Verdict.NO_TUMOUR_SEEN, "not graded"),
        (statistics(probability=float("nan")), Verdict.INDETERMINATE, "too near"),
    ],
)
def test_the_first_gate_that_closes_gives_the_verdict(patient, verdict, words):
    judgement = judge(patient, ALL_GATES)
    assert judgement.verdict is verdict
    assert words in judgement.sentence
    assert bool(judgement.sentence) == (verdict is not Verdict.GRADED)


def test_without_gates_everything_is_graded_and_the_statement_says_so():
    for gates in (None, Gates()):
        judgement = judge(statistics(0.5, 0.0, [9e9] * len(TYPICAL)), gates)
        assert judgement.verdict is Verdict.GRADED
        assert judgement.appearance_distance is None
    assert "No gate was applied" in Gates().statement
    assert "indeterminate probability (40 to 60 %)" in ALL_GATES.statement


def test_the_unusual_feature_is_named():
    features = list(TYPICAL)
    features[3] += 200 * USUAL.scale[USUAL.names.index(FEATURES[3])]
    judgement = judge(statistics(features=features), ALL_GATES)
    assert FEATURES[3] in judgement.sentence


def test_usual_patients_lie_near_one_and_within_the_limit():
    fresh = usual_features(300, seed=1)
    distances = np.array([USUAL.distance(tuple(row)) for row in fresh])
    assert 0.5 < distances.mean() < 1.2
    assert (distances <= USUAL.limit).mean() > 0.95
    moved = fresh + 1.5 * np.sign(np.random.default_rng(2).normal(size=fresh.shape)) * fresh.std(axis=0)
    # each feature by itself is not rare; together they can't be so
    assert np.mean([USUAL.distance(tuple(row)) > USUAL.limit for row in moved]) > 0.95


def test_the_distance_is_mahalanobis_over_the_root_of_the_count():
    features = usual_features()[5]
    row = (features[list(LOOKED_AT)] - USUAL.mean) / USUAL.scale
    triangle = np.zeros((len(row), len(row)))
    for index, values in enumerate(USUAL.whitening):
        triangle[index, : index + 1] = values
    precision = triangle.T @ triangle
    assert USUAL.distance(tuple(features)) == pytest.approx(
        float(np.sqrt(row @ precision @ row / len(row))), rel=1e-4
    )


@given(
    st.lists(st.floats(0, 400), min_size=1, max_size=80), st.lists(st.floats(0, 400), min_size=1, max_size=80)
)
def test_the_no_tumour_gate_keeps_its_share_of_tumours(tumours, free):
    values = np.array([*tumours, *free])
    gate = fit_no_tumour(values, np.arange(len(values)) < len(tumours), "tests")
    assert gate is not None
    kept = np.mean(np.array(tumours) >= gate.least_ml)
    assert kept == pytest.approx(gate.tumours_kept)
    assert np.mean(np.array(free) < gate.least_ml) == pytest.approx(gate.tumour_free_stopped)
    assert kept >= TUMOURS_KEPT - 1e-9


def test_a_gap_between_tumours_and_none_is_divided():
    values = np.array([20.0, 30, 50, 0, 0.2, 0.5])
    gate = fit_no_tumour(values, values >= 20, "tests")
    assert gate is not None
    assert gate.tumours_kept == gate.tumour_free_stopped == 1
    assert 1 < gate.least_ml < 15
    assert fit_no_tumour(values, np.ones(6, bool), "tests") is None


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60),
    st.sampled_from([0.3, 0.5, 0.8]),
)
def test_the_band_surrounds_the_threshold_and_says_what_is_outside(patients, threshold):
    probability = np.array([p for p, _ in patients])
    is_hgg = np.array([truth for _, truth in patients], bool)
    band = fit_band(probability, is_hgg, threshold, "tests")
    assert band.low <= threshold + 1e-9
    assert band.high >= threshold - 1e-9
    outside = (probability < band.low) | (probability >= band.high)
    wrong = (probability >= threshold) != is_hgg
    assert band.share_inside == pytest.approx(1 - outside.mean())
    if outside.any():
        assert band.error_outside == pytest.approx(wrong[outside].mean())
        if wrong.mean() <= TOLERATED_ERROR:
            assert band.share_inside == 0


def test_a_band_takes_the_errors_near_the_threshold_and_no_more():
    probability = np.array([*np.linspace(0.02, 0.3, 45), 0.45, 0.48, 0.52, 0.56, *np.linspace(0.7, 0.98, 45)])
    is_hgg = probability > 0.65
    is_hgg[45], is_hgg[46] = True, True
    band = fit_band(probability, is_hgg, 0.5, "tests")
    # two of 94 wrong are tolerated from the start: 2.1 %, none needs to be kept back
    assert band.share_inside == 0
    is_hgg[40:45] = True
    band = fit_band(probability, is_hgg, 0.5, "tests")
    assert 0 < band.share_inside <= MOST_INDETERMINATE
    assert band.error_outside is not None
    assert band.error_outside <= TOLERATED_ERROR
    assert band.error_inside is not None
    assert band.error_inside > 0.4


def test_fitting_leaves_out_what_the_patients_do_not_allow():
    patients = [statistics(0.9), statistics(0.1)]
    gates = fit_gates(patients, [True, False], 0.5, "tests")
    assert gates.no_tumour is None
    assert gates.appearance is None
    assert gates.indeterminate is not None
    assert fit_gates(patients, [None, None], 0.5, "tests") == Gates()


def simulated_predictions(patients=60):
    """HGG, LGG and tumour-free in turn; the slices say too much for HGG, as a biased network would."""
    random = np.random.default_rng(0)
    predictions, found, truth = [], [], []
    for index in range(patients):
        is_hgg = [True, False, None][index % 3]
        margin = {True: 5.0, False: 1.0, None: 2.0}[is_hgg] + 2 * random.normal(size=4)
        p = 1 / (1 + np.exp(-margin))
        predictions.append(GradePrediction(float(p.mean()), 0.5, tuple(p.tolist()), (0.25,) * 4))
        attention = 0.3 if is_hgg is None else 30.0
        found.append(PatientStatistics(float(p.mean()), attention, tuple(usual_features(60)[index])))
        truth.append(is_hgg)
    return predictions, found, truth


def test_a_trainer_gets_all_of_it_at_once_and_the_card_carries_it(network, card, tmp_path):
    predictions, found, truth = simulated_predictions()
    fitted = fit_judgement(predictions, found, truth, "simulated patients of this test")
    assert fitted.calibration is not None
    assert fitted.bias < -0.5
    assert fitted.calibration.brier_after < fitted.calibration.brier_before
    saved = save_checkpoint(tmp_path, network, card.model_copy(update=fitted._asdict()))
    read = load_checkpoint(tmp_path).card
    assert read == saved
    assert (read.temperature, read.bias, read.gates) == (fitted.temperature, fitted.bias, fitted.gates)
    assert "calibrated on 40 patients (simulated patients of this test)" in read.calibration_statement
    assert "no tumour seen" in read.gates_statement
    assert "not calibrated" in card.calibration_statement
    assert "No gate was applied" in card.gates_statement
    assert (tmp_path / "card.json").stat().st_size < 100_000


def test_what_decides_an_answer_is_in_its_digest(card):
    digests = {
        card.model_copy(update=change).answer_sha256
        for change in (
            {},
            {"bias": 0.1},
            {"temperature": 2.0},
            {"gates": Gates()},
            {"gates": ALL_GATES},
            {"threshold": 0.4},
            {"weights_sha256": "1" * 64},
        )
    }
    assert len(digests) == 7
    assert card.model_copy(update={"intended_use": "another"}).answer_sha256 in digests


def test_a_card_of_before_stays_valid_and_a_broken_gate_is_refused(card):
    old = json.loads(card.model_dump_json())
    for name in ("bias", "calibration", "gates"):
        del old[name]
    assert Card.model_validate(old) == card
    broken = json.loads(ALL_GATES.model_dump_json())
    broken["appearance"]["whitening"][3].pop()
    with pytest.raises(ValueError, match="lower triangle"):
        Card.model_validate(old | {"gates": broken})


def test_features_of_another_version_are_refused(network, card, tmp_path):
    other = USUAL.model_copy(update={"names": ("something else", *USUAL.names[1:])})
    save_checkpoint(tmp_path, network, card.model_copy(update={"gates": Gates(appearance=other)}))
    with pytest.raises(CheckpointError, match="other features"):
        Predictor(tmp_path, "cpu")
