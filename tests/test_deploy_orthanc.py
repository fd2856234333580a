"""Orthanc as the PACS of deploy/: it sends what it should to the node, and not our results."""

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import pytest
import yaml
from pydicom import dcmread

from dicom_node.peers.scu import Destination, Sent, count_instances, send
from dicom_node.receiving.scp import StorageScp
from dicom_node.receiving.spool import Spool
from dicom_node.settings import AllowedPeer, NodeSettings
from tests.dicom_node.result_samples import make_report, mr_series, stored
from tests.dicom_node.test_results_validate import build
from worker.settings import Settings

DEPLOY = Path(__file__).parent.parent / "deploy"
CONFIGURATION = json.loads((DEPLOY / "orthanc" / "orthanc.json").read_text())
SERVICES = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
ORTHANC = shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin:/usr/bin")


def test_the_orthanc_of_compose_starts_by_profile_alone_and_finds_its_files():
    orthanc = SERVICES["orthanc"]
    assert orthanc["profiles"] == ["pacs"]
    mounted = dict(volume.split(":")[:2] for volume in orthanc["volumes"])
    targets = {target: source for source, target in mounted.items()}
    for target in ("/etc/orthanc/orthanc.json", *CONFIGURATION["LuaScripts"]):
        assert (DEPLOY / targets[target]).is_file()
    assert f"127.0.0.1:{CONFIGURATION['HttpPort']}:{CONFIGURATION['HttpPort']}" in orthanc["ports"]


def test_orthanc_and_the_node_know_each_other(monkeypatch):
    monkeypatch.setenv("GLIOGRADE_SETTINGS", str(DEPLOY / "orthanc" / "gliograde.toml"))
    settings = Settings()
    modality = CONFIGURATION["DicomModalities"]["gliograde"]
    assert (modality["AET"], modality["Port"]) == (settings.ae_title, settings.dicom_port)
    assert modality["Host"] in SERVICES
    assert {peer.ae_title for peer in settings.peers} == {CONFIGURATION["DicomAet"]}
    for peer in (*settings.destinations, *settings.sources):
        assert isinstance(peer, Destination)
        assert (peer.ae_title, peer.port) == (CONFIGURATION["DicomAet"], CONFIGURATION["DicomPort"])
        assert peer.address in SERVICES


@pytest.mark.apt
@pytest.mark.skipif(ORTHANC is None, reason="needs the Debian package orthanc")
def test_orthanc_sends_each_study_once_and_what_came_late_and_none_of_our_results(orthanc, spool, tmp_path):
    destination, url = orthanc
    series = mr_series()
    files = save([stored(dataset) for dataset in series], tmp_path)
    results = [tmp_path / f"result-{number}.dcm" for number in range(2)]
    for path, content in zip(results, build([stored(d) for d in series], make_report()), strict=True):
        path.write_bytes(content)

    deliver(files[:-1], destination)
    wait_until(lambda: len(list(spool.entries())) == len(files) - 1)
    deliver(results, destination)
    wait_until(lambda: stable_events(url) == 2)
    assert len(ask(f"{url}/jobs")) == 1
    deliver(files[-1:], destination)
    wait_until(lambda: len(list(spool.entries())) == len(files))
    assert len(ask(f"{url}/jobs")) == 2
    asked = replace(destination, calling_ae_title="GLIOGRADE")
    assert sum(count_instances(asked, series[0].StudyInstanceUID).values()) == len(files)
    sent = {dcmread(path).SOPInstanceUID for path in files}
    assert {entry.sop_instance_uid for entry in spool.entries()} == sent


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "data" / "spool")


@pytest.fixture
def orthanc(tmp_path, spool):
    """Orthanc beside a node, as they are deployed but for addresses and waits: its DICOM side and its URL."""
    ports = [free_port() for _ in range(3)]
    node = NodeSettings(
        data_folder=tmp_path / "data",
        dicom_port=ports[0],
        minimum_free_bytes=0,
        peers=(AllowedPeer(ae_title=CONFIGURATION["DicomAet"], address="127.0.0.1"),),
    )
    modality = CONFIGURATION["DicomModalities"]["gliograde"] | {"Host": "127.0.0.1", "Port": ports[0]}
    changed = CONFIGURATION | {
        "StorageDirectory": str(tmp_path / "storage"),
        "IndexDirectory": str(tmp_path / "storage"),
        "LuaScripts": [str(DEPLOY / "orthanc" / "gliograde.lua")],
        "StableAge": 2,
        "DicomPort": ports[1],
        "DicomModalities": {"gliograde": modality},
        "HttpPort": ports[2],
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
    }
    (tmp_path / "orthanc.json").write_text(json.dumps(changed))
    url = f"http://127.0.0.1:{ports[2]}"
    with (
        StorageScp(node, spool),
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen([str(ORTHANC), tmp_path / "orthanc.json"], stdout=log, stderr=log) as process,
    ):
        try:
            wait_until(lambda: answers(url))
            yield (
                Destination(
                    name="orthanc",
                    ae_title=CONFIGURATION["DicomAet"],
                    address="127.0.0.1",
                    port=ports[1],
                    calling_ae_title="SCANNER",
                ),
                url,
            )
        finally:
            process.terminate()


def deliver(files, destination):
    assert {outcome.outcome for outcome in send(files, destination)} == {Sent.SENT}


def save(datasets, folder):
    paths = []
    for number, dataset in enumerate(datasets):
        paths.append(folder / f"{number}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def ask(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.loads(answer.read())


def answers(url):
    try:
        return ask(f"{url}/system")
    except URLError:
        return False


def stable_events(url):
    changes = ask(f"{url}/changes?limit=1000")["Changes"]
    return sum(change["ChangeType"] == "StableStudy" for change in changes)


def wait_until(holds):
    for _ in range(600):
        if holds():
            return
        time.sleep(0.1)
    pytest.fail("it did not come about in a minute")
