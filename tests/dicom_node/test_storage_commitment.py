import json

import pytest

from dicom_node.peers.scu import Destination, ScuError
from dicom_node.peers.stand_in_pacs import StandInPacs
from dicom_node.peers.storage_commitment import CommitmentInbox, request_commitment
from tests.dicom_node.commitment_peer import report_commitment


@pytest.fixture
def inbox(node_settings):
    return CommitmentInbox(node_settings.commitments_folder)


def test_a_request_arrives(tmp_path):
    with StandInPacs(tmp_path / "pacs") as pacs:
        destination = Destination(name="pacs", ae_title="PACS", address="127.0.0.1", port=pacs.port)
        request_commitment(destination, "2.25.1", [("1.2", "1.2.3"), ("1.2", "1.2.4")])
        (request,) = pacs.commitment_requests
    assert request.transaction_uid == "2.25.1"
    assert request.sop_instance_uids == ("1.2.3", "1.2.4")


def test_a_peer_without_storage_commitment_says_so(scp_destination):
    with pytest.raises(ScuError):
        request_commitment(scp_destination, "2.25.1", [("1.2", "1.2.3")])


def test_a_report_is_on_disk_before_it_is_answered(scp, inbox):
    assert report_commitment(scp.port, "2.25.1", ["1.2.3"], ["1.2.4"], "SCANNER") == 0x0000
    ((path, report),) = inbox.reports()
    assert (report.transaction_uid, report.committed, report.failed) == ("2.25.1", ("1.2.3",), ("1.2.4",))
    assert (report.calling_ae_title, report.peer_address) == ("SCANNER", "127.0.0.1")
    assert path.parent == inbox._folder
    path.unlink()
    assert list(inbox.reports()) == []


@pytest.mark.parametrize(("transaction_uid", "uids"), [("", ["1.2"]), ("../../x", ["1.2"]), ("1.2", ["x"])])
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI:UserWarning")
def test_a_report_with_what_is_no_uid_is_refused(scp, inbox, transaction_uid, uids):
    assert report_commitment(scp.port, transaction_uid, uids, calling_ae_title="SCANNER") == 0x0115
    assert list(inbox.reports()) == []


def test_an_event_that_the_standard_does_not_know_is_refused(scp, inbox):
    assert report_commitment(scp.port, "1.2", ["1.2"], calling_ae_title="SCANNER", event_type=9) == 0x0113
    assert list(inbox.reports()) == []


def test_a_stranger_cannot_report(scp, inbox, node_settings):
    assert report_commitment(scp.port, "1.2", ["1.2"], calling_ae_title="STRANGER") is None
    assert list(inbox.reports()) == []
    (segment,) = node_settings.audit_folder.glob("*.jsonl")
    event = json.loads(segment.read_text())
    assert (event["event_id"], event["detail"], event["source"]) == (
        "110113",
        "association_rejected",
        "STRANGER",
    )


def test_an_unreadable_report_does_not_hold_up_the_others(scp, inbox, caplog):
    report_commitment(scp.port, "2.25.1", ["1.2.3"], calling_ae_title="SCANNER")
    (inbox._folder / "torn.json").write_text('{"transaction_uid": "ZZCANARY"')
    assert len(list(inbox.reports())) == 1
    assert "torn.json" in caplog.text
    assert "ZZCANARY" not in caplog.text
