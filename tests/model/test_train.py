import pytest

from model.simulation.simulated_cohort import TEST_SEEDS, training_seeds, validation_seeds
from model.training.train import Draw, Plan, build_card


def test_training_validation_and_test_patients_never_meet():
    sides = [set(training_seeds(7, 200)), set(validation_seeds(7, 100)), set(TEST_SEEDS)]
    assert [len(side) for side in sides] == [200, 100, 444]
    assert len(set().union(*sides)) == 744


def test_card_says_what_it_is():
    patients = Draw.parse("7:200"), Draw.parse("8:100:0.5")
    card = build_card(Plan(patients, epochs=1, minutes=1), 64, 4, 1.0)
    assert card.is_simulated
    assert "seeds 7000000 to 7000199; 8000000 to 8000099, 50% of them made hard" in card.training.description
    assert (card.training.cases, card.training.seed) == (300, 8)
    assert card.training.steps == 4


@pytest.mark.parametrize("text", ["7", "7:x", "7:0", "-1:10", "700:10", "7:10:2", "7:10:-0.1", "7:10:nan"])
def test_patients_that_no_plan_can_mean(text):
    with pytest.raises(ValueError, match=r"unpack|invalid literal|nobody"):
        Draw.parse(text)
