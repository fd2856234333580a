from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_node.reading.evidence import EvidenceError, build_evidence
from dicom_node.reading.frames import decode_frame, read_frames
from dicom_node.results.part10 import write_bytes
from dicom_node.results.secondary_capture import build_attention_images
from model.space.volume import Volume
from tests.dicom_node.result_samples import (
    AXIAL,
    COLUMNS,
    OBLIQUE,
    ROWS,
    attention_at,
    enhanced_series,
    make_report,
    mr_series,
)

SCALE = 43  # 512 / 12 rows
SERIES = {
    "axial": lambda: mr_series("t1ce", AXIAL),
    "oblique": lambda: mr_series("t1ce", OBLIQUE),
    "reversed": lambda: mr_series("t1ce", OBLIQUE, reverse=True),
    "enhanced": lambda: enhanced_series("t1ce", OBLIQUE),
}


@pytest.fixture(params=SERIES)
def reference(request):
    return SERIES[request.param]()


def build(reference, attention, **options):
    return build_attention_images(
        reference, attention, make_report(), build_evidence(reference[0], reference), **options
    )


def _hot_spot_ras(image):
    """Where the picture's own geometry says that its most coloured place is."""
    pixels = image.pixel_array[: ROWS * SCALE, : COLUMNS * SCALE].astype(int)
    colour = np.ptp(pixels, axis=-1)
    row, column = np.argwhere(colour >= 0.97 * colour.max()).mean(axis=0)
    orientation = np.array(image.ImageOrientationPatient)
    lps = (
        np.array(image.ImagePositionPatient)
        + column * image.PixelSpacing[1] * orientation[:3]
        + row * image.PixelSpacing[0] * orientation[3:]
    )
    return lps * [-1, -1, 1]


def test_a_spot_of_attention_is_drawn_where_it_lies_in_the_patient(reference):
    frame = read_frames(reference)[2]
    spot = (frame.affine @ [8.0, 6.5, 0.0, 1.0])[:3]
    images = build(reference, attention_at(tuple(spot)))
    best = max(images, key=lambda image: image.attention)
    assert best.frame.reference == frame.reference
    assert _hot_spot_ras(best.dataset) == pytest.approx(spot, abs=1.0)


