"""Headers in the styles of five vendors and a dozen languages: a regression list, no estimate of accuracy."""

from dataclasses import dataclass

import pytest
from pydicom.dataset import Dataset

from dicom_node.reading.mr_study import SeriesHeader, StudyHeader, build_mr_series
from dicom_node.reading.series import describe_series
from dicom_node.reading.series_description import ACCEPTED_CONFIDENCE, SeriesDescription
from dicom_node.reading.series_rules import SeriesRole
from model.space.volume import Volume

FLAIR, T1CE, T2, T1, OTHER = SeriesRole.FLAIR, SeriesRole.T1CE, SeriesRole.T2, SeriesRole.T1, SeriesRole.OTHER
OUT, WAITS = "left out", "waits"


@dataclass(frozen=True)
class Timing:
    sequence: tuple[str, ...]
    repetition: float
    echo: float
    inversion: float | None = None
    acquisition: str = "2D"


SE_T1 = Timing(("SE",), 550, 9)
TSE_T2 = Timing(("SE",), 5200, 98)
TIRM = Timing(("SE", "IR"), 9000, 92, 2500)
SPACE_FLAIR = Timing(("SE", "IR"), 5000, 388, 1800, "3D")
SPACE_T2 = Timing(("SE",), 3200, 408, None, "3D")
SPACE_T1 = Timing(("SE",), 700, 11, None, "3D")
MPRAGE = Timing(("GR", "IR"), 2300, 2.98, 900, "3D")
BRAVO = Timing(("GR",), 8.2, 3.2, 450, "3D")
FSPGR = Timing(("GR",), 9.2, 3.9, None, "3D")
TFE = Timing(("GR",), 8.1, 3.7, None, "3D")
T1_FLAIR = Timing(("SE", "IR"), 2500, 24, 860)
IR_TSE = Timing(("IR",), 2000, 10, 400)
STIR = Timing(("SE", "IR"), 5000, 60, 160)
PD = Timing(("SE",), 3000, 15)
GRE = Timing(("GR",), 600, 20)
FIELD_MAP = Timing(("GR",), 500, 4.9)
FIESTA = Timing(("GR",), 5.5, 2.4, None, "3D")
EPI = Timing(("EP", "SE"), 6000, 90)
DIR = Timing(("SE", "IR"), 7500, 320, 3000, "3D")
MR_NORM = ("ORIGINAL", "PRIMARY", "M", "ND", "NORM")

