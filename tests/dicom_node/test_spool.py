import errno
import hashlib
import os
import resource
import time
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from dicom_node.receiving.spool import (
    PART_LIFETIME,
    QUARANTINE_BYTES,
    Spool,
    SpoolError,
    SpoolFullError,
)
from dicom_node.receiving.spool_file import Reception, SpoolEntry


def reception(sop_instance_uid: str = "1.2.3") -> Reception:
    return Reception(
        sop_instance_uid=sop_instance_uid,
        sop_class_uid=str(MRImageStorage),
        transfer_syntax_uid=str(ExplicitVRLittleEndian),
        study_instance_uid="1.2",
        series_instance_uid="1.2.2",
        calling_ae_title="SCANNER",
        called_ae_title="GLIOGRADE",
        peer_address="127.0.0.1",
        association_id="a",
        received_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def spool(root: Path) -> Spool:
    return Spool(root)


def test_a_stored_object_is_a_dicom_file_with_the_bytes_as_received(spool: Spool) -> None:
    dataset = Dataset()
    dataset.SOPInstanceUID = "1.2.3"
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, dataset)
    entry = spool.store(buffer.getvalue(), reception())
    path = spool.object_path(entry.sha256)
    assert dcmread(path).SOPInstanceUID == "1.2.3"
    assert dcmread(path).file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert path.read_bytes().endswith(buffer.getvalue())
    assert list(spool.entries()) == [entry]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payloads=st.lists(st.binary(max_size=64), max_size=8))
def test_an_object_is_its_bytes(spool: Spool, root: Path, payloads: list[bytes]) -> None:
    for payload in payloads:
        entry = spool.store(payload, reception())
        assert entry.sha256 == hashlib.sha256(payload).hexdigest()
        assert entry.size == len(payload)
        assert spool.object_path(entry.sha256).read_bytes().endswith(payload)
        before = files(root)
        assert spool.store(memoryview(payload), reception("9.9")).sha256 == entry.sha256
        assert files(root) == before
    assert {hashlib.sha256(payload).hexdigest() for payload in payloads} <= {
        e.sha256 for e in spool.entries()
    }
    assert not list((root / "tmp").iterdir())


def test_no_network_text_is_in_a_path(spool: Spool, root: Path) -> None:
    evil = replace(reception(), study_instance_uid="../../evil", calling_ae_title="/evil")
    spool.store(b"x", evil)
    digest = hashlib.sha256(b"x").hexdigest()
    assert files(root.parent) == {f"spool/obj/{digest[:2]}/{digest}.dcm", f"spool/inbox/{digest}.dcm"}


def test_indexed_entries_leave_the_inbox_and_come_back_by_a_rescan(spool: Spool, root: Path) -> None:
    entry = spool.store(b"x", reception())
    spool.mark_indexed([entry])
    spool.mark_indexed([entry])
    assert list(spool.entries()) == []
    spool.store(b"x", reception())
    assert list(spool.entries()) == []
    assert spool.rescan() == 1
    assert list(Spool(root).entries()) == [entry]


def test_the_oldest_object_that_is_not_indexed_is_known_readable_or_not(spool: Spool, root: Path) -> None:
    assert spool.oldest_unindexed() is None
    entry = spool.store(b"x", reception())
    damaged = root / "inbox" / "damaged.dcm"
    damaged.touch()
    os.utime(damaged, (1000, 1000))
    assert spool.oldest_unindexed() == datetime.fromtimestamp(1000, UTC)
    damaged.unlink()
    newest = spool.oldest_unindexed()
    assert newest is not None
    assert newest > datetime.fromtimestamp(1000, UTC)
    spool.mark_indexed([entry])
    assert spool.oldest_unindexed() is None


def test_a_name_lost_in_a_power_cut_comes_back_from_the_inbox(spool: Spool) -> None:
    entry = spool.store(b"x", reception())
    spool.object_path(entry.sha256).unlink()
    assert list(spool.entries()) == [entry]
    assert spool.object_path(entry.sha256).read_bytes().endswith(b"x")


