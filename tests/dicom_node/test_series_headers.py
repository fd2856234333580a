from pydicom.dataset import Dataset

from dicom_node.reading.series_headers import (
    agent_recorded,
    coverage_mm,
    is_echo_planar,
    nearest_plane,
    read_physics,
    series_planes,
    series_text,
    text_values,
)
from dicom_node.reading.series_rules import Physics, Plane


def enhanced() -> Dataset:
    header, shared, timing, echo, modifier = Dataset(), Dataset(), Dataset(), Dataset(), Dataset()
    timing.RepetitionTime = 9000.0
    echo.EffectiveEchoTime = 120.0
    modifier.InversionRecovery, modifier.InversionTimes = "YES", [2500.0]
    shared.MRTimingAndRelatedParametersSequence = [timing]
    shared.MRModifierSequence = [modifier]
    frame = Dataset()
    frame.MREchoSequence = [echo]
    header.SharedFunctionalGroupsSequence = [shared]
    header.PerFrameFunctionalGroupsSequence = [frame]
    header.EchoPulseSequence = "SPIN"
    return header


def test_enhanced_objects_keep_their_timing_in_functional_groups() -> None:
    assert read_physics(enhanced()) == Physics(9000.0, 120.0, 2500.0, inversion_recovery=True, spin_echo=True)


def test_classic_objects_keep_it_at_the_top(study: list[Dataset]) -> None:
    assert read_physics(study[24]) == Physics(9000.0, 120.0, 2500.0, inversion_recovery=True, spin_echo=True)
    assert read_physics(Dataset()) == Physics()


def test_diffusion_is_found_in_either_place() -> None:
    header, diffusion = enhanced(), Dataset()
    assert not is_echo_planar(header)
    diffusion.DiffusionBValue = 1000.0
    header.PerFrameFunctionalGroupsSequence[0].MRDiffusionSequence = [diffusion]
    assert is_echo_planar(header)


def test_text_keeps_the_signs_that_speak_of_contrast_agent() -> None:
    header = Dataset()
    header.SeriesDescription, header.ProtocolName = "AX_T1 +C", "t1:se(T2*)"
    assert series_text(header).split() == ["ax", "t1", "+c", "t1", "se", "t2*"]


def test_an_agent_is_recorded_in_several_ways() -> None:
    header = Dataset()
    assert not agent_recorded(header)
    header.ContrastBolusAgent = "none"
    assert not agent_recorded(header)
    header.ContrastBolusVolume = 7.5
    assert agent_recorded(header)


def test_single_and_several_values_are_a_list() -> None:
    header = Dataset()
    assert text_values(header, "ImageType") == []
    header.ScanningSequence = "SE"
    assert text_values(header, "ScanningSequence") == ["SE"]
    header.ScanningSequence = ["SE", "IR"]
    assert text_values(header, "ScanningSequence") == ["SE", "IR"]


def test_coverage_is_along_the_body(study: list[Dataset]) -> None:
    assert coverage_mm(series_planes(study[:12])) == 120.0
    for k, dataset in enumerate(study[:12]):
        dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
        dataset.ImagePositionPatient = [5 * k, 0, 0]
    planes = series_planes(study[:12])
    assert nearest_plane(planes) is Plane.SAGITTAL
    assert coverage_mm(planes) == 19 * 8.0
    assert nearest_plane([]) is Plane.UNKNOWN