HEADERS: list[tuple[str, str, str, Timing, SeriesRole | str]] = [
    # Siemens: protocol and description agree unless someone edits the latter
    ("SIEMENS", "t2_tirm_tra_dark-fluid_5mm", "", TIRM, FLAIR),
    ("SIEMENS", "t2_tse_tra_320", "", TSE_T2, T2),
    ("SIEMENS", "t1_se_tra", "", SE_T1, T1),
    ("SIEMENS", "t1_se_tra_KM", "t1_se_tra", SE_T1, T1CE),
    ("SIEMENS", "t1_mprage_sag_p2_iso", "", MPRAGE, T1),
    ("SIEMENS", "t1_mpr_ns_sag_p2_iso_KM", "", MPRAGE, T1CE),
    ("SIEMENS", "t1_mpr_tra", "", SE_T1, OUT),
    ("SIEMENS", "t2_spc_da-fl_sag_p2_iso", "", SPACE_FLAIR, FLAIR),
    ("SIEMENS", "t2_space_sag", "", SPACE_T2, T2),
    ("SIEMENS", "t1_space_tra_post", "", SPACE_T1, T1CE),
    ("SIEMENS", "t2_tirm_cor", "", STIR, OTHER),
    ("SIEMENS", "pd+t2_tse_tra", "", TSE_T2, T2),
    ("SIEMENS", "pd+t2_tse_tra", "", PD, OTHER),
    ("SIEMENS", "t2_fl2d_tra_hemo", "", GRE, OUT),
    ("SIEMENS", "ep2d_diff_3scan_trace", "", EPI, OUT),
    ("SIEMENS", "AAHScout", "", FSPGR, OUT),
    ("SIEMENS", "t1_mp2rage_sag_INV2", "", Timing(("GR", "IR"), 5000, 2.9, 2500, "3D"), OUT),
    ("SIEMENS", "t2_ci3d_tra (CISS)", "", FIESTA, OTHER),
    ("SIEMENS", "t2_spc_dir_sag", "", DIR, OTHER),
    ("SIEMENS", "t1_tse_dark-fluid_tra", "", Timing(("SE", "IR"), 2000, 9, 860), T1),
    # GE: Protocol Name is the exam's and says nothing of a series
    ("GE MEDICAL SYSTEMS", "Ax T2 FLAIR", "BRAIN W/WO CONTRAST", TIRM, FLAIR),
    ("GE MEDICAL SYSTEMS", "Ax T1", "BRAIN WITH CONTRAST", SE_T1, T1),
    ("GE MEDICAL SYSTEMS", "Ax T1 +C", "BRAIN W/WO CONTRAST", SE_T1, T1CE),
    ("GE MEDICAL SYSTEMS", "Ax T2 FSE PROPELLER", "Brain DWI Perfusion", TSE_T2, T2),
    ("GE MEDICAL SYSTEMS", "Sag CUBE T2 FLAIR", "", Timing(("SE", "IR"), 6500, 118, 1830, "3D"), FLAIR),
    ("GE MEDICAL SYSTEMS", "Ax BRAVO Post", "", BRAVO, T1CE),
    ("GE MEDICAL SYSTEMS", "AX T1 POST GD FLAIR", "", T1_FLAIR, T1CE),
    ("GE MEDICAL SYSTEMS", "Ax T1 FLAIR PRE GD", "", T1_FLAIR, T1),
    ("GE MEDICAL SYSTEMS", "3D FSPGR C+", "", FSPGR, T1CE),
    ("GE MEDICAL SYSTEMS", "Ax FIESTA", "", FIESTA, OTHER),
    ("GE MEDICAL SYSTEMS", "SWAN", "", GRE, OUT),
    ("GE MEDICAL SYSTEMS", "3-Plane Loc SSFSE", "", TSE_T2, OUT),
    ("GE MEDICAL SYSTEMS", "Ax T1 FSE w/o", "", SE_T1, T1),
    # Philips
    ("Philips Medical Systems", "sT2W/FLAIR", "FLAIR_longTR", Timing(("IR",), 11000, 125, 2800), FLAIR),
    ("Philips Medical Systems", "T2W_TSE", "", Timing(("SE",), 4400, 100), T2),
    ("Philips Medical Systems", "sT1W_3D_TFE +C", "", TFE, T1CE),
    ("Philips Medical Systems", "T1W_IR_TSE", "", IR_TSE, T1),
    ("Philips Medical Systems", "3D_Brain_VIEW_FLAIR_SHC", "", Timing(("IR",), 4800, 340, 1650, "3D"), FLAIR),
    ("Philips Medical Systems", "B0 map", "", FIELD_MAP, OUT),
    ("Philips Medical Systems", "Survey", "", FSPGR, OUT),
    ("Philips Medical Systems", "T1W_SE_Gd", "", SE_T1, T1CE),
    ("Philips Medical Systems", "sDUAL_TSE PD/T2W", "", Timing(("SE",), 3000, 100), T2),
    ("Philips Medical Systems", "VEN_BOLD_HR", "", GRE, OUT),
    ("Philips Medical Systems", "T1W post-op", "", SE_T1, T1),
    # UIH
    ("UIH", "t2_fse_flair_tra", "", TIRM, FLAIR),
    ("UIH", "t1_gre_fsp_3d_sag+C", "", BRAVO, T1CE),
    ("UIH", "t2_fse_tra", "", TSE_T2, T2),
    ("UIH", "t1_fse_tra_平扫", "", SE_T1, T1),
    ("UIH", "t1_fse_tra_增强", "", SE_T1, T1CE),
    ("UIH", "epi_dwi_tra_b1000", "", EPI, OUT),
    ("UIH", "t2_fse_stir_cor", "", STIR, OTHER),
    # Canon
    ("CANON_MEC", "FLAIR AX", "", TIRM, FLAIR),
    ("CANON_MEC", "T1 SE AX 造影後", "", SE_T1, T1CE),
    ("CANON_MEC", "T1 SE AX 造影前", "", SE_T1, T1),
    ("CANON_MEC", "FSE2D T2 AX", "", TSE_T2, T2),
    ("TOSHIBA_MEC", "Locator", "", FSPGR, OUT),
    ("TOSHIBA_MEC", "TOF MRA", "", FSPGR, OUT),
    # languages
    ("SIEMENS", "T1 tra nativ", "", SE_T1, T1),
    ("SIEMENS", "T1 tra nach KM-Gabe", "", SE_T1, T1CE),
    ("SIEMENS", "T1 tra ohne KM", "", SE_T1, T1),
    ("SIEMENS", "T1 axial sans injection", "", SE_T1, T1),
    ("SIEMENS", "T1 axial après injection de gado", "", SE_T1, T1CE),
    ("SIEMENS", "T1 ax senza mdc", "", SE_T1, T1),
    ("SIEMENS", "T1 ax dopo mdc", "", SE_T1, T1CE),
    ("SIEMENS", "T1 axial s/contraste", "", SE_T1, T1),
    ("SIEMENS", "T1 axial c/contraste", "", SE_T1, T1CE),
    ("SIEMENS", "T1 axial con civ", "", SE_T1, T1CE),
    ("SIEMENS", "T1 axial pós gadolínio", "", SE_T1, T1CE),
    ("SIEMENS", "T1 axial antes do contraste", "", SE_T1, T1),
    ("SIEMENS", "T1 tra utan kontrast", "", SE_T1, T1),
    ("SIEMENS", "T1 tra efter kontrast", "", SE_T1, T1CE),
    ("SIEMENS", "T1 tra zonder contrast", "", SE_T1, T1),
    ("SIEMENS", "T1 tra met Gd", "", SE_T1, T1CE),
    ("SIEMENS", "T1 tra bez kontrastu", "", SE_T1, T1),
    ("SIEMENS", "T1 tra po podaniu kontrastu", "", SE_T1, T1CE),
    ("SIEMENS", "T1 tra без контраста", "", SE_T1, T1),
    ("SIEMENS", "T1 tra до КУ", "", SE_T1, T1),
    ("SIEMENS", "T1 tra после КУ", "", SE_T1, T1CE),
    ("SIEMENS", "T1 tra с контрастом", "", SE_T1, T1CE),
    ("SIEMENS", "T1 tra kontrastsız", "", SE_T1, T1),
    ("SIEMENS", "T1 tra kontrastlı", "", SE_T1, T1CE),
    ("SIEMENS", "T1 tra natiivi", "", SE_T1, T1),
    ("SIEMENS", "T1 tra tehoste", "", SE_T1, T1CE),
    ("SIEMENS", "T1 tra 조영전", "", SE_T1, T1),
    ("SIEMENS", "T1 tra 조영증강", "", SE_T1, T1CE),
    ("SIEMENS", "T1 tra voor contrast", "", SE_T1, T1),
    ("SIEMENS", "T1 tra kontrast öncesi", "", SE_T1, T1),
    ("SIEMENS", "T1 tra kontraszt előtt", "", SE_T1, T1),
    ("SIEMENS", "T1 tra ennen kontrastia", "", SE_T1, T1),
    ("SIEMENS", "T1 tra před kontrastem", "", SE_T1, T1),
    ("SIEMENS", "T1 tra tanpa kontras", "", SE_T1, T1),
    ("SIEMENS", "T1 tra перед контрастом", "", SE_T1, T1),
    ("SIEMENS", "T1 tra før kontrast", "", SE_T1, T1),
    ("SIEMENS", "T2 黑水 横断", "", TIRM, FLAIR),
    ("SIEMENS", "T1 unenhanced", "", SE_T1, T1),
    ("SIEMENS", "T1 non-contrast", "", SE_T1, T1),
    ("SIEMENS", "T1 sinus +Gd", "", SE_T1, T1CE),
    # no name at all, as after anonymisation; doubts
    ("SIEMENS", "", "", TIRM, FLAIR),
    ("SIEMENS", "", "", TSE_T2, T2),
    ("SIEMENS", "", "", SE_T1, T1),
    ("SIEMENS", "", "", FIELD_MAP, WAITS),
    ("SIEMENS", "T1 +/- Gd", "", SE_T1, WAITS),
    ("SIEMENS", "T1 pre and post Gd", "", SE_T1, WAITS),
    ("SIEMENS", "FLAIR tra", "", TSE_T2, WAITS),
    ("SIEMENS", "FLAIR_ROI", "", TIRM, OUT),
    ("SIEMENS", "T1 post subtraction", "", SE_T1, OUT),
    ("SIEMENS", "HWS t2_tse_sag", "", TSE_T2, OUT),
    ("SIEMENS", "t1_tse_fs_cor hypophyse", "", SE_T1, OUT),
]  # fmt: skip


