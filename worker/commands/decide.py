"""What a person says of a study: `roles`, `retry`, `release`, `feedback`."""

from collections.abc import Callable
from typing import Annotated

import typer
from sqlalchemy.orm import Session

from model.grade import Grade
from worker.answers.tables import roles_table
from worker.commands.ledger import note_decision, open_ledger
from worker.commands.terminal import DecidedBy, StudyName, console
from worker.records.database import Feedback
from worker.study.decisions import decide_roles, find_study, own_name, parse_roles, series_standings
from worker.study.interventions import release_study, retry_study


def roles(
    study: StudyName,
    set_to: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="CONTRAST=SERIES",
            help="Take a series, by number or UID, for flair, t1ce or t2, and grade anew; of a series with "
            "more volumes one, as the first column names it: 't2=4:TE 95'. Repeat for more.",
        ),
    ] = None,
    decided_by: DecidedBy = None,
) -> None:
    """Show what each series of a study was taken for and why, or say which series to take."""
    named = parse_roles(set_to or [])
    with open_ledger() as session:
        found = find_study(session, study)
        study_id = found.id
        if named:
            person = decided_by or own_name()
            version = decide_roles(session, study_id, named, person)
            session.commit()
            note_decision("roles set", person, found.study_instance_uid)
            words = f"is graded anew as version {version}"
            if version is None:
                words = "is still arriving and will be graded with these roles"
            console.print(f"study {study_id} {words}", soft_wrap=True)
            return
        console.print(roles_table(study_id, series_standings(session, study_id)))


def retry(study: StudyName, decided_by: DecidedBy = None) -> None:
    """Grade a study anew whose job was held or not gradable, once the cause is gone."""
    _intervene(retry_study, "retried", study, decided_by)


def release(study: StudyName, decided_by: DecidedBy = None) -> None:
    """Take a study as it is that is held as incomplete. A doubt about identity can't be released."""
    _intervene(release_study, "released", study, decided_by)


def feedback(
    study: StudyName,
    grade: Annotated[Grade, typer.Option(help="The grade that is known.")],
    source: Annotated[str, typer.Option(help="Where it is known from.")] = "pathology",
    given_by: DecidedBy = None,
) -> None:
    """Record a study's grade as known from elsewhere; the newest word counts. Accuracy is then one query."""
    person = given_by or own_name()
    with open_ledger() as session:
        found = find_study(session, study)
        session.add(Feedback(study_id=found.id, grade=grade, source=source, given_by=person))
        session.commit()
        note_decision("feedback given", person, found.study_instance_uid)
        console.print(f"study {found.id} is known as {grade.value} from {source}")


def _intervene(
    decide: Callable[[Session, int, str], int], word: str, study: str, decided_by: str | None
) -> None:
    person = decided_by or own_name()
    with open_ledger() as session:
        found = find_study(session, study)
        version = decide(session, found.id, person)
        session.commit()
        note_decision(word, person, found.study_instance_uid)
        console.print(f"study {found.id} is {word} and graded anew as version {version}", soft_wrap=True)
