"""The receiving node as a process of its own, and what must hold after every fault (the common oracle)."""

import hashlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import psutil
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, evt
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import P_DATA_TF

from dicom_node.association import MAXIMUM_PDU_BYTES, close_when_cut
from dicom_node.peers.scu import Destination, echo
from dicom_node.reading.mr_study import PROTOCOL, PatientIdentity, StudyHeader, build_mr_study
from dicom_node.receiving.spool import Spool
from dicom_node.tls import TlsFiles
from model.space.volume import Volume
from tests.faults.processes import Held, family, held, kill_group

CANARY = "ZZCANARY"
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Receiver:
    process: psutil.Process
    destination: Destination
    data_folder: Path
    log: Path

    @property
    def spool_folder(self) -> Path:
        return self.data_folder / "spool"

    def called(self, calling_ae_title: str = "SCANNER", tls: TlsFiles | None = None) -> Destination:
        return replace(self.destination, calling_ae_title=calling_ae_title, tls=tls)

    def connect(self) -> socket.socket:
        return socket.create_connection((self.destination.address, self.destination.port), timeout=20)

    def held(self) -> Held:
        """What it and its children hold of the machine."""
        return held(self.process.pid)

    def process_count(self) -> int:
        return len(family(self.process.pid))

    def stored(self) -> dict[str, str]:
        return {entry.sop_instance_uid: entry.sha256 for entry in Spool(self.spool_folder).entries()}

    def quarantined(self) -> int:
        return len(list((self.spool_folder / "quarantine").glob("*.bin")))

    def check(self, acknowledged: Mapping[str, bytes]) -> None:
        """Acknowledged objects (UID → data set) are kept, nothing half is, it answers, it kept quiet."""
        stored = self.stored()
        for uid, dataset_bytes in acknowledged.items():
            assert stored[uid] == hashlib.sha256(dataset_bytes).hexdigest()
            file = Spool(self.spool_folder).object_path(stored[uid]).read_bytes()
            assert file.endswith(dataset_bytes)
        assert list((self.spool_folder / "tmp").iterdir()) == []
        assert CANARY not in self.log.read_text()
        if self.process.is_running() and self.process.status() != psutil.STATUS_ZOMBIE:
            echo(self.destination)


@contextmanager
def running_receiver(
    folder: Path, peers: str, tls: TlsFiles | None = None, **settings: str
) -> Iterator[Receiver]:
    """A node that listens; `peers` is the JSON of the allow-list, `settings` names without prefix."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder.mkdir(exist_ok=True)
    given = {"data_folder": str(folder / "data"), "dicom_port": str(port), "minimum_free_bytes": "0"}
    given |= {"peers": peers, **settings}
    environment = {f"GLIOGRADE_{name.upper()}": value for name, value in given.items()}
    log = folder / "log"
    command = [sys.executable, "-m", "dicom_node"]
    with (
        log.open("w") as file,
        subprocess.Popen(
            command,
            env=os.environ | environment | {"PYTHONPATH": str(ROOT)},
            stderr=file,
            cwd=folder,
            start_new_session=True,
        ) as process,
    ):
        try:
            _wait_until_ready(process, log)
            destination = Destination(
                name="node",
                ae_title="GLIOGRADE",
                address="127.0.0.1",
                port=port,
                calling_ae_title="SCANNER",
                tls=tls,
            )
            yield Receiver(psutil.Process(process.pid), destination, folder / "data", log)
        finally:
            kill_group(process)


def _wait_until_ready(process: "subprocess.Popen[bytes]", log: Path) -> None:
    while "ready: " not in log.read_text():
        assert process.poll() is None, log.read_text()
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue


def make_object(seed: str = "faults") -> Dataset:
    """One slice of a small MR series; its patient is a canary."""
    array = np.random.default_rng(1).integers(0, 4000, (16, 20, 3)).astype(np.float32)
    volume = Volume(array, np.diag([9.0, 8.0, 10.0, 1.0]))
    patient = PatientIdentity(patient_id=f"{CANARY}ID", patient_name=f"{CANARY}^NAME")
    protocol = next(iter(PROTOCOL.values()))
    return build_mr_study([(volume, protocol)], StudyHeader(patient=patient, seed=seed))[0]


def encode(dataset: Dataset, *, implicit: bool = False) -> bytes:
    """A data set as it goes over the network, without file meta information."""
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, implicit
    write_dataset(buffer, dataset)
    return buffer.getvalue()


def association_request(destination: Destination) -> bytes:
    """The bytes of an A-ASSOCIATE-RQ for MR objects, as a peer would send them to the destination."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        entity = AE(ae_title=destination.calling_ae_title)
        entity.add_requested_context(MRImageStorage, ExplicitVRLittleEndian)
        asking = threading.Thread(
            target=entity.associate,
            args=("127.0.0.1", listener.getsockname()[1]),
            kwargs={"ae_title": destination.ae_title, "evt_handlers": [(evt.EVT_CONN_OPEN, close_when_cut)]},
        )
        asking.start()
        connection, _ = listener.accept()
        with connection:
            request = connection.recv(65_536)
            connection.sendall(bytes.fromhex("03000000000400010101"))  # A-ASSOCIATE-RJ
            asking.join()
    return request


def store_request(dataset_bytes: bytes, instance_uid: str) -> bytes:
    """The bytes of the P-DATA-TF PDUs of one C-STORE-RQ in the association's only context."""
    request = C_STORE()
    request.MessageID = 1
    request.Priority = 2
    request.AffectedSOPClassUID = MRImageStorage
    request.AffectedSOPInstanceUID = instance_uid
    request.DataSet = BytesIO(dataset_bytes)
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    pdus = []
    for primitive in message.encode_msg(context_id=1, max_pdu_length=MAXIMUM_PDU_BYTES):
        pdu = P_DATA_TF()
        pdu.from_primitive(primitive)
        pdus.append(pdu.encode())
    return b"".join(pdus)


def store(
    destination: Destination,
    dataset_bytes: bytes,
    instance_uid: str,
    *,
    class_uid: str = MRImageStorage,
    transfer_syntax: str = ExplicitVRLittleEndian,
) -> int | None:
    """C-STORE of any bytes under any UIDs; the status, None where the line was cut."""
    entity = AE(ae_title=destination.calling_ae_title)
    entity.dimse_timeout = 60
    entity.add_requested_context(MRImageStorage, transfer_syntax)
    association = entity.associate(
        destination.address,
        destination.port,
        ae_title=destination.ae_title,
        evt_handlers=[(evt.EVT_CONN_OPEN, close_when_cut)],
    )
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
        return response.Status if isinstance(response, C_STORE) else None
    finally:
        association.release()