def describe(
    volume: Volume, study: StudyHeader, name: str, protocol: str, timing: Timing, **attributes: object
) -> SeriesDescription:
    header = SeriesHeader(
        description=name,
        protocol=protocol or name,
        repetition_time=timing.repetition,
        echo_time=timing.echo,
        inversion_time=timing.inversion,
        scanning_sequence=timing.sequence,
        acquisition_type=timing.acquisition,
    )
    datasets = build_mr_series(volume, header, study, 1)
    for dataset in datasets:
        for keyword, value in {"ImageType": MR_NORM, **attributes}.items():
            setattr(dataset, keyword, list(value) if isinstance(value, tuple) else value)
    return describe_series(datasets)


@pytest.mark.parametrize(("vendor", "name", "protocol", "timing", "expected"), HEADERS)
def test_what_a_header_is_taken_for(
    small_volume: Volume,
    study_header: StudyHeader,
    vendor: str,
    name: str,
    protocol: str,
    timing: Timing,
    expected: SeriesRole | str,
) -> None:
    found = describe(small_volume, study_header, name, protocol, timing, Manufacturer=vendor)
    if expected == OUT:
        assert found.exclusion is not None, found
    elif expected == WAITS:
        assert found.exclusion is None
        assert found.confidence < ACCEPTED_CONFIDENCE, found
    else:
        assert (found.role, found.exclusion) == (expected, None), found
        assert found.confidence >= ACCEPTED_CONFIDENCE


