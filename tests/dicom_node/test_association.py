import socket
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.pixels.decoders.base import get_decoder
from pynetdicom import AE, _config, evt

from dicom_node.association import (
    RECEIVED_TRANSFER_SYNTAXES,
    acknowledge_quickly,
    configure_pynetdicom,
    disable_nagle,
)
from dicom_node.peers.stand_in_pacs import StandInPacs


def test_every_syntax_that_we_receive_can_be_decoded_here() -> None:
    for syntax in RECEIVED_TRANSFER_SYNTAXES:
        if syntax.is_encapsulated:
            assert get_decoder(syntax).is_available, syntax.name


@pytest.mark.data
@pytest.mark.parametrize("name", ["jpeg", "jpegls", "j2k"])
def test_the_decoders_agree_on_one_series(data_folder: Path, name: str) -> None:
    generic = data_folder / "dicom/dicom2nifti_tests/generic"
    twins = {path.name: dcmread(path) for path in (generic / "compressed_rle/001").iterdir()}
    for path in (generic / f"compressed_{name}/001").iterdir():
        dataset = dcmread(path)
        assert dataset.file_meta.TransferSyntaxUID in RECEIVED_TRANSFER_SYNTAXES
        assert (dataset.pixel_array == twins[path.name].pixel_array).all()


def test_identifiers_are_kept_out_of_the_log() -> None:
    configure_pynetdicom()
    assert (_config.LOG_HANDLER_LEVEL, _config.LOG_REQUEST_IDENTIFIERS) == ("none", False)


def test_the_sockets_of_an_association_do_not_wait(tmp_path: Path) -> None:
    seen: list[int] = []

    def look(event: evt.Event) -> None:
        disable_nagle(event)
        acknowledge_quickly(event)
        wrapper = event.assoc.dul.socket
        assert wrapper is not None
        assert wrapper.socket is not None
        seen.append(wrapper.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    entity = AE()
    entity.add_requested_context("1.2.840.10008.1.1")
    with StandInPacs(tmp_path / "pacs") as pacs:
        association = entity.associate("127.0.0.1", pacs.port, evt_handlers=[(evt.EVT_CONN_OPEN, look)])
        association.release()
    assert seen == [1]
