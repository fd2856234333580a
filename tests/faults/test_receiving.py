"""Faults that strike while objects are received: catalogue cases 1, 2, 3, 5 and 7; real processes."""

import json
import os
import random
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from dicom_node.installation import open_installation
from dicom_node.peers.scu import AssociationError, SendOutcome, Sent, send
from dicom_node.reading.mr_study import PROTOCOL, build_mr_series, save_study
from dicom_node.receiving.spool import Spool
from dicom_node.receiving.store_status import StoreStatus
from model.space.volume import Volume
from tests.faults.receiver import (
    association_request,
    encode,
    make_object,
    running_receiver,
    store,
    store_request,
)
from tests.faults.service import dataset_sha256, header, wait_for
from tests.faults.small_disk import small_disk
from worker.states import JobState

pytestmark = pytest.mark.filterwarnings("ignore:unclosed.*socket:ResourceWarning")  # pynetdicom's
PEERS = json.dumps([{"ae_title": "SCANNER", "address": "127.0.0.1"}])
A_DAY_AGO = time.time() - 24 * 60 * 60


def whole(service, path):
    """Whether the spool has the object of a file, byte for byte; never half of it."""
    sha256 = dataset_sha256(path)
    kept = Spool(service.settings.spool_folder).object_path(sha256)
    if not kept.exists():
        return False
    assert dataset_sha256(kept) == sha256
    return True


def localizer_of(study, slices):
    """A series of many slices that is no candidate for anything."""
    noise = np.random.default_rng(1).uniform(100, 900, (32, 32, slices)).astype(np.float32)
    plan = replace(PROTOCOL["t1"], description="localizer")
    return build_mr_series(Volume(noise, np.diag([7.0, 7.0, 0.5, 1.0])), plan, study, 4)


def parts(service):
    return list((service.settings.spool_folder / "tmp").iterdir())


