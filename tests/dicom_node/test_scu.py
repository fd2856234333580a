import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at import time
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from dicom_node.peers.scu import (
    AssociationError,
    Destination,
    InstanceKey,
    NothingAcceptedError,
    ScuError,
    Sent,
    associated,
    echo,
    find_instance,
    find_instances,
    send,
)
from dicom_node.peers.stand_in_pacs import Fault, StandInPacs, StatusHook


def to(pacs: StandInPacs) -> Destination:
    return Destination(name="pacs", ae_title=pacs.ae_title, address="127.0.0.1", port=pacs.port)


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[StandInPacs]:
    with StandInPacs(tmp_path / "pacs") as running:
        yield running


def test_files_arrive_byte_for_byte_and_in_order(pacs: StandInPacs, study_files: list[Path]) -> None:
    outcomes = list(send(study_files, to(pacs)))
    assert [outcome.path for outcome in outcomes] == study_files
    assert {(outcome.outcome, outcome.status) for outcome in outcomes} == {(Sent.SENT, 0)}
    for sent, held in zip(study_files, pacs.instances, strict=True):
        assert dcmread(held.path) == dcmread(sent)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(0xB000, Sent.SENT_WARNING), (0xA700, Sent.REFUSED), (0xC000, Sent.REFUSED), (0x0122, Sent.REFUSED)],
)
def test_the_peers_status_decides(
    tmp_path: Path, study_files: list[Path], status: int, outcome: Sent
) -> None:
    hook: StatusHook = lambda _: status  # noqa: E731
    with StandInPacs(tmp_path / "pacs", status_hook=hook) as pacs:
        (sent,) = send(study_files[:1], to(pacs))
    assert (sent.outcome, sent.status) == (outcome, status)


def test_a_class_that_is_not_taken_does_not_stop_the_others(
    pacs: StandInPacs, study_files: list[Path]
) -> None:
    dataset = dcmread(study_files[1])
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.save_as(study_files[1])
    outcomes = [outcome.outcome for outcome in send(study_files[:3], to(pacs))]
    assert outcomes == [Sent.SENT, Sent.NOT_ACCEPTED, Sent.SENT]
    assert [outcome.outcome for outcome in send(study_files[1:2], to(pacs))] == [Sent.NOT_ACCEPTED]


def test_meta_information_that_names_another_object_is_set_right(
    pacs: StandInPacs, study_files: list[Path]
) -> None:
    dataset = dcmread(study_files[0])
    dataset.SOPInstanceUID = "1.2.3"
    dataset.save_as(study_files[0])
    (outcome,) = send(study_files[:1], to(pacs))
    assert (outcome.outcome, outcome.sop_instance_uid) == (Sent.SENT, "1.2.3")
    assert dcmread(pacs.instances[0].path).file_meta.MediaStorageSOPInstanceUID == "1.2.3"


def test_a_line_cut_after_storing_is_unknown_and_the_rest_not_sent(
    tmp_path: Path, study_files: list[Path]
) -> None:
    with StandInPacs(tmp_path / "pacs") as pacs:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            relay = threading.Thread(target=cut_after, args=(listener, pacs.port, 1), daemon=True)
            relay.start()
            destination = Destination(
                name="pacs", ae_title="PACS", address="127.0.0.1", port=listener.getsockname()[1]
            )
            outcomes = list(send(study_files[:3], destination))
            relay.join(10)
        assert [outcome.outcome for outcome in outcomes] == [Sent.SENT, Sent.UNKNOWN, Sent.NOT_SENT]
        assert len(pacs.instances) >= 1


def cut_after(listener: socket.socket, port: int, answers: int) -> None:
    """Relay one association; cut both ends in place of the C-STORE answer after the first `answers`."""
    client, _ = listener.accept()
    with client, socket.create_connection(("127.0.0.1", port)) as server:
        forward = threading.Thread(target=pump, args=(client, server), daemon=True)
        forward.start()
        for _ in range(1 + answers):  # A-ASSOCIATE-AC and the first answers
            client.sendall(read_pdu(server))
        read_pdu(server)
        client.shutdown(socket.SHUT_RDWR)
        server.shutdown(socket.SHUT_RDWR)
        forward.join(10)


def pump(source: socket.socket, sink: socket.socket) -> None:
    while True:
        try:
            block = source.recv(65536)
            if not block:
                return
            sink.sendall(block)
        except OSError:
            return


def read_pdu(connection: socket.socket) -> bytes:
    head = read_exactly(connection, 6)
    return head + read_exactly(connection, int.from_bytes(head[2:], "big"))


def read_exactly(connection: socket.socket, size: int) -> bytes:
    block = b""
    while len(block) < size:
        part = connection.recv(size - len(block))
        assert part
        block += part
    return block


@pytest.mark.filterwarnings(
    "ignore:unclosed.*socket:ResourceWarning"
)  # pynetdicom leaves it to the collector
def test_no_listener_is_transient(free_port: int, study_files: list[Path]) -> None:
    nobody = Destination(name="pacs", ae_title="PACS", address="127.0.0.1", port=free_port)
    with pytest.raises(AssociationError, match="pacs is not reached") as caught:
        list(send(study_files[:1], nobody))
    assert caught.value.transient
    with pytest.raises(AssociationError):
        echo(nobody)


