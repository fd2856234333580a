"""`gliograde peers test`: a line a peer, and an exit code for a script."""

import json
import socket

from dicom_node.peers.stand_in_pacs import StandInPacs
from tests.command import gliograde


def test_each_destination_and_source_is_echoed(tmp_path):
    with socket.socket() as closed, StandInPacs(tmp_path / "pacs") as pacs:
        closed.bind(("127.0.0.1", 0))
        up = {"name": "pacs", "ae_title": pacs.ae_title, "address": "127.0.0.1", "port": pacs.port}
        down = up | {"name": "archive", "port": closed.getsockname()[1]}
        good = gliograde("peers", "test", GLIOGRADE_DESTINATIONS=json.dumps([up]))
        assert (good.returncode, good.stderr) == (0, "")
        assert f"destination pacs: {pacs.ae_title}@127.0.0.1:{pacs.port} answers C-ECHO" in good.stdout
        bad = gliograde(
            "peers", "test", GLIOGRADE_DESTINATIONS=json.dumps([up]), GLIOGRADE_SOURCES=json.dumps([down])
        )
    assert bad.returncode == 1
    assert "failed  source archive: " in bad.stdout
    assert "archive is not reached" in bad.stdout
