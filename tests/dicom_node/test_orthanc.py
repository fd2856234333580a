"""Orthanc as the PACS: it takes every object, once, and shows the images."""

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from io import BytesIO
from pathlib import Path
from urllib.error import URLError

import pytest
from pydicom import dcmread

from dicom_node.peers.scu import Destination, InstanceKey, Sent, echo, find_instance, send
from dicom_node.peers.stow import WebDestination, ask_anything, find_stored, store
from dicom_node.results.part10 import write_bytes
from tests.dicom_node.result_samples import make_report, mr_series, stored
from tests.dicom_node.test_extra_objects import build as build_all
from tests.dicom_node.test_results_validate import build

ORTHANC = shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin:/usr/bin")
DICOM_WEB = [Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")]

pytestmark = [
    pytest.mark.apt,
    pytest.mark.skipif(ORTHANC is None, reason="needs the Debian package orthanc"),
]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def ask(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read()


@pytest.fixture
def orthanc(tmp_path):
    """A running Orthanc: its DICOM side as a destination, and the URL of its REST side."""
    dicom_port, http_port = free_port(), free_port()
    settings = {
        "Name": "tests",
        "StorageDirectory": str(tmp_path / "storage"),
        "IndexDirectory": str(tmp_path / "storage"),
        "DicomAet": "ORTHANC",
        "DicomPort": dicom_port,
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "DicomAlwaysAllowFind": True,
        "Plugins": [str(path) for path in DICOM_WEB if path.exists()],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (tmp_path / "orthanc.json").write_text(json.dumps(settings))
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([str(ORTHANC), tmp_path / "orthanc.json"], stdout=log, stderr=log)
    url = f"http://127.0.0.1:{http_port}"
    try:
        wait_for(url, process)
        yield (
            Destination(name="orthanc", ae_title="ORTHANC", address="127.0.0.1", port=dicom_port),
            url,
        )
    finally:
        process.terminate()
        process.wait(30)


def wait_for(url, process):
    for _ in range(300):
        assert process.poll() is None
        try:
            ask(f"{url}/system")
        except URLError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("Orthanc does not answer")


def test_orthanc_takes_the_results_once_and_shows_the_images(orthanc, tmp_path):
    destination, url = orthanc
    document_bytes, image_bytes = build([stored(dataset) for dataset in mr_series()], make_report())
    files = [tmp_path / "image.dcm", tmp_path / "report.dcm"]
    for path, content in zip(files, (image_bytes, document_bytes), strict=True):
        path.write_bytes(content)
    document = dcmread(files[1])
    echo(destination)
    for _ in range(2):
        assert {outcome.outcome for outcome in send(files, destination)} == {Sent.SENT}
        assert json.loads(ask(f"{url}/statistics"))["CountInstances"] == len(files)
    assert find_instance(
        destination, document.StudyInstanceUID, document.SeriesInstanceUID, document.SOPInstanceUID
    )
    for instance in json.loads(ask(f"{url}/instances?expand")):
        if instance["MainDicomTags"]["SOPInstanceUID"] != document.SOPInstanceUID:
            assert ask(f"{url}/instances/{instance['ID']}/preview").startswith(b"\x89PNG")


def test_orthanc_takes_every_kind_of_object(orthanc, tmp_path):
    destination, url = orthanc
    files = []
    for number, dataset in enumerate(build_all([stored(dataset) for dataset in mr_series()])):
        files.append(tmp_path / f"{number}.dcm")
        files[-1].write_bytes(write_bytes(dataset))
    assert {outcome.outcome for outcome in send(files, destination)} == {Sent.SENT}
    assert json.loads(ask(f"{url}/statistics"))["CountInstances"] == len(files)
    held = {
        instance["MainDicomTags"]["SOPInstanceUID"]: instance["ID"]
        for instance in json.loads(ask(f"{url}/instances?expand"))
    }
    for path in files:
        sent = dcmread(path)
        assert dcmread(BytesIO(ask(f"{url}/instances/{held[sent.SOPInstanceUID]}/file"))) == sent


@pytest.mark.skipif(not DICOM_WEB[0].exists(), reason="needs the Debian package orthanc-dicomweb")
def test_orthanc_takes_every_kind_of_object_by_dicomweb(orthanc, tmp_path):
    _, url = orthanc
    destination = WebDestination(name="orthanc", url=f"{url}/dicom-web")
    files, keys = [], []
    for number, dataset in enumerate(build_all([stored(dataset) for dataset in mr_series()])):
        files.append(tmp_path / f"{number}.dcm")
        files[-1].write_bytes(write_bytes(dataset))
        keys.append(InstanceKey(dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID))
    ask_anything(destination)
    assert find_stored(destination, keys) == frozenset()
    for _ in range(2):
        assert {(item.outcome, item.status) for item in store(files, destination)} == {(Sent.SENT, 0x0000)}
        assert json.loads(ask(f"{url}/statistics"))["CountInstances"] == len(files)
    assert find_stored(destination, keys) == {key.sop_instance_uid for key in keys}
