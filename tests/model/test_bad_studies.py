"""Studies that must not get a grade, each with its reason: refused on the way to the stack, or by a gate."""

import numpy as np
import pytest
import torch

from model.appearance import WRONG_ORDERS, describe_appearance, reorder
from model.checkpoint import save_checkpoint
from model.gates import FEATURES, Gates, NoTumourGate, PatientStatistics, judge
from model.grade import Contrast, Verdict
from model.network import AttentionVGG16
from model.predict import Predictor
from model.space.preprocess import build_stack, place, prepare_study
from model.space.quality import PreprocessingError, Reason, require_gradable
from model.space.stack import Stack
from model.space.volume import Volume
from model.training.fit_gates import MOST_WRONG, fit_appearance
from tests.heads import coarse_brain

FLAIR, T1CE, T2 = Contrast
CENTRE = np.eye(4)
CENTRE[:3, 3] = (-119, 109, 73)


def volumes():
    return {contrast: coarse_brain()[contrast] for contrast in Contrast}


@pytest.fixture(scope="module")
def stack():
    """The coarse brain in BraTS space, every eighth slice."""
    study = volumes()
    brain = Volume((study[T1CE].array > 0).astype(np.float32), study[T1CE].affine)
    whole = build_stack(place(study, brain, dict.fromkeys(Contrast, CENTRE)))
    affine = whole.affine.copy()
    affine[:, 0] *= 8
    return Stack(whole.array[::8], whole.mask[::8], affine)


@pytest.mark.parametrize("contrast", list(Contrast))
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (np.zeros_like, Reason.CONSTANT),
        (lambda array: np.where(np.arange(array.shape[2]) == 5, np.nan, array), Reason.NOT_FINITE),
        (lambda array: np.where(np.arange(array.shape[2]) == 5, np.inf, array), Reason.NOT_FINITE),
    ],
    ids=["all zero", "NaN in one slice", "infinite in one slice"],
)
def test_a_volume_that_holds_nothing_or_no_numbers(contrast, spoil, reason):
    study = volumes()
    study[contrast] = Volume(spoil(study[contrast].array).astype(np.float32), study[contrast].affine)
    with pytest.raises(PreprocessingError, match=r"^not gradable: the .* series .*\.$") as caught:
        prepare_study(study)
    assert caught.value.reason is reason


@pytest.mark.parametrize("role", [FLAIR, T2])
def test_the_t1_post_contrast_series_again_in_another_role(role):
    study = volumes()
    study[role] = study[T1CE]
    with pytest.raises(PreprocessingError, match="shows the same images as the T1 post-contrast") as caught:
        require_gradable(prepare_study(study).record.quality)
    assert caught.value.reason is Reason.SAME_IMAGES


def varied(stack, seed):
    """The brain as another scanner would show it: noise, gamma and a little blur in each contrast."""
    random = np.random.default_rng(seed)
    array = stack.array.copy()
    for channel in range(3):
        seen = array[:, channel]
        gamma = np.sign(seen) * np.abs(seen) ** random.uniform(0.85, 1.15)
        blurred = (gamma + random.uniform(0, 0.3) * np.roll(gamma, 1, axis=2)) / 1.15
        array[:, channel] = blurred + random.normal(0, random.uniform(0.02, 0.15), seen.shape)
    return Stack(np.clip(array, -6, 6).astype(np.float32) * stack.mask[:, None], stack.mask, stack.affine)


@pytest.fixture(scope="module")
def usual(stack):
    features = np.array([describe_appearance(varied(stack, seed)) for seed in range(60)])
    return Gates(appearance=fit_appearance(features, "a varied brain"))


def ball(stack):
    """A phantom with one insert, alike in all contrasts but for noise."""
    random = np.random.default_rng(1)
    rows, columns = np.ogrid[:224, :224]
    distance = np.sqrt((rows - 112.0) ** 2 + (columns - 112.0) ** 2)
    mask = np.broadcast_to(distance < 75, stack.mask.shape)
    array = np.where(distance < 20, 4.0, 0.0) + random.normal(0, 1, stack.array.shape)
    return Stack((array * mask[:, None]).astype(np.float32), np.array(mask), stack.affine)


