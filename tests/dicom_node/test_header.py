import mmap
import os
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    SecondaryCaptureImageStorage,
)

from dicom_node.receiving.elements import MAXIMUM_DEPTH
from dicom_node.receiving.header import ObjectHeader, check_command, read_header
from dicom_node.receiving.quarantine import make_room
from dicom_node.receiving.store_status import RefusedError, StoreStatus
from tests.faults.receiver import encode, make_object

WHOLE: dict[str, bytes] = {
    ExplicitVRLittleEndian: encode(make_object()),
    ImplicitVRLittleEndian: encode(make_object(), implicit=True),
}


def refused(body: bytes, transfer_syntax: str = ExplicitVRLittleEndian) -> str:
    with pytest.raises(RefusedError) as caught:
        read_header(body, transfer_syntax)
    assert caught.value.status is StoreStatus.CANNOT_UNDERSTAND
    return caught.value.reason


@pytest.mark.parametrize("transfer_syntax", WHOLE)
def test_the_uids_are_read_in_either_representation(transfer_syntax: str) -> None:
    dataset = make_object()
    assert read_header(WHOLE[transfer_syntax], transfer_syntax) == ObjectHeader(
        str(dataset.SOPClassUID),
        str(dataset.SOPInstanceUID),
        str(dataset.StudyInstanceUID),
        str(dataset.SeriesInstanceUID),
    )


def test_a_mapped_file_is_read_and_can_be_closed(tmp_path: Path) -> None:
    body = WHOLE[ExplicitVRLittleEndian]
    (tmp_path / "object").write_bytes(body)
    with (tmp_path / "object").open("rb") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            assert read_header(mapped, ExplicitVRLittleEndian) == read_header(body, ExplicitVRLittleEndian)
        cut = mmap.mmap(file.fileno(), len(body) - 1, access=mmap.ACCESS_READ)
        with pytest.raises(RefusedError):
            read_header(cut, ExplicitVRLittleEndian)
        cut.close()  # raises where a view of it is still held


@pytest.mark.parametrize("transfer_syntax", WHOLE)
def test_every_cut_is_noticed(transfer_syntax: str) -> None:
    body = WHOLE[transfer_syntax]
    for length in range(0, len(body), 7):
        refused(body[:length], transfer_syntax)
    refused(body[:-1], transfer_syntax)


