"""`gliograde purge`: retention."""

from datetime import timedelta
from typing import Annotated

import typer
from sqlalchemy.orm import Session

from dicom_node.receiving.spool import Spool
from worker.commands.ledger import note_decision, open_ledger
from worker.commands.terminal import DecidedBy, console
from worker.settings import Settings
from worker.study.decisions import find_study, own_name
from worker.upkeep.purging import purge_study, purgeable_studies


def purge(
    older_than: Annotated[
        int | None,
        typer.Option(min=0, metavar="DAYS", help="Quiet for so many days; the setting keep_days by default."),
    ] = None,
    study: Annotated[str | None, typer.Option(help="This study alone, by number or UID, of any age.")] = None,
    results: Annotated[
        bool, typer.Option("--results", help="Our own reports and images too, not only what was received.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this only say what would go.")] = False,
    decided_by: DecidedBy = None,
) -> None:
    """Remove the files of studies that ended and were delivered; the database still tells of them."""
    settings, person = Settings(), decided_by or own_name()
    days = older_than if older_than is not None or study is not None else settings.keep_days
    if days is None and study is None:
        raise typer.BadParameter("say --older-than DAYS or --study, or set keep_days")
    age = None if days is None else timedelta(days=days)
    with open_ledger() as session:
        number = None if study is None else find_study(session, study).id
        found = purgeable_studies(session, age, number, results=results)
        session.commit()
        files = size = 0
        for item in found:
            if yes and not _purge(session, settings, item.study_id, age, results=results):
                console.print(f"study {item.study_id} is worked on again and stays")
                continue
            if yes:
                note_decision("purged", person, item.study_instance_uid)
            files, size = files + item.files, size + item.size_bytes
            console.print(f"study {item.study_id}: {item.files} files, {item.size_bytes / 1e6:.1f} MB")
    said = "removed" if yes else "would go; --yes removes them"
    console.print(f"{files} files, {size / 1e6:.1f} MB {said}")


def _purge(
    session: Session, settings: Settings, study_id: int, age: timedelta | None, *, results: bool
) -> bool:
    done = purge_study(
        session, Spool(settings.spool_folder), settings.results_folder, study_id, age, results=results
    )
    session.commit()
    return done
