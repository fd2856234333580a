"""Two converters and the truth: what we convert agrees with dcm2niix and with what the series was made of."""

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import dcm2niix
import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydicom import dcmread

from dicom_node.reading.mr_study import PROTOCOL, PatientIdentity, StudyHeader, build_mr_series, save_study
from dicom_node.reading.nifti import ConversionError, convert_series
from dicom_node.reading.stacking import stack_frames
from model.space.volume import Volume
from tests.dicom_node.test_nifti import same_image

STUDY = StudyHeader(patient=PatientIdentity(patient_id="1", patient_name="X"), seed="agreement")


def by_dcm2niix(files: Path, output: Path) -> list[Volume]:
    """Volumes that dcm2niix makes of a folder, for Philips with displayed values as dicom2nifti has them."""
    output.mkdir()
    command = [dcm2niix.bin, "-z", "n", "-b", "n", "-p", "n", "-f", "x", "-o", output, files]
    subprocess.run(command, check=True, capture_output=True)
    images = [nib.squeeze_image(nib.Nifti1Image.from_filename(path)) for path in sorted(output.glob("*.nii"))]
    return [Volume(np.asarray(image.dataobj, dtype=np.float32), np.asarray(image.affine)) for image in images]


@st.composite
def placed_volumes(draw: st.DrawFn) -> Volume:
    """A small volume, axial, sagittal, coronal, oblique or reversed, with spacings of its own."""
    shape = (draw(st.integers(5, 8)), draw(st.integers(5, 8)), draw(st.integers(4, 7)))
    array = draw(hnp.arrays(np.uint16, shape, elements=st.integers(0, 4095), unique=True)).astype(np.float32)
    axes = np.eye(3)[:, draw(st.permutations(range(3)))] * draw(st.tuples(*[st.sampled_from((-1, 1))] * 3))
    for axis in range(3):
        angle = np.radians(draw(st.floats(-25, 25)))
        turn = np.eye(3)
        one, other = (axis + 1) % 3, (axis + 2) % 3
        turn[[one, one, other, other], [one, other, one, other]] = (
            np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        )  # fmt: skip
        axes = turn @ axes
    affine = np.eye(4)
    affine[:3, :3] = axes * [draw(st.floats(0.5, 2)), draw(st.floats(0.5, 2)), draw(st.floats(0.8, 7))]
    affine[:3, 3] = [draw(st.floats(-150, 150)) for _ in range(3)]
    return Volume(array, affine)


@settings(max_examples=40)
@given(volume=placed_volumes(), order=st.randoms())
def test_whatever_its_orientation_a_series_becomes_the_volume_it_was_made_of(volume, order) -> None:
    with TemporaryDirectory() as folder:
        datasets = build_mr_series(volume, PROTOCOL["t2"], STUDY, 1)
        files = save_study(datasets, Path(folder) / "series")
        order.shuffle(files)
        ours = convert_series(files, Path(folder) / "ours.nii")
        assert same_image(ours, volume, tolerance_mm=1e-2)
        (theirs,) = by_dcm2niix(Path(folder) / "series", Path(folder) / "theirs")
        assert same_image(ours, theirs, tolerance_mm=1e-2)


OWN_SLOPES = "generic/anatomical/002_non_isotropic"
"""Each slice has its own rescale slope, of which dcm2niix 1.0.20260724 applies the first to all."""

CONVERTED = [
    "../dcm_qa/ge_ax_mprage",
    "../dcm_qa/xa30_enhanced/5_anat-T1w_acq-tfl",
    "../dcm_qa/xa30_enhanced/6_anat-T1w_acq-tfl",
    "anatomical/001",
    "ge/anatomical/001",
    "generic/anatomical/001",
    OWN_SLOPES,
    "generic/compressed/001",
    "generic/compressed_j2k/001",
    "generic/compressed_jpeg/001",
    "generic/compressed_jpegls/001",
    "generic/compressed_rle/001",
    "hitachi/anatomical/001",
    "hyperfine/anatomical/001",
    "philips/anatomical/001",
    "philips_enhanced/anatomical/001",
    "siemens/anatomical/001",
    "siemens_multiframe/anatomical/001",
]
REFUSED = {
    "failing/gantrytilting/001": "its slices are not stacked at right angles",
    "failing/notavolume/001": "two of its slices lie at one place",
    "failing/slicecount/001": "it has too few slices",
    "failing/sliceincrement/001": "its slices are not evenly spaced",
    "failing/sliceincrement/002": "its slices are not evenly spaced",
    "failing/sliceorientation/001": "its slices are not parallel",
    "ge/anatomical/001_single_slice": "it has a single slice",
    "generic/rgb/001": "it is not one volume of grey values",
    "philips/anatomical/002": "two of its slices lie at one place",
}


@pytest.mark.data
@pytest.mark.parametrize("folder", CONVERTED)
def test_real_series_agree_with_dcm2niix_and_with_their_frames(
    data_folder: Path, tmp_path: Path, folder: str
) -> None:
    base = data_folder / "dicom/dicom2nifti_tests" / folder
    files = [path for path in sorted(base.iterdir()) if path.is_file()]
    ours = convert_series(files, tmp_path / "ours.nii")
    (theirs,) = by_dcm2niix(base, tmp_path / "theirs")
    assert same_image(ours, stack_frames([dcmread(path) for path in files]), tolerance_mm=1e-2)
    assert same_image(ours, theirs, tolerance_mm=1e-2) is (folder != OWN_SLOPES)


@pytest.mark.data
@pytest.mark.parametrize(("folder", "words"), REFUSED.items())
def test_real_series_that_are_no_volume_are_refused_in_words(
    data_folder: Path, tmp_path: Path, folder: str, words: str
) -> None:
    files = sorted((data_folder / "dicom/dicom2nifti_tests" / folder).iterdir())
    with pytest.raises(ConversionError) as caught:
        convert_series(files, tmp_path / "out.nii")
    assert caught.value.sentence == f"a chosen series can't be converted: {words}"


@pytest.mark.data
def test_every_real_series_is_in_one_of_the_two_lists(data_folder: Path) -> None:
    base = data_folder / "dicom/dicom2nifti_tests"
    files = [path for path in (data_folder / "dicom").rglob("*") if path.is_file()]
    holding = {path.parent for path in files if "LICENSE" not in path.name and path.suffix != ".gz"}
    named = {(base / name).resolve() for name in [*CONVERTED, *REFUSED]}
    assert {folder.resolve() for folder in holding} == named