def test_a_store_cut_between_its_two_names_is_completed_by_the_next(spool: Spool, root: Path) -> None:
    entry = spool.store(b"x", reception())
    spool.object_path(entry.sha256).unlink()
    assert spool.store(b"x", reception()) == entry
    assert list(spool.entries()) == [entry]
    assert files(root) == {
        f"inbox/{entry.sha256}.dcm",
        f"obj/{entry.sha256[:2]}/{entry.sha256}.dcm",
    }


def test_torn_bytes_are_told_and_replaced_by_the_next_sending(spool: Spool, root: Path) -> None:
    entry = spool.store(b"whole", reception())
    assert spool.is_intact(entry)
    for path in (spool.object_path(entry.sha256), root / "inbox" / f"{entry.sha256}.dcm"):
        path.write_bytes(path.read_bytes()[:-2])
    assert not spool.is_intact(entry)
    spool.store(b"whole", reception())
    assert spool.is_intact(entry)
    assert list(spool.entries()) == [entry]
    assert not list((root / "tmp").iterdir())


def test_a_disk_that_fails_to_sync_leaves_no_name(
    spool: Spool, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr("dicom_node.receiving.spool.os.fsync", broken)
        with pytest.raises(SpoolError, match="EIO"):
            spool.store(b"x", reception())
    assert files(root) == set()
    kept = spool.store(b"x", reception())
    with monkeypatch.context() as patched:
        patched.setattr("dicom_node.receiving.spool.os.fsync", broken)
        with pytest.raises(SpoolError, match="EIO"):
            spool.store(b"x", reception())
    assert spool.store(b"x", reception()) == kept
    assert spool.is_intact(kept)


def test_an_unreadable_sidecar_does_not_hold_up_the_others(
    spool: Spool, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entry = spool.store(b"x", reception())
    (root / "inbox" / "damaged.dcm").write_text("{ZZCANARY")
    assert list(spool.entries()) == [entry]
    assert "damaged.dcm" in caplog.text
    assert "ZZCANARY" not in caplog.text


def test_only_old_left_overs_are_swept(spool: Spool, root: Path) -> None:
    old, new = root / "tmp" / "old.part", root / "tmp" / "new.part"
    old.touch()
    new.touch()
    long_ago = time.time() - 2 * PART_LIFETIME.total_seconds()
    os.utime(old, (long_ago, long_ago))
    Spool(root)
    assert not old.exists()
    assert new.exists()


def test_a_full_disk_is_refused_before_anything_is_written(root: Path) -> None:
    spool = Spool(root, minimum_free_bytes=2**62)
    with pytest.raises(SpoolFullError):
        spool.store(b"x", reception())
    assert files(root) == set()


def test_a_disk_that_fills_while_writing_leaves_nothing_behind(spool: Spool, root: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(SpoolFullError):
            spool.store(bytes(200_000), reception())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files(root) == set()


def test_other_disk_errors_are_named(spool: Spool, root: Path) -> None:
    (root / "tmp").rmdir()
    with pytest.raises(SpoolError, match="ENOENT"):
        spool.store(b"x", reception())


def test_quarantine_keeps_a_capped_copy_with_the_reason(spool: Spool, root: Path) -> None:
    spool.quarantine(
        bytes(QUARANTINE_BYTES + 10), "unparsable", replace(reception(), sop_instance_uid="../x")
    )
    (copy,) = (root / "quarantine").glob("*.bin")
    assert copy.stat().st_size == QUARANTINE_BYTES
    assert b"unparsable" in copy.with_suffix(".json").read_bytes()
    assert list(spool.entries()) == []


def test_an_entry_refuses_a_digest_that_is_none() -> None:
    fields = {name: getattr(reception(), name) for name in Reception.__slots__}
    with pytest.raises(ValueError, match="sha256"):
        SpoolEntry(**fields, sha256="../../etc", size=1)


def test_bytes_of_a_buffer_are_taken_as_they_are(spool: Spool) -> None:
    assert spool.store(BytesIO(b"abc").getbuffer(), reception()).size == 3
