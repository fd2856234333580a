"""A person puts a study that stands still to work again.

No job goes back: a decision is a row, and freezes a new version of the study with a new job. A study whose
identity is in doubt is not let go by any word; it is mended where it came from.
"""

from sqlalchemy import select
from sqlalchemy.orm import Session

from worker.records.database import Job, Study, StudyVersion, WorkDecision
from worker.states import JobState, StudyState, WorkWord
from worker.study.freezing import freeze_decisions, freeze_released
from worker.study.indexing import is_held_as_incomplete

RETRIED = (JobState.HELD, JobState.NOT_GRADABLE)


class InterventionError(Exception):
    """The study doesn't stand where this can be said of it. The message says where it stands."""


def retry_study(session: Session, study_id: int, decided_by: str) -> int:
    """Grade a study anew whose newest job was held or not gradable; returns the new version's number.

    Raises InterventionError: also where the job has a result, which a new version would only find again.
    """
    study = session.get_one(Study, study_id, with_for_update=True)
    if study.state is StudyState.HELD:
        raise InterventionError(f"study {study.id} itself is held: {study.hold_reason}")
    if study.state is StudyState.OPEN:
        raise InterventionError(f"study {study.id} is still arriving and is graded when it is complete")
    job = session.scalars(
        select(Job)
        .join(StudyVersion, StudyVersion.id == Job.study_version_id)
        .where(StudyVersion.study_id == study.id)
        .order_by(StudyVersion.number.desc())
        .limit(1)
    ).one()
    if job.state not in RETRIED:
        raise InterventionError(f"study {study.id} doesn't stand still: its job is in state {job.state}")
    if job.result_id is not None:
        raise InterventionError(
            f"study {study.id} has its result; it was held in delivery, and what a destination refused for "
            f"good is not sent again: {job.reason}"
        )
    _decide(session, study, WorkWord.RETRY, decided_by)
    return freeze_decisions(session, study)


def release_study(session: Session, study_id: int, decided_by: str) -> int:
    """Take a study that is held as incomplete as it is; returns the new version's number.

    Its report says that completeness is unverified. Raises InterventionError.
    """
    study = session.get_one(Study, study_id, with_for_update=True)
    if study.state is not StudyState.HELD:
        raise InterventionError(
            f"study {study.id} isn't held; a held job is put to work by `gliograde retry`"
        )
    if not is_held_as_incomplete(study):
        raise InterventionError(
            f"study {study.id} can't be released while its identity is in doubt ({study.hold_reason}): "
            "have it corrected where it came from and sent under a new Study Instance UID"
        )
    study.hold_reason = None
    _decide(session, study, WorkWord.RELEASE, decided_by)
    return freeze_released(session, study)


def _decide(session: Session, study: Study, word: WorkWord, decided_by: str) -> None:
    session.add(WorkDecision(study_id=study.id, decision=word, decided_by=decided_by))
    session.flush()
