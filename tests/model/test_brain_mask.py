import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from model.grade import Contrast
from model.simulation.simulate import simulate_case
from model.space.atlas import ATLAS_PATH
from model.space.brain_mask import WEIGHTS_PATH, clean_mask, find_brain, find_brain_roughly, foreground
from model.space.linknet import LinkNet3d
from model.space.quality import overlap
from model.space.volume import Volume, load_volume

TCGA = Path(__file__).parents[2].parent / "shared" / "data" / "glioma" / "TCGA-FG-6692"


@pytest.fixture(scope="module")
def head():
    return simulate_case(12, None, spacing_mm=(1.6, 1.6, 5.0))


def on_grid(brain, volume):
    return clean_mask(brain.resample(volume.array.shape, volume.affine).array)


def test_what_is_shipped_is_what_was_fetched():
    digests = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in (ATLAS_PATH, WEIGHTS_PATH)}
    assert digests == {
        ATLAS_PATH: "5798093588993b739ad7d99b16fd85e19d09765f993984c196318969210f32e4",
        WEIGHTS_PATH: "0d1fca37ab849346c76aba146bb7901742f207d1d235677807dd2e0f15af945d",
    }


def test_the_network_has_its_size_and_gives_probabilities():
    network = LinkNet3d().eval()
    assert sum(parameter.numel() for parameter in network.parameters()) == 2_126_258
    with torch.inference_mode():
        brain = network(torch.randn(1, 1, 32, 64, 32))
    assert brain.shape == (1, 1, 32, 64, 32)
    assert ((brain >= 0) & (brain <= 1)).all()


def test_the_skull_of_a_head_is_left_out(head):
    t1ce = head.volumes[Contrast.T1CE]
    mask = on_grid(find_brain(t1ce), t1ce)
    litres = mask.sum() * t1ce.spacing_mm.prod() / 1e6
    assert 1.2 < litres < 1.9
    assert (t1ce.array > 0.3 * np.percentile(t1ce.array, 99.9)).sum() > 1.2 * mask.sum()


def test_a_glance_agrees_with_a_close_look_wherever_the_head_lies(head):
    """Turned to sagittal storage and away from the scanner's centre: the brain is found in the same place."""
    flair, t1ce = head.volumes[Contrast.FLAIR], head.volumes[Contrast.T1CE]
    turned = Volume(np.ascontiguousarray(flair.array.transpose(1, 2, 0)), flair.affine[:, [1, 2, 0, 3]])
    assert overlap(on_grid(find_brain_roughly(turned), t1ce), on_grid(find_brain(t1ce), t1ce)) > 0.93


def test_a_stripped_brain_is_taken_whole():
    axes = np.ogrid[-90:90:3, -90:90:3, -90:90:3]
    inside = axes[0] ** 2 + axes[1] ** 2 + axes[2] ** 2 < 60**2
    array = inside.astype(np.float32)
    array[30, 30, 30] = 0
    found = foreground(Volume(array, np.diag([3.0, 3.0, 3.0, 1.0])))
    assert found is not None
    assert np.array_equal(found.array > 0.5, inside)


def test_a_head_is_not_taken_for_stripped(head):
    assert foreground(head.volumes[Contrast.T1CE]) is None


def test_an_empty_volume_holds_no_brain():
    speck = np.zeros((40, 40, 40), np.float32)
    assert foreground(Volume(speck, np.diag([5.0, 5.0, 5.0, 1.0]))) is None
    assert find_brain(Volume(speck, np.diag([5.0, 5.0, 5.0, 1.0]))) is None


def test_a_mask_is_one_piece_without_holes():
    probability = np.zeros((20, 20, 20), np.float32)
    probability[2:12, 2:12, 2:12] = 0.9
    probability[5:7, 5:7, 5:7] = 0.1
    probability[15:17, 15:17, 15:17] = 0.9
    expected = np.zeros(probability.shape, bool)
    expected[2:12, 2:12, 2:12] = True
    assert np.array_equal(clean_mask(probability), expected)
    assert not clean_mask(np.zeros((3, 3, 3), np.float32)).any()


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "reference", "find", "least"),
    [
        ("t1ce", "t1c", find_brain, 0.96),
        ("flair", "fla", find_brain_roughly, 0.94),
        ("t2", "t2", find_brain_roughly, 0.93),
    ],
)
def test_a_real_brain_is_where_hd_bet_has_it(name, reference, find, least):
    if not TCGA.is_dir():
        pytest.skip("../shared/data is absent")
    volume = load_volume(TCGA / "native" / f"{name}.nii.gz")
    mask = load_volume(TCGA / "native_masks" / f"hdbet_mask_{reference}.nii.gz").array > 0.5
    assert overlap(on_grid(find(volume), volume), mask) > least