@pytest.mark.slow
def test_01_the_node_is_killed_in_the_middle_of_a_study(service, make_study, tmp_path):
    """What was acknowledged is there after each kill, nothing is there by halves, one row for each object."""
    source, kills = random.Random(1), 8
    study = make_study()
    same = header(study.patient_id.removeprefix("PAT-"), study.patient_id)
    many = save_study(localizer_of(same, slices=300), tmp_path / "many")
    study = replace(study, files=(*study.files, *many))
    acknowledged, cut_off = set(), 0
    service.kill("worker")
    for _ in range(kills):
        order = source.sample(study.files, len(study.files))
        outcomes: list[SendOutcome] = []
        sender = threading.Thread(target=send_until_cut, args=(order, service.receiver, outcomes))
        sender.start()
        enough = source.randrange(len(order) * 3 // 4)
        while len(outcomes) < enough and sender.is_alive():
            time.sleep(0.001)
        service.kill("node")
        sender.join()
        acknowledged |= {outcome.path for outcome in outcomes if outcome.outcome is Sent.SENT}
        cut_off += any(outcome.outcome in (Sent.UNKNOWN, Sent.NOT_SENT) for outcome in outcomes)
        assert acknowledged <= {path for path in study.files if whole(service, path)}
        service.start_node()
        wait_for(service.answers_echo, "the Storage SCP")
    assert cut_off > kills / 2
    assert len(parts(service)) <= kills  # one association: one object under way
    service.send(study.files)
    service.start_worker()
    assert service.wait_done(study).state is JobState.DONE
    service.check(study)
    for part in parts(service):
        os.utime(part, (A_DAY_AGO, A_DAY_AGO))
    service.kill("node")
    service.start_node()
    wait_for(service.answers_echo, "the Storage SCP")
    assert parts(service) == []


def send_until_cut(files, receiver, outcomes):
    try:
        for outcome in send(files, receiver):
            outcomes.append(outcome)
    except AssociationError:  # killed before there was an association
        return


@pytest.mark.slow
@pytest.mark.parametrize("running", ["3m"], indirect=True)
def test_02_the_disk_is_full(service, make_study):
    """0xA700 and nothing by halves; what was received is graded; once there is room the rest is taken."""
    earlier, late = make_study(), make_study()
    service.kill("worker")
    service.send(earlier.files)
    service.disk.fill(leave_blocks=25)
    outcomes = list(send(late.files, service.receiver))
    assert {outcome.status for outcome in outcomes} == {StoreStatus.SUCCESS, StoreStatus.OUT_OF_RESOURCES}
    for outcome in outcomes:
        assert whole(service, outcome.path) or outcome.status == StoreStatus.OUT_OF_RESOURCES
    assert parts(service) == []
    assert "ALERT objects are refused: the spool's disk" in service.log("node")
    service.start_worker()
    assert service.wait_done(earlier).state is JobState.DONE
    service.check(earlier)
    service.disk.free()
    service.send(late.files)
    assert "objects are stored again" in service.log("node")
    wait_for(lambda: len(service.kept(late)) == len(late.files), "the whole study")
    wait_for(lambda: service.job_in(late, JobState.DONE), "the whole study's job")
    service.check(earlier, late)


def test_02_a_disk_that_fills_up_under_an_object(tmp_path):
    """No room for the last block of a file whose size was looked at before: 0xA700, and the file is gone."""
    dataset = make_object("02")
    dataset.ImageComments = " " * (2 * 4096 - 40 - len(encode(dataset)))
    body, uid = encode(dataset), str(dataset.SOPInstanceUID)
    data = tmp_path / "data"
    open_installation(data)
    with small_disk(tmp_path / "disk") as disk:
        (data / "spool").symlink_to(disk.folder)
        with running_receiver(tmp_path, PEERS) as node:
            disk.fill(leave_blocks=2)
            assert store(node.called(), body, uid) == StoreStatus.OUT_OF_RESOURCES
            node.check({})
            assert node.stored() == {}
            assert "the spool's disk is full" in node.log.read_text()
            disk.free()
            assert store(node.called(), body, uid) == StoreStatus.SUCCESS
            node.check({uid: body})


@pytest.mark.slow
def test_03_less_space_is_left_than_the_minimum(service, make_study):
    """0xA700 before the object is looked at; a study that is here already is graded and delivered."""
    study, more = make_study(), make_study()
    service.kill("worker")
    service.send(study.files)
    service.kill("node")
    service.start_node(GLIOGRADE_MINIMUM_FREE_BYTES=str(2**60))
    wait_for(service.answers_echo, "the Storage SCP")
    outcomes = list(send(more.files, service.receiver))
    assert {outcome.status for outcome in outcomes} == {StoreStatus.OUT_OF_RESOURCES}
    # what would be refused for good were it read
    assert store(service.receiver, b"garbage" * 1000, "1.2.3") == StoreStatus.OUT_OF_RESOURCES
    assert not any(whole(service, path) for path in more.files)
    assert parts(service) == []
    assert list((service.settings.spool_folder / "quarantine").iterdir()) == []
    service.start_worker()
    assert service.wait_done(study).state is JobState.DONE
    service.check(study)
    service.kill("node")
    service.start_node()
    wait_for(service.answers_echo, "the Storage SCP")
    service.send(more.files)
    assert service.wait_done(more).state is JobState.DONE
    service.check(study, more)


def test_05_transfers_cut_in_the_middle_of_an_object(tmp_path):
    """Two hundred times: no instance, no file, and the threads and descriptors of before."""
    dataset = make_object("05")
    dataset.Rows, dataset.Columns, dataset.PixelData = 1024, 512, bytes(2**20)
    body, uid = encode(dataset), str(dataset.SOPInstanceUID)
    source, transfers = random.Random(5), 200
    with running_receiver(tmp_path, PEERS) as node:
        assert (
            store(node.called(), encode(make_object("05 first")), str(make_object("05 first").SOPInstanceUID))
            == 0
        )
        request, message = association_request(node.called()), store_request(body, uid)
        before, kept = node.held(), node.stored()
        for number in range(transfers):
            # in the middle of the P-DATA that carry the data set
            end = len(message) - source.randrange(1, len(body))
            cut_off(node, request, message[: end if number else -1])
        wait_for(lambda: node.held().threads <= before.threads, "the threads' end")
        wait_for(lambda: node.held().descriptors <= before.descriptors, "the sockets' end")
        assert node.stored() == kept
        node.check({})
        assert store(node.called(), body, uid) == StoreStatus.SUCCESS
        node.check({uid: body})


def cut_off(node, request, message):
    """Associate, send the beginning of a message, close; again where the node has no room yet."""
    while True:
        with node.connect() as connection:
            connection.sendall(request)
            if connection.recv(1) == b"\x02":  # A-ASSOCIATE-AC, and not -RJ
                connection.sendall(message)
                return


@pytest.mark.slow
def test_07_killed_after_the_final_name_and_before_the_answer(service, make_study):
    """Its sender has heard nothing and sends again: Success, and still one row."""
    study, at = make_study(), 5
    service.kill("worker")  # or what there is may be a version of its own before the rest comes
    service.kill("node")
    service.start_node("tests.faults.failing_node", FAIL_AT=str(at))
    wait_for(service.answers_echo, "the Storage SCP")
    outcomes = list(send(study.files, service.receiver))
    assert [outcome.outcome for outcome in outcomes[: at + 1]] == [Sent.SENT] * (at - 1) + [
        Sent.UNKNOWN,
        Sent.NOT_SENT,
    ]
    assert whole(service, study.files[at - 1])
    service.kill("node")
    service.start_node()
    wait_for(service.answers_echo, "the Storage SCP")
    service.send(study.files)
    service.start_worker()
    assert service.wait_done(study).state is JobState.DONE
    service.check(study)


def test_a_large_object_costs_no_memory(tmp_path):
    """A multi-frame object of 256 MiB goes to the disk as it comes: the node holds no more than before."""
    frames, side = 128, 1024
    dataset = make_object("large")
    uid = str(dataset.SOPInstanceUID)
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = frames, side, side
    del dataset.PixelData
    pixels = frames * side * side * 2
    head = encode(dataset) + b"\xe0\x7f\x10\0OW\0\0" + pixels.to_bytes(4, "little")
    block = bytes(2**17 - 6)
    with running_receiver(tmp_path, PEERS, receiving_processes="2") as node, node.connect() as connection:
        connection.sendall(association_request(node.called()))
        assert connection.recv(1) == b"\x02"  # A-ASSOCIATE-AC
        before, most = node.held().resident_mib, 0.0
        # the command, then fragments of the data set, each in a PDU of its own (PS3.8 9.3.5)
        connection.sendall(store_request(head, uid).replace(b"\x01\x02" + head, b"\x01\x00" + head))
        left = pixels
        while left:
            part = block[:left]
            left -= len(part)
            connection.sendall(
                b"\x04\0" + (len(part) + 6).to_bytes(4, "big") + (len(part) + 2).to_bytes(4, "big")
                + b"\x01" + (b"\0" if left else b"\x02") + part
            )  # fmt: skip
            if left % 2**24 < len(block):
                most = max(most, node.held().resident_mib)
        answer = connection.recv(4096)
        while (0x0900).to_bytes(2, "little") + b"\x02\0\0\0" not in answer:
            answer += connection.recv(4096)
        assert answer.partition(b"\0\x09\x02\0\0\0")[2][:2] == b"\0\0"
        assert max(most, node.held().resident_mib) - before < 32
        assert list(node.stored()) == [uid]
