import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_node.reading.slices import GeometryError, slice_planes


def test_a_classic_slice_lies_where_its_header_says(study: list[Dataset]) -> None:
    (plane,) = slice_planes(study[0])
    assert plane.spacing_mm == (8.0, 9.0)
    np.testing.assert_allclose(plane.position, [-70, 80, -50])
    np.testing.assert_allclose(plane.normal, [0, 0, -1], atol=1e-9)
    np.testing.assert_allclose(plane.corners[3], [-70 + 15 * 9, 80 - 19 * 8, -50])


def test_an_enhanced_object_has_a_plane_a_frame() -> None:
    header = Dataset()
    header.Rows, header.Columns = 4, 5
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [1, 2]
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    header.SharedFunctionalGroupsSequence = [shared]
    header.PerFrameFunctionalGroupsSequence = []
    for z in range(3):
        frame, position = Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, z]
        frame.PlanePositionSequence = [position]
        header.PerFrameFunctionalGroupsSequence.append(frame)
    planes = slice_planes(header)
    assert [plane.position[2] for plane in planes] == [0, 1, 2]
    assert planes[0].spacing_mm == (1.0, 2.0)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ImagePositionPatient", None),
        ("ImageOrientationPatient", [0, 0, 0, 0, 1, 0]),
        ("PixelSpacing", [0, 1]),
        ("PixelSpacing", [1]),
    ],
)
def test_a_missing_or_senseless_place_is_an_error(
    study: list[Dataset], keyword: str, value: list[float] | None
) -> None:
    setattr(study[0], keyword, value)
    with pytest.raises(GeometryError):
        slice_planes(study[0])
