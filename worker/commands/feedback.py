"""`gliograde feedback`: what pathology said, beside what the network said."""

from typing import Annotated

import typer
from rich.console import Console

from model.grade import Grade
from worker.commands.ledger import note_decision, open_ledger
from worker.records.database import Feedback
from worker.study.decisions import find_study, own_name


def feedback(
    study: Annotated[str, typer.Argument(help="Number of the study, as `status` shows it, or its UID.")],
    grade: Annotated[Grade, typer.Option(help="The grade that is known.")],
    source: Annotated[str, typer.Option(help="Where it is known from.")] = "pathology",
    given_by: Annotated[
        str | None, typer.Option("--by", help="Who says so; by default the user's name.")
    ] = None,
) -> None:
    """Record a study's grade as known from elsewhere; the newest word counts. Accuracy is then one query."""
    person = given_by or own_name()
    with open_ledger() as session:
        found = find_study(session, study)
        session.add(Feedback(study_id=found.id, grade=grade, source=source, given_by=person))
        session.commit()
        note_decision("feedback given", person, found.study_instance_uid)
        Console().print(f"study {found.id} is known as {grade.value} from {source}")
