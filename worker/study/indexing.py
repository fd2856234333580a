"""From the spool to the ledger: every received object becomes a row of its study.

PostgreSQL is an index of the spool and can be rebuilt from it. Any doubt about identity holds the study.
"""

import logging
from collections.abc import Mapping, Sequence
from itertools import islice

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.receiving.spool import Spool
from dicom_node.receiving.spool_file import SpoolEntry
from worker.records import ledger
from worker.records.database import Instance, Series, Study
from worker.records.revisions import find_earlier, is_header_change, is_our_own
from worker.states import StudyState

logger = logging.getLogger(__name__)

BATCH = 100
"""Objects of one transaction: a commit costs as much as several rows."""

STUDY_KEYWORDS = {
    "patient_id": "PatientID",
    "issuer_of_patient_id": "IssuerOfPatientID",
    "patient_name": "PatientName",
    "patient_birth_date": "PatientBirthDate",
    "patient_sex": "PatientSex",
    "accession_number": "AccessionNumber",
    "study_date": "StudyDate",
    "study_description": "StudyDescription",
}
IDENTITY = ("patient_id", "issuer_of_patient_id", "patient_birth_date", "patient_sex")
HEADER_KEYWORDS = [
    *STUDY_KEYWORDS.values(),
    "SpecificCharacterSet",
    "Manufacturer",
    "ManufacturerModelName",
    "StationName",
    "Modality",
    "SeriesNumber",
    "SeriesDescription",
]
INCOMPLETE = "incomplete"
"""First word of the one reason to hold a study that says nothing against its identity."""
_BIGINT = range(-(2**63), 2**63)

Received = tuple[SpoolEntry, Dataset]


def index_spool(sessions: sessionmaker[Session], spool: Spool) -> int:
    """Bring every new object of the spool into the ledger; returns how many.

    Safe to break off and to run twice. An object that can't be indexed is logged and left in the inbox.
    """
    entries, count = spool.entries(), 0
    while batch := list(islice(entries, BATCH)):
        received = [(entry, header) for entry in batch if (header := _read_header(spool, entry)) is not None]
        # one order for every process, so that two can't wait for each other's study
        received.sort(key=lambda item: (item[0].study_instance_uid, item[0].received_at))
        count += _index_batch(sessions, spool, received)
    return count


def index_instance(session: Session, spool: Spool, entry: SpoolEntry, header: Dataset) -> None:
    """Record one received object; the same object again changes nothing, nor does one of our own."""
    if is_our_own(session, entry, header_text(header, "Manufacturer")):
        logger.info("%s is an object of ours that came back; ignored", entry.sop_instance_uid)
        return
    described = {column: header_text(header, keyword) for column, keyword in STUDY_KEYWORDS.items()}
    study = _study(session, entry, described)
    series_id = _series_id(session, study.id, entry, header)
    earlier = find_earlier(session, entry)
    if any(item.sha256 == entry.sha256 for item in earlier):
        # what was purged and is sent again is here again
        session.execute(
            update(Instance)
            .where(
                Instance.sop_instance_uid == entry.sop_instance_uid,
                Instance.sha256 == entry.sha256,
                Instance.purged_at.is_not(None),
            )
            .values(purged_at=None)
        )
        return
    _add_instance(session, series_id, entry)
    differing = [column for column in IDENTITY if getattr(study, column) != described[column]]
    if differing:
        hold_study(
            session, study, f"patient_conflict: instances of one study differ in {', '.join(differing)}"
        )
    elif earlier and not is_header_change(spool, entry, earlier, study.id):
        reason = f"instance_conflict: SOP Instance UID {entry.sop_instance_uid} came with two contents"
        hold_study(session, study, reason)
        for study_id in {item.study_id for item in earlier} - {study.id}:
            hold_study(session, session.get_one(Study, study_id, with_for_update=True), reason)
    elif study.state is StudyState.STABLE:
        study.state, study.opened_at = StudyState.OPEN, func.now()
    study.source_agreements = 0
    study.last_instance_at = func.now()


def hold_study(session: Session, study: Study, reason: str) -> None:
    """Stop a study, and all work on it, until a person has looked.

    The first reason stays, unless a doubt about identity comes to one that lacked instances.
    """
    if study.state is not StudyState.HELD or is_held_as_incomplete(study):
        logger.error("study %d is held: %s", study.id, reason, extra={"study_id": study.id})
        study.state, study.hold_reason = StudyState.HELD, reason
        ledger.hold_jobs_of_study(session, study.id, reason)


