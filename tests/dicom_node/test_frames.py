from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from dicom_node.reading.frames import (
    FrameDecodeError,
    FrameGeometryError,
    decode_frame,
    nearest_frame,
    orientation_letters,
    read_frames,
)
from tests.dicom_node.result_samples import (
    AXIAL,
    OBLIQUE,
    SLICES,
    enhanced_series,
    mr_series,
    pixel_values,
)

DATA = Path(__file__).parents[3] / "shared" / "data" / "dicom" / "dicom2nifti_tests"


@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE])
@pytest.mark.parametrize("datasets", [mr_series, enhanced_series])
def test_frames_run_from_inferior_to_superior_and_keep_their_pixels(datasets, orientation):
    frames = read_frames(datasets("t1ce", orientation))
    assert len(frames) == SLICES
    assert np.all(np.diff([frame.position_mm for frame in frames]) > 0)
    for index, frame in enumerate(frames):
        assert np.array_equal(decode_frame(frame), 2.0 * pixel_values(index) - 5)


def test_order_and_instance_number_do_not_matter():
    straight, reverse = read_frames(mr_series()), read_frames(mr_series(reverse=True))
    assert [f.reference for f in straight] == [f.reference for f in reverse]


def test_the_affine_places_pixels_as_the_standard_says():
    datasets = mr_series("t1ce", OBLIQUE)
    for dataset, frame in zip(datasets, read_frames(datasets), strict=True):
        row, column = 7, 3
        lps = (
            np.array(dataset.ImagePositionPatient)
            + column * 5.0 * np.array(OBLIQUE[:3])
            + row * 4.0 * np.array(OBLIQUE[3:])
        )
        ras = (frame.affine @ [row, column, 0, 1])[:3]
        assert ras == pytest.approx(lps * [-1, -1, 1], abs=1e-4)
        assert frame.spacing_mm == pytest.approx((4.0, 5.0))


def test_single_and_multi_frame_agree_on_geometry():
    for one, many in zip(read_frames(mr_series()), read_frames(enhanced_series()), strict=True):
        assert one.affine == pytest.approx(many.affine)
        assert one.functional("PixelMeasuresSequence").SliceThickness == 3.5
        assert many.functional("PixelMeasuresSequence").SliceThickness == 3.5
    assert [frame.number for frame in read_frames(enhanced_series())] == [4, 3, 2, 1]


def test_the_nearest_frame_contains_the_point():
    frames = read_frames(mr_series("t1ce", OBLIQUE))
    for frame in frames:
        assert nearest_frame(frames, frame.centre + frame.normal) is frame


def test_orientation_letters():
    assert orientation_letters(np.array([-1.0, 0.0, 0.0])) == "L"
    assert orientation_letters(np.array([0.3, -0.9, 0.0])) == "PR"
    assert orientation_letters(np.array([0.01, 0.0, 1.0])) == "H"


@pytest.mark.parametrize("keyword", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_missing_geometry_is_named_by_instance(keyword):
    datasets = mr_series()
    del datasets[1][keyword]
    with pytest.raises(FrameGeometryError, match=datasets[1].SOPInstanceUID):
        read_frames(datasets)


def test_impossible_and_crossing_planes_are_refused():
    flat = mr_series()
    flat[0].ImageOrientationPatient = [1, 0, 0, 1, 0, 0]
    with pytest.raises(FrameGeometryError, match="impossible"):
        read_frames(flat)
    crossing = mr_series()
    crossing[0].ImageOrientationPatient = [0, 1, 0, 0, 0, 1]
    with pytest.raises(FrameGeometryError, match="parallel"):
        read_frames(crossing)
    with pytest.raises(FrameGeometryError, match="no frame"):
        read_frames([])


def test_truncated_pixels_are_named_by_instance():
    dataset = mr_series()[0]
    dataset.PixelData = dataset.PixelData[:50]
    with pytest.raises(FrameDecodeError, match=dataset.SOPInstanceUID):
        decode_frame(read_frames([dataset])[0])


def test_colour_is_not_taken_for_grey_values():
    dataset = mr_series()[0]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.PixelData = dataset.PixelData * 3
    with pytest.raises(FrameDecodeError, match="colour"):
        decode_frame(read_frames([dataset])[0])


@pytest.mark.data
@pytest.mark.parametrize("compressed", ["compressed_jpegls", "compressed_j2k", "compressed_jpeg"])
def test_lossless_syntaxes_decode_to_the_pixels_of_their_rle_twin(compressed):
    folder = DATA / "generic"
    if not folder.is_dir():
        pytest.skip(f"{DATA} is absent")
    frames, twins = (
        read_frames(dcmread(path) for path in (folder / name).rglob("*.dcm"))
        for name in (compressed, "compressed_rle")
    )
    assert len(frames) == 4
    for frame, twin in zip(frames, twins, strict=True):
        syntaxes = {f.dataset.file_meta.TransferSyntaxUID for f in (frame, twin)}
        assert len(syntaxes) == 2
        assert np.array_equal(decode_frame(frame), decode_frame(twin))