def in_order(stack, *channels):
    return Stack(stack.array[:, channels], stack.mask, stack.affine)


BAD = {
    "phantom": ball,
    "noise": lambda s: Stack(
        np.random.default_rng(2).normal(0, 1, s.array.shape).astype(np.float32) * s.mask[:, None],
        s.mask,
        s.affine,
    ),
    "FLAIR and T2 exchanged": lambda s: in_order(s, 2, 1, 0),
    "FLAIR and T1 post-contrast exchanged": lambda s: in_order(s, 1, 0, 2),
    "T1 post-contrast and T2 exchanged": lambda s: in_order(s, 0, 2, 1),
    "FLAIR in two roles": lambda s: in_order(s, 0, 1, 0),
    "T2 in two roles": lambda s: in_order(s, 2, 1, 2),
    "no brain": lambda s: Stack(np.zeros_like(s.array), np.zeros_like(s.mask), s.affine),
}


@pytest.mark.parametrize("kind", BAD)
def test_images_of_something_else_are_out_of_distribution(stack, usual, kind):
    bad = BAD[kind](varied(stack, 777))
    judgement = judge(PatientStatistics(0.9, 20.0, describe_appearance(bad)), usual)
    assert judgement.verdict is Verdict.OUT_OF_DISTRIBUTION
    assert judgement.sentence.startswith("Not graded: the images are unlike")
    assert any(name in judgement.sentence for name in FEATURES)


def test_the_same_brain_from_yet_another_scanner_is_graded(stack, usual):
    judged = [
        judge(PatientStatistics(0.9, 20.0, describe_appearance(varied(stack, seed))), usual)
        for seed in range(900, 920)
    ]
    assert sum(each.verdict is Verdict.GRADED for each in judged) >= 18


@pytest.mark.parametrize("order", WRONG_ORDERS)
def test_wrong_orders_are_known_from_the_features_alone(stack, order):
    expected = describe_appearance(in_order(stack, *order))
    assert reorder(describe_appearance(stack), order) == pytest.approx(expected, abs=1e-6)


def test_the_limit_stops_most_exchanges_and_lets_usual_brains_pass(usual):
    assert usual.appearance.wrong_stopped > MOST_WRONG
    assert usual.appearance.quantile >= 0.98


def test_features_do_not_depend_on_how_many_slices_are_empty(stack):
    empty = np.zeros((2, *stack.array.shape[1:]), np.float32)
    longer = Stack(
        np.concatenate([stack.array, empty]),
        np.concatenate([stack.mask, empty[:, 0] > 0]),
        stack.affine,
    )
    assert describe_appearance(longer)[1:] == pytest.approx(describe_appearance(stack)[1:])
    assert len(describe_appearance(stack)) == len(FEATURES)


@pytest.mark.parametrize(("seen", "verdict"), [(-20.0, Verdict.NO_TUMOUR_SEEN), (20.0, Verdict.GRADED)])
def test_a_network_that_attends_to_nothing_sees_no_tumour(tmp_path, card, stack, seen, verdict):
    torch.manual_seed(0)
    network = AttentionVGG16(batch_norm=False).eval()
    bias = network.attention3.score.bias
    assert bias is not None
    torch.nn.init.constant_(bias, seen)
    gate = NoTumourGate(
        least_ml=1, tumours=1, tumours_kept=1, tumour_free=1, tumour_free_stopped=1, measured_on="tests"
    )
    save_checkpoint(tmp_path, network, card.model_copy(update={"gates": Gates(no_tumour=gate)}))
    prediction = Predictor(tmp_path, "cpu").predict(stack)
    voxel_ml = 8 * (240 / 224) ** 2 / 1000
    brain_ml = float(stack.mask.sum()) * voxel_ml
    assert prediction.statistics.attention_ml == pytest.approx(brain_ml if seen > 0 else 0)
    assert prediction.judgement.verdict is verdict
