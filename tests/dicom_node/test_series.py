from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from dicom_node.reading.mr_study import PROTOCOL, SeriesHeader, StudyHeader, build_mr_series
from dicom_node.reading.series import describe_series, describe_study
from dicom_node.reading.series_choice import (
    NotGradableError,
    UncertainRolesError,
    select_series,
)
from dicom_node.reading.series_description import ACCEPTED_CONFIDENCE, SeriesDescription
from dicom_node.reading.series_rules import Plane, SeriesRole
from model.grade import Contrast
from model.space.volume import Volume

Describe = Callable[..., SeriesDescription]
SPIN_ECHO_T1 = {"repetition_time": 600, "echo_time": 9}
FLAIR = {"repetition_time": 9000, "echo_time": 120, "inversion_time": 2500, "scanning_sequence": ("SE", "IR")}
MPRAGE = {"repetition_time": 2200, "echo_time": 3, "inversion_time": 900, "scanning_sequence": ("GR", "IR")}
T2 = {"repetition_time": 5000, "echo_time": 95}


@pytest.fixture
def describe(small_volume: Volume, study_header: StudyHeader) -> Describe:
    def build(name: str, number: int = 1, **timing: object) -> SeriesDescription:
        header = SeriesHeader(description=name, **timing)  # type: ignore[arg-type]
        return describe_series(build_mr_series(small_volume, header, study_header, number))

    return build


def described(study: list[Dataset]) -> list[SeriesDescription]:
    uids = dict.fromkeys(dataset.SeriesInstanceUID for dataset in study)
    return describe_study([d for d in study if d.SeriesInstanceUID == uid] for uid in uids)


def test_the_three_contrasts_of_an_honest_study_are_found(study: list[Dataset]) -> None:
    series = described(study)
    choices = select_series(series)
    assert {contrast: choice.series_instance_uid for contrast, choice in choices.items()} == {
        Contrast(role): description.series_instance_uid
        for role, description in zip(PROTOCOL, series, strict=True)
        if role != "t1"
    }
    assert all(choice.confidence >= ACCEPTED_CONFIDENCE for choice in choices.values())


def test_a_description_says_what_and_where(study: list[Dataset]) -> None:
    description = described(study)[0]
    assert (description.instance_count, description.slice_count) == (12, 12)
    assert description.plane is Plane.AXIAL
    assert description.coverage_mm == pytest.approx(120)
    assert description.voxel_mm3 == pytest.approx(9 * 8 * 10)
    assert description.series_number == 1


def test_without_t1_after_contrast_agent_a_plain_t1_is_not_taken(study: list[Dataset]) -> None:
    series = [description for description in described(study) if description.role is not SeriesRole.T1CE]
    assert SeriesRole.T1 in {description.role for description in series}
    with pytest.raises(NotGradableError) as caught:
        select_series(series)
    assert caught.value.reason_code == "missing_t1ce"
    assert "no post-contrast T1-weighted series found" in caught.value.sentence
    assert "series 1: T1-weighted" in caught.value.sentence


@pytest.mark.parametrize(
    "name",
    ["T1 POST GD", "t1_mprage_tra_KM", "AX T1+C", "AX T1 C+", "T1 SE AX GADO", "T1w post contrast", "t1_gd",
     "T1 avec inj", "T1 dopo mdc", "T1 con contraste", "T1 pos contraste", "t1 med gd", "T1 po kontr",
     "Т1 T1 с контрастом", "T1增强", "3D T1 BRAVO CE", "T1 GADOVIST", "AX T1CE", "t1_se_tra_post-Gd"],
)  # fmt: skip
def test_t1_after_contrast_agent_in_many_tongues(describe: Describe, name: str) -> None:
    assert describe(name, **SPIN_ECHO_T1).role is SeriesRole.T1CE


