import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from model.space.volume import Volume, load_volume, save_volume

shifts = arrays.arrays(np.float64, 3, elements=st.floats(-1.5, 1.5))


def _ramp(shape=(9, 10, 11), affine=None):
    """A volume whose value is linear in RAS position, which trilinear sampling keeps exactly."""
    affine = np.diag([2.0, 1.0, 3.0, 1.0]) if affine is None else affine
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
    place = np.einsum("ab,bijk->aijk", affine[:3, :3], index) + affine[:3, 3, None, None, None]
    return Volume((place * np.array([1, 2, 3])[:, None, None, None]).sum(axis=0).astype(np.float32), affine)


def test_spacing_is_that_of_the_columns():
    turned = np.diag([0.9, 0.8, 5.0, 1.0])[:, [2, 0, 1, 3]]
    assert Volume(np.zeros((2, 2, 2), np.float32), turned).spacing_mm == pytest.approx([5.0, 0.9, 0.8])


@given(shifts)
def test_a_sample_keeps_its_place_in_the_patient(shift):
    volume = _ramp()
    grid = np.diag([1.0, -1.0, 1.5, 1.0])
    grid[:3, 3] = np.array([6.0, 6.0, 9.0]) + shift
    expected = _ramp((3, 3, 3), grid)
    assert np.allclose(volume.resample((3, 3, 3), grid).array, expected.array, atol=1e-3)


def test_outside_the_volume_is_the_fill():
    far = np.eye(4)
    far[:3, 3] = 500
    assert np.isnan(_ramp().resample((2, 2, 2), far, fill=np.nan).array).all()
    assert not _ramp().resample((2, 2, 2), far).array.any()


@pytest.mark.parametrize("name", ["volume.nii", "volume.nii.gz"])
def test_a_file_gives_back_what_was_written(tmp_path, name):
    volume = _ramp()
    save_volume(volume, tmp_path / name)
    again = load_volume(tmp_path / name)
    assert again.array.dtype == np.float32
    assert np.array_equal(again.array, volume.array)
    assert np.allclose(again.affine, volume.affine)


def test_what_is_no_volume_is_refused():
    with pytest.raises(ValueError, match="3 axes"):
        Volume(np.zeros((2, 2), np.float32), np.eye(4))
    with pytest.raises(ValueError, match="4×4"):
        Volume(np.zeros((2, 2, 2), np.float32), np.eye(3))


@given(st.lists(st.floats(-200, 200), min_size=3, max_size=3))
def test_a_place_and_its_index_belong_together(place):
    affine = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -7], [0, 0.1, 3.0, 9], [0, 0, 0, 1]])
    volume = Volume(np.zeros((2, 2, 2), np.float32), affine)
    assert volume.place_of(np.array([1.0, 0, 0])) == pytest.approx([5, -5.5, 9])
    assert volume.place_of(volume.index_of(np.array(place))) == pytest.approx(place)
