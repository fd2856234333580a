import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from model.attention_scores import pointing
from model.card import default_checkpoint_folder
from model.checkpoint import load_checkpoint, save_checkpoint
from model.grade import Contrast, Grade, GradePrediction
from model.network import NetworkOutput
from model.predict import (
    HalfNetwork,
    IntensitiesMissingError,
    OutOfDeviceMemoryError,
    Predictor,
    pool,
    slice_weights,
)
from model.simulation.samples import simulated_patient
from model.space.preprocess import prepare_in_space
from model.space.stack import Stack
from model.space.volume import Volume, load_volume
from model.training.train_cohort import MORE_THAN_HALF


@pytest.fixture(scope="module")
def stack():
    random = np.random.default_rng(0)
    mask = np.zeros((5, 224, 224), bool)
    mask[:, 60:160, 50:170] = True
    array = random.normal(size=(5, 3, 224, 224)).astype(np.float32) * mask[:, None]
    return Stack(array, mask, np.diag([5.0, -1.0, -1.0, 1.0]))


@pytest.fixture(scope="module")
def predictor(saved_checkpoint):
    return Predictor(saved_checkpoint, "cpu")


@pytest.fixture(scope="module")
def prediction(predictor, stack):
    return predictor.predict(stack)


def test_probability_is_the_weighted_mean_of_the_slices(prediction):
    grade = prediction.grade_prediction
    weights, probabilities = np.array(grade.slice_weights), np.array(grade.slice_probabilities)
    assert len(weights) == len(probabilities) == 5
    assert weights.sum() == pytest.approx(1)
    assert grade.probability == pytest.approx(float(weights @ probabilities))
    assert probabilities.std() > 0


def test_slice_probability_is_that_of_the_hgg_logit(prediction, predictor, stack, network):
    with torch.inference_mode():
        logits = network(torch.from_numpy(stack.array)).logits
    expected = torch.softmax(logits, dim=1)[:, [Grade.LGG, Grade.HGG].index(Grade.HGG)]
    assert predictor.card.classes[1] is Grade.HGG
    np.testing.assert_allclose(prediction.grade_prediction.slice_probabilities, expected, atol=2e-3)


def test_attention_lies_on_the_stacks_grid_within_its_mask(prediction, stack):
    attention = prediction.attention
    assert attention.array.shape == stack.mask.shape
    assert attention.array.dtype == np.float32
    np.testing.assert_array_equal(attention.affine, stack.affine)
    assert (attention.array[~stack.mask] == 0).all()
    inside = attention.array[stack.mask]
    assert 0 <= inside.min() < inside.max() <= 1


def test_batch_size_does_not_change_the_answer(saved_checkpoint, prediction, stack):
    other = Predictor(saved_checkpoint, "cpu", batch_size=2).predict(stack)
    assert other.grade_prediction.probability == pytest.approx(
        prediction.grade_prediction.probability, abs=1e-5
    )
    np.testing.assert_allclose(other.attention.array, prediction.attention.array, atol=1e-4)


def test_stacks_graded_together_are_graded_as_each_alone(saved_checkpoint, stack, monkeypatch):
    part = Stack(stack.array[1:4], stack.mask[1:4], stack.affine)
    predictor = Predictor(saved_checkpoint, "cpu")
    alone = [predictor.predict(each) for each in (stack, part)]
    device = SmallDevice(predictor._network, 8)
    monkeypatch.setattr(predictor, "_network", device)
    together = predictor.predict_together([stack, part])
    assert device.sizes == [8]
    for one, other in zip(alone, together, strict=True):
        assert other.grade_prediction.slice_probabilities == pytest.approx(
            one.grade_prediction.slice_probabilities, abs=1e-5
        )
        assert other.grade_prediction.probability == pytest.approx(one.grade_prediction.probability, abs=1e-5)
        np.testing.assert_allclose(other.attention.array, one.attention.array, atol=1e-4)
        assert other.appearance == one.appearance


def test_threads_are_set(saved_checkpoint):
    before = torch.get_num_threads()
    Predictor(saved_checkpoint, "cpu", threads=1)
    assert torch.get_num_threads() == 1
    torch.set_num_threads(before)


class SmallDevice:
    """Runs a network in batches up to a limit, as a full accelerator would."""

    def __init__(self, network, limit):
        self.network, self.limit, self.sizes = network, limit, []

    def __call__(self, slices):
        if len(slices) > self.limit:
            raise torch.cuda.OutOfMemoryError
        self.sizes.append(len(slices))
        return self.network(slices)


