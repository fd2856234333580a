import math
import time

import pytest
import torch

from model.network import AttentionVGG16, NetworkOutput
from model.simulation.samples import NO_GRADE
from model.training.learn import fit, keep_features, training_loss

EPOCHS = 4


def fresh():
    torch.manual_seed(3)
    return AttentionVGG16(batch_norm=False).eval()


@pytest.fixture(scope="module")
def kept(square_samples):
    return keep_features(fresh(), square_samples)


def trained(kept, deadline=math.inf):
    network = fresh()
    return network, fit(network, kept, EPOCHS, deadline)


@pytest.fixture(scope="module")
def taught(kept):
    return trained(kept)


def loss_of(network, kept):
    f3, f4, labels, masks = kept[:]
    with torch.inference_mode():
        output = network.eval().grade_features(f3.float(), f4.float())
    return training_loss(output, labels, masks.float()).item()


def test_kept_features_are_those_of_the_network(square_samples, kept):
    with torch.inference_mode():
        f3, f4 = fresh().features(torch.from_numpy(square_samples.slices[:1]).float())
    torch.testing.assert_close(kept[0][0], f3[0].half(), rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(kept[0][1], f4[0].half(), rtol=1e-2, atol=1e-2)
    assert len(kept) == len(square_samples.labels)


def test_training_lowers_the_loss_and_is_deterministic(kept, taught):
    network, steps = taught
    assert steps == EPOCHS
    assert loss_of(network, kept) < loss_of(fresh(), kept) - 0.1
    again, _ = trained(kept)
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor, rtol=0, atol=0)


def test_training_leaves_blocks_1_to_4_alone(taught):
    before, after = fresh().state_dict(), taught[0].state_dict()
    changed = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"block5", "attention3", "attention4", "head"}


def test_training_stops_at_its_deadline(kept):
    _, steps = trained(kept, deadline=time.monotonic())
    assert steps == 0


def test_attention_on_the_tumour_costs_less_than_beside_it():
    masks = torch.zeros(1, 1, 224, 224)
    masks[..., :112] = 1
    labels = torch.tensor([1])

    def loss(on_tumour):
        a3, a4 = torch.zeros(1, 1, 28, 28), torch.zeros(1, 1, 14, 14)
        for attention in (a3, a4):
            half = attention.shape[-1] // 2
            attention[..., slice(None, half) if on_tumour else slice(half, None)] = 1
        return training_loss(NetworkOutput(torch.zeros(1, 2), a3, a4), labels, masks).item()

    assert loss(on_tumour=True) == pytest.approx(math.log(2), abs=1e-3)
    assert loss(on_tumour=False) == pytest.approx(math.log(2) + 0.3, abs=5e-3)


def test_slices_without_grade_teach_attention_only():
    output = NetworkOutput(torch.tensor([[5.0, -5.0]]), torch.zeros(1, 1, 28, 28), torch.zeros(1, 1, 14, 14))
    loss = training_loss(output, torch.tensor([NO_GRADE]), torch.zeros(1, 1, 224, 224))
    assert loss.item() == pytest.approx(0)