def test_the_list_is_long_enough() -> None:
    assert len(HEADERS) >= 60
    assert len({header[:3] for header in HEADERS}) >= 60


@pytest.mark.parametrize(
    ("attributes", "role", "words"),
    [
        ({"ContrastBolusAgent": "Gadovist"}, T1CE, "contrast agent is recorded"),
        ({"ContrastBolusVolume": "7.5"}, T1CE, "contrast agent is recorded"),
        ({"ContrastBolusVolume": "0"}, T1, "nothing says"),
        ({"ContrastBolusAgent": "keine"}, T1, "nothing says"),
        ({"ContrastBolusStartTime": "085500", "AcquisitionTime": "090000"}, T1CE, "before this acquisition"),
        ({"ContrastBolusStartTime": "090500", "AcquisitionTime": "090000"}, T1, "after this acquisition"),
        (
            {"ContrastBolusStartTime": "200000", "AcquisitionTime": "090000"},
            T1CE,
            "contrast agent is recorded",
        ),
    ],
)
def test_the_bolus_and_when_it_was_given(
    small_volume: Volume, study_header: StudyHeader, attributes: dict[str, str], role: SeriesRole, words: str
) -> None:
    found = describe(small_volume, study_header, "t1_se_tra", "", SE_T1, **attributes)
    assert found.role is role
    assert words in found.evidence


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"ImageType": ("DERIVED", "SECONDARY", "MPR")}, "image type MPR"),
        ({"ImageType": ("ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE")}, "image type P"),
        ({"ImageType": ("DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE")}, "image type REFORMATTED"),
        ({"BodyPartExamined": "CSPINE"}, "not the brain"),
        ({"SequenceName": "*ep_b1000#1"}, "echo planar"),
        ({"BitsAllocated": 1}, "a mask"),
    ],
)
def test_headers_that_say_no_plain_head(
    small_volume: Volume, study_header: StudyHeader, attributes: dict[str, object], reason: str
) -> None:
    found = describe(small_volume, study_header, "AX T2", "", TSE_T2, **attributes)
    assert reason in (found.exclusion or "")


def test_a_siemens_sequence_name_tells_what_the_rest_hides(
    small_volume: Volume, study_header: StudyHeader
) -> None:
    flair = describe(small_volume, study_header, "", "", Timing(("SE",), 9000, 92), SequenceName="*tir2d1_16")
    assert flair.role is FLAIR
    steady = describe(small_volume, study_header, "", "", FIESTA, SequenceName="*tfi3d1")
    assert steady.role is OTHER


def enhanced_header(**shared: Dataset) -> Dataset:
    header, groups = Dataset(), Dataset()
    header.SeriesInstanceUID, header.SOPInstanceUID = "1.2.3.1", "1.2.3.1.1"
    header.SeriesDescription, header.SeriesNumber, header.Modality = "", 1, "MR"
    for keyword, item in shared.items():
        setattr(groups, keyword, [item])
    header.SharedFunctionalGroupsSequence = [groups]
    header.PerFrameFunctionalGroupsSequence = [Dataset()]
    return header


def item(**values: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def test_enhanced_objects_are_told_by_their_functional_groups() -> None:
    header = enhanced_header(
        MRTimingAndRelatedParametersSequence=item(RepetitionTime=9000.0),
        MREchoSequence=item(EffectiveEchoTime=120.0),
        MRModifierSequence=item(InversionRecovery="YES", InversionTimes=[2500.0]),
    )
    header.EchoPulseSequence = "SPIN"
    assert describe_series([header]).role is FLAIR
    declared = enhanced_header()
    declared.AcquisitionContrast = "FLUID_ATTENUATED"
    assert describe_series([declared]).role is FLAIR