def test_batches_shrink_until_they_fit(saved_checkpoint, prediction, stack, monkeypatch):
    predictor = Predictor(saved_checkpoint, "cpu")
    device = SmallDevice(predictor._network, 2)
    monkeypatch.setattr(predictor, "_network", device)
    shrunk = predictor.predict(stack)
    assert device.sizes == [2, 2, 1]
    assert shrunk.grade_prediction.probability == pytest.approx(
        prediction.grade_prediction.probability, abs=1e-5
    )


def test_a_device_too_small_for_one_slice_says_so(saved_checkpoint, stack, monkeypatch):
    predictor = Predictor(saved_checkpoint, "cpu")
    monkeypatch.setattr(predictor, "_network", SmallDevice(predictor._network, 0))
    with pytest.raises(OutOfDeviceMemoryError, match="cpu has no memory for one slice"):
        predictor.predict(stack)


@given(npst.arrays(np.float64, st.integers(1, 56), elements=st.floats(0, 224 * 224)))
def test_weights_sum_to_one_and_keep_the_order_of_evidence(evidence):
    weights = slice_weights(evidence)
    assert weights.sum() == pytest.approx(1)
    assert (weights > 0).all()
    assert (np.diff(weights[np.argsort(evidence)]) >= 0).all()


def test_no_attention_anywhere_weighs_all_slices_alike():
    assert slice_weights(np.zeros(4)).tolist() == [0.25] * 4


@pytest.mark.data
def test_shipped_attention_points_at_a_real_tumour(real_data):
    folder = real_data / "glioma" / "BraTS-GLI-00001-000"
    names = {Contrast.FLAIR: "t2f", Contrast.T1CE: "t1c", Contrast.T2: "t2w"}
    volumes = {c: load_volume(folder / f"{folder.name}-{name}.nii.gz") for c, name in names.items()}
    labels = load_volume(folder / "seg-BraTS23_1.nii.gz")
    real = prepare_in_space(volumes).stack
    tumour = Volume((labels.array > 0).astype(np.float32), labels.affine).resample(
        real.mask.shape, real.affine
    )
    prediction = Predictor(default_checkpoint_folder(), "cpu").predict(real)
    assert pointing(prediction.attention.array, tumour.array > 0.5) > 0.8


def in_16_bits(network, dtype):
    """What an accelerator computes: products of 16-bit numbers, summed in 32, each layer's answer rounded."""
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype).float()
            module.register_forward_pre_hook(lambda _, given: (given[0].to(dtype).float(),))
            module.register_forward_hook(lambda _, __, answer: answer.to(dtype).float())
    return network


BOUNDS = {"fp16": (torch.float16, 0.002, 0.02), "bf16": (torch.bfloat16, 0.03, 0.1)}


@pytest.fixture(scope="module")
def shipped_and_slices():
    network = load_checkpoint(default_checkpoint_folder()).network
    patient = simulated_patient(900_001).stack
    return network, torch.from_numpy(patient.array[10::12])


@pytest.mark.parametrize(("dtype", "probability", "attention"), BOUNDS.values(), ids=BOUNDS)
def test_16_bits_change_the_shipped_answers_little(shipped_and_slices, dtype, probability, attention):
    network, slices = shipped_and_slices
    with torch.inference_mode():
        usual, rounded = network(slices), in_16_bits(network, dtype)(slices)
    assert usual.a3.max() > 0.5
    apart = (usual.logits.softmax(dim=1) - rounded.logits.softmax(dim=1)).abs().max()
    assert 0 < apart < probability
    assert 0 < (usual.a3 - rounded.a3).abs().max() < attention


def test_cpu_in_bfloat16_agrees_with_fp32(shipped_and_slices):
    network, slices = shipped_and_slices
    _, probability, attention = BOUNDS["bf16"]
    rounded = Predictor(default_checkpoint_folder(), "cpu", precision="bf16")
    with torch.inference_mode():
        usual = network(slices)
    answer = rounded._forward_batch(slices)
    assert (usual.logits.softmax(dim=1) - answer.logits.softmax(dim=1)).abs().max() < probability
    assert (usual.a3 - answer.a3).abs().max() < attention


