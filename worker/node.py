"""What a process of the service has at hand, opened once at a composition root."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session, sessionmaker

from dicom_node.audit import AuditSpool
from dicom_node.installation import Installation, open_installation
from dicom_node.receiving.spool import Spool
from model.card import Card, verify
from worker.checkpoints import chosen_checkpoint
from worker.records.database import create_ledger_engine
from worker.settings import Settings


class MissingServiceError(Exception):
    """PostgreSQL or Redis isn't named in the settings. Trying again can't help."""


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


def checkpoint_in_use(settings: Settings) -> Path:
    """Folder of the checkpoint that workers started now would grade with. Raises `CheckpointError`."""
    return settings.checkpoint_folder or chosen_checkpoint(settings.data_folder)


def open_node(settings: Settings) -> Node:
    """Open what a worker needs; fails closed on a wrong checkpoint, data folder or missing service.

    Raises DataFolderError, MissingServiceError, DatabaseUrlError, CheckpointError.
    """
    if settings.database_url is None:
        raise MissingServiceError("set GLIOGRADE_DATABASE_URL, or let `gliograde up` start everything")
    checkpoint_folder = checkpoint_in_use(settings)
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
