import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.peers.scu import AssociationError, Destination, echo, send
from dicom_node.reading.mr_study import save_study
from dicom_node.receiving.scp import StorageScp, TlsFilesError
from dicom_node.receiving.spool import Spool
from dicom_node.settings import AllowedPeer, NodeSettings, settings_line
from dicom_node.tls import TlsError, TlsFiles, client_context, server_context
from tests.certificates import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def files(authority: Authority) -> TlsFiles:
    return authority.issue("node").files


def test_contexts_want_a_certificate_and_tls_1_2(files: TlsFiles) -> None:
    for context in (server_context(files), client_context(files)):
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        older = [cipher["name"] for cipher in context.get_ciphers() if "GCM" not in cipher["name"]]
        assert all("CHACHA20" in name for name in older)
    assert client_context(files).check_hostname


@pytest.mark.parametrize("name", ["certificate", "key", "authority"])
@pytest.mark.parametrize("content", [None, b"", b"\xff\x00 no PEM"])
def test_a_file_that_is_missing_or_empty_is_named(
    files: TlsFiles, tmp_path: Path, name: str, content: bytes | None
) -> None:
    path = tmp_path / "wrong.pem"
    if content is not None:
        path.write_bytes(content)
    for make in (server_context, client_context):
        with pytest.raises(TlsError, match=r"wrong\.pem"):
            make(replace(files, **{name: path}))


def test_a_folder_is_no_key(files: TlsFiles, tmp_path: Path) -> None:
    with pytest.raises(TlsError, match="Is a directory"):
        server_context(replace(files, key=tmp_path))


def test_another_key_or_an_encrypted_one_is_refused(authority: Authority, files: TlsFiles) -> None:
    other = authority.issue("other").files
    with pytest.raises(TlsError, match="matching key"):
        server_context(replace(files, key=other.key))
    with pytest.raises(TlsError, match="matching key"):
        server_context(authority.issue("locked", password=b"secret").files)


def test_a_certificate_is_no_authority_for_a_key_only_file(files: TlsFiles) -> None:
    with pytest.raises(TlsError, match="authority"):
        server_context(replace(files, authority=files.key))


def with_tls(settings: NodeSettings, files: TlsFiles) -> NodeSettings:
    return settings.model_copy(
        update={
            "tls_certificate": files.certificate,
            "tls_key": files.key,
            "tls_authority": files.authority,
        }
    )


@pytest.fixture
def tls_node(node_settings: NodeSettings, spool: Spool, files: TlsFiles) -> Iterator[Destination]:
    with StorageScp(with_tls(node_settings, files), spool) as scp:
        yield Destination(
            name="node", ae_title="GLIOGRADE", address="127.0.0.1", port=scp.port, calling_ae_title="SCANNER"
        )


def test_we_send_over_tls_only_to_the_named_host(tls_node: Destination, authority: Authority) -> None:
    scanner = authority.issue("scanner").files
    echo(replace(tls_node, tls=scanner))
    with pytest.raises(AssociationError, match="not reached"):
        echo(replace(tls_node, tls=scanner, tls_name="pacs.example"))
    with pytest.raises(AssociationError, match="TLS: can't be read") as caught:
        echo(replace(tls_node, tls=replace(scanner, key=Path("/absent"))))
    assert not caught.value.transient


def test_an_object_of_many_pdus_arrives_over_tls(
    tls_node: Destination, authority: Authority, spool: Spool, study: list[Dataset], tmp_path: Path
) -> None:
    study[0].Rows = study[0].Columns = 1000
    study[0].PixelData = bytes(range(250)) * 8000
    files = save_study(study[:2], tmp_path / "large")
    sender = authority.issue("sender")
    outcomes = list(send(files, replace(tls_node, tls=sender.files)))
    assert [outcome.status for outcome in outcomes] == [0x0000, 0x0000]
    stored = {entry.sop_instance_uid: entry for entry in spool.entries()}
    for path in files:
        entry = stored[str(dcmread(path).SOPInstanceUID)]
        assert path.read_bytes().endswith(spool.object_path(entry.sha256).read_bytes()[-entry.size :])
        assert entry.certificate_sha256 == sender.sha256


def test_the_scp_does_not_start_without_its_key(
    node_settings: NodeSettings, spool: Spool, files: TlsFiles
) -> None:
    settings = with_tls(node_settings, replace(files, key=Path("/absent/node.key")))
    with pytest.raises(TlsFilesError, match=r"can't be read .*: /absent/node\.key"):
        StorageScp(settings, spool).start()


def test_settings_of_tls_come_whole_and_bindings_need_it(files: TlsFiles) -> None:
    assert NodeSettings().tls is None
    assert (
        NodeSettings(tls_certificate=files.certificate, tls_key=files.key, tls_authority=files.authority).tls
        == files
    )
    bound = AllowedPeer(ae_title="A", address="10.0.0.1", certificate_sha256="AB:" * 31 + "AB")
    assert bound.certificate_sha256 == "ab" * 32
    with pytest.raises(ValidationError, match="all three") as caught:
        NodeSettings(tls_key=files.key)
    assert settings_line(caught.value).startswith("settings: Value error, TLS needs")
    with pytest.raises(ValidationError, match="certificate_sha256 needs TLS"):
        NodeSettings(peers=(bound,))


@pytest.mark.parametrize("wrong", [{"address": "pacs.local"}, {"certificate_sha256": "ab"}])
def test_rows_that_could_never_match_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        AllowedPeer.model_validate({"ae_title": "A", "address": "10.0.0.1"} | wrong)