class Overflows(torch.nn.Module):
    """Answers what 16 bits can't hold, where it computes in them."""

    def forward(self, slices):
        answer = slices @ slices.transpose(1, 2)
        return NetworkOutput(answer, answer, answer)


def test_numbers_too_large_for_16_bits_go_through_in_32():
    slices = torch.full((1, 2, 2), 300.0)
    half = HalfNetwork(Overflows(), torch.device("cpu"), "fp16")
    with torch.inference_mode():
        assert half(slices / 300).logits.tolist() == [[[2.0, 2.0], [2.0, 2.0]]]
        assert half(slices).logits.tolist() == [[[180_000.0, 180_000.0], [180_000.0, 180_000.0]]]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", BOUNDS)
def test_gpu_in_16_bits_agrees_with_fp32(shipped_and_slices, precision):
    network, slices = shipped_and_slices
    _, probability, attention = BOUNDS[precision]
    half = Predictor(default_checkpoint_folder(), "cuda", precision=precision)
    with torch.inference_mode():
        usual, answer = network(slices), half._forward_batch(slices)
    assert (usual.logits.softmax(dim=1) - answer.logits.softmax(dim=1)).abs().max() < probability
    assert (usual.a3 - answer.a3).abs().max() < attention


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_agrees_with_cpu(saved_checkpoint, prediction, stack):
    grade = Predictor(saved_checkpoint, "cuda").predict(stack).grade_prediction
    np.testing.assert_allclose(
        grade.slice_probabilities, prediction.grade_prediction.slice_probabilities, atol=1e-2
    )


@pytest.fixture(scope="module")
def with_card(tmp_path_factory, network, card):
    """Make a predictor of the same weights whose card says otherwise."""

    def make(shown=None, **changes):
        changed = card.model_copy(update={**changes, "input": card.input.model_copy(update=shown or {})})
        folder = tmp_path_factory.mktemp("other")
        save_checkpoint(folder, network, changed)
        return Predictor(folder, "cpu")

    return make


def test_flip_averaging_grades_both_sides_alike(with_card, predictor, stack):
    averaging = with_card(flip_averaging=True)
    other = Stack(stack.array[:, :, ::-1].copy(), stack.mask[:, ::-1].copy(), stack.affine)
    here, there = averaging.predict(stack), averaging.predict(other)
    assert here.grade_prediction.probability == pytest.approx(there.grade_prediction.probability, abs=1e-5)
    np.testing.assert_allclose(here.attention.array, there.attention.array[:, ::-1], atol=1e-5)
    plain = [predictor.predict(each).grade_prediction.probability for each in (stack, other)]
    assert abs(plain[0] - plain[1]) > 1e-4


def test_constants_of_the_training_set_normalise_intensities_background_too(with_card, predictor, stack):
    mean, deviation = (100.0, 200.0, 300.0), (10.0, 20.0, 40.0)
    constants = {"mean": mean, "deviation": deviation}
    raw = stack.array * np.array(deviation)[:, None, None] + np.array(mean)[:, None, None]
    kept = Stack(np.zeros_like(stack.array), stack.mask, stack.affine, raw.astype(np.float32))
    found = with_card(constants).predict(kept).grade_prediction.slice_probabilities
    expected = predictor.predict(stack).grade_prediction.slice_probabilities
    assert found == pytest.approx(expected, abs=1e-4)
    with pytest.raises(IntensitiesMissingError):
        with_card(constants).predict(stack)


def test_a_vote_counts_slices_and_leaves_their_probabilities(with_card, predictor, stack):
    grade = with_card(pooling="majority-vote").predict(stack).grade_prediction
    each = np.array(grade.slice_probabilities)
    assert grade.probability == (each > 0.5).mean()
    assert set(grade.slice_weights) == {0.2}
    assert tuple(each) == predictor.predict(stack).grade_prediction.slice_probabilities


@given(st.integers(1, 56), st.integers(0, 56))
def test_more_than_half_of_the_votes_are_hgg_and_a_tie_is_lgg(slices, hgg):
    hgg = min(hgg, slices)
    p = np.array([0.6] * hgg + [0.4] * (slices - hgg))
    share = pool(p, np.full(slices, 1 / slices), "majority-vote")
    grade = GradePrediction(share, MORE_THAN_HALF, (), ()).grade
    assert (grade is Grade.HGG) == (2 * hgg > slices)
