"""Files of the spool as other software reads them."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from pydicom import dcmread

from dicom_node.receiving.spool import Spool
from dicom_node.receiving.spool_file import HEAD_BYTES, SpoolEntry, build_head, read_entry
from tests.dicom_node.test_spool import reception

DCMDUMP = Path("/usr/bin/dcmdump")
AE_TITLES = st.text(max_size=16)


def entry(**changes: object) -> SpoolEntry:
    said = replace(reception(), **changes)  # type: ignore[arg-type]
    return SpoolEntry(**{name: getattr(said, name) for name in said.__slots__}, sha256="a" * 64, size=3)


@given(calling=AE_TITLES, called=AE_TITLES, size=st.integers(1, 60))
def test_the_sidecar_comes_back_whatever_the_network_said(
    tmp_path_factory: pytest.TempPathFactory, calling: str, called: str, size: int
) -> None:
    uid = "1." * 2 + "9" * size
    kept = entry(calling_ae_title=calling, called_ae_title=called, sop_instance_uid=uid, sop_class_uid=uid)
    path = tmp_path_factory.getbasetemp() / "file.dcm"
    head = build_head(kept)
    path.write_bytes(head + b"data set")
    assert len(head) == HEAD_BYTES
    assert read_entry(path) == kept


def test_the_longest_that_the_network_can_say_fits_in() -> None:
    longest = dict.fromkeys(("sop_instance_uid", "sop_class_uid", "transfer_syntax_uid"), "1" * 64)
    longest |= dict.fromkeys(("study_instance_uid", "series_instance_uid"), "1" * 64)
    longest |= dict.fromkeys(("calling_ae_title", "called_ae_title"), "\x01" * 16)
    address = "fe80:0000:0000:0000:0000:0000:0000:0001%interface0"
    longest |= {"peer_address": address, "association_id": f"AcceptorThread@20260101000000-{address}:65535"}
    longest |= {"certificate_sha256": "f" * 64}
    assert len(build_head(entry(**longest))) == HEAD_BYTES


def test_what_could_not_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="longer than any"):
        build_head(entry(association_id="x" * HEAD_BYTES))


def test_a_file_without_a_sidecar_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.dcm").write_bytes(b"short")
    with pytest.raises(ValidationError):
        read_entry(tmp_path / "x.dcm")


def test_pydicom_reads_its_meta_information(tmp_path: Path) -> None:
    kept = Spool(tmp_path).store(b"\x08\x00\x60\x00CS\x02\x00MR", reception())
    dataset = dcmread(Spool(tmp_path).object_path(kept.sha256))
    assert dataset.Modality == "MR"
    assert dataset.file_meta.FileMetaInformationGroupLength == HEAD_BYTES - 132 - 12
    assert dataset.file_meta.MediaStorageSOPInstanceUID == "1.2.3"
    assert b'"calling_ae_title":"SCANNER"' in dataset.file_meta.PrivateInformation


@pytest.mark.apt
@pytest.mark.skipif(not DCMDUMP.exists(), reason="needs the Debian package dcmtk")
def test_dcmtk_reads_it_without_a_warning(tmp_path: Path) -> None:
    kept = Spool(tmp_path).store(b"\x08\x00\x60\x00CS\x02\x00MR", reception())
    path = Spool(tmp_path).object_path(kept.sha256)
    said = subprocess.run([DCMDUMP, path], capture_output=True, text=True, check=True, timeout=60)
    assert said.stderr == ""
    assert "(0008,0060) CS [MR]" in said.stdout
