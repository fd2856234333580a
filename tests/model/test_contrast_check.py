"""Claims put to the pixels: real gliomas and simulated heads, right, exchanged and mistaken."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from model.grade import Contrast, Grade
from model.simulation.simulate import simulate_case
from model.space.brain_mask import clean_mask, find_brain
from model.space.contrast_check import Verdict, confirm_contrast_agent, confirm_dark_fluid
from model.space.volume import Volume, load_volume

CONFIRMED, CONTRADICTED, UNCLEAR = Verdict.CONFIRMED, Verdict.CONTRADICTED, Verdict.UNCLEAR
Array = npt.NDArray[np.float32]

BRATS = "BraTS-GLI-00001-000/BraTS-GLI-00001-000-{}.nii.gz"
REAL = {
    "TCGA": [f"TCGA-FG-6692/brats_space/{name}.nii.gz" for name in ("flair", "t1ce", "t2", "t1")],
    "BraTS": [BRATS.format(name) for name in ("t2f", "t1c", "t2w", "t1n")],
    "not aligned": [f"TCGA-FG-6692/native/{name}.nii.gz" for name in ("flair", "t1ce", "t2", "t1")],
}


@dataclass(frozen=True)
class Head:
    """Four contrasts on T1ce's grid, by scanner coordinates, and the brain."""

    flair: Array
    t1ce: Array
    t2: Array
    t1: Array
    mask: npt.NDArray[np.bool_]


def head_of(flair: Volume, t1ce: Volume, t2: Volume, t1: Volume) -> Head:
    shape = (t1ce.array.shape[0], t1ce.array.shape[1], t1ce.array.shape[2])
    brain = find_brain(t1ce)
    assert brain is not None

    def seen(volume: Volume) -> Array:
        return volume.resample(shape, t1ce.affine, fill=np.nan).array

    return Head(seen(flair), seen(t1ce), seen(t2), seen(t1), clean_mask(np.nan_to_num(seen(brain))))


@pytest.fixture(
    scope="module", params=[(900_002, Grade.LGG, False), (106, Grade.LGG, True), (11, None, False)]
)
def simulated(request: pytest.FixtureRequest) -> Head:
    seed, grade, brain_only = request.param
    case = simulate_case(seed, grade, brain_only=brain_only)
    volumes = case.volumes
    return head_of(volumes[Contrast.FLAIR], volumes[Contrast.T1CE], volumes[Contrast.T2], case.native_t1)


def check(head: Head) -> dict[str, Verdict]:
    noise = np.random.default_rng(1).normal(0, 0.03 * np.nanmedian(head.t1[head.mask]), head.t1.shape)
    repeated = (1.3 * head.t1 + noise).astype(np.float32)
    return {
        "t1ce": confirm_contrast_agent(head.t1ce, head.t1, head.mask).verdict,
        "exchanged t1": confirm_contrast_agent(head.t1, head.t1ce, head.mask).verdict,
        "plain t1": confirm_contrast_agent(repeated, head.t1, head.mask).verdict,
        "flair": confirm_dark_fluid(head.flair, head.t2, head.mask).verdict,
        "exchanged flair": confirm_dark_fluid(head.t2, head.flair, head.mask).verdict,
        "t2 as flair": confirm_dark_fluid(1.1 * head.t2, head.t2, head.mask).verdict,
    }


TOLD_APART = {
    "t1ce": CONFIRMED,
    "exchanged t1": CONTRADICTED,
    "plain t1": CONTRADICTED,
    "flair": CONFIRMED,
    "exchanged flair": CONTRADICTED,
    "t2 as flair": CONTRADICTED,
}


def test_simulated_heads_are_told_apart(simulated: Head) -> None:
    assert check(simulated) == TOLD_APART


@pytest.mark.data
@pytest.mark.parametrize("case", ["TCGA", "BraTS"])
def test_real_gliomas_are_told_apart(real_data, case: str) -> None:
    assert check(head_of(*(load_volume(real_data / "glioma" / name) for name in REAL[case]))) == TOLD_APART


@pytest.mark.data
def test_series_that_are_not_aligned_give_no_verdict(real_data) -> None:
    """The patient of these native series moved by 18 mm and 13.5° between them."""
    found = check(head_of(*(load_volume(real_data / "glioma" / name) for name in REAL["not aligned"])))
    assert [found[name] for name in ("t1ce", "exchanged t1", "flair", "exchanged flair")] == [UNCLEAR] * 4


def test_scores_are_signed_and_scale_does_not_matter() -> None:
    random = np.random.default_rng(0)
    t1 = random.normal(100, 10, (10, 20, 20)).astype(np.float32)
    t1ce = t1 + random.normal(0, 1, t1.shape).astype(np.float32)
    t1ce[:, :4, :4] += 80
    mask = np.ones(t1.shape, dtype=np.bool_)
    forth, back = confirm_contrast_agent(t1ce, 7 * t1 - 3, mask), confirm_contrast_agent(t1, t1ce, mask)
    assert forth.score > 0.9
    assert back.score < -0.9
    assert "4.00% of the brain brighter" in forth.words


@pytest.mark.parametrize("confirm", [confirm_contrast_agent, confirm_dark_fluid])
def test_where_a_series_does_not_reach_nothing_is_said(confirm) -> None:
    one = np.random.default_rng(0).normal(size=(10, 20, 20)).astype(np.float32)
    other = np.where(np.arange(20) < 3, one, np.nan).astype(np.float32)
    found = confirm(one, other, np.ones(one.shape, dtype=np.bool_))
    assert (found.verdict, found.score) == (UNCLEAR, 0.0)
    assert "cover" in found.words


def test_constant_volumes_are_no_contradiction_of_arithmetic() -> None:
    flat = np.ones((10, 20, 20), dtype=np.float32)
    assert np.isfinite(confirm_contrast_agent(flat, flat, flat > 0).score)
    assert np.isfinite(confirm_dark_fluid(flat, flat, flat > 0).score)
