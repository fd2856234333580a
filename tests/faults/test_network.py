"""What strangers and broken peers on the network do to the node: catalogue cases 30–32, 37, 38, 44."""

import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, QueryRetrievePresentationContexts, evt
from pynetdicom.association import Association
from pynetdicom.events import EventHandlerType
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]

from dicom_node.association import answer_to_request, close_when_cut
from dicom_node.peers.scu import AssociationError, echo
from tests.certificates import Authority
from tests.faults.receiver import (
    ROOT,
    Receiver,
    association_request,
    encode,
    make_object,
    running_receiver,
    store,
)

PLAIN = json.dumps(
    [{"ae_title": "SCANNER", "address": "127.0.0.1"}, {"ae_title": "GREEDY", "address": "127.0.0.0/8"}]
)
ECHOSCU = Path("/usr/bin/echoscu")


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    folder = tmp_path_factory.mktemp("plain")
    with running_receiver(
        folder, PLAIN, maximum_associations="12", maximum_associations_per_peer="4"
    ) as node:
        yield node


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def tls_receiver(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Receiver]:
    own, scanner = authority.issue("node").files, authority.issue("scanner")
    peers = [
        {"ae_title": "SCANNER", "address": "127.0.0.1"},
        {"ae_title": "BOUND", "address": "127.0.0.1", "certificate_sha256": scanner.sha256.upper()},
    ]
    with running_receiver(
        tmp_path_factory.mktemp("tls"),
        json.dumps(peers),
        tls=scanner.files,
        tls_certificate=str(own.certificate),
        tls_key=str(own.key),
        tls_authority=str(own.authority),
    ) as node:
        yield node


def associated(receiver: Receiver, calling: str, called: str = "GLIOGRADE") -> Association:
    entity = AE(ae_title=calling)
    entity.add_requested_context(MRImageStorage, ExplicitVRLittleEndian)
    entity.add_requested_context(Verification)
    handlers: list[EventHandlerType] = [(evt.EVT_CONN_OPEN, close_when_cut)]
    return entity.associate("127.0.0.1", receiver.destination.port, ae_title=called, evt_handlers=handlers)


def socket_of(association: Association) -> socket.socket:
    wrapper = association.dul.socket
    assert wrapper is not None
    assert wrapper.socket is not None
    return wrapper.socket


def test_30_tls_silent_connections_hold_nobody_up(tls_receiver: Receiver) -> None:
    with ExitStack() as stack:
        for _ in range(15):
            stack.enter_context(tls_receiver.connect())
        half = stack.enter_context(tls_receiver.connect())
        half.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
        for _ in range(3):
            echo(tls_receiver.destination)
    tls_receiver.check({})


