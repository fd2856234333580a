"""The report step of a study that can't be graded: says so at the destinations, once for each reason.

The answer is a result like any other: delivered, resent and replaced in the same way.
"""

import hashlib
import json
from typing import Any

from pydicom import dcmread
from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.reading.evidence import build_evidence
from dicom_node.results.not_graded import build_not_graded
from dicom_node.results.report import Algorithm, NeededSeries, NotGraded
from model.grade import Contrast
from worker.records.database import Job, Result, Series, SeriesCandidate, StudyVersion
from worker.states import JobState
from worker.study.claimed import ClaimedStep
from worker.study.manifest import load_manifest
from worker.study.pipeline import PIPELINE_VERSION, serialise
from worker.study.reporting import (
    describe_device,
    find_predecessor,
    is_left_behind,
    latest_result_id,
    record_answer,
    write_objects,
)

RECEIVED_SHOWN = 30
"""Series that the report lists at most."""


def is_not_graded(step: ClaimedStep) -> bool:
    """Whether the job comes to its report without a grade."""
    with step.node.sessions() as session:
        return session.scalars(select(Job.result_uid).where(Job.id == step.claim.job_id)).one() is None


def report(step: ClaimedStep) -> None:
    """Build page and report, and record them as a result; or go on with the answer that is there already."""
    node, job_id = step.node, step.claim.job_id
    with node.sessions() as session:
        manifest = load_manifest(session, node.spool, job_id)
        job = session.get_one(Job, job_id)
        assert job.reason_code is not None
        why: dict[str, Any] = {"reason_code": job.reason_code, "reason": job.reason}
        latest = _latest(session, manifest.study_id)
        result_uid = _identity(manifest.study_instance_uid, job.reason_code, latest)
        known = session.scalars(select(Result.id).where(Result.result_uid == result_uid)).one_or_none()
        is_left = known is not None and is_left_behind(session, known)
        notice = _describe(session, step, manifest.study_id, job, result_uid)
    if known is not None:
        # said by the last answer, or its sending was called off before it began, or held before it ended
        is_said = latest is not None and latest.id == known and not is_left
        state = JobState.NOT_GRADABLE if is_said else JobState.DELIVER
        step.advance(state, result_id=known, result_uid=result_uid, **why)
        return
    headers = [dcmread(item.path, stop_before_pixels=True) for item in manifest.instances]
    built = build_not_graded(notice, build_evidence(headers[0], headers))
    objects = [serialise(item) for item in built]
    write_objects(node.settings.results_folder, objects)

    def write(session: Session) -> None:
        answer = {**why, "created_at": notice.created_at}
        record_answer(session, node, job_id, manifest.study_id, result_uid, answer, objects)

    step.advance(JobState.DELIVER, write, result_uid=result_uid, **why)


def _latest(session: Session, study_id: int) -> Result | None:
    latest_id = latest_result_id(session, study_id)
    return None if latest_id is None else session.get_one(Result, latest_id)


def _describe(session: Session, step: ClaimedStep, study_id: int, job: Job, result_uid: str) -> NotGraded:
    card = step.node.card
    assert job.reason is not None
    return NotGraded(
        reason=job.reason,
        received=_received(session, job.id),
        needed=_needed(session, job.id),
        algorithm=Algorithm(card.name, card.version, card.weights_sha256, card.training_statement),
        result_id=result_uid,
        # one moment for every attempt
        created_at=session.get_one(StudyVersion, job.study_version_id).frozen_at.astimezone(),
        device=describe_device(step.node),
        predecessor=find_predecessor(session, study_id),
    )


def _identity(study_instance_uid: str, reason_code: str, latest: Result | None) -> str:
    """SHA-256 of what is said and of what it replaces: a reason that returns later is said anew."""
    if latest is not None and latest.reason_code == reason_code:
        return latest.result_uid
    replaced = "" if latest is None else latest.result_uid
    parts = ["not graded", study_instance_uid, reason_code, replaced, PIPELINE_VERSION]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _received(session: Session, job_id: int) -> tuple[str, ...]:
    """One line for each volume that the job looked at, in our own words."""
    rows = session.execute(
        select(Series.series_number, SeriesCandidate)
        .join(SeriesCandidate, SeriesCandidate.series_id == Series.id)
        .where(SeriesCandidate.job_id == job_id)
        .order_by(Series.series_number, Series.id, SeriesCandidate.part)
    ).all()
    lines = [
        f"Received: series {'?' if number is None else number}, looks like {seen.role.upper()}"
        f" (confidence {seen.confidence:.2f}): {seen.evidence}"
        + (f"; passed over: {seen.passed_over}" if seen.passed_over else "")
        for number, seen in rows
    ]
    more = len(lines) - RECEIVED_SHOWN
    return (*lines[:RECEIVED_SHOWN], *([f"and {more} more"] if more > 0 else []))


def _needed(session: Session, job_id: int) -> tuple[NeededSeries, ...]:
    """Say of each contrast which series were taken for it, passed over or not."""
    rows = session.execute(
        select(SeriesCandidate.role, Series.series_number)
        .join(Series, Series.id == SeriesCandidate.series_id)
        .where(SeriesCandidate.job_id == job_id)
        .order_by(Series.series_number, Series.id, SeriesCandidate.part)
    ).all()
    return tuple(
        NeededSeries(
            contrast,
            tuple(
                dict.fromkeys(
                    "?" if number is None else str(number) for role, number in rows if role == contrast.value
                )
            ),
        )
        for contrast in Contrast
    )