def is_held_as_incomplete(study: Study) -> bool:
    """Whether the study is held, and nothing but its completeness is in doubt."""
    return study.state is StudyState.HELD and (study.hold_reason or "").startswith(f"{INCOMPLETE}:")


def _index_batch(sessions: sessionmaker[Session], spool: Spool, received: Sequence[Received]) -> int:
    try:
        with sessions.begin() as session:
            for entry, header in received:
                index_instance(session, spool, entry, header)
    except (DataError, IntegrityError) as error:
        if len(received) > 1:
            return sum(_index_batch(sessions, spool, [item]) for item in received)
        # the driver's words would repeat what a peer wrote
        logger.error("spool: %s is not indexed: %s", received[0][0].sha256, type(error).__name__)  # noqa: TRY400
        return 0
    spool.mark_indexed(entry for entry, _ in received)
    return len(received)


def _read_header(spool: Spool, entry: SpoolEntry) -> Dataset | None:
    try:
        if not spool.is_intact(entry):
            # torn by a power cut before its sender heard Success, or changed on the disk since
            logger.critical("spool: %s holds other bytes than were received: send it again", entry.sha256)
            return None
        header = dcmread(
            spool.object_path(entry.sha256), stop_before_pixels=True, specific_tags=HEADER_KEYWORDS
        )
        # values are parsed when they are asked for: ask here, where a bad one is caught
        for keyword in HEADER_KEYWORDS:
            header.get(keyword)
    except FileNotFoundError:
        logger.critical("spool: %s has a sidecar but no file", entry.sha256)
    except (InvalidDicomError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        logger.error("spool: the header of %s is unreadable: %s", entry.sha256, type(error).__name__)  # noqa: TRY400
    else:
        return header
    return None


def _study(session: Session, entry: SpoolEntry, described: Mapping[str, str]) -> Study:
    """The study's row, locked; made on its first instance."""
    query = select(Study).where(Study.study_instance_uid == entry.study_instance_uid).with_for_update()
    if study := session.scalars(query).one_or_none():
        return study
    session.execute(
        insert(Study)
        .values(study_instance_uid=entry.study_instance_uid, **described)
        .on_conflict_do_nothing(index_elements=[Study.study_instance_uid])
    )
    return session.scalars(query).one()


def _series_id(session: Session, study_id: int, entry: SpoolEntry, header: Dataset) -> int:
    query = select(Series.id).where(
        Series.study_id == study_id, Series.series_instance_uid == entry.series_instance_uid
    )
    if (series_id := session.scalars(query).one_or_none()) is not None:
        return series_id
    series = Series(
        study_id=study_id,
        series_instance_uid=entry.series_instance_uid,
        modality=header_text(header, "Modality"),
        series_number=_integer(header, "SeriesNumber"),
        series_description=header_text(header, "SeriesDescription"),
        manufacturer=header_text(header, "Manufacturer"),
        manufacturer_model_name=header_text(header, "ManufacturerModelName"),
        station_name=header_text(header, "StationName"),
    )
    session.add(series)
    session.flush()
    return series.id


def _add_instance(session: Session, series_id: int, entry: SpoolEntry) -> None:
    session.add(
        Instance(
            series_id=series_id,
            sop_instance_uid=entry.sop_instance_uid,
            sop_class_uid=entry.sop_class_uid,
            transfer_syntax_uid=entry.transfer_syntax_uid,
            sha256=entry.sha256,
            size_bytes=entry.size,
            calling_ae_title=entry.calling_ae_title,
            received_at=entry.received_at,
        )
    )


def header_text(header: Dataset, keyword: str) -> str:
    """A header's value as the ledger holds it; empty where it is absent."""
    value = header.get(keyword)
    # PostgreSQL text can't hold NUL, which some senders pad with
    return "" if value is None else str(value).replace("\0", "").strip()


def _integer(header: Dataset, keyword: str) -> int | None:
    value = header.get(keyword)
    # an absent, an empty, a repeated or an absurd number of a series says nothing
    return int(value) if isinstance(value, int) and int(value) in _BIGINT else None
