import errno
import logging
import socket
import subprocess
import threading
from collections.abc import Callable
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    MRImageStorage,
)
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at import time
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from dicom_node.association import (
    MESSAGE_TRANSFER_SYNTAXES,
    MR_STORAGE_CLASSES,
    RECEIVED_TRANSFER_SYNTAXES,
)
from dicom_node.peers.scu import AssociationError, Destination, Sent, echo, send
from dicom_node.receiving.scp import NoPeersError, PortInUseError, StorageScp
from dicom_node.receiving.spool import Spool
from dicom_node.receiving.spool_file import SpoolEntry
from dicom_node.receiving.store_status import StoreStatus
from dicom_node.settings import NodeSettings

Node = Callable[..., Destination]
STORESCU = Path("/usr/bin/storescu")


def store_raw(node: Destination, dataset_bytes: bytes, class_uid: str, instance_uid: str) -> int:
    """Send bytes as a data set, whatever they are."""
    entity = AE(ae_title=node.calling_ae_title)
    entity.add_requested_context(MRImageStorage, ExplicitVRLittleEndian)
    association = entity.associate(node.address, node.port, ae_title=node.ae_title)
    try:
        request = C_STORE()
        request.MessageID = 1
        request.Priority = 2
        request.AffectedSOPClassUID = class_uid
        request.AffectedSOPInstanceUID = instance_uid
        request.DataSet = BytesIO(dataset_bytes)
        association._reactor_checkpoint.clear()
        context_id = association.accepted_contexts[0].context_id
        assert context_id is not None
        association.dimse.send_msg(request, context_id)
        _, response = association.dimse.get_msg(block=True)
        association._reactor_checkpoint.set()
        assert isinstance(response, C_STORE)
        assert response.Status is not None
        return response.Status
    finally:
        association.release()


def encoded(dataset: Dataset) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, dataset)
    return buffer.getvalue()


def test_a_study_is_received_byte_for_byte(
    node: Node, spool: Spool, study: list[Dataset], study_files: list[Path]
) -> None:
    outcomes = list(send(study_files, node()))
    assert {outcome.outcome for outcome in outcomes} == {Sent.SENT}
    entries = list(spool.entries())
    assert {entry.sop_instance_uid for entry in entries} == {str(dataset.SOPInstanceUID) for dataset in study}
    by_uid = {entry.sop_instance_uid: entry for entry in entries}
    for path, dataset in zip(study_files, study, strict=True):
        entry = by_uid[str(dataset.SOPInstanceUID)]
        assert spool.object_path(entry.sha256).read_bytes()[-entry.size :] == path.read_bytes()[-entry.size :]
        assert dcmread(spool.object_path(entry.sha256)) == dcmread(path)
        assert entry.study_instance_uid == dataset.StudyInstanceUID
        assert entry.series_instance_uid == dataset.SeriesInstanceUID
        assert (entry.calling_ae_title, entry.called_ae_title) == ("SCANNER", "GLIOGRADE")
        assert entry.peer_address == "127.0.0.1"
    assert len({entry.association_id for entry in entries}) == 1


def test_the_same_object_again_is_success_and_nothing_new(
    node: Node, spool: Spool, study_files: list[Path]
) -> None:
    for _ in range(2):
        assert [outcome.status for outcome in send(study_files[:1], node())] == [0x0000]
    assert len(list(spool.entries())) == 1


