"""A person puts a study that stands still to work again, or says that nothing is left to do.

No job goes back: a decision is a row, and freezes a new version of the study with a new job. Where the
study has its result, the new job takes that over and delivers what is left of it. A study whose identity is
in doubt is not let go by any word; it is mended where it came from.
"""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from worker.records import ledger
from worker.records.database import Job, Result, Study, StudyVersion, WorkDecision
from worker.records.seen import copy_seen
from worker.states import JobState, StudyState, WorkWord
from worker.study.freezing import freeze_decisions, freeze_released
from worker.study.indexing import is_held_as_incomplete
from worker.study.refusals import dismiss, is_owed, refused_deliveries, send_again
from worker.study.reporting import ends_as, is_left_behind

RETRIED = (JobState.HELD, JobState.NOT_GRADABLE)
DISMISSED = "what a destination refused for good need not be delivered, a person said"


class InterventionError(Exception):
    """The study doesn't stand where this can be said of it. The message says where it stands."""


@dataclass(frozen=True, slots=True)
class Retried:
    """What a retry came to; `objects` counts what is sent again, None where the study is graded anew."""

    version: int
    objects: int | None = None


def retry_study(session: Session, study_id: int, decided_by: str, destination: str | None = None) -> Retried:
    """Put a study to work again whose newest job stands still: grade it anew, or deliver the result it has.

    With `destination` only what that one refused is sent again. Raises InterventionError.
    """
    study, job = _settled(session, study_id)
    if job.result_id is not None:
        return _deliver_again(session, study, job, job.result_id, decided_by, destination)
    if job.state not in RETRIED:
        raise InterventionError(f"study {study.id} doesn't stand still: its job is in state {job.state}")
    if destination is not None:
        raise InterventionError(f"study {study.id} has no result that {destination} could have refused")
    _decide(session, study, WorkWord.RETRY, decided_by)
    return Retried(freeze_decisions(session, study))


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


def dismiss_study(session: Session, study_id: int, decided_by: str, destination: str | None = None) -> int:
    """Say that what was refused of a study's results need not be delivered; returns how many objects it is.

    A job that was held for nothing else ends as if they had arrived. Raises InterventionError.
    """
    study, job = _settled(session, study_id)
    refused = refused_deliveries(session, study.id, destination=destination)
    if not refused:
        raise InterventionError(f"of study {study.id} nothing was refused{_by(destination)}")
    _decide(session, study, WorkWord.DISMISS, decided_by)
    dismiss(refused)
    is_of_newest = any(delivery.result_object.result_id == job.result_id for delivery in refused)
    if job.state is JobState.HELD and job.result_id is not None and is_of_newest:
        _go_on(session, study, job, job.result_id, decided_by)
    return len(refused)


def _settled(session: Session, study_id: int) -> tuple[Study, Job]:
    """Lock a study that has arrived, and its newest job: a sender that ends that job is waited for."""
    study = session.get_one(Study, study_id, with_for_update=True)
    if study.state is StudyState.HELD:
        raise InterventionError(f"study {study.id} itself is held: {study.hold_reason}")
    if study.state is StudyState.OPEN:
        raise InterventionError(f"study {study.id} is still arriving and is graded when it is complete")
    return study, _newest_job(session, study)


def _newest_job(session: Session, study: Study) -> Job:
    return session.scalars(
        select(Job)
        .join(StudyVersion, StudyVersion.id == Job.study_version_id)
        .where(StudyVersion.study_id == study.id)
        .order_by(StudyVersion.number.desc())
        .limit(1)
        .with_for_update(of=Job)
    ).one()


def _deliver_again(
    session: Session, study: Study, job: Job, result_id: int, decided_by: str, destination: str | None
) -> Retried:
    refused = refused_deliveries(session, study.id, result_id, destination)
    if not refused and (destination is not None or not is_left_behind(session, result_id)):
        raise InterventionError(
            f"of study {study.id}'s newest result nothing was refused{_by(destination)}; "
            f"its job is in state {job.state}"
        )
    _decide(session, study, WorkWord.RETRY, decided_by)
    send_again(session, refused)
    if job.state is not JobState.DELIVER:
        return Retried(_go_on(session, study, job, result_id, decided_by), len(refused))
    # a job that waits for another destination waits for this one again
    return Retried(job.study_version.number, len(refused))


def _go_on(session: Session, study: Study, ended: Job, result_id: int, decided_by: str) -> int:
    """Freeze a version whose job has the ended one's result, to deliver what is left; returns its number."""
    number = freeze_decisions(session, study)
    job = _newest_job(session, study)
    copy_seen(session, ended.id, job.id)
    claim = ledger.claim_job(session, job.id, job.state, decided_by, timedelta(minutes=1), maximum_attempts=1)
    assert claim is not None, "nobody else has seen the new job"
    result = session.get_one(Result, result_id)
    why = {"reason_code": result.reason_code or "dismissed", "reason": result.reason or DISMISSED}
    state, why = (JobState.DELIVER, {}) if is_owed(session, result_id) else (ends_as(result), why)
    ledger.advance_job(session, claim, state, result_id=result_id, result_uid=result.result_uid, **why)
    return number


def _by(destination: str | None) -> str:
    return "" if destination is None else f" by {destination}"


def _decide(session: Session, study: Study, word: WorkWord, decided_by: str) -> None:
    session.add(WorkDecision(study_id=study.id, decision=word, decided_by=decided_by))
    session.flush()
