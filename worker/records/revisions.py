"""One SOP Instance UID with a second content: a corrected header, or a doubt that holds the study."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from dicom_node.receiving.spool import Spool
from dicom_node.receiving.spool_file import SpoolEntry
from dicom_node.results.report import MANUFACTURER
from worker.records.database import Instance, ResultObject, Series

_PIXEL_KEYWORDS = (
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)


@dataclass(frozen=True, slots=True)
class Earlier:
    """An instance of the ledger with the SOP Instance UID of one that arrives."""

    study_id: int
    series_instance_uid: str
    sha256: str


def find_earlier(session: Session, entry: SpoolEntry) -> list[Earlier]:
    """Every content that came under the entry's SOP Instance UID, newest last."""
    rows = session.execute(
        select(Series.study_id, Series.series_instance_uid, Instance.sha256)
        .join(Series)
        .where(Instance.sop_instance_uid == entry.sop_instance_uid)
        .order_by(Instance.received_at, Instance.id)
    )
    return [Earlier(*row) for row in rows]


def is_header_change(spool: Spool, entry: SpoolEntry, earlier: Sequence[Earlier], study_id: int) -> bool:
    """Whether the entry is an earlier instance of the same series with other words around the same pixels."""
    if any(
        (item.study_id, item.series_instance_uid) != (study_id, entry.series_instance_uid) for item in earlier
    ):
        return False
    digest = pixel_digest(spool.object_path(entry.sha256))
    return digest is not None and digest == pixel_digest(spool.object_path(earlier[-1].sha256))


def pixel_digest(path: Path) -> str | None:
    """SHA-256 of the pixels as they are stored, and of what describes them; None where there are none.

    Nothing is decoded, so that two transfer syntaxes with equal pixels count as different, not as equal.
    """
    try:
        dataset = dcmread(path)
    except (InvalidDicomError, FileNotFoundError):
        return None
    if "PixelData" not in dataset:
        return None
    digest = hashlib.sha256(repr([str(dataset.get(keyword)) for keyword in _PIXEL_KEYWORDS]).encode())
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        digest.update(dataset.file_meta.TransferSyntaxUID.encode())
    digest.update(dataset.PixelData)
    return digest.hexdigest()


def is_our_own(session: Session, entry: SpoolEntry, manufacturer: str) -> bool:
    """Whether the object is a result of ours that a peer sends back."""
    if manufacturer == MANUFACTURER:
        return True
    ours = select(ResultObject.id).where(
        or_(
            ResultObject.sop_instance_uid == entry.sop_instance_uid,
            ResultObject.series_instance_uid == entry.series_instance_uid,
        )
    )
    return session.scalar(select(ours.exists())) is True
