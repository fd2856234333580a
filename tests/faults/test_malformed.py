"""Objects that are none, that lie, or that would burst: catalogue cases 34–36."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    MRImageStorage,
    RLELossless,
)
from pynetdicom import AE, evt

from dicom_node.association import close_when_cut
from dicom_node.receiving.store_status import StoreStatus
from tests.faults.receiver import Receiver, encode, make_object, running_receiver, store

PEERS = json.dumps([{"ae_title": "SCANNER", "address": "127.0.0.1"}])
ITEM = b"\xfe\xff\x00\xe0"
UNDEFINED = b"\xff\xff\xff\xff"


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with running_receiver(tmp_path_factory.mktemp("malformed"), PEERS) as node:
        yield node


def whole(**changes: object) -> bytes:
    dataset = make_object("malformed")
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    return encode(dataset)


def implicit() -> bytes:
    return encode(make_object("malformed"), implicit=True)


def before_pixels(inserted: bytes) -> bytes:
    """A whole object with an element of a private group put before its pixel data."""
    body = whole()
    place = body.index(b"\xe0\x7f\x10\x00O")
    return body[:place] + inserted + body[place:]


def nested(depth: int, *, defined: bool) -> bytes:
    if not defined:
        return (b"\x11\x70\x01\x10SQ\0\0" + UNDEFINED + ITEM + UNDEFINED) * depth
    inner = b""
    for _ in range(depth):
        item = ITEM + struct.pack("<L", len(inner)) + inner
        inner = b"\x11\x70\x01\x10SQ\0\0" + struct.pack("<L", len(item)) + item
    return inner


MALFORMED = {
    "garbage": lambda: b"garbage" * 2000,
    "zeros": lambda: bytes(10_000),
    "a file with its preamble": lambda: bytes(128) + b"DICM" + whole(),
    "cut in the pixels": lambda: whole()[:-100],
    "cut before the pixels": lambda: whole().partition(b"\xe0\x7f\x10\x00")[0],
    "cut in the header": lambda: whole()[:301],
    "a VR that does not exist": lambda: whole().replace(b"\x20\x00\x0d\x00UI", b"\x20\x00\x0d\x00ZZ"),
    "a length that lies": lambda: whole().replace(b"\x10\x00\x10\x00PN\x0e", b"\x10\x00\x10\x00PN\xff"),
    "sequences 3000 deep": lambda: before_pixels(nested(3000, defined=False)),
    "sequences 3000 deep, lengths given": lambda: before_pixels(nested(3000, defined=True)),
    "a million elements": lambda: before_pixels(b"\x11\x70\x01\x10LO\0\0" * 1_000_000),
    "a million items": lambda: before_pixels(
        b"\x11\x70\x01\x10SQ\0\0" + struct.pack("<L", 8_000_000) + (ITEM + bytes(4)) * 1_000_000
    ),
    "rows that lie": lambda: whole(Rows=65_535),
    "frames that lie": lambda: whole(NumberOfFrames=2_000_000),
    "no rows": lambda: whole(Rows=None),
    "no study UID": lambda: whole(StudyInstanceUID=None),
    "two instance UIDs": lambda: whole() + b"\x08\x00\x18\x00UI\x02\x001\0",
}


@pytest.mark.parametrize("name", MALFORMED)
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_34_what_is_malformed_is_refused_and_quarantined(receiver: Receiver, name: str) -> None:
    uid = str(make_object("malformed").SOPInstanceUID)
    body = MALFORMED[name]()
    before, quarantined = receiver.held(), receiver.quarantined()
    assert store(receiver.called(), body, uid) == StoreStatus.CANNOT_UNDERSTAND
    after = receiver.held()
    assert after.resident_mib - before.resident_mib < 64
    assert after.cpu_seconds - before.cpu_seconds < 5
    assert receiver.quarantined() == quarantined + 1
    assert uid not in receiver.stored()
    receiver.check({})


def test_34_a_huge_text_is_refused(receiver: Receiver) -> None:
    uid = str(make_object("malformed").SOPInstanceUID)
    head, tag, rest = implicit().partition(b"\x10\x00\x10\x00")
    (length,) = struct.unpack_from("<L", rest)
    body = head + tag + struct.pack("<L", 10_000_000) + b"A" * 10_000_000 + rest[4 + length :]
    status = store(receiver.called(), body, uid, transfer_syntax=ImplicitVRLittleEndian)
    assert status == StoreStatus.CANNOT_UNDERSTAND
    receiver.check({})


@pytest.mark.filterwarnings("ignore:Invalid value for VR DS")
def test_34_odd_but_whole_is_kept_for_the_worker_to_judge(receiver: Receiver) -> None:
    dataset = make_object("odd")
    dataset.PixelSpacing = [0, 0]
    dataset.SliceThickness = "nan"
    body = encode(dataset)
    assert b"nan" in body
    assert b"ISO_IR 192" in body
    body = body.replace(b"ISO_IR 192", b"ISO_IR ???")
    assert store(receiver.called(), body, str(dataset.SOPInstanceUID)) == StoreStatus.SUCCESS
    receiver.check({str(dataset.SOPInstanceUID): body})


@pytest.mark.parametrize("transfer_syntax", [DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_35_what_inflates_without_limit_is_not_negotiated(receiver: Receiver, transfer_syntax: str) -> None:
    entity = AE(ae_title="SCANNER")
    entity.add_requested_context(MRImageStorage, transfer_syntax)
    association = entity.associate(
        "127.0.0.1",
        receiver.destination.port,
        ae_title="GLIOGRADE",
        evt_handlers=[(evt.EVT_CONN_OPEN, close_when_cut)],
    )
    assert association.accepted_contexts == []
    receiver.check({})


@pytest.mark.parametrize("transfer_syntax", [JPEG2000Lossless, RLELossless])
@pytest.mark.parametrize(
    ("rows", "columns", "frames"), [(65_535, 65_535, 1), (4096, 4096, 999_999), (64, 64, 3), (0, 64, 1)]
)
def test_35_forged_sizes_of_compressed_pixels_are_refused(
    receiver: Receiver, transfer_syntax: str, rows: int, columns: int, frames: int
) -> None:
    dataset = compressed(rows, columns, frames)
    status = store(
        receiver.called(), encode(dataset), str(dataset.SOPInstanceUID), transfer_syntax=transfer_syntax
    )
    assert status == StoreStatus.CANNOT_UNDERSTAND
    receiver.check({})


def test_35_compressed_pixels_cut_short_are_refused(receiver: Receiver) -> None:
    dataset = compressed(64, 64, 1)
    body, uid = encode(dataset), str(dataset.SOPInstanceUID)
    for cut in (8, 12, 30):
        status = store(receiver.called(), body[:-cut], uid, transfer_syntax=RLELossless)
        assert status == StoreStatus.CANNOT_UNDERSTAND
    assert store(receiver.called(), body, uid, transfer_syntax=RLELossless) == StoreStatus.SUCCESS
    receiver.check({uid: body})


def compressed(rows: int, columns: int, frames: int) -> Dataset:
    dataset = make_object("compressed")
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames = rows, columns, frames
    dataset["PixelData"].VR = "OB"
    dataset.PixelData = encapsulate([b"\xff\x4f" + bytes(62)])
    dataset["PixelData"].is_undefined_length = True
    return dataset


TRAVERSALS = ["../../x", "/tmp/gliograde-traversal", "..", "1.2/3", "1.2.3\\..\\x", "1.2\0.3", "A" * 64]


@pytest.mark.parametrize("uid", TRAVERSALS)
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_36_no_text_of_the_network_becomes_a_path(receiver: Receiver, uid: str) -> None:
    before = census(receiver)
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        dataset = make_object("36")
        right = str(dataset.SOPInstanceUID)
        dataset.PatientID = "../../ZZCANARY"
        setattr(dataset, keyword, uid)
        for named in (uid, right):
            status = store(receiver.called(), encode(dataset), named)
            # None: pynetdicom aborts on a UID in the command that it can't decode.
            assert status in {None, StoreStatus.CANNOT_UNDERSTAND, StoreStatus.DATASET_MISMATCH}
    status = store(receiver.called(), encode(make_object("36")), uid)
    assert status in {None, StoreStatus.CANNOT_UNDERSTAND, StoreStatus.DATASET_MISMATCH}
    quarantine = receiver.spool_folder / "quarantine"
    new = census(receiver) - before
    assert new
    assert {path.parent for path in new} == {quarantine}
    assert all(len(path.stem) == 64 and int(path.stem, 16) >= 0 for path in new)
    assert not Path("/tmp/gliograde-traversal").exists()
    receiver.check({})


def census(receiver: Receiver) -> set[Path]:
    """Every file in and two folders above the spool."""
    return {path for path in receiver.data_folder.parents[1].rglob("*") if path.is_file()}


def test_36_a_command_for_another_object_is_a_mismatch(receiver: Receiver) -> None:
    body = whole()
    uid = str(make_object("malformed").SOPInstanceUID)
    other_class = "1.2.840.10008.5.1.4.1.1.2"
    assert store(receiver.called(), body, "1.2.3") == StoreStatus.DATASET_MISMATCH
    assert store(receiver.called(), body, uid, class_uid=other_class) == StoreStatus.DATASET_MISMATCH
    syntax = ExplicitVRLittleEndian
    assert store(receiver.called(), body, uid, transfer_syntax=syntax) == StoreStatus.SUCCESS
    receiver.check({uid: body})
