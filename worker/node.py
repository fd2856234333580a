"""What a process of the service has at hand, opened once at a composition root."""

import json
import uuid
from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import UID, generate_uid
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.audit import AuditSpool
from dicom_node.receiving.spool import Spool
from model.card import Card, verify
from worker.checkpoints import chosen_checkpoint
from worker.records.database import create_ledger_engine
from worker.settings import Settings

DATA_FOLDER_FORMAT = 1


class DataFolderError(Exception):
    """The data folder can't be used. Trying again can't help: the message says what to change."""


class MissingServiceError(Exception):
    """PostgreSQL or Redis isn't named in the settings. Trying again can't help."""


@dataclass(frozen=True, slots=True)
class Installation:
    """This node as a device: one UID for the life of its data folder."""

    device_uid: UID


@dataclass(frozen=True, slots=True)
class Node:
    """Settings and open resources of one process."""

    settings: Settings
    sessions: sessionmaker[Session]
    spool: Spool
    installation: Installation
    checkpoint_folder: Path
    card: Card
    audit: AuditSpool


def open_installation(data_folder: Path) -> Installation:
    """Read the data folder's marker, making it in a new folder; raises DataFolderError for another format."""
    marker = data_folder / "gliograde.json"
    if not marker.exists():
        if data_folder.exists() and any(data_folder.iterdir()):
            raise DataFolderError(
                f"{data_folder} isn't empty and isn't a gliograde data folder; name another folder"
            )
        data_folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"format": DATA_FOLDER_FORMAT, "device_uid": generate_uid(prefix=None)})
        # an exclusive link makes the first of two starting processes win with a whole file
        part = marker.with_name(f".{uuid.uuid4()}.part")
        part.write_text(text)
        try:
            marker.hardlink_to(part)
        except FileExistsError:
            pass
        finally:
            part.unlink()
    try:
        content = json.loads(marker.read_text())
        found, device_uid = content["format"], content["device_uid"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataFolderError(f"{marker} can't be read; restore it from a backup") from error
    if found != DATA_FOLDER_FORMAT:
        raise DataFolderError(
            f"{data_folder} has format {found}, this gliograde reads format {DATA_FOLDER_FORMAT}: "
            "use the gliograde version that made it, or name another folder"
        )
    return Installation(UID(device_uid))


def open_node(settings: Settings) -> Node:
    """Open what a worker needs; fails closed on a wrong checkpoint, data folder or missing service.

    Raises DataFolderError, MissingServiceError, CheckpointError.
    """
    if settings.database_url is None:
        raise MissingServiceError("set GLIOGRADE_DATABASE_URL, or let `gliograde up` start everything")
    checkpoint_folder = settings.checkpoint_folder or chosen_checkpoint(settings.data_folder)
    installation = open_installation(settings.data_folder)
    engine = create_ledger_engine(settings.database_url.get_secret_value())
    return Node(
        settings=settings,
        sessions=sessionmaker(engine),
        spool=Spool(settings.spool_folder),
        installation=installation,
        checkpoint_folder=checkpoint_folder,
        card=verify(checkpoint_folder),
        audit=AuditSpool(settings.audit_folder),
    )
