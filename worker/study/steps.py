"""The steps prepare, grade and report with a claim: read the ledger, run the pipeline, write back.

`deliver` stands in `worker.delivery.delivering`.
"""

from collections.abc import Mapping
from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dicom_node.reading.series_choice import (
    NotGradableError,
    SeriesChoice,
    UncertainRolesError,
    plain_t1,
    select_series,
)
from model.grade import Contrast
from model.space.quality import PreprocessingError, require_gradable
from worker.records import ledger
from worker.records.database import Job, Result, Study
from worker.records.queries import live_results
from worker.records.seen import Seen
from worker.states import JobState
from worker.study import not_graded, pipeline
from worker.study.choosing import describe_files, part_files
from worker.study.claimed import ClaimedStep
from worker.study.confirming import confirm_choices
from worker.study.decisions import load_decisions
from worker.study.inference import Grader, InferenceUnavailableError
from worker.study.manifest import PURGED, Manifest, load_manifest, load_roles
from worker.study.reporting import (
    describe_report,
    ends_as,
    is_left_behind,
    record_result,
    write_objects,
)
from worker.study.second_readings import shadow_needs_intensities
from worker.study.workspace import workspace_of

LONGEST_SERIES_DELAY = timedelta(minutes=5)
"""How long a job sleeps that waits for a series; more of the study wakes it as a new version."""


def prepare(step: ClaimedStep) -> None:
    """Choose the series, convert and align them; or end as not gradable, as held, or as graded before."""
    node, job_id = step.node, step.claim.job_id
    with node.sessions() as session:
        manifest = load_manifest(session, node.spool, job_id)
        decided = load_decisions(session, manifest.study_id)
    if manifest.purged:
        reason = "images of this study were purged: have it sent again, then `gliograde retry`"
        _end_ungraded(step, manifest, Seen(job_id, manifest.series_ids(), []), JobState.HELD, PURGED, reason)
        return
    described = describe_files(manifest.files_by_series(), node.settings.series_rules)
    seen = Seen(job_id, manifest.series_ids(), described)
    try:
        choices = select_series(described, decided, node.settings.accepted_confidence)
        result_uid = _result_uid(step, manifest, choices)
        if result_id := _existing_result(step, result_uid):
            _link(step, seen.with_choices(choices), result_id, result_uid)
            return
        chosen = {contrast: manifest.files(choice.sop_instance_uids) for contrast, choice in choices.items()}
        before = plain_t1(described, choices)
        plain = manifest.files(before.sop_instance_uids) if before else []
        with workspace_of(node.settings.jobs_folder, job_id).publish("prepare", step.claim.fence) as folder:
            wanted = node.card.input.needs_intensities or shadow_needs_intensities(node.settings)
            prepared = pipeline.prepare(chosen, plain, folder, keep_intensities=wanted)
            seen = seen.with_quality(prepared.quality)
            require_gradable(prepared.quality)
            choices = confirm_choices(choices, prepared.checks, before)
    except UncertainRolesError as error:
        _end_ungraded(step, manifest, seen, JobState.HELD, error.reason_code, error.sentence)
        return
    except NotGradableError as error:
        if error.reason_code.startswith("missing_") and (wait := _series_wait(step, manifest)):
            detail = f"waits for more of the study: {error.sentence}"
            step.postpone(wait, detail, "waiting_series", seen.write)
        else:
            _end_ungraded(step, manifest, seen, JobState.NOT_GRADABLE, error.reason_code, error.sentence)
        return
    except PreprocessingError as error:
        _end_ungraded(step, manifest, seen, JobState.NOT_GRADABLE, error.reason, str(error))
        return

    def write(session: Session) -> None:
        seen.with_choices(choices).write(session)
        ledger.cancel_unsent(session, manifest.study_id, manifest.version)

    step.advance(JobState.GRADE, write, result_uid=result_uid)