@pytest.mark.parametrize("value", ["", "../x", "1.2/3", "1..2", "1." + "2" * 64])
@pytest.mark.parametrize(
    "keyword", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"]
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI", "ignore:The value length")
def test_a_malformed_uid_is_refused(keyword: str, value: str) -> None:
    dataset = make_object()
    setattr(dataset, keyword, value)
    assert keyword in refused(encode(dataset))


def test_sequences_are_walked_in_every_encoding() -> None:
    for length_given in (True, False):
        dataset = make_object()
        innermost = Dataset()
        innermost.CodeMeaning = "brain"
        for _ in range(5):
            outer = Dataset()
            outer.AnatomicRegionSequence = Sequence([innermost, Dataset()])
            outer["AnatomicRegionSequence"].is_undefined_length = length_given
            innermost.is_undefined_length_sequence_item = length_given
            innermost = outer
        dataset.AnatomicRegionSequence = innermost.AnatomicRegionSequence
        for implicit in (True, False):
            syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
            read_header(encode(dataset, implicit=implicit), syntax)


def test_a_sequence_known_only_as_un_is_implicit_inside() -> None:
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff\x08\x00\x04\x01\x04\0\0\0text" + b"\xfe\xff\x0d\xe0" + bytes(4)
    element = b"\x09\x00\x01\x10UN\0\0\xff\xff\xff\xff" + item + b"\xfe\xff\xdd\xe0" + bytes(4)
    body = WHOLE[ExplicitVRLittleEndian]
    place = body.index(b"\x10\x00\x10\x00PN")
    read_header(body[:place] + element + body[place:], ExplicitVRLittleEndian)


def test_nesting_has_a_limit() -> None:
    def nested(depth: int) -> bytes:
        opened = b"\x11\x70\x01\x10SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
        closed = b"\xfe\xff\x0d\xe0" + bytes(4) + b"\xfe\xff\xdd\xe0" + bytes(4)
        body = WHOLE[ExplicitVRLittleEndian]
        place = body.index(b"\xe0\x7f\x10\x00O")
        return body[:place] + opened * depth + closed * depth + body[place:]

    read_header(nested(MAXIMUM_DEPTH), ExplicitVRLittleEndian)
    assert "deep" in refused(nested(MAXIMUM_DEPTH + 1))


@pytest.mark.parametrize(
    ("keyword", "value", "reason"),
    [
        ("Rows", 17, "agree"),
        ("BitsAllocated", 8, "agree"),
        ("SamplesPerPixel", 3, "agree"),
        ("NumberOfFrames", 2, "agree"),
        ("NumberOfFrames", 999_999_999, "can't be"),
        ("Columns", None, "malformed"),
        ("PixelData", None, "no pixel data"),
    ],
)
def test_native_pixels_agree_with_their_description(keyword: str, value: int | None, reason: str) -> None:
    dataset = make_object()
    if value is None:
        del dataset[keyword]
    else:
        setattr(dataset, keyword, value)
    assert reason in refused(encode(dataset))


def test_odd_pixels_are_padded_and_other_classes_need_none() -> None:
    dataset = make_object()
    dataset.Rows, dataset.Columns, dataset.BitsAllocated, dataset.PixelData = 3, 3, 8, bytes(10)
    read_header(encode(dataset), ExplicitVRLittleEndian)
    del dataset.PixelData
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    read_header(encode(dataset), ExplicitVRLittleEndian)


def compressed(fragments: list[bytes], frames: int) -> bytes:
    dataset = make_object()
    dataset.NumberOfFrames = frames
    dataset["PixelData"].VR = "OB"
    dataset.PixelData = encapsulate(fragments)
    dataset["PixelData"].is_undefined_length = True
    return encode(dataset)


def test_compressed_pixels_have_a_fragment_for_each_frame_and_an_end() -> None:
    body = compressed([b"ab", b"cd"], 2)
    read_header(body, JPEG2000Lossless)
    assert "fewer" in refused(compressed([b"ab", b"cd"], 3), JPEG2000Lossless)
    assert "cut short" in refused(body[:-8], JPEG2000Lossless)
    assert "transfer syntax" in refused(body)
    assert "transfer syntax" in refused(WHOLE[ExplicitVRLittleEndian], JPEG2000Lossless)


def test_a_command_names_the_object_it_sends() -> None:
    header = read_header(WHOLE[ExplicitVRLittleEndian], ExplicitVRLittleEndian)
    check_command(header, header.sop_class_uid, header.sop_instance_uid)
    for other in ((str(CTImageStorage), header.sop_instance_uid), (header.sop_class_uid, "1.2.3")):
        with pytest.raises(RefusedError) as caught:
            check_command(header, *other)
        assert caught.value.status is StoreStatus.DATASET_MISMATCH


@settings(max_examples=400)
@given(st.binary(max_size=400), st.sampled_from([*WHOLE, JPEG2000Lossless]))
def test_any_bytes_are_refused_and_nothing_else(body: bytes, transfer_syntax: str) -> None:
    refused(body, transfer_syntax)


@settings(max_examples=600, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_damaged_object_is_refused_or_still_has_uids(data: st.DataObject) -> None:
    transfer_syntax = data.draw(st.sampled_from(list(WHOLE)))
    body = bytearray(WHOLE[transfer_syntax])
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(body) - 1))
        kind = data.draw(st.sampled_from(["overwrite", "insert", "remove"]))
        piece = data.draw(
            st.binary(min_size=1, max_size=12)
            | st.sampled_from([b"\xff" * 4, b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0", b"SQ\0\0", bytes(8)])
        )
        end = start + (0 if kind == "insert" else len(piece))
        body[start:end] = b"" if kind == "remove" else piece
    try:
        header = read_header(body, transfer_syntax)
    except RefusedError as error:
        assert error.status is StoreStatus.CANNOT_UNDERSTAND  # noqa: PT017 (either outcome is right)
    else:
        for uid in (header.study_instance_uid, header.series_instance_uid, header.sop_instance_uid):
            assert uid.replace(".", "").isdigit()


def test_the_quarantine_stays_within_its_bounds(tmp_path: Path) -> None:
    for number in range(6):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(bytes(100))
        path.with_suffix(".json").write_text("{}")
        os.utime(path, (number, number))
    make_room(tmp_path, 100, maximum_bytes=450, maximum_objects=10)
    assert sorted(path.name for path in tmp_path.glob("*.bin")) == ["3.bin", "4.bin", "5.bin"]
    make_room(tmp_path, 1, maximum_bytes=450, maximum_objects=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["5.bin", "5.json"]


@pytest.mark.data
def test_real_objects_of_many_makers_pass(real_data: Path) -> None:
    count = 0
    for path in sorted((real_data / "dicom/dicom2nifti_tests").rglob("*.dcm")):
        file = path.read_bytes()
        if file[128:132] != b"DICM":
            continue
        (length,) = struct.unpack_from("<L", file, 140)
        meta = dcmread(path, specific_tags=["SOPClassUID"], stop_before_pixels=True).file_meta
        read_header(memoryview(file)[144 + length :], str(meta.TransferSyntaxUID))
        count += 1
    assert count > 20