def test_a_file_that_is_no_dicom_is_named_before_anything_is_sent(
    pacs: StandInPacs, study_files: list[Path]
) -> None:
    study_files[2].write_bytes(b"nothing")
    with pytest.raises(InvalidDicomError):
        list(send(study_files[:3], to(pacs)))
    assert not pacs.instances


def test_echo_and_find(pacs: StandInPacs, study_files: list[Path]) -> None:
    echo(to(pacs))
    list(send(study_files[:1], to(pacs)))
    (held,) = pacs.instances
    uids = (held.study_instance_uid, held.series_instance_uid)
    assert find_instance(to(pacs), *uids, held.sop_instance_uid)
    assert not find_instance(to(pacs), *uids, "1.2.3")


@pytest.mark.parametrize("sop_class", [Verification, StudyRootQueryRetrieveInformationModelFind])
def test_what_moves_no_objects_is_proposed_in_the_plain_syntaxes(pacs: StandInPacs, sop_class: UID) -> None:
    with associated(to(pacs), [(sop_class, None)]) as association:
        (context,) = association.requestor.requested_contexts
        assert context.transfer_syntax == [ImplicitVRLittleEndian, ExplicitVRLittleEndian]


def test_a_peer_that_answers_no_queries_says_so(scp_destination: Destination) -> None:
    with pytest.raises(NothingAcceptedError) as caught:
        find_instance(scp_destination, "1.2", "1.3", "1.4")
    assert isinstance(caught.value, ScuError)
    assert not caught.value.transient


def test_an_answer_reaches_who_asked_on_a_busy_machine(
    monkeypatch: pytest.MonkeyPatch, pacs: StandInPacs
) -> None:
    """pynetdicom's reactor, late in the gap of its own pause, must not take the answer."""

    class LateEvent(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            passed = super().wait(timeout)
            time.sleep(0.3)
            return passed

    make, send_message = Association.__init__, DIMSEServiceProvider.send_msg

    def make_late(self: Association, *arguments: Any, **options: Any) -> None:
        make(self, *arguments, **options)
        if self.is_requestor:
            self._reactor_checkpoint = LateEvent()
            self._reactor_checkpoint.set()

    def send_and_be_late(self: DIMSEServiceProvider, *arguments: Any) -> None:
        send_message(self, *arguments)
        if self.assoc.is_requestor:
            time.sleep(0.6)

    monkeypatch.setattr(Association, "__init__", make_late)
    monkeypatch.setattr(DIMSEServiceProvider, "send_msg", send_and_be_late)
    monkeypatch.setattr("dicom_node.peers.scu.RESPONSE_TIMEOUT", timedelta(seconds=5))
    with associated(to(pacs), [(Verification, None)]) as association:
        time.sleep(0.1)
        assert association.send_c_echo().get("Status") == 0x0000


def test_instances_are_asked_for_in_one_association(pacs: StandInPacs, study_files: list[Path]) -> None:
    list(send(study_files[:3], to(pacs)))
    keys = [
        InstanceKey(item.study_instance_uid, item.series_instance_uid, item.sop_instance_uid)
        for item in pacs.instances
    ]
    absent = InstanceKey(keys[0].study_instance_uid, keys[0].series_instance_uid, "1.2.3")
    expected = {key.sop_instance_uid for key in keys}
    assert find_instances(to(pacs), [*keys, absent]) == expected
    assert find_instances(to(pacs), []) == frozenset()


def test_an_answer_without_status_is_unknown(tmp_path: Path, study_files: list[Path]) -> None:
    with StandInPacs(tmp_path / "pacs", status_hook=lambda _: Fault.NO_STATUS) as pacs:
        outcomes = [outcome.outcome for outcome in send(study_files[:2], to(pacs))]
    assert outcomes == [Sent.UNKNOWN, Sent.NOT_SENT]


def test_a_peer_that_answers_nothing_is_waited_for_only_so_long(
    tmp_path: Path, study_files: list[Path]
) -> None:
    with StandInPacs(tmp_path / "pacs", status_hook=lambda _: Fault.HANG) as pacs:
        impatient = replace(to(pacs), response_timeout=timedelta(seconds=1))
        (outcome,) = send(study_files[:1], impatient)
    assert outcome.outcome is Sent.UNKNOWN


def test_reads_of_an_association_acknowledge_at_once(pacs: StandInPacs, study_files: list[Path]) -> None:
    """The seam in pynetdicom that this rests on: `AssociationSocket.recv` is looked up on the instance."""
    seen = []
    handler = (evt.EVT_CONN_OPEN, lambda event: seen.append(event.assoc.dul.socket))
    with associated(to(pacs), [(Verification, None)], [handler]) as association:
        assert association.send_c_echo().Status == 0x0000
        assert vars(seen[0])["recv"].__self__.__class__.__module__ == "dicom_node.prompt_socket"