def grade(step: ClaimedStep, grader: Grader) -> None:
    """Grade the prepared stack.

    Raises InferenceUnavailableError, the job given back uncounted, where this worker can grade nothing.
    """
    workspace = workspace_of(step.node.settings.jobs_folder, step.claim.job_id)
    try:
        with workspace.publish("grade", step.claim.fence) as folder:
            grader.grade(workspace.of("prepare"), folder)
    except InferenceUnavailableError:
        step.postpone(timedelta(0), "the worker can't grade")
        raise
    step.advance(JobState.REPORT)


def report(step: ClaimedStep) -> None:
    """Build the objects once, keep their bytes, and record result and deliveries in one transaction."""
    node, job_id = step.node, step.claim.job_id
    if not_graded.is_not_graded(step):
        not_graded.report(step)
        return
    workspace = workspace_of(node.settings.jobs_folder, job_id)
    graded, attention = pipeline.load_graded(workspace.of("prepare"), workspace.of("grade"))
    with node.sessions() as session:
        manifest = load_manifest(session, node.spool, job_id)
        roles = load_roles(session, job_id)
        result_uid = session.scalars(select(Job.result_uid).where(Job.id == job_id)).one()
        assert result_uid is not None
        what_is_said = describe_report(session, node, job_id, manifest, result_uid, graded, roles)
    files = manifest.files_by_series()
    chosen = {contrast: part_files(files[uid], role.part) for contrast, (uid, role) in roles.items()}
    settings = node.settings
    objects = pipeline.build_objects(
        what_is_said, chosen, attention, settings.maximum_images, settings.result_kinds
    )
    write_objects(node.settings.results_folder, objects)

    def write(session: Session) -> None:
        record_result(session, node, job_id, manifest.study_id, result_uid, graded, objects)

    step.advance(JobState.DELIVER, write)


def _link(step: ClaimedStep, seen: Seen, result_id: int, result_uid: str) -> None:
    """End the job with the result that its input had before; send what of that was called off or held."""
    with step.node.sessions() as session:
        is_live = session.scalar(select(live_results().where(Result.id == result_id).exists()))
        earlier = session.get_one(Result, result_id)
        is_left = is_left_behind(session, result_id)
    if is_left or not is_live:
        step.advance(JobState.DELIVER, seen.write, result_id=result_id, result_uid=result_uid)
        return
    if ends_as(earlier) is JobState.NOT_GRADABLE:
        why = {"reason_code": earlier.reason_code, "reason": earlier.reason}
        step.advance(JobState.NOT_GRADABLE, seen.write, result_id=result_id, result_uid=result_uid, **why)
        return
    step.advance(
        JobState.DONE,
        seen.write,
        result_id=result_id,
        result_uid=result_uid,
        reason_code="same_input",
        reason="the network's input is unchanged: the earlier result stands and nothing is sent",
    )


def _end_ungraded(
    step: ClaimedStep, manifest: Manifest, seen: Seen, state: JobState, reason_code: str, reason: str
) -> None:
    def write(session: Session) -> None:
        seen.write(session)
        ledger.cancel_unsent(session, manifest.study_id, manifest.version)

    if state is JobState.NOT_GRADABLE and step.node.settings.report_not_graded:
        state = JobState.REPORT
    step.advance(state, write, reason_code=reason_code, reason=reason)


def _series_wait(step: ClaimedStep, manifest: Manifest) -> timedelta | None:
    """How long to sleep until the study is looked at again; None once it has been open for long enough."""
    with step.node.sessions() as session:
        opened_at, now = session.execute(
            select(Study.opened_at, func.now()).where(Study.id == manifest.study_id)
        ).one()
    left: timedelta = opened_at + step.node.settings.series_wait - now
    return min(left, LONGEST_SERIES_DELAY) if left > timedelta(0) else None


def _result_uid(step: ClaimedStep, manifest: Manifest, choices: Mapping[Contrast, SeriesChoice]) -> str:
    return pipeline.result_identity(
        manifest.study_instance_uid,
        manifest.inputs(choices),
        step.node.card.answer_sha256,
        step.node.settings.maximum_images,
        step.node.settings.result_kinds,
    )


def _existing_result(step: ClaimedStep, result_uid: str) -> int | None:
    with step.node.sessions() as session:
        return session.scalars(select(Result.id).where(Result.result_uid == result_uid)).one_or_none()
