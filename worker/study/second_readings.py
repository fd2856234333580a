"""What another checkpoint makes of inputs that have a result: by replay of past studies, and in shadow.

A second reading is kept in the database and nowhere else: it makes no object, and nothing that asks for a
study's result can meet it.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from dicom_node.reading.series_choice import NotGradableError
from dicom_node.receiving.spool import Spool
from model.card import Card, CheckpointError, verify
from model.grade import Verdict
from model.space.quality import PreprocessingError
from worker.checkpoints import find_checkpoint
from worker.node import Node
from worker.records.database import Job, Result, SecondReading, Study, StudyVersion
from worker.records.queries import is_newest_version
from worker.records.wanted import Wanted
from worker.settings import Settings
from worker.states import ReadingOrigin
from worker.study import pipeline
from worker.study.choosing import part_files
from worker.study.inference import Grader, Inference, InferenceError, InferenceUnavailableError
from worker.study.manifest import load_manifest, load_roles
from worker.study.pipeline import Graded
from worker.study.workspace import workspace_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reader:
    """A checkpoint and what grades with it."""

    card: Card
    grader: Grader


@dataclass(frozen=True, slots=True)
class Replayed:
    """One study of a replay: what was said of it, or why nothing was."""

    study_id: int
    graded: Graded | None = None
    failure: str = ""


def open_reader(name: str, settings: Settings) -> Reader:
    """Make a reader of an installed checkpoint; its child starts with the first study.

    Raises `CheckpointError`.
    """
    folder = find_checkpoint(name, settings.data_folder).folder
    return Reader(
        verify(folder), Inference(folder, settings.device, settings.inference_timeout, settings.precision)
    )


def jobs_to_read(
    session: Session, card: Card, wanted: Wanted, limit: int | None = None
) -> list[tuple[int, int]]:
    """Study and job numbers of what a network has seen and this checkpoint has not read, oldest first."""
    read = select(SecondReading.id).where(
        SecondReading.job_id == Job.id, SecondReading.checkpoint_sha256 == card.weights_sha256
    )
    rows = session.execute(
        select(Study.id, Job.id)
        .join(StudyVersion, StudyVersion.study_id == Study.id)
        .join(Job, Job.study_version_id == StudyVersion.id)
        .join(Result, Result.id == Job.result_id)
        .where(
            is_newest_version(),
            Result.verdict.is_not(None),
            Result.checkpoint_sha256 != card.weights_sha256,
            ~read.exists(),
            *wanted.conditions(),
        )
        .order_by(Job.id)
        .limit(limit)
    )
    return [(study_id, job_id) for study_id, job_id in rows]


def replay(session: Session, spool: Spool, reader: Reader, jobs: list[tuple[int, int]]) -> Iterator[Replayed]:
    """Prepare each job's input anew and read it, a transaction a study: it may be broken off at any time.

    Raises InferenceUnavailableError where no study can be read here.
    """
    for study_id, job_id in jobs:
        try:
            with TemporaryDirectory(prefix="gliograde-replay-") as folder:
                graded = _read_anew(session, spool, reader, job_id, Path(folder))
        except (NotGradableError, PreprocessingError, InferenceError) as error:
            yield Replayed(study_id, failure=str(error))
        except FileNotFoundError:
            yield Replayed(study_id, failure="its images are no longer in the spool")
        else:
            _record(session, job_id, reader.card, graded, ReadingOrigin.REPLAY)
            session.commit()
            yield Replayed(study_id, graded)


def keep_for_shadow(node: Node, job_id: int) -> "TemporaryDirectory[str] | None":
    """Give the prepared stack a second name, which outlives the job's workspace; None where that fails."""
    kept = None
    try:
        kept = TemporaryDirectory(prefix=".shadow-", dir=node.settings.jobs_folder)
        stack = workspace_of(node.settings.jobs_folder, job_id).of("prepare") / "stack.npz"
        (Path(kept.name) / "stack.npz").hardlink_to(stack)
    except OSError as error:
        logger.warning("job %d is not read in shadow: %s", job_id, type(error).__name__)
        if kept is not None:
            kept.cleanup()
        return None
    return kept


def read_in_shadow(node: Node, reader: Reader, job_id: int, kept: "TemporaryDirectory[str]") -> None:
    """Read a graded job's prepared stack with the candidate; what goes wrong is logged, no more."""
    try:
        with kept as name:
            folder = Path(name)
            reader.grader.grade(folder, folder)
            graded = pipeline.load_prediction(folder)
        with node.sessions.begin() as session:
            _record(session, job_id, reader.card, graded, ReadingOrigin.SHADOW)
    except (InferenceError, InferenceUnavailableError, OSError) as error:
        logger.warning("job %d is not read in shadow: %s", job_id, type(error).__name__)
    except OperationalError:
        logger.warning("job %d is not read in shadow: PostgreSQL is away", job_id)


def open_shadow(settings: Settings) -> Reader | None:
    """Make the reader that the setting `shadow_model` names; a bad one is logged and stops no worker."""
    if settings.shadow_model is None:
        return None
    try:
        return open_reader(settings.shadow_model, settings)
    except CheckpointError as error:
        logger.error("no study is read in shadow: %s", error)  # noqa: TRY400 - its words are ours
        return None


def shadow_needs_intensities(settings: Settings) -> bool:
    """Whether the candidate in shadow normalises by its training set; `open_shadow` tells of a bad one."""
    if settings.shadow_model is None:
        return False
    try:
        return find_checkpoint(settings.shadow_model, settings.data_folder).card.input.needs_intensities
    except CheckpointError:
        return False


def _read_anew(session: Session, spool: Spool, reader: Reader, job_id: int, folder: Path) -> Graded:
    manifest, roles = load_manifest(session, spool, job_id), load_roles(session, job_id)
    files = manifest.files_by_series()
    chosen = {contrast: part_files(files[uid], role.part) for contrast, (uid, role) in roles.items()}
    # preparing takes longer than a transaction may be idle, and no row may be read before it is over
    session.commit()
    pipeline.prepare(chosen, [], folder, keep_intensities=reader.card.input.needs_intensities)
    reader.grader.grade(folder, folder)
    return pipeline.load_prediction(folder)


def _record(session: Session, job_id: int, card: Card, graded: Graded, origin: ReadingOrigin) -> None:
    prediction, verdict = graded.prediction, graded.judgement.verdict
    row = {
        "job_id": job_id,
        "origin": origin,
        "verdict": verdict,
        "grade": prediction.grade if verdict is Verdict.GRADED else None,
        "probability": prediction.probability if verdict.tells_probability else None,
        "threshold": prediction.threshold,
        "model_name": card.name,
        "model_version": card.version,
        "checkpoint_sha256": card.weights_sha256,
        "trained_on_simulated": card.is_simulated,
        "pipeline_version": pipeline.PIPELINE_VERSION,
    }
    session.execute(insert(SecondReading).values(row).on_conflict_do_nothing())