@pytest.mark.parametrize(
    "name",
    ["T1", "AX T1 PRE", "AX T1 PRE CONTRAST", "t1_nativ", "T1 w/o contrast", "T1 WITHOUT GD", "T1 ohne KM",
     "T1 sans inj", "T1 senza mdc", "T1 sin contraste", "T1 sem contraste", "T1 utan kontrast", "T1 ej gd",
     "T1 uten kontrast", "T1 zonder contrast", "T1 bez kontr", "T1 без контраста", "T1平扫", "AX T1 -C",
     "T1 posterior fossa"],
)  # fmt: skip
def test_plain_t1_in_many_tongues(describe: Describe, name: str) -> None:
    assert describe(name, **SPIN_ECHO_T1).role is SeriesRole.T1
    if "fossa" not in name and name != "T1":
        tagged = describe(name, **SPIN_ECHO_T1, contrast_agent="Gadobutrol")
        assert tagged.role is SeriesRole.T1  # the tag is often filled for the whole study


def test_a_recorded_agent_counts_where_the_name_says_nothing(describe: Describe) -> None:
    assert describe("T1", **SPIN_ECHO_T1, contrast_agent="Gadobutrol").role is SeriesRole.T1CE
    assert describe("T1", **SPIN_ECHO_T1, contrast_agent="NONE").role is SeriesRole.T1


def test_before_and_after_in_one_name_is_not_taken(describe: Describe) -> None:
    description = describe("T1 pre/post GD", **SPIN_ECHO_T1)
    assert description.confidence < ACCEPTED_CONFIDENCE


@pytest.mark.parametrize(
    ("name", "timing", "role"),
    [
        ("AX T2", FLAIR, SeriesRole.FLAIR),
        ("sT2W/FLAIR", FLAIR, SeriesRole.FLAIR),
        ("t2_tirm_tra_dark-fluid", FLAIR, SeriesRole.FLAIR),
        ("AX T2 FLAIR", {**FLAIR, "inversion_time": None}, SeriesRole.FLAIR),
        ("AX T2", T2, SeriesRole.T2),
        ("T1 FLAIR", {"repetition_time": 2000, "echo_time": 20, "inversion_time": 800}, SeriesRole.T1),
        ("t1_mprage", MPRAGE, SeriesRole.T1),
    ],
)  # fmt: skip
def test_name_and_pulse_sequence_agree_or_the_inversion_decides(
    describe: Describe, name: str, timing: dict[str, object], role: SeriesRole
) -> None:
    description = describe(name, **timing)
    assert description.role is role
    assert description.confidence == 0.97


@pytest.mark.parametrize(
    ("name", "timing"),
    [("AX T1 POST", T2), ("AX FLAIR", T2), ("AX T2", SPIN_ECHO_T1), ("AX FLAIR", SPIN_ECHO_T1)],
)
def test_a_contradiction_is_not_believed(describe: Describe, name: str, timing: dict[str, object]) -> None:
    description = describe(name, **timing)
    assert description.confidence < ACCEPTED_CONFIDENCE
    assert "in doubt" in description.label


def test_a_stir_is_no_t2_whatever_its_times(describe: Describe) -> None:
    assert describe("STIR", **T2).role is SeriesRole.OTHER


def test_without_a_name_a_spin_echo_is_believed_and_a_gradient_echo_is_in_doubt(describe: Describe) -> None:
    description = describe("SERIES A", **T2)
    assert (description.role, description.confidence) == (SeriesRole.T2, 0.80)
    description = describe("SERIES A", **{**MPRAGE, "scanning_sequence": ("GR",)})
    assert (description.role, description.confidence) == (SeriesRole.T1, 0.70)
    assert "in doubt" in description.label


@pytest.mark.parametrize(
    "name",
    ["LOCALIZER", "3-plane loc", "ep2d_diff T2", "T2 ADC", "PERF T2", "T2*", "SWI T2", "TOF T1", "MIP T1",
     "T1 MPR", "T2 roi", "C-SPINE T2", "FLAIR_ROI"],
)  # fmt: skip
def test_what_is_no_plain_head_is_left_out(describe: Describe, name: str) -> None:
    assert describe(name, **T2).exclusion is not None


@pytest.mark.parametrize(
    ("keyword", "value", "words"),
    [
        ("ImageType", ["DERIVED", "SECONDARY", "ADC"], "image type ADC"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "MOSAIC"], "image type MOSAIC"),
        ("ScanningSequence", ["EP", "SE"], "echo planar"),
        ("DiffusionBValue", 1000.0, "diffusion"),
        ("SamplesPerPixel", 3, "colour"),
        ("SOPClassUID", CTImageStorage, "not MR"),
    ],
)
def test_headers_that_leave_a_series_out(
    study: list[Dataset], keyword: str, value: object, words: str
) -> None:
    for dataset in study[:12]:
        setattr(dataset, keyword, value)
    assert words in (describe_series(study[:12]).exclusion or "")


