"""What a person says of a study: `roles`, `retry`, `release`, `dismiss`, `feedback`."""

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
from worker.study.interventions import dismiss_study, release_study, retry_study

RefusedBy = Annotated[
    str | None,
    typer.Option("--to", metavar="DESTINATION", help="Only what this destination refused; by default any."),
]


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


def retry(study: StudyName, destination: RefusedBy = None, decided_by: DecidedBy = None) -> None:
    """Put a study to work again that stands still, once the cause is gone.

    A result that a destination refused is sent there again as it is; else the study is graded anew.
    """

    def decide(session: Session, study_id: int, person: str) -> str:
        retried = retry_study(session, study_id, person, destination)
        if retried.objects is None:
            return f"is retried and graded anew as version {retried.version}"
        return f"goes on as version {retried.version}: {retried.objects} refused objects are sent again"

    _intervene(decide, "retried" + _for(destination), study, decided_by)


def release(study: StudyName, decided_by: DecidedBy = None) -> None:
    """Take a study as it is that is held as incomplete. A doubt about identity can't be released."""

    def decide(session: Session, study_id: int, person: str) -> str:
        return f"is released and graded anew as version {release_study(session, study_id, person)}"

    _intervene(decide, "released", study, decided_by)


def dismiss(
    study: StudyName,
    reason: Annotated[str, typer.Option(help="Why, for the audit trail. Nothing of the patient.")],
    destination: RefusedBy = None,
    decided_by: DecidedBy = None,
) -> None:
    """Say that what a destination refused of a study need not be delivered."""
    if not reason.strip():
        raise typer.BadParameter("say why", param_hint="--reason")

    def decide(session: Session, study_id: int, person: str) -> str:
        objects = dismiss_study(session, study_id, person, destination)
        return f"has {objects} refused objects dismissed"

    _intervene(decide, f"dismissed{_for(destination)}: {reason.strip()}", study, decided_by)


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


def _for(destination: str | None) -> str:
    return "" if destination is None else f" for {destination}"


def _intervene(
    decide: Callable[[Session, int, str], str], audited: str, study: str, decided_by: str | None
) -> None:
    person = decided_by or own_name()
    with open_ledger() as session:
        found = find_study(session, study)
        words = decide(session, found.id, person)
        session.commit()
        note_decision(audited, person, found.study_instance_uid)
        console.print(f"study {found.id} {words}", soft_wrap=True)
