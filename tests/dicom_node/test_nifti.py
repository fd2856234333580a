from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.reading.mr_study import save_study
from dicom_node.reading.nifti import ConversionError, convert_series
from model.space.volume import Volume, load_volume


def same_image(one: Volume, other: Volume, tolerance_mm: float = 1e-3) -> bool:
    """Whether two volumes hold the same voxels at the same places, whatever their axes' order."""
    index = np.linalg.inv(one.affine) @ other.affine
    steps = np.round(index[:3, :3]).astype(int)
    if not np.allclose(index[:3, :3], steps, atol=tolerance_mm) or not (np.abs(steps).sum(axis=0) == 1).all():
        return False
    grid = np.indices(other.array.shape).reshape(3, -1)
    places = np.round(index[:3, :3] @ grid + index[:3, 3:]).astype(int)
    if (places < 0).any() or (one.array.shape <= places.T).any():
        return False
    # rescaled values differ in their last bit where one multiplies in float64, another in float32
    return np.allclose(one.array[tuple(places)], other.array.ravel(), rtol=1e-6, atol=0)


def test_a_series_becomes_the_volume_it_was_made_of(
    study: list[Dataset], small_volume: Volume, tmp_path: Path
) -> None:
    files = save_study(study[:12], tmp_path / "series")
    volume = convert_series(files[::-1], tmp_path / "flair.nii")
    assert same_image(volume, small_volume)
    written = load_volume(tmp_path / "flair.nii")
    np.testing.assert_array_equal(written.array, volume.array)
    np.testing.assert_allclose(written.affine, volume.affine, atol=1e-4)


def refusal(datasets: list[Dataset], folder: Path) -> str:
    output = folder / "out.nii"
    with pytest.raises(ConversionError) as caught:
        convert_series(save_study(datasets, folder / "series"), output)
    assert caught.value.reason_code == "not_convertible"
    assert "ZZCANARY" not in str(caught.value)
    assert not output.exists()
    return caught.value.sentence


@pytest.mark.parametrize(
    ("keyword", "value", "words"),
    [
        ("PatientID", "OTHER", "more than one patient"),
        ("PatientBirthDate", "19700101", "more than one patient birth date"),
        ("StudyInstanceUID", "1.2.3", "more than one study"),
        ("SeriesInstanceUID", "1.2.3", "more than one series"),
        ("FrameOfReferenceUID", "1.2.3", "more than one frame of reference"),
        ("Rows", 10, "more than one number of rows"),
        ("PixelSpacing", [9, 9], "differ in pixel spacing"),
        ("ImageOrientationPatient", [0, 1, 0, 1, 0, 0], "not parallel"),
        ("ImagePositionPatient", None, "absent or malformed"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "MOSAIC"], "mosaics"),
        ("PixelData", b"\0\0", "damaged"),
    ],
)
def test_one_slice_that_does_not_belong_is_refused(
    study: list[Dataset], tmp_path: Path, keyword: str, value: object, words: str
) -> None:
    setattr(study[4], keyword, value)
    assert words in refusal(study[:12], tmp_path)


def test_the_same_instance_twice_is_refused(study: list[Dataset], tmp_path: Path) -> None:
    assert "twice" in refusal([*study[:12], study[3]], tmp_path)


def test_a_missing_slice_is_refused(study: list[Dataset], tmp_path: Path) -> None:
    assert "not evenly spaced" in refusal([*study[:5], *study[6:12]], tmp_path)


def test_two_slices_at_one_place_are_refused(study: list[Dataset], tmp_path: Path) -> None:
    study[5].ImagePositionPatient = study[4].ImagePositionPatient
    assert "at one place" in refusal(study[:12], tmp_path)


def test_a_tilted_stack_is_refused(study: list[Dataset], tmp_path: Path) -> None:
    for k, dataset in enumerate(study[:12]):
        dataset.ImagePositionPatient = [-70, 80 + 2 * k, -50 + 10 * k]
    assert "right angles" in refusal(study[:12], tmp_path)


def test_too_few_slices_are_refused(study: list[Dataset], tmp_path: Path) -> None:
    assert "too few slices" in refusal(study[:3], tmp_path)
    assert "no instances" in refusal([], tmp_path)


def test_a_mask_is_refused(study: list[Dataset], tmp_path: Path) -> None:
    for dataset in study[:12]:
        dataset.PixelData = (np.frombuffer(dataset.PixelData, "<u2") % 2).astype("<u2").tobytes()
    assert "a mask" in refusal(study[:12], tmp_path)


def test_a_truncated_file_is_refused(study: list[Dataset], tmp_path: Path) -> None:
    files = save_study(study[:12], tmp_path / "series")
    files[2].write_bytes(files[2].read_bytes()[:-100])
    with pytest.raises(ConversionError):
        convert_series(files, tmp_path / "out.nii")
    files[2].write_bytes(b"no DICOM")
    with pytest.raises(ConversionError, match="can't be read"):
        convert_series(files, tmp_path / "out.nii")


@pytest.mark.data
@pytest.mark.parametrize(
    ("folder", "truth"),
    [
        ("generic/anatomical/001", "generic/anatomical/001_ground_truth.nii.gz"),
        ("generic/compressed_rle/001", "generic/compressed_rle/001_ground_truth.nii.gz"),
        ("generic/compressed_jpeg/001", "generic/compressed_jpeg/001_ground_truth.nii.gz"),
        ("generic/compressed_jpegls/001", "generic/compressed_jpegls/001_ground_truth.nii.gz"),
        ("generic/compressed_j2k/001", "generic/compressed_j2k/001_ground_truth.nii.gz"),
        ("siemens/anatomical/001", None),
        ("ge/anatomical/001", "ge/anatomical/001_ground_truth.nii.gz"),
        ("philips/anatomical/001", "philips/anatomical/001_ground_truth.nii.gz"),
        ("hitachi/anatomical/001", None),
        ("philips_enhanced/anatomical/001", "philips_enhanced/anatomical/001_ground_truth.nii.gz"),
        ("siemens_multiframe/anatomical/001", None),
        ("hyperfine/anatomical/001", None),
        ("../dcm_qa/xa30_enhanced/5_anat-T1w_acq-tfl", None),
        ("../dcm_qa/ge_ax_mprage", None),
    ],
)
def test_real_series_of_many_vendors(
    data_folder: Path, tmp_path: Path, folder: str, truth: str | None
) -> None:
    base = data_folder / "dicom/dicom2nifti_tests"
    files = [path for path in sorted((base / folder).iterdir()) if path.is_file()]
    volume = convert_series(files, tmp_path / "out.nii")
    frames = sum(int(dcmread(path, stop_before_pixels=True).get("NumberOfFrames", 1)) for path in files)
    assert volume.array.size % frames == 0
    if truth is not None:
        image = nib.squeeze_image(nib.load(base / truth))
        expected = Volume(np.asarray(image.dataobj, dtype=np.float32), np.asarray(image.affine))
        assert same_image(volume, expected, tolerance_mm=1e-2)


@pytest.mark.data
@pytest.mark.parametrize(
    "folder",
    [
        "failing/gantrytilting/001",
        "failing/notavolume/001",
        "failing/slicecount/001",
        "failing/sliceincrement/001",
        "failing/sliceorientation/001",
        "philips/anatomical/002",  # magnitude and phase in one series
    ],
)
def test_real_series_that_are_no_volume_are_refused(data_folder: Path, tmp_path: Path, folder: str) -> None:
    files = sorted((data_folder / "dicom/dicom2nifti_tests" / folder).iterdir())
    with pytest.raises(ConversionError):
        convert_series(files, tmp_path / "out.nii")
