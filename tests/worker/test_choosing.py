"""A study's series described from files: masks by their pixels, parts of mixed series, real gliomas."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import generate_uid

from dicom_node.reading.mr_study import PatientIdentity, StudyHeader, build_study_from_folder, save_study
from dicom_node.reading.series_choice import NotGradableError, select_series
from dicom_node.reading.series_description import MASK
from model.grade import Contrast
from tests.faults.conftest import series_of
from tests.faults.service import header
from worker.study.choosing import describe_files, part_files


def saved(datasets, folder):
    """Files of each series, keyed by Series Instance UID."""
    series: dict[str, list[Path]] = {}
    for dataset, path in zip(datasets, save_study(datasets, folder), strict=True):
        series.setdefault(str(dataset.SeriesInstanceUID), []).append(path)
    return series


def test_a_mask_with_the_headers_of_an_image_is_passed_over(tmp_path):
    study = header("mask", "P1")
    flair, mask, t2, t1ce = (
        series_of(name, number, study) for number, name in enumerate(["flair", "flair", "t2", "t1ce"], 1)
    )
    for dataset in mask:
        pixels = np.frombuffer(dataset.PixelData, "<u2")
        dataset.PixelData = (pixels > np.median(pixels)).astype("<u2").tobytes()
    described = describe_files(saved([*flair, *mask, *t2, *t1ce], tmp_path))
    assert [one.exclusion for one in described] == [None, MASK, None, None]
    assert select_series(described)[Contrast.FLAIR].series_instance_uid == flair[0].SeriesInstanceUID


def test_the_files_of_a_part_are_those_of_its_volume(tmp_path):
    t2 = series_of("t2", 1, header("parts", "P1"))
    proton_density = deepcopy(t2)
    for dataset in proton_density:
        dataset.EchoTime, dataset.SOPInstanceUID = 15, generate_uid()
    ((_, files),) = saved([*t2, *proton_density], tmp_path).items()
    assert part_files(files, "TE 95") == files[: len(t2)]
    assert part_files(files, "TE 15") == files[len(t2) :]
    assert part_files(files, "") == files


@pytest.mark.data
@pytest.mark.parametrize("case", ["TCGA-FG-6692/native", "TCGA-FG-6692/brats_space", "BraTS-GLI-00001-000"])
def test_real_gliomas_are_found_and_without_t1_after_agent_are_not(real_data, tmp_path, case):
    study = StudyHeader(patient=PatientIdentity(patient_id="R1", patient_name="R"), seed=case)
    datasets = build_study_from_folder(real_data / "glioma" / case, study)
    described = describe_files(saved(datasets, tmp_path))
    choices = select_series(described)
    names = {str(dataset.SeriesInstanceUID): dataset.SeriesDescription for dataset in datasets}
    assert {contrast: names[choice.series_instance_uid] for contrast, choice in choices.items()} == {
        Contrast.FLAIR: "AX T2 FLAIR",
        Contrast.T1CE: "AX T1 POST GD",
        Contrast.T2: "AX T2 TSE",
    }
    with pytest.raises(NotGradableError) as caught:
        select_series([one for one in described if one.role != "t1ce"])
    assert caught.value.reason_code == "missing_t1ce"
