import hashlib
import json

import pytest
import torch
from safetensors.torch import load_file

from model.card import CARD_NAME, WEIGHTS_NAME, CheckpointError, default_checkpoint_folder
from model.checkpoint import load_checkpoint, save_checkpoint
from model.network import AttentionVGG16


def edit_card(folder, **changes):
    path = folder / CARD_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_round_trip_keeps_card_and_weights(checkpoint_folder, network, card):
    loaded = load_checkpoint(checkpoint_folder)
    assert loaded.card.self_test is not None
    unwritten = {"weights_sha256": card.weights_sha256, "self_test": None}
    assert loaded.card.model_copy(update=unwritten) == card
    assert not loaded.network.training
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(loaded.network.state_dict()[name], tensor, rtol=2**-10, atol=2**-14)


def test_stored_as_float16_below_40_mb(checkpoint_folder):
    weights = checkpoint_folder / WEIGHTS_NAME
    assert {tensor.dtype for tensor in load_file(weights).values()} == {torch.float16}
    assert 30e6 < weights.stat().st_size < 40e6


def test_float16_on_disk_answers_as_float32(checkpoint_folder, network):
    """Within the bound that a GPU and a CPU have to keep, too."""
    slices = torch.randn(4, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    stored = load_checkpoint(checkpoint_folder).network
    with torch.inference_mode():
        kept, exact = stored(slices), network(slices)
    torch.testing.assert_close(kept.logits, exact.logits, atol=1e-2, rtol=0)
    torch.testing.assert_close(kept.a3, exact.a3, atol=1e-2, rtol=0)
    assert torch.equal(kept.logits.argmax(dim=1), exact.logits.argmax(dim=1))


def test_batch_norm_statistics_keep_their_precision(tmp_path, card):
    network = AttentionVGG16(batch_norm=True)
    network.get_buffer("block1.1.running_mean").fill_(1 + 2**-20)
    save_checkpoint(tmp_path, network, card.model_copy(update={"architecture": "attention-vgg16-bn"}))
    loaded = load_checkpoint(tmp_path).network
    assert loaded.get_buffer("block1.1.running_mean")[0].item() == 1 + 2**-20


def test_weights_of_another_architecture_are_refused(checkpoint_folder):
    edit_card(checkpoint_folder, architecture="attention-vgg16-bn")
    with pytest.raises(CheckpointError, match="not those of attention-vgg16-bn: block1"):
        load_checkpoint(checkpoint_folder)


def test_other_class_order_is_refused(checkpoint_folder):
    edit_card(checkpoint_folder, classes=["HGG", "LGG"])
    with pytest.raises(CheckpointError, match="other classes"):
        load_checkpoint(checkpoint_folder)


def test_a_file_that_is_no_safetensors_is_refused(checkpoint_folder):
    (checkpoint_folder / WEIGHTS_NAME).write_bytes(b"x" * 100)
    edit_card(checkpoint_folder, weights_sha256=hashlib.sha256(b"x" * 100).hexdigest())
    with pytest.raises(CheckpointError, match="not in the safetensors format"):
        load_checkpoint(checkpoint_folder)


def test_weights_that_are_no_numbers_are_not_saved(tmp_path, card):
    network = AttentionVGG16(batch_norm=False)
    torch.nn.init.constant_(network.head.weight, float("nan"))
    with pytest.raises(CheckpointError, match="no finite logits"):
        save_checkpoint(tmp_path, network, card)
    assert not list(tmp_path.iterdir())


def test_shipped_checkpoint_is_whole_and_says_what_it_is():
    card = load_checkpoint(default_checkpoint_folder()).card
    assert card.is_simulated
    assert {metric.name for metric in card.metrics} >= {"AUC", "balanced accuracy"}
    assert all("simulated" in metric.measured_on for metric in card.metrics)
    assert all(metric.low <= metric.value <= metric.high for metric in card.metrics)
