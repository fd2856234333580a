import math
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from model.network import AttentionVGG16, NetworkOutput
from model.simulation.samples import NO_GRADE
from model.training import learn
from model.training.attention_loss import ENTROPY_WEIGHT, attention_loss
from model.training.learn import ATTENTION_LOSS_WEIGHT, VariedSlices, fit, training_loss

EPOCHS, SEED = 4, 5


def fresh():
    torch.manual_seed(3)
    return AttentionVGG16(batch_norm=False).eval()


def trained(samples, deadline=math.inf):
    network = fresh()
    return network, fit(network, samples, EPOCHS, SEED, deadline)


@pytest.fixture(scope="module")
def taught(square_samples):
    return trained(square_samples)


def loss_of(network, samples):
    with torch.inference_mode():
        output = network.eval()(torch.from_numpy(samples.slices).float())
    labels, masks = torch.from_numpy(samples.labels), torch.from_numpy(samples.masks)[:, None]
    return training_loss(output, labels, masks.float()).item()


def test_training_lowers_the_loss_and_is_deterministic(square_samples, taught):
    network, steps = taught
    assert steps == EPOCHS
    assert loss_of(network, square_samples) < loss_of(fresh(), square_samples) - 0.1
    again, _ = trained(square_samples)
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor, rtol=0, atol=0)


def test_training_leaves_blocks_1_and_2_alone(taught):
    before, after = fresh().state_dict(), taught[0].state_dict()
    changed = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"block3", "block4", "block5", "attention3", "attention4", "head"}


def test_training_in_32_bits_learns_as_well(square_samples, taught, monkeypatch):
    monkeypatch.setattr(learn, "multiplies_bfloat16", lambda _: False)
    network, _ = trained(square_samples)
    assert loss_of(network, square_samples) == pytest.approx(loss_of(taught[0], square_samples), abs=0.1)


def test_training_stops_at_its_deadline(square_samples):
    _, steps = trained(square_samples, deadline=time.monotonic())
    assert steps == 0


def test_a_slice_is_varied_anew_in_each_epoch_and_alike_by_the_same_seed(square_samples):
    slices = VariedSlices(square_samples, SEED)
    first, label, mask = slices[0]
    assert label == square_samples.labels[0]
    torch.testing.assert_close(VariedSlices(square_samples, SEED)[0][0], first, rtol=0, atol=0)
    slices.epoch = 1
    assert not torch.equal(slices[0][0], first)
    assert not torch.equal(VariedSlices(square_samples, SEED + 1)[0][0], first)
    assert mask.shape == (1, 224, 224)
    assert set(mask.unique().tolist()) == {0, 1}


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
    most = 1 + 100 * ENTROPY_WEIGHT  # torch takes no logarithm for less than -100
    assert loss(on_tumour=False) == pytest.approx(math.log(2) + 2 * ATTENTION_LOSS_WEIGHT * most, abs=1e-2)


@settings(max_examples=20)
@given(st.floats(-25, 15), st.floats(0, 1))
def test_attention_on_the_wrong_side_learns_from_however_far(score, share):
    masks = torch.zeros(1, 1, 224, 224)
    masks[..., : round(224 * share)] = 1
    scores = torch.full((1, 1, 28, 28), score, requires_grad=True)
    [slope] = torch.autograd.grad(attention_loss(torch.sigmoid(scores), masks).sum(), [scores])
    slope = slope * scores.numel() / ENTROPY_WEIGHT
    held = functional.avg_pool2d(masks, 8)
    missing = (held == 1) & (torch.sigmoid(scores) < 0.5)
    assert (slope[missing] < -0.4).all()
    beside = (held == 0) & (torch.sigmoid(scores) > 0.5)
    assert (slope[beside] > 0.4).all()


def test_slices_without_grade_teach_attention_only():
    output = NetworkOutput(torch.tensor([[5.0, -5.0]]), torch.zeros(1, 1, 28, 28), torch.zeros(1, 1, 14, 14))
    loss = training_loss(output, torch.tensor([NO_GRADE]), torch.zeros(1, 1, 224, 224))
    assert loss.item() == pytest.approx(0)
