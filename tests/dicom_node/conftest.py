"""Small real studies, a running SCP, and the folder of real cases."""

import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_node.peers.scu import Destination
from dicom_node.reading.mr_study import PROTOCOL, PatientIdentity, StudyHeader, build_mr_study, save_study
from dicom_node.receiving.scp import StorageScp
from dicom_node.receiving.spool import Spool
from dicom_node.settings import AllowedPeer, NodeSettings
from model.space.volume import Volume

DATA = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture
def data_folder() -> Path:
    if not DATA.is_dir():
        pytest.skip("needs the real cases of ../shared/data")
    return DATA


@pytest.fixture
def small_volume() -> Volume:
    """12 axial slices, 120 mm of head, whole numbers."""
    array = np.random.default_rng(2).integers(0, 4000, (16, 20, 12)).astype(np.float32)
    return Volume(array, np.array([[-9.0, 0, 0, 70], [0, 8.0, 0, -80], [0, 0, 10, -50], [0, 0, 0, 1]]))


@pytest.fixture
def study_header() -> StudyHeader:
    patient = PatientIdentity(patient_id="ZZCANARYID", patient_name="ZZCANARY^NAME")
    return StudyHeader(patient=patient, seed="tests")


@pytest.fixture
def study(small_volume: Volume, study_header: StudyHeader) -> list[Dataset]:
    return build_mr_study([(small_volume, header) for header in PROTOCOL.values()], study_header)


@pytest.fixture
def study_files(study: list[Dataset], tmp_path: Path) -> list[Path]:
    return save_study(study, tmp_path / "study")


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def node_settings(tmp_path: Path, free_port: int) -> NodeSettings:
    return NodeSettings(
        data_folder=tmp_path / "data",
        dicom_port=free_port,
        minimum_free_bytes=0,
        network_timeout=timedelta(seconds=20),
        peers=(AllowedPeer(ae_title="SCANNER", address="127.0.0.1"),),
    )


@pytest.fixture
def spool(node_settings: NodeSettings) -> Spool:
    return Spool(node_settings.spool_folder)


@pytest.fixture
def scp(node_settings: NodeSettings, spool: Spool) -> Iterator[StorageScp]:
    with StorageScp(node_settings, spool) as server:
        yield server


@pytest.fixture
def node(scp: StorageScp) -> Callable[[str], Destination]:
    """Our node as a peer sees it that calls itself by a name."""

    def destination(calling_ae_title: str = "SCANNER", ae_title: str = "GLIOGRADE") -> Destination:
        return Destination(
            name="node",
            ae_title=ae_title,
            address="127.0.0.1",
            port=scp.port,
            calling_ae_title=calling_ae_title,
        )

    return destination


@pytest.fixture
def scp_destination(node: Callable[[str], Destination]) -> Destination:
    return node("SCANNER")
