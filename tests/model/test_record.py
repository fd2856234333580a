import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from model.grade import Contrast
from model.space.record import Record
from model.space.volume import Volume
from tests.model.test_quality import GOOD

angles = st.tuples(*[st.floats(-60, 60)] * 3)
shifts = st.tuples(*[st.floats(-80, 80)] * 3)


def rigid(degrees, shift_mm):
    transform = np.eye(4)
    transform[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    transform[:3, 3] = shift_mm
    return transform


@given(angles, shifts, st.sampled_from(list(Contrast)))
def test_from_native_to_the_atlas_and_back_is_nothing(degrees, shift_mm, contrast):
    record = Record(dict.fromkeys(Contrast, rigid(degrees, shift_mm)), GOOD)
    native = Volume(np.ones((2, 3, 4), np.float32), np.diag([0.9, -0.9, 5.5, 1.0]))
    there = native.moved(record.to_atlas[contrast])
    back = record.to_native(there, contrast)
    assert np.allclose(back.affine, native.affine, atol=1e-9)
    assert back.array is native.array


@given(angles, shifts)
def test_right_stays_right(degrees, shift_mm):
    """No transform is a mirror, on the way there or back."""
    record = Record(dict.fromkeys(Contrast, rigid(degrees, shift_mm)), GOOD)
    volume = Volume(np.ones((2, 2, 2), np.float32), np.diag([-1.0, -1.0, 1.0, 1.0]))
    for moved in (record.to_native(volume, Contrast.T2), volume.moved(record.to_atlas[Contrast.T2])):
        assert np.linalg.det(moved.affine[:3, :3]) > 0


def test_a_file_gives_back_every_bit(tmp_path):
    record = Record({c: rigid((1, 2, i), (3, i, 5)) for i, c in enumerate(Contrast)}, GOOD)
    record.save(tmp_path)
    again = Record.load(tmp_path)
    assert again.quality == record.quality
    for contrast in Contrast:
        assert np.array_equal(again.to_atlas[contrast], record.to_atlas[contrast])
