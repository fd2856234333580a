import pytest
import torch

from model.card import CheckpointError, read_card
from model.checkpoint import load_checkpoint
from model.self_test import answer, pattern_slice, require_answer


def test_the_pattern_is_fixed():
    pattern = pattern_slice()
    assert pattern.shape == (1, 3, 224, 224)
    assert pattern.flatten()[[0, 1, 1000, 150527]].tolist() == pytest.approx(
        [0.0, 0.003, 0.61613, -2.57058], abs=1e-4
    )
    assert pattern.std() > 1


def test_a_written_network_answers_as_its_card_says(saved_checkpoint):
    card, network = load_checkpoint(saved_checkpoint)
    require_answer(network, card, saved_checkpoint)
    assert card.self_test == pytest.approx(answer(network), abs=1e-5)


def test_one_changed_layer_is_seen(saved_checkpoint):
    network = load_checkpoint(saved_checkpoint).network
    torch.nn.init.constant_(network.head.bias, 0.3)
    with pytest.raises(CheckpointError, match="where its card states"):
        require_answer(network, read_card(saved_checkpoint), saved_checkpoint)
