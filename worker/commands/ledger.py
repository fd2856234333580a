"""What each command that asks or changes the ledger has in common."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.orm import Session

from dicom_node.audit import AuditSpool
from dicom_node.installation import DataFolderError, open_installation
from worker.records.schema import check_schema
from worker.running.services import open_database, open_engine
from worker.settings import Settings


@contextmanager
def open_ledger() -> Iterator[Session]:
    """Yield a session on the service's database; raises DataFolderError and SchemaError."""
    settings = Settings()
    if settings.database_url is None and not (settings.data_folder / "gliograde.json").exists():
        raise DataFolderError(
            f"there is no gliograde data folder at {settings.data_folder}; set GLIOGRADE_DATA_FOLDER"
        )
    with open_database(settings) as complete, open_engine(complete) as engine:
        check_schema(engine)
        with Session(engine) as session:
            yield session


def note_decision(detail: str, person: str, study_instance_uid: str) -> None:
    """Tell the audit trail what a person decided on a study."""
    settings = Settings()
    open_installation(settings.data_folder)
    AuditSpool(settings.audit_folder).decision(
        detail, person=person, ae_title=settings.ae_title, study_instance_uid=study_instance_uid
    )
