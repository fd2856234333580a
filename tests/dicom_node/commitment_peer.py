"""A PACS's side of storage commitment: its N-EVENT-REPORT, on an association of its own (PS3.4 J.3.3)."""

from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage
from pynetdicom import AE, build_role
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)


def report_commitment(port, transaction_uid, committed, failed=(), calling_ae_title="PACS", event_type=None):
    """Status of the answer; None where the association was rejected."""
    entity = AE(ae_title=calling_ae_title)
    entity.add_requested_context(StorageCommitmentPushModel)
    association = entity.associate(
        "127.0.0.1",
        port,
        ae_title="GLIOGRADE",
        ext_neg=[build_role(StorageCommitmentPushModel, scp_role=True)],
    )
    if not association.is_established:
        return None
    information = Dataset()
    information.TransactionUID = transaction_uid
    information.ReferencedSOPSequence = [_item(uid) for uid in committed]
    if failed:
        information.FailedSOPSequence = [_item(uid, 0x0112) for uid in failed]
    status, _ = association.send_n_event_report(
        information,
        event_type or (2 if failed else 1),
        StorageCommitmentPushModel,
        StorageCommitmentPushModelInstance,
    )
    association.release()
    return status.Status


def _item(uid, reason=None):
    item = Dataset()
    item.ReferencedSOPClassUID = SecondaryCaptureImageStorage
    item.ReferencedSOPInstanceUID = uid
    if reason is not None:
        item.FailureReason = reason
    return item