def test_several_associations_at_once_lose_nothing(node: Node, spool: Spool, study_files: list[Path]) -> None:
    outcomes: list[Sent] = []

    def scanner(part: list[Path]) -> None:
        outcomes.extend(outcome.outcome for outcome in send(part, node()))

    threads = [threading.Thread(target=scanner, args=(study_files[k::3],)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [Sent.SENT] * len(study_files)
    assert len(list(spool.entries())) == len(study_files)


def test_echo(node: Node) -> None:
    echo(node())


@pytest.mark.parametrize(
    ("calling", "called", "words"),
    [
        ("STRANGER", "GLIOGRADE", "Calling AE title not recognised"),
        ("SCANNER", "OTHER", "Called AE title not recognised"),
    ],
)
def test_an_unknown_ae_title_is_rejected_for_good(node: Node, calling: str, called: str, words: str) -> None:
    with pytest.raises(AssociationError, match=words) as caught:
        echo(node(calling, called))
    assert not caught.value.transient


def test_the_right_ae_title_from_another_address_gets_no_answer(
    node_settings: NodeSettings, spool: Spool
) -> None:
    peer = node_settings.peers[0].model_copy(update={"address": "192.0.2.1"})
    settings = node_settings.model_copy(update={"peers": (peer,)})
    with StorageScp(settings, spool) as scp, pytest.raises(AssociationError, match="aborted"):
        echo(
            Destination(
                name="n", ae_title="GLIOGRADE", address="127.0.0.1", port=scp.port, calling_ae_title="SCANNER"
            )
        )


def test_without_peers_it_does_not_start(node_settings: NodeSettings, spool: Spool) -> None:
    with pytest.raises(NoPeersError, match="peers"):
        StorageScp(node_settings.model_copy(update={"peers": ()}), spool)


def test_a_taken_port_is_named(scp: StorageScp, node_settings: NodeSettings, spool: Spool) -> None:
    with pytest.raises(PortInUseError, match=str(scp.port)):
        StorageScp(node_settings, spool).start()


def test_only_what_we_decode_is_negotiated(node: Node) -> None:
    entity = AE(ae_title="SCANNER")
    syntaxes = [*RECEIVED_TRANSFER_SYNTAXES, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian]
    messages = (Verification, StorageCommitmentPushModel)
    classes = (*MR_STORAGE_CLASSES, CTImageStorage, StudyRootQueryRetrieveInformationModelFind, *messages)
    offered = [(uid, syntax) for uid in classes for syntax in syntaxes]
    for uid, syntax in offered:
        entity.add_requested_context(uid, syntax)
    association: Association = entity.associate("127.0.0.1", node().port, ae_title="GLIOGRADE")
    accepted = {(str(c.abstract_syntax), str(c.transfer_syntax[0])) for c in association.accepted_contexts}
    association.release()
    expected = [(uid, syntax) for uid in MR_STORAGE_CLASSES for syntax in RECEIVED_TRANSFER_SYNTAXES]
    expected += [(uid, syntax) for uid in messages for syntax in MESSAGE_TRANSFER_SYNTAXES]
    assert accepted == {(str(uid), str(syntax)) for uid, syntax in expected}


def test_a_command_that_names_another_object_is_a_mismatch(
    node: Node, scp: StorageScp, node_settings: NodeSettings, study: list[Dataset]
) -> None:
    body = encoded(study[0])
    uid = str(study[0].SOPInstanceUID)
    assert store_raw(node(), body, str(MRImageStorage), "1.2.3") == StoreStatus.DATASET_MISMATCH
    assert store_raw(node(), body, str(CTImageStorage), uid) == StoreStatus.DATASET_MISMATCH
    assert store_raw(node(), body, str(MRImageStorage), uid) == StoreStatus.SUCCESS
    assert len(list((node_settings.spool_folder / "quarantine").glob("*.bin"))) == 1


@pytest.mark.parametrize(
    "body", [b"", b"garbage" * 20, bytes(1000), b"\x08\x00\x05\x00SQ\0\0\xff\xff\xff\xff" * 4000]
)
@pytest.mark.filterwarnings("ignore:Expected explicit VR")
def test_what_is_no_dicom_is_quarantined(
    node: Node, spool: Spool, node_settings: NodeSettings, body: bytes
) -> None:
    status = store_raw(node(), body or b"\0\0", str(MRImageStorage), "1.2.3")
    assert status == StoreStatus.CANNOT_UNDERSTAND
    assert list(spool.entries()) == []
    assert len(list((node_settings.spool_folder / "quarantine").glob("*.bin"))) == 1
    echo(node())


def test_a_full_disk_is_out_of_resources(
    node_settings: NodeSettings, study_files: list[Path], spool: Spool
) -> None:
    full = Spool(node_settings.spool_folder, minimum_free_bytes=2**62)
    with StorageScp(node_settings, full) as scp:
        destination = Destination(
            name="n", ae_title="GLIOGRADE", address="127.0.0.1", port=scp.port, calling_ae_title="SCANNER"
        )
        (outcome,) = send(study_files[:1], destination)
    assert (outcome.outcome, outcome.status) == (Sent.REFUSED, 0xA700)
    assert list(spool.entries()) == []


def test_a_broken_disk_is_out_of_resources(
    node: Node, spool: Spool, study_files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("os.fsync", broken)
    (outcome,) = send(study_files[:1], node())
    assert outcome.status == StoreStatus.OUT_OF_RESOURCES


def test_the_log_carries_no_patient_text(
    node: Node, study: list[Dataset], study_files: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    list(send(study_files[:2], node()))
    store_raw(node(), encoded(study[0]), str(MRImageStorage), "1.2.3")
    assert "stored" in caplog.text
    assert "refused" in caplog.text
    assert "ZZCANARY" not in caplog.text


def test_stopping_ends_an_idle_association(node_settings: NodeSettings, spool: Spool) -> None:
    scp = StorageScp(node_settings, spool)
    scp.start()
    entity = AE(ae_title="SCANNER")
    entity.add_requested_context(MRImageStorage)
    association = entity.associate("127.0.0.1", scp.port, ae_title="GLIOGRADE")
    scp.stop(drain=timedelta(milliseconds=100))
    association.join(10)
    assert association.is_aborted
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", node_settings.dicom_port)) != 0


@pytest.mark.data
@pytest.mark.parametrize(
    "name", ["compressed_rle", "compressed_jpeg", "compressed_jpegls", "compressed_j2k", "anatomical"]
)
def test_compressed_objects_are_received_and_decodable(
    data_folder: Path, node: Node, spool: Spool, name: str
) -> None:
    files = sorted((data_folder / "dicom/dicom2nifti_tests/generic" / name / "001").iterdir())
    assert [outcome.outcome for outcome in send(files, node())] == [Sent.SENT] * len(files)
    entries: list[SpoolEntry] = list(spool.entries())
    assert len(entries) == len(files)
    for entry in entries:
        assert dcmread(spool.object_path(entry.sha256)).pixel_array.any()


@pytest.mark.apt
@pytest.mark.skipif(not STORESCU.exists(), reason="needs the Debian package dcmtk")
@pytest.mark.parametrize("option", ["-xe", "-xi"])
def test_dcmtk_sends_to_it(node: Node, spool: Spool, study_files: list[Path], option: str) -> None:
    # By its full name: pynetdicom installs a storescu of its own beside the interpreter.
    command: list[str | Path] = [
        STORESCU,
        option,
        "-aet",
        "SCANNER",
        "-aec",
        "GLIOGRADE",
        "127.0.0.1",
        str(node().port),
    ]
    subprocess.run([*command, *study_files[:12]], check=True, timeout=60)
    entries = list(spool.entries())
    assert len(entries) == 12
    sent = {str(dcmread(path).SOPInstanceUID): dcmread(path).pixel_array for path in study_files[:12]}
    for entry in entries:
        assert (dcmread(spool.object_path(entry.sha256)).pixel_array == sent[entry.sop_instance_uid]).all()