def test_few_slices_short_cover_and_two_echoes_leave_a_series_out(study: list[Dataset]) -> None:
    assert "9 slices" in (describe_series(study[:9]).exclusion or "")
    assert "covers 110 mm" not in (describe_series(study[:11]).exclusion or "")
    for k, dataset in enumerate(study[:12]):
        dataset.ImagePositionPatient = [0, 0, 5 * k]
    assert "covers 60 mm" in (describe_series(study[:12]).exclusion or "")
    study[12].EchoTime = 12
    assert "several echo times" in (describe_series(study[12:24]).exclusion or "")


def test_a_series_without_a_place_is_left_out(study: list[Dataset]) -> None:
    del study[3].ImagePositionPatient
    assert describe_series(study[:12]).exclusion == "0 slices where 10 are needed"


def test_two_series_are_not_one(study: list[Dataset]) -> None:
    with pytest.raises(ValueError, match="4 series"):
        describe_series(study)


def test_a_ct_study_is_not_mr(study: list[Dataset]) -> None:
    for dataset in study:
        dataset.Modality = "CT"
    with pytest.raises(NotGradableError, match="not_mr: the study holds no MR images, only CT"):
        select_series(described(study))


def test_no_series_misses_all() -> None:
    with pytest.raises(NotGradableError, match="missing_flair_t1ce_t2"):
        select_series([])


def test_among_candidates_the_later_repeat_is_taken_and_a_tie_is_held(study: list[Dataset]) -> None:
    series = described(study)
    again = replace(series[1], series_instance_uid="1.2.3", acquired_at="20260101110000")
    assert select_series([*series, again])[Contrast.T2].series_instance_uid == "1.2.3"
    with pytest.raises(UncertainRolesError, match="2 T2-weighted series are equally suitable"):
        select_series([*series, replace(series[1], series_instance_uid="1.2.3")])


def test_axial_before_coronal_and_wide_before_narrow(study: list[Dataset]) -> None:
    series = described(study)
    coronal = replace(series[1], series_instance_uid="1.2.3", plane=Plane.CORONAL, coverage_mm=300)
    assert select_series([*series, coronal])[Contrast.T2].series_instance_uid == series[1].series_instance_uid
    wide = replace(series[1], series_instance_uid="1.2.4", coverage_mm=180)
    assert select_series([*series, coronal, wide])[Contrast.T2].series_instance_uid == "1.2.4"


def test_nothing_a_patient_could_be_known_by_is_said(describe: Describe) -> None:
    description = describe("ZZCANARY T1 POST", **SPIN_ECHO_T1)
    assert "ZZCANARY" not in f"{description} {description.label}"


@pytest.mark.data
@pytest.mark.parametrize(
    ("folder", "role", "instances", "slices"),
    [
        ("dcm_qa/ge_ax_mprage", SeriesRole.T1, 130, 130),
        ("dcm_qa/xa30_enhanced/5_anat-T1w_acq-tfl", SeriesRole.T1, 1, 96),
    ],
)
def test_real_scanners_series(
    data_folder: Path, folder: str, role: SeriesRole, instances: int, slices: int
) -> None:
    headers = [dcmread(path, stop_before_pixels=True) for path in (data_folder / "dicom" / folder).iterdir()]
    description = describe_series(headers)
    assert (description.role, description.instance_count, description.slice_count) == (
        role,
        instances,
        slices,
    )
    assert description.confidence == 0.97
    assert description.exclusion is None


def test_no_absent_or_empty_attribute_breaks_the_description(study: list[Dataset]) -> None:
    series = study[:12]
    for element in list(series[0]):
        if element.keyword == "SeriesInstanceUID":
            continue
        changed = deepcopy(series)
        for dataset in changed[3:]:
            dataset[element.tag].clear()
        assert describe_study([changed])
        for dataset in changed:
            del dataset[element.tag]
        assert describe_study([changed])
