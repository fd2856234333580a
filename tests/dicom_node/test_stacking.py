"""What dicom2nifti gets wrong or can't do, converted by place or refused in words."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_node.reading.mr_study import save_study
from dicom_node.reading.nifti import ConversionError, convert_series
from dicom_node.reading.series import describe_study
from dicom_node.reading.stacking import needs_stacking
from model.space.volume import Volume
from tests.dicom_node.enhanced import make_enhanced
from tests.dicom_node.test_nifti import same_image


@pytest.fixture
def series(study: list[Dataset]) -> list[Dataset]:
    return study[12:24]


def converted(datasets: list[Dataset], folder: Path) -> Volume:
    return convert_series(save_study(datasets, folder / "series"), folder / "out.nii")


def test_classic_series_stay_with_the_library(series: list[Dataset]) -> None:
    assert not needs_stacking(series)
    assert needs_stacking([make_enhanced(series)])


@pytest.mark.parametrize("order", [range(12), range(11, -1, -1), [0, 3, 1, 2, *range(4, 12)]])
def test_frames_are_stacked_by_place_whatever_their_order(
    series: list[Dataset], small_volume: Volume, tmp_path: Path, order: list[int]
) -> None:
    volume = converted([make_enhanced([series[k] for k in order])], tmp_path)
    assert same_image(volume, small_volume)


def test_a_rescale_is_applied_wherever_it_stands(
    series: list[Dataset], small_volume: Volume, tmp_path: Path
) -> None:
    shared = converted([make_enhanced(series, [(2.5, -4096.0)])], tmp_path / "shared")
    assert same_image(shared, Volume(2.5 * small_volume.array - 4096, small_volume.affine))
    each = [(1.0 + k, -100.0 * k) for k in range(12)]
    slopes, intercepts = np.array(each, dtype=np.float32).T
    own = converted([make_enhanced(series, each)], tmp_path / "own")
    assert same_image(own, Volume(small_volume.array * slopes + intercepts, small_volume.affine))


def test_slices_without_a_number_are_stacked(
    series: list[Dataset], small_volume: Volume, tmp_path: Path
) -> None:
    for dataset in series:
        del dataset.InstanceNumber
    assert same_image(converted(series[::-1], tmp_path), small_volume)


def test_a_negative_intercept_of_a_classic_series_counts(
    series: list[Dataset], small_volume: Volume, tmp_path: Path
) -> None:
    for dataset in series:
        dataset.RescaleSlope, dataset.RescaleIntercept = 2, -4096
    volume = converted(series, tmp_path)
    assert same_image(volume, Volume(2 * small_volume.array - 4096, small_volume.affine))


def turned(series: list[Dataset]) -> list[Dataset]:
    """The same slices as a sagittal stack."""
    copies = deepcopy(series)
    for k, dataset in enumerate(copies):
        dataset.ImageOrientationPatient, dataset.ImagePositionPatient = [0, 1, 0, 0, 0, -1], [5 * k, 0, 0]
    return copies


@pytest.mark.parametrize(
    ("mix", "words"),
    [
        (lambda series: [make_enhanced([*series, *series])], "two of its slices lie at one place"),
        (lambda series: [make_enhanced([*series, *turned(series)])], "its slices are not parallel"),
        (lambda series: [make_enhanced([*series[:5], *series[6:]])], "its slices are not evenly spaced"),
        (lambda series: [make_enhanced(series[:6]), *series[6:]], "several multi-frame instances"),
    ],
)
def test_several_stacks_in_one_object_are_refused(series: list[Dataset], tmp_path: Path, mix, words) -> None:
    mixed = mix(series)
    with pytest.raises(ConversionError, match=words):
        converted(mixed, tmp_path)
    if len(mixed) == 1:
        (description,) = describe_study([mixed])
        assert description.exclusion == words


def test_colour_frames_are_refused(series: list[Dataset], tmp_path: Path) -> None:
    colour = make_enhanced(series)
    colour.SamplesPerPixel, colour.PhotometricInterpretation, colour.PlanarConfiguration = 3, "RGB", 0
    colour.PixelData = colour.PixelData * 3
    with pytest.raises(ConversionError, match="damaged"):
        converted([colour], tmp_path)
    (description,) = describe_study([[colour]])
    assert description.exclusion == "colour images"


def test_truncated_frames_are_refused(series: list[Dataset], tmp_path: Path) -> None:
    short = make_enhanced(series)
    short.PixelData = short.PixelData[:-100]
    with pytest.raises(ConversionError, match="damaged"):
        converted([short], tmp_path)
