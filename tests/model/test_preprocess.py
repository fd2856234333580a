import math
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.transform import Rotation

from model.grade import Contrast
from model.space.atlas import BRATS_AFFINE, BRATS_SHAPE, load_atlas
from model.space.preprocess import build_stack, place, prepare_in_space, prepare_study
from model.space.quality import PreprocessingError, Reason, list_warnings, overlap, require_gradable
from model.space.volume import Volume, load_volume
from tests.heads import coarse_brain

GLIOMA = Path(__file__).parents[2].parent / "shared" / "data" / "glioma"


def rigid(degrees, shift_mm):
    transform = np.eye(4)
    transform[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    transform[:3, 3] = shift_mm
    return transform


def mean_displacement_mm(first, second):
    """Over places about the head's centre, which lies at the scanner's."""
    places = np.random.default_rng(0).normal(0, 30, (500, 3))
    places = np.column_stack([places, np.ones(len(places))]).T
    return float(np.linalg.norm((first @ places - second @ places)[:3], axis=0).mean())


def stored(volume, axes, flips):
    """The same voxels in the same place, kept in another order of axes and directions."""
    array, affine = volume.array.transpose(axes), volume.affine[:, [*axes, 3]].copy()
    for axis in range(3):
        if flips[axis]:
            affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
            affine[:3, axis] *= -1
            array = np.flip(array, axis)
    return Volume(np.ascontiguousarray(array), affine)


@pytest.fixture(scope="module")
def volumes():
    return {contrast: coarse_brain()[contrast] for contrast in Contrast}


@pytest.fixture(scope="module")
def prepared(volumes):
    return prepare_study(volumes)


@pytest.fixture(scope="module")
def to_atlas(prepared):
    return prepared.record.to_atlas


@pytest.fixture(scope="module")
def brain(volumes):
    array = (volumes[Contrast.T1CE].array > 0).astype(np.float32)
    return Volume(array, volumes[Contrast.T1CE].affine)


def test_a_brain_arrives_where_the_atlas_has_it(prepared):
    assert prepared.record.quality.atlas_overlap > 0.93
    require_gradable(prepared.record.quality)
    assert list_warnings(prepared.record.quality) == ()
    for transform in prepared.record.to_atlas.values():
        assert np.linalg.det(transform[:3, :3]) == pytest.approx(1)
        place_mm = transform[:3, 3]
        assert place_mm == pytest.approx([-119, 109, 73], abs=4)


def test_motion_between_series_is_undone(volumes, to_atlas):
    motion = {Contrast.FLAIR: rigid((0, 0, 20), (20, 0, 0)), Contrast.T2: rigid((-20, 0, 0), (0, 0, -20))}
    moved = volumes | {c: volumes[c].moved(transform) for c, transform in motion.items()}
    found = prepare_study(moved).record
    for contrast, transform in motion.items():
        assert mean_displacement_mm(found.to_atlas[contrast] @ transform, to_atlas[contrast]) < 3
    assert found.quality.flair_rotation_degrees == pytest.approx(20, abs=2)
    assert found.quality.t2_rotation_degrees == pytest.approx(20, abs=2)
    assert found.quality.flair_shift_mm > 15
    require_gradable(found.quality)


def test_a_turned_head_is_turned_back(volumes, prepared):
    turned = rigid((12, 8, -15), (15, -10, 25))
    again = prepare_study({contrast: volume.moved(turned) for contrast, volume in volumes.items()})
    assert overlap(again.stack.mask, prepared.stack.mask) > 0.95
    moved = again.record.to_atlas[Contrast.T1CE] @ turned
    assert mean_displacement_mm(moved, prepared.record.to_atlas[Contrast.T1CE]) < 4


@settings(max_examples=4)
@given(
    st.sampled_from(list(Contrast)),
    st.sampled_from(list(permutations(range(3)))),
    st.sampled_from(list(product((False, True), repeat=3))),
)
def test_the_order_in_which_voxels_are_stored_does_not_matter(
    volumes, brain, to_atlas, contrast, axes, flips
):
    placed = place(volumes, brain, to_atlas)
    again = place({**volumes, contrast: stored(volumes[contrast], axes, flips)}, brain, to_atlas)
    assert np.allclose(again.arrays[contrast], placed.arrays[contrast], atol=1e-2, equal_nan=True)


@settings(max_examples=3)
@given(st.sampled_from(list(Contrast)), st.floats(0.01, 1000))
def test_a_scanner_s_gain_does_not_matter(volumes, brain, to_atlas, contrast, gain):
    scaled = Volume(volumes[contrast].array * np.float32(gain), volumes[contrast].affine)
    stack = build_stack(place(volumes, brain, to_atlas))
    again = build_stack(place({**volumes, contrast: scaled}, brain, to_atlas))
    assert np.allclose(again.array, stack.array, atol=2e-2)


def test_brain_is_centred_and_background_is_zero(prepared):
    stack = prepared.stack
    for channel in range(3):
        assert abs(np.median(stack.array[:, channel][stack.mask])) < 0.6
        assert not stack.array[:, channel][~stack.mask].any()
    assert np.abs(stack.array).max() <= 6


def test_a_marker_on_the_right_stays_on_the_right(volumes, to_atlas, prepared, brain):
    """The marker is put into the native series; it comes out where its transform says, not mirrored."""
    t1ce = volumes[Contrast.T1CE]
    inside = (10, 24, 7)
    marked = t1ce.array.copy()
    marked[inside] = 20 * marked.max()
    native = t1ce.affine @ np.array([*inside, 1])
    assert native[0] > 30
    study = {**volumes, Contrast.T1CE: Volume(marked, t1ce.affine)}
    stack = build_stack(place(study, brain, to_atlas))
    channel = list(Contrast).index(Contrast.T1CE)
    brightest = np.argwhere(stack.array[:, channel] >= 5.99)
    at = np.linalg.inv(stack.affine) @ to_atlas[Contrast.T1CE] @ native
    assert np.abs(brightest - at[:3]).max(axis=1).min() < 1.5
    assert brightest[:, 1].max() < 111


def test_what_is_seen_in_the_stack_goes_back_to_its_voxel(volumes, to_atlas, prepared, brain):
    """A spot of the stack, as the attention has them, lands on the native voxel that it came from."""
    spot = np.zeros(prepared.stack.mask.shape, np.float32)
    spot[28, 90:94, 120:124] = 1
    back = prepared.record.to_native(Volume(spot, prepared.stack.affine), Contrast.FLAIR)
    centre = back.affine @ np.array([28, 91.5, 121.5, 1])
    again = to_atlas[Contrast.FLAIR] @ centre
    assert again == pytest.approx(prepared.stack.affine @ np.array([28, 91.5, 121.5, 1]), abs=1e-9)
    grid = np.eye(4)
    grid[:3, 3] = centre[:3] - 8
    seen = back.resample((17, 17, 17), grid).array
    assert ndimage.center_of_mass(seen) == pytest.approx((8, 8, 8), abs=0.7)
    assert (np.linalg.inv(volumes[Contrast.FLAIR].affine) @ centre)[:3].min() > 0


def test_where_a_series_ends_inside_the_brain_the_stack_is_zero(volumes, brain, to_atlas):
    flair = volumes[Contrast.FLAIR]
    cut = Volume(flair.array[:, :, :7], flair.affine)
    stack = build_stack(place({**volumes, Contrast.FLAIR: cut}, brain, to_atlas))
    assert stack.mask[-3].any()
    assert not stack.array[-3, 0].any()


def _refused(volumes, prepare=prepare_study):
    with pytest.raises(PreprocessingError) as caught:
        prepare(volumes)
    assert str(caught.value).endswith(".")
    return caught.value.reason


@pytest.mark.parametrize("contrast", list(Contrast))
def test_series_that_cannot_be_used_are_named(volumes, contrast):
    volume = volumes[contrast]
    holed = volume.array.copy()
    holed[3, 3, 3] = math.nan
    flat = np.diag([1.0, 1.0, 0.0, 1.0])
    skewed = volume.affine.copy()
    skewed[:3, 1] = skewed[:3, 0]
    for broken, reason in (
        (Volume(holed, volume.affine), Reason.NOT_FINITE),
        (Volume(np.full_like(holed, 7), volume.affine), Reason.CONSTANT),
        (Volume(np.zeros((0, 4, 4), np.float32), volume.affine), Reason.BAD_GEOMETRY),
        (Volume(volume.array, flat), Reason.BAD_GEOMETRY),
        (Volume(volume.array, skewed), Reason.BAD_GEOMETRY),
    ):
        assert _refused({**volumes, contrast: broken}) is reason


def test_a_missing_contrast_is_named(volumes):
    assert _refused({c: v for c, v in volumes.items() if c is not Contrast.T1CE}) is Reason.MISSING_CONTRAST


def test_a_ball_is_no_brain(volumes):
    """A phantom: the gates refuse it, whatever the registration makes of it."""
    axes = np.ogrid[:40, :48, :12]
    steps = (4.0, 4.0, 12.0)
    distance = np.sqrt(sum(((a - (a.size - 1) / 2) * step) ** 2 for a, step in zip(axes, steps, strict=True)))
    noise = np.random.default_rng(1).normal(0, 0.02, distance.shape)
    ball = ((distance < 68) * (1 + 0.2 * (distance < 40) + noise)).astype(np.float32)
    study = {c: Volume(ball * gain, volumes[c].affine) for c, gain in zip(Contrast, (1, 2, 3), strict=True)}
    with pytest.raises(PreprocessingError, match="not gradable: "):
        require_gradable(prepare_study(study).record.quality)


def test_what_is_in_space_already_is_only_normalised_and_cut(volumes, brain):
    """A BraTS folder enters behind the registration and gives what the registered study gave."""
    shift = rigid((0, 0, 0), (-119, 109, 73))
    placed = place(volumes, brain, dict.fromkeys(Contrast, shift))
    folder = {
        c: Volume(np.where(placed.mask, array, 0).astype(np.float32), BRATS_AFFINE)
        for c, array in placed.arrays.items()
    }
    prepared = prepare_in_space(folder)
    expected = build_stack(placed)
    assert overlap(prepared.stack.mask, expected.mask) > 0.999
    both = prepared.stack.mask & expected.mask
    for channel in range(3):
        first, second = prepared.stack.array[:, channel][both], expected.array[:, channel][both]
        assert np.allclose(first, second, atol=0.05)
    for transform in prepared.record.to_atlas.values():
        assert np.array_equal(transform, np.eye(4))


def test_another_grid_is_not_taken_for_brats(volumes):
    assert _refused(volumes, prepare_in_space) is Reason.NOT_IN_SPACE


def test_the_atlas_is_on_the_grid_of_brats():
    atlas = load_atlas()
    assert atlas.array.shape == BRATS_SHAPE
    assert np.array_equal(atlas.affine, BRATS_AFFINE)
    assert (atlas.array > 0).sum() / 1000 == pytest.approx(1451.7, abs=0.1)


@pytest.mark.data
def test_a_real_study_with_skull_and_motion_arrives():
    """Two series of this study lie 18 mm and 13.5° from T1ce; one slice is 5.5 mm thick."""
    folder = GLIOMA / "TCGA-FG-6692"
    if not folder.is_dir():
        pytest.skip("../shared/data is absent")
    study = {c: load_volume(folder / "native" / f"{c}.nii.gz") for c in Contrast}
    prepared = prepare_study(study)
    require_gradable(prepared.record.quality)
    assert list_warnings(prepared.record.quality) == ()
    for contrast, name in ((Contrast.FLAIR, "fla"), (Contrast.T1CE, "t1c"), (Contrast.T2, "t2")):
        mask = load_volume(folder / "native_masks" / f"hdbet_mask_{name}.nii.gz")
        placed = mask.moved(prepared.record.to_atlas[contrast])
        shape = prepared.stack.mask.shape
        there = placed.resample(shape, prepared.stack.affine).array > 0.5
        assert overlap(there, prepared.stack.mask) > 0.94


@pytest.mark.data
def test_a_brats_folder_enters_in_space():
    folder = GLIOMA / "BraTS-GLI-00001-000"
    if not folder.is_dir():
        pytest.skip("../shared/data is absent")
    names = {Contrast.FLAIR: "t2f", Contrast.T1CE: "t1c", Contrast.T2: "t2w"}
    study = {c: load_volume(folder / f"{folder.name}-{name}.nii.gz") for c, name in names.items()}
    prepared = prepare_in_space(study)
    assert prepared.stack.mask.any(axis=(1, 2)).all()
    assert prepared.record.quality.flair_similarity > 1.025
