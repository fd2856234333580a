import numpy as np

from model.predict import Predictor
from model.stack import Stack
from model.train import Plan, build_card, evaluate_patients


def test_training_and_held_out_patients_never_meet():
    plan = Plan(cases=200, held_out=100, epochs=1, minutes=1, seed=7)
    assert not set(plan.training_seeds) & set(plan.held_out_seeds)
    assert len(plan.training_seeds) == 200
    assert len(plan.held_out_seeds) == 100


def test_metrics_of_whole_patients_name_their_set(saved_checkpoint, square_samples):
    tumour = square_samples.masks[:2]
    patients = [
        (
            Stack(
                square_samples.slices[first : first + 2].astype(np.float32), np.ones_like(tumour), np.eye(4)
            ),
            tumour,
        )
        for first in (0, 2)
    ]
    metrics = evaluate_patients(Predictor(saved_checkpoint, "cpu"), range(2, 4), patients)
    assert [metric.name for metric in metrics] == [
        "AUC",
        "balanced accuracy",
        "attention pointing game",
        "attention Dice at 0.5",
    ]
    assert all(metric.n == 2 and "seeds 2 to 3" in metric.measured_on for metric in metrics)


def test_card_says_what_it_is():
    plan = Plan(cases=4, held_out=2, epochs=1, minutes=1, seed=7)
    card = build_card(plan, 64, 4, 1.0, ())
    assert card.is_simulated
    assert "seeds 7000000 to 7000003" in card.training.description
    assert card.training.steps == 4
