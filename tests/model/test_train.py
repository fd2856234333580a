import pytest

from model.simulation.simulated_cohort import TEST_SEEDS
from model.training.train import Plan, build_card


@pytest.fixture
def plan():
    return Plan(cases=200, validation=100, test=10, epochs=1, minutes=1, seed=7)


def test_training_validation_and_test_patients_never_meet(plan):
    sides = [set(plan.training_seeds), set(plan.validation_seeds), set(TEST_SEEDS)]
    assert [len(side) for side in sides] == [200, 100, 444]
    assert len(set().union(*sides)) == 744


def test_card_says_what_it_is(plan):
    card = build_card(plan, 64, 4, 1.0, ())
    assert card.is_simulated
    assert "seeds 7000000 to 7000199" in card.training.description
    assert card.training.steps == 4
