"""Every real series at hand, and what it is taken for: most are samples too short to be chosen."""

from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.reading.series import describe_study
from dicom_node.reading.series_rules import SeriesRole

FLAIR, T2, T1, OTHER = SeriesRole.FLAIR, SeriesRole.T2, SeriesRole.T1, SeriesRole.OTHER
FEW = "slices where 10 are needed"

SERIES: list[tuple[str, SeriesRole, str | None]] = [
    ("dcm_qa/ge_ax_mprage", T1, None),
    ("dcm_qa/xa30_enhanced/5_anat-T1w_acq-tfl", T1, None),
    ("dcm_qa/xa30_enhanced/6_anat-T1w_acq-tfl", T1, None),
    ("dicom2nifti_tests/anatomical/001", T1, FEW),
    ("dicom2nifti_tests/failing/gantrytilting/001", OTHER, "not MR images"),
    ("dicom2nifti_tests/failing/notavolume/001", OTHER, "not MR images"),
    ("dicom2nifti_tests/failing/slicecount/001", FLAIR, FEW),
    ("dicom2nifti_tests/failing/sliceincrement/001", OTHER, "not MR images"),
    ("dicom2nifti_tests/failing/sliceincrement/002", OTHER, "not MR images"),
    ("dicom2nifti_tests/ge/anatomical/001", T1, FEW),
    ("dicom2nifti_tests/ge/anatomical/001_single_slice", T1, FEW),
    ("dicom2nifti_tests/generic/anatomical/001", FLAIR, FEW),
    ("dicom2nifti_tests/generic/anatomical/002_non_isotropic", T1, "image type MPR"),
    ("dicom2nifti_tests/generic/compressed/001", FLAIR, FEW),
    ("dicom2nifti_tests/generic/compressed_j2k/001", FLAIR, FEW),
    ("dicom2nifti_tests/generic/compressed_jpeg/001", FLAIR, FEW),
    ("dicom2nifti_tests/generic/compressed_jpegls/001", FLAIR, FEW),
    ("dicom2nifti_tests/generic/compressed_rle/001", FLAIR, FEW),
    ("dicom2nifti_tests/generic/rgb/001", T1, "not MR images"),
    ("dicom2nifti_tests/hitachi/anatomical/001", OTHER, FEW),
    ("dicom2nifti_tests/hyperfine/anatomical/001", FLAIR, FEW),
    ("dicom2nifti_tests/philips/anatomical/001", FLAIR, FEW),
    ("dicom2nifti_tests/philips_enhanced/anatomical/001", T1, FEW),
    ("dicom2nifti_tests/siemens/anatomical/001", FLAIR, FEW),
    ("dicom2nifti_tests/siemens_multiframe/anatomical/001", OTHER, FEW),
]


def described(folder: Path):
    headers = [dcmread(path, stop_before_pixels=True) for path in sorted(folder.iterdir()) if path.is_file()]
    return describe_study([headers])


@pytest.mark.data
@pytest.mark.parametrize(("folder", "role", "reason"), SERIES)
def test_what_a_real_series_is_taken_for(
    data_folder: Path, folder: str, role: SeriesRole, reason: str | None
) -> None:
    (found,) = described(data_folder / "dicom" / folder)
    assert found.role is role
    assert found.exclusion is None if reason is None else (found.exclusion or "").endswith(reason)


@pytest.mark.data
@pytest.mark.parametrize(
    ("folder", "parts"),
    [
        ("failing/sliceorientation/001", {"axial", "sagittal"}),
        ("philips/anatomical/002", {"image type SW_M_FFE SW_M", "image type SW_P_FFE SW_P"}),
    ],
)
def test_real_series_that_hold_several_volumes(data_folder: Path, folder: str, parts: set[str]) -> None:
    found = described(data_folder / "dicom/dicom2nifti_tests" / folder)
    assert {one.part for one in found} == parts
    assert all(one.exclusion for one in found)