def test_the_plain_pane_shows_the_frame_that_is_named(reference):
    for image in build(reference, attention_at((0, 0, 0))):
        left = COLUMNS * SCALE + 24
        pane = image.dataset.pixel_array[: ROWS * SCALE, left : left + COLUMNS * SCALE, 0].astype(float)
        centres = pane[SCALE // 2 :: SCALE, SCALE // 2 :: SCALE]
        shown = slice(2, -2)
        ratio = np.corrcoef(centres[shown, shown].ravel(), decode_frame(image.frame)[shown, shown].ravel())
        assert ratio[0, 1] > 0.99


def test_corners_of_pane_and_source_coincide(reference):
    for image in build(reference, attention_at((0, 0, 0))):
        dataset, frame = image.dataset, image.frame
        spacing = np.array(dataset.PixelSpacing, dtype=float)
        orientation = np.array(dataset.ImageOrientationPatient).reshape(2, 3)
        corner = np.array(dataset.ImagePositionPatient) - 0.5 * (
            spacing[1] * orientation[0] + spacing[0] * orientation[1]
        )
        source = (frame.affine @ [-0.5, -0.5, 0.0, 1.0])[:3] * [-1, -1, 1]
        assert corner == pytest.approx(source, abs=1e-3)
        assert spacing * SCALE == pytest.approx(np.array(frame.spacing_mm), rel=1e-5)


def test_the_most_attended_slices_come_in_spatial_order(reference):
    frames = read_frames(reference)
    images = build(reference, attention_at(tuple(frames[3].centre)), maximum_images=2)
    assert [image.frame.reference for image in images] == [frame.reference for frame in frames[2:]]
    assert [image.dataset.InstanceNumber for image in images] == [2, 3]
    assert images[0].attention < images[1].attention
    assert all(0 <= image.attention <= 1 for image in images)


def shown_from(reference, first):
    """Attention everywhere on a grid whose first slice is the middle of a frame, the rest of it above."""
    frame = read_frames(reference)[first]
    affine = np.eye(4)
    affine[:3, :3] = np.stack([frame.normal, 100 * frame.affine[:3, 0], 100 * frame.affine[:3, 1]], axis=1)
    affine[:3, 3] = frame.centre - affine[:3, 1] - affine[:3, 2]
    return Volume(np.ones((100, 3, 3), np.float32), affine)


def test_frames_that_the_network_was_not_shown_are_hatched_and_the_others_coloured(reference):
    images = build(reference, shown_from(reference, 2))
    hatched = []
    for image in images:
        pixels = image.dataset.pixel_array[20 : ROWS * SCALE - 20].astype(int)
        overlay = pixels[:, 20 : COLUMNS * SCALE - 20]
        plain = pixels[:, COLUMNS * SCALE + 24 + 20 : 2 * COLUMNS * SCALE + 24 - 20]
        changed = (overlay != plain).any(axis=-1).mean()
        coloured = (np.ptp(overlay, axis=-1) > 0).mean()
        assert changed > 0
        hatched.append(coloured == 0)
    assert hatched == [True, True, False, False]


def test_without_attention_the_nearest_to_the_most_attended_follow(reference):
    images = build(reference, shown_from(reference, 3), maximum_images=3)
    frames = read_frames(reference)
    assert [image.frame.reference for image in images] == [frame.reference for frame in frames[1:]]


def test_the_object_joins_the_study_and_names_its_sources(reference):
    images = build(reference, attention_at((0, 0, 0)))
    assert len({image.dataset.SOPInstanceUID for image in images}) == len(images)
    assert len({image.dataset.SeriesInstanceUID for image in images}) == 1
    for image in images:
        dataset = dcmread(BytesIO(write_bytes(image.dataset)))
        source = image.frame.dataset
        assert dataset.SOPClassUID == SecondaryCaptureImageStorage
        assert dataset.StudyInstanceUID == source.StudyInstanceUID
        assert dataset.SeriesInstanceUID != source.SeriesInstanceUID
        assert (dataset.PatientID, dataset.PatientName) == (source.PatientID, source.PatientName)
        assert dataset.FrameOfReferenceUID == source.FrameOfReferenceUID
        assert dataset.SliceThickness == 3.5
        (shown,) = [i for i in dataset.SourceImageSequence if i.SpatialLocationsPreserved == "YES"]
        assert shown.ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert shown.get("ReferencedFrameNumber") == image.frame.number
        assert "WindowCenter" not in dataset
        assert "RESEARCH USE ONLY" in dataset.ImageComments
        assert "RESEARCH" in dataset.SeriesDescription


def test_patient_orientation_follows_the_rows_and_columns():
    assert build(mr_series(), attention_at((0, 0, 0)))[0].dataset.PatientOrientation == ["L", "P"]


def test_built_twice_is_the_same_bytes(reference):
    attention = attention_at((0, 0, 0))
    one, other = build(reference, attention), build(reference, attention)
    assert [write_bytes(i.dataset) for i in one] == [write_bytes(i.dataset) for i in other]


def test_a_source_without_frame_of_reference_gives_an_object_without_one():
    reference = mr_series()
    for dataset in reference:
        del dataset.FrameOfReferenceUID, dataset.AcquisitionNumber
    dataset = build(reference, attention_at((0, 0, 0)))[0].dataset
    assert not {"FrameOfReferenceUID", "ImagePositionPatient", "AcquisitionNumber"} & set(dataset.dir())


def test_lossy_sources_stay_marked():
    reference = mr_series()
    for dataset in reference:
        dataset.LossyImageCompression, dataset.LossyImageCompressionRatio = "01", 8
    dataset = build(reference, attention_at((0, 0, 0)))[0].dataset
    assert (dataset.LossyImageCompression, dataset.LossyImageCompressionRatio) == ("01", 8)


def test_a_constant_series_and_no_attention_still_give_pictures():
    reference = mr_series()
    for dataset in reference:
        dataset.PixelData = bytes(len(dataset.PixelData))
    images = build(reference, attention_at((500.0, 0.0, 0.0)))
    assert [image.attention for image in images] == [0.0] * 4


def test_a_series_outside_the_evidence_is_refused():
    reference, other = mr_series("t1ce"), mr_series("flair")
    with pytest.raises(EvidenceError):
        build_attention_images(
            reference, attention_at((0, 0, 0)), make_report(), build_evidence(other[0], other)
        )