def test_31_idle_trickling_and_flooding_peers_leave_room(receiver: Receiver) -> None:
    dataset = make_object("31")
    body, uid = encode(dataset), str(dataset.SOPInstanceUID)
    with ExitStack() as stack:
        for number in range(500):
            idle = stack.enter_context(receiver.connect())
            if number % 20 == 0:
                idle.sendall(b"\x01\x00\x00\x00\x00\xcc\x00"[: number // 20])
        held = [associated(receiver, "GREEDY") for _ in range(4)]
        for association in held:
            stack.callback(association.abort)
            assert association.is_established
            socket_of(association).send(b"\x04\x00\x00\x00")  # a PDU that never ends
        beyond = associated(receiver, "GREEDY")
        answer = answer_to_request(beyond)
        assert answer is not None
        assert (answer.result, answer.result_source, answer.diagnostic) == (0x02, 0x03, 0x02)
        assert store(receiver.called(), body, uid) == 0x0000
        assert receiver.held().threads <= 2 * 12 + 4 * receiver.process_count()
        receiver.check({uid: body})


def test_31_a_flood_of_requests_leaves_room(receiver: Receiver) -> None:
    """Five hundred at once from one peer: it has its four associations, the others are told to come later."""
    dataset = make_object("31 flood")
    body, uid = encode(dataset), str(dataset.SOPInstanceUID)
    request = association_request(receiver.called("GREEDY"))
    with ExitStack() as stack:
        answers = []
        for _ in range(10):
            wave = [stack.enter_context(receiver.connect()) for _ in range(50)]
            for connection in wave:
                connection.sendall(request)
            answers += [connection.recv(10) for connection in wave]
        assert sum(answer[:1] == b"\x02" for answer in answers) == 4  # A-ASSOCIATE-AC
        rejected = bytes.fromhex("03000000000400020302")  # transient, by the presentation layer, local limit
        assert answers.count(rejected) == 496
        assert store(receiver.called(), body, uid) == 0x0000
        assert receiver.held().threads <= 2 * 12 + 4 * receiver.process_count()
        receiver.check({uid: body})


@pytest.mark.parametrize("associated_first", [False, True])
def test_32_an_oversized_pdu_is_not_even_begun(receiver: Receiver, associated_first: bool) -> None:
    echo(receiver.destination)
    before = receiver.held().resident_mib
    if associated_first:
        association = associated(receiver, "SCANNER")
        socket_of(association).sendall(struct.pack(">BxL", 0x04, 0xFFFFFFF0))
        association.join(30)
        assert association.is_aborted
    else:
        with receiver.connect() as connection:
            assert flood(connection) < 32 * 2**20
    assert receiver.held().resident_mib - before < 10
    receiver.check({})


def flood(connection: socket.socket) -> int:
    """Announce 4 GiB and send; the bytes that the connection took before it was closed."""
    sent = 0
    try:
        connection.sendall(struct.pack(">BxL", 0x01, 0xFFFFFFF0))
        while sent < 256 * 2**20:
            sent += connection.send(bytes(2**16))
    except OSError:
        pass
    return sent


@pytest.mark.parametrize(
    ("calling", "called", "reason"),
    [("STRANGER", "GLIOGRADE", (1, 1, 3)), ("../x", "GLIOGRADE", (1, 1, 3)), ("SCANNER", "OTHER", (1, 1, 7))],
)
def test_37_wrong_ae_titles_are_rejected_for_good(
    receiver: Receiver, calling: str, called: str, reason: tuple[int, int, int]
) -> None:
    association = associated(receiver, calling, called)
    answer = answer_to_request(association)
    assert answer is not None
    assert (answer.result, answer.result_source, answer.diagnostic) == reason
    assert f'"source":"{calling}"' in security_alerts(receiver).replace("\\", "")
    receiver.check({})


def test_37_a_wrong_address_gets_no_answer(tmp_path: Path) -> None:
    peers = json.dumps([{"ae_title": "SCANNER", "address": "192.0.2.1"}])
    with running_receiver(tmp_path, peers) as node:
        with node.connect() as connection:
            assert connection.recv(1) == b""
        with pytest.raises(AssociationError):
            echo(node.destination)
        assert node.stored() == {}
        assert "address not in the allow-list" in node.log.read_text()
        assert '"address":"127.0.0.1"' in security_alerts(node).replace("\\", "")


def test_37_certificates_decide_who_is_heard(
    tls_receiver: Receiver, authority: Authority, tmp_path: Path
) -> None:
    right = tls_receiver.destination.tls
    assert right is not None
    echo(tls_receiver.called("BOUND", right))
    other = authority.issue("other").files
    echo(tls_receiver.called("SCANNER", other))
    with pytest.raises(AssociationError, match="Calling AE title not recognised"):
        echo(tls_receiver.called("BOUND", other))
    foreign = Authority(tmp_path, "foreign").issue("foreign-scanner").files
    unknown = type(right)(certificate=foreign.certificate, key=foreign.key, authority=right.authority)
    for files in (unknown, authority.issue("old", expired=True).files):
        with pytest.raises(AssociationError):
            echo(tls_receiver.called("SCANNER", files))
    assert '"source":"BOUND"' in security_alerts(tls_receiver).replace("\\", "")
    with pytest.raises(AssociationError):
        echo(tls_receiver.called("SCANNER", None))
    assert tls_receiver.stored() == {}
    log = tls_receiver.log.read_text()
    assert "turned away 'BOUND' from 127.0.0.1: no row of the allow-list" in log
    assert "TLS handshake failed" in log
    tls_receiver.check({})


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1")
@pytest.mark.parametrize(
    ("who", "alert"),
    [
        ("TLS 1.0", "protocol version"),
        ("TLS 1.1", "protocol version"),
        ("no certificate", "certificate required"),
        ("expired", "certificate expired"),
        ("another authority", "unknown ca"),
    ],
)
def test_37_old_tls_and_wrong_certificates_end_in_an_alert(
    tls_receiver: Receiver, authority: Authority, tmp_path: Path, who: str, alert: str
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(authority.path)
    shown = authority.issue("scanner-in-time").files
    if who == "expired":
        shown = authority.issue("scanner-expired", expired=True).files
    elif who == "another authority":
        shown = Authority(tmp_path, "foreign").issue("scanner-foreign").files
    elif who.startswith("TLS"):
        context.set_ciphers("ALL:@SECLEVEL=0")
        version = ssl.TLSVersion.TLSv1 if who == "TLS 1.0" else ssl.TLSVersion.TLSv1_1
        context.minimum_version = context.maximum_version = version
    if who != "no certificate":
        context.load_cert_chain(shown.certificate, shown.key)
    # In TLS 1.3 a client hears only at its first read that its certificate was not taken.
    with (
        tls_receiver.connect() as connection,
        pytest.raises(ssl.SSLError, match=f"(?i)alert.*{alert}"),
        context.wrap_socket(connection, server_hostname="127.0.0.1") as wrapped,
    ):
        wrapped.recv(1)
    assert "association_rejected" in security_alerts(tls_receiver)
    assert tls_receiver.stored() == {}
    tls_receiver.check({})


def security_alerts(receiver: Receiver) -> str:
    """The audit trail's lines of that event (110113); equal ones within ten seconds are one."""
    segments = (path.read_text() for path in (receiver.data_folder / "audit").glob("*.jsonl"))
    return "\n".join(line for text in segments for line in text.splitlines() if '"110113"' in line)


def test_37_without_its_key_it_does_not_start(tmp_path: Path, authority: Authority) -> None:
    own = authority.issue("keyless").files
    settings = {"PEERS": PLAIN, "DATA_FOLDER": str(tmp_path), "TLS_CERTIFICATE": str(own.certificate)}
    settings |= {"TLS_KEY": str(tmp_path / "absent.key"), "TLS_AUTHORITY": str(own.authority)}
    environment = {f"GLIOGRADE_{name}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "dicom_node"]
    ended = subprocess.run(
        command,
        env=os.environ | environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("gliograde node does not start: TLS: can't be read")


@pytest.mark.apt
def test_37_dcmtk_speaks_mutual_tls_with_it(tls_receiver: Receiver) -> None:
    files = tls_receiver.destination.tls
    assert files is not None
    command: list[str | Path] = [
        ECHOSCU,
        "+tls",
        files.key,
        files.certificate,
        "+cf",
        files.authority,
        "-aet",
        "BOUND",
    ]
    command += ["-aec", "GLIOGRADE", "127.0.0.1", str(tls_receiver.destination.port)]
    subprocess.run(command, check=True, timeout=60)


def test_38_nobody_can_read(receiver: Receiver) -> None:
    entity = AE(ae_title="SCANNER")
    entity.requested_contexts = QueryRetrievePresentationContexts
    entity.add_requested_context(StorageCommitmentPushModel)
    entity.add_requested_context(Verification)
    association = entity.associate(
        "127.0.0.1",
        receiver.destination.port,
        ae_title="GLIOGRADE",
        evt_handlers=[(evt.EVT_CONN_OPEN, close_when_cut)],
    )
    accepted = {context.abstract_syntax for context in association.accepted_contexts}
    association.release()
    # commitment reports come in; nothing goes out
    assert accepted == {Verification, StorageCommitmentPushModel}
    receiver.check({})


def test_44_sigterm_lets_acknowledged_objects_be_kept_and_exits(tmp_path: Path) -> None:
    acknowledged: dict[str, bytes] = {}
    enough, ended = threading.Event(), threading.Event()
    with running_receiver(tmp_path, PLAIN, drain_timeout="PT1S") as node:

        def send_without_end() -> None:
            association = associated(node, "SCANNER")
            for number in range(100_000):
                dataset = make_object(f"44-{number}")
                try:
                    status = association.send_c_store(dataset).get("Status")
                except RuntimeError:  # the association has ended meanwhile
                    break
                if status != 0x0000:
                    break
                acknowledged[str(dataset.SOPInstanceUID)] = encode(dataset)
                if number == 5:
                    enough.set()
            ended.set()

        hanging = associated(node, "GREEDY")
        socket_of(hanging).send(b"\x04\x00\x00\x00")
        sender = threading.Thread(target=send_without_end)
        sender.start()
        assert enough.wait(60)
        node.process.send_signal(signal.SIGTERM)
        assert node.process.wait(30) == 0
        assert ended.wait(60)
        sender.join()
        hanging.abort()
        assert len(acknowledged) > 5
        assert "Traceback" not in node.log.read_text()
        node.check(acknowledged)
