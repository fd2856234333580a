from model.simulation.simulated_cohort import TEST_SEEDS, training_seeds, validation_seeds
from model.training.train import Plan, build_card


def test_training_validation_and_test_patients_never_meet():
    sides = [set(training_seeds(7, 200)), set(validation_seeds(7, 100)), set(TEST_SEEDS)]
    assert [len(side) for side in sides] == [200, 100, 444]
    assert len(set().union(*sides)) == 744


def test_card_says_what_it_is():
    card = build_card(Plan(cases=200, epochs=1, minutes=1, seed=7), 64, 4, 1.0)
    assert card.is_simulated
    assert "seeds 7000000 to 7000199" in card.training.description
    assert card.training.steps == 4
