"""`gliograde replay`: what another checkpoint makes of past studies."""

from contextlib import closing
from datetime import datetime
from typing import Annotated

import typer

from dicom_node.receiving.spool import Spool
from model.grade import Grade, Verdict
from worker.commands.ledger import open_ledger
from worker.commands.terminal import console
from worker.records.wanted import Standing, Wanted
from worker.settings import Settings
from worker.study.inference import Inference, InferenceUnavailableError
from worker.study.pipeline import Graded
from worker.study.second_readings import jobs_to_read, open_reader, replay

Day = Annotated[
    datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Received on this day (UTC) or later.")
]


def replay_studies(
    model: Annotated[str, typer.Option(help="Checkpoint to read with: a name of `gliograde model list`.")],
    since: Day = None,
    until: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Received on this day (UTC) or earlier.")
    ] = None,
    state: Annotated[Standing | None, typer.Option(help="Where the study stands.")] = None,
    grade: Annotated[Grade | None, typer.Option(help="What it was graded.", case_sensitive=False)] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Read so many studies at most.")] = None,
) -> None:
    """Read past studies with another checkpoint, for the database only: nothing is sent, no result changes.

    Broken off and started again it goes on where it was. Exit 1: a study could not be read.
    """
    settings = Settings()
    reader = open_reader(model, settings)
    assert isinstance(reader.grader, Inference)
    wanted = Wanted(since and since.date(), until and until.date(), state, grade)
    read, failed = 0, 0
    with open_ledger() as session, closing(reader.grader):
        jobs = jobs_to_read(session, reader.card, wanted, limit)
        session.commit()
        try:
            for item in replay(session, Spool(settings.spool_folder), reader, jobs):
                if item.graded is None:
                    failed += 1
                    console.print(f"study {item.study_id}: not read: {item.failure}", soft_wrap=True)
                else:
                    read += 1
                    console.print(f"study {item.study_id}: {_said(item.graded)}", soft_wrap=True)
        except InferenceUnavailableError as error:
            typer.echo(f"gliograde: this machine can't grade: {error}", err=True)
            raise typer.Exit(2) from error
    console.print(
        f"{read} studies read by {reader.card.label}, {failed} not; `gliograde model agreement` compares",
        soft_wrap=True,
    )
    raise typer.Exit(1 if failed else 0)


def _said(graded: Graded) -> str:
    prediction, verdict = graded.prediction, graded.judgement.verdict
    word = str(prediction.grade) if verdict is Verdict.GRADED else verdict.replace("_", " ")
    return f"{word}, P(HGG) {prediction.probability:.3f}" if verdict.tells_probability else word
