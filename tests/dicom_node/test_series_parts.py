"""Several volumes under one Series Instance UID come apart, or stay together to be refused."""

from copy import deepcopy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from dicom_node.reading.mr_study import PROTOCOL, PatientIdentity, StudyHeader, build_mr_series
from dicom_node.reading.series import describe_study
from dicom_node.reading.series_parts import WHOLE, split_series
from dicom_node.reading.series_rules import SeriesRole
from model.space.volume import Volume

SLICES = 12


@pytest.fixture
def series(study: list[Dataset]) -> list[Dataset]:
    """T2 of the small study."""
    return study[SLICES : 2 * SLICES]


def again(datasets: list[Dataset], **changes: object) -> list[Dataset]:
    """The same slices once more in the same series, with other attributes."""
    copies = deepcopy(datasets)
    for dataset in copies:
        dataset.SOPInstanceUID = generate_uid()
        for keyword, value in changes.items():
            setattr(dataset, keyword, value)
    return copies


def sizes(datasets: list[Dataset]) -> dict[str, int]:
    return {label: len(part) for label, part in split_series(datasets).items()}


def test_one_volume_stays_whole(series: list[Dataset]) -> None:
    assert sizes(series) == {WHOLE: SLICES}


@pytest.mark.parametrize(
    ("changes", "labels"),
    [
        ({"EchoTime": 15}, {"TE 15", "TE 95"}),
        ({"InversionTime": 2500}, {"TI 0", "TI 2500"}),
        ({"DiffusionBValue": 1000.0}, {"b 0", "b 1000"}),
        ({"AcquisitionNumber": 2}, {"acquisition 1", "acquisition 2"}),
        ({"TemporalPositionIdentifier": 1}, {"temporal position 0", "temporal position 1"}),
        (
            {"ImageType": ["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE"]},
            {"image type OTHER", "image type PHASE MAP P FFE"},
        ),
    ],
)
def test_what_differs_at_the_same_places_comes_apart(
    series: list[Dataset], changes: dict[str, object], labels: set[str]
) -> None:
    assert sizes([*series, *again(series, **changes)]) == dict.fromkeys(labels, SLICES)


def test_a_label_holds_no_word_that_could_be_a_patients(series: list[Dataset]) -> None:
    other = again(series, ImageType=["ORIGINAL", "PRIMARY", "ZZCANARY"])
    assert sizes([*series, *other]) == {"image type OTHER": SLICES, "image type": SLICES}


def test_a_double_echo_gives_its_t2(series: list[Dataset]) -> None:
    for dataset in series:
        dataset.SeriesDescription = dataset.ProtocolName = "PD/T2 tra"
    found = {one.part: one for one in describe_study([[*series, *again(series, EchoTime=15)]])}
    assert found["TE 95"].role is SeriesRole.T2
    assert found["TE 95"].exclusion is None
    assert found["TE 15"].role is SeriesRole.OTHER
    assert found["TE 95"].sop_instance_uids == {dataset.SOPInstanceUID for dataset in series}


def test_an_aborted_acquisition_is_told_from_its_repeat(series: list[Dataset]) -> None:
    found = {one.part: one for one in describe_study([[*series[:5], *again(series, AcquisitionNumber=2)]])}
    assert "5 slices" in (found["acquisition 1"].exclusion or "")
    assert found["acquisition 2"].exclusion is None


def test_dual_echo_repeated_comes_apart_twice(series: list[Dataset]) -> None:
    mixed = [*series, *again(series, EchoTime=15)]
    assert sizes([*mixed, *again(mixed, AcquisitionNumber=2)]) == dict.fromkeys(
        ("TE 95, acquisition 1", "TE 95, acquisition 2", "TE 15, acquisition 1", "TE 15, acquisition 2"),
        SLICES,
    )


def test_a_few_slices_of_another_plane_come_apart(series: list[Dataset]) -> None:
    extra = again(series[:3], ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    assert sizes([*series, *extra]) == {"axial": SLICES, "sagittal": 3}
    wide = again(series[:3], Columns=32)
    assert sizes([*series, *wide]) == {"axial 16x20": SLICES, "axial 32x20": 3}


def test_a_slip_in_one_header_tears_nothing_apart(series: list[Dataset]) -> None:
    series[4].EchoTime = 12
    assert sizes(series) == {WHOLE: SLICES}
    (description,) = describe_study([series])
    assert description.exclusion == "several echo times in one series"


def test_repeats_that_nothing_tells_apart_are_refused(series: list[Dataset]) -> None:
    (description,) = describe_study([[*series, *again(series)]])
    assert (description.part, description.exclusion) == (WHOLE, "two of its slices lie at one place")


def test_an_instance_without_a_place_keeps_the_series_together(series: list[Dataset]) -> None:
    extra = again(series, EchoTime=15)
    del extra[0].ImagePositionPatient
    assert sizes([*series, *extra]) == {WHOLE: 2 * SLICES}


def test_multi_frame_objects_are_a_volume_each(series: list[Dataset]) -> None:
    objects = again(series[:2])
    for number, dataset in enumerate(objects, start=1):
        dataset.InstanceNumber = 3 - number
        dataset.PerFrameFunctionalGroupsSequence = [Dataset()]
    parts = split_series(objects)
    assert list(parts) == ["object 1", "object 2"]
    assert parts["object 1"] == [objects[1]]


@given(order=st.permutations(range(4 * 3)))
def test_every_instance_is_in_one_part_whatever_the_order(order: list[int]) -> None:
    header = StudyHeader(patient=PatientIdentity(patient_id="1", patient_name="X"), seed="parts")
    volume = Volume(np.arange(64, dtype=np.float32).reshape(4, 4, 4), np.eye(4))
    base = build_mr_series(volume, PROTOCOL["t2"], header, 1)
    mixed = [*base, *again(base, EchoTime=15), *again(base, AcquisitionNumber=2)]
    parts = split_series([mixed[index] for index in order])
    assert {label: len(part) for label, part in parts.items()} == {
        "TE 15": 4,
        "TE 95, acquisition 1": 4,
        "TE 95, acquisition 2": 4,
    }
