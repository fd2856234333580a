"""Celery's tasks: shims that claim a row, run the step, commit, and hint the next one."""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType

from celery.exceptions import WorkerShutdown
from celery.platforms import EX_FAILURE
from sqlalchemy.exc import OperationalError

from dicom_node.logs import about
from worker.celery import app, current_inference, current_node, current_shadow
from worker.delivery import delivering
from worker.delivery.sending import send_due
from worker.log_privacy import without_words
from worker.records.destinations import destinations_of_job
from worker.records.ledger import Hint, StaleClaimError, jobs_waiting_beside
from worker.records.schema import SchemaError
from worker.states import STEPS, JobState
from worker.study import steps
from worker.study.claimed import ClaimedStep, take_claim
from worker.study.inference import InferenceUnavailableError
from worker.study.second_readings import keep_for_shadow, read_in_shadow
from worker.upkeep import notifications
from worker.upkeep.audit_forwarding import forward_audit_trail
from worker.upkeep.census import take_census
from worker.upkeep.hints import SEND_TASK, send_destination_hint, send_hint
from worker.upkeep.sweep import keep_up

logger = logging.getLogger(__name__)


@app.task(name="worker.tasks.sweep")
def sweep() -> None:
    """Index the spool, freeze complete studies, offer waiting work."""
    try:
        due = keep_up(current_node())
    except OperationalError:
        logger.warning("PostgreSQL is away; the next sweep tries again")
        return
    except SchemaError as error:
        logger.critical("no sweep: %s", error)
        return
    for hint in due.hints:
        send_hint(app, hint)
    for destination_id in due.destination_ids:
        send_destination_hint(app, destination_id)


@app.task(name="worker.tasks.census")
def census() -> None:
    """Compare ledger and files."""
    take_census(current_node())


@app.task(name=STEPS[JobState.PREPARE].task)
def prepare(job_id: int) -> None:
    """Series roles, conversion, alignment."""
    _run(job_id, JobState.PREPARE)


@app.task(name=STEPS[JobState.GRADE].task)
def grade(job_id: int) -> None:
    """The network, over this study and on an accelerator over others that wait, together."""
    # made here, not by two threads at once
    current_shadow()
    together = [job_id, *_waiting_beside(job_id)]
    with ThreadPoolExecutor(len(together)) as pool:
        for graded in [pool.submit(_grade, each) for each in together]:
            graded.result()


def _waiting_beside(job_id: int) -> Sequence[int]:
    node, device = current_node(), current_inference().device
    limit = node.settings.grade_together or (1 if device in {None, "cpu"} else 8)
    if limit == 1:
        return []
    try:
        with node.sessions() as session:
            return jobs_waiting_beside(session, job_id, JobState.GRADE, limit - 1)
    except OperationalError:
        return []


def _grade(job_id: int) -> None:
    """Grade a study; then, once it is on its way, have the candidate read it in shadow."""
    following = run_step(job_id, JobState.GRADE)
    if following is None:
        return
    shadow = current_shadow()
    with about(job_id=job_id):
        kept = shadow and keep_for_shadow(current_node(), job_id)
        send_hint(app, Hint(job_id, following))
        if shadow and kept:
            read_in_shadow(current_node(), shadow, job_id, kept)


@app.task(name=STEPS[JobState.REPORT].task)
def report(job_id: int) -> None:
    """Structured report and attention images."""
    _run(job_id, JobState.REPORT)


@app.task(name=STEPS[JobState.DELIVER].task)
def deliver(job_id: int) -> None:
    """Offer what is not there yet to the senders of its destinations."""
    _run(job_id, JobState.DELIVER)
    with current_node().sessions() as session:
        waiting = destinations_of_job(session, job_id)
    for destination_id in waiting:
        send_destination_hint(app, destination_id)


@app.task(name=SEND_TASK)
def send(destination_id: int) -> None:
    """Send all that is due at one destination."""
    send_due(current_node(), destination_id)


@app.task(name="worker.tasks.forward_audit")
def forward_audit() -> None:
    """Pass new audit events on, where the settings name a receiver."""
    forward_audit_trail(current_node())


@app.task(name="worker.tasks.notify")
def notify() -> None:
    """Tell a person of events, where the settings name a webhook or a mail server."""
    try:
        notifications.notify(current_node())
    except OperationalError:
        logger.warning("PostgreSQL is away; nobody is notified meanwhile")


_FUNCTIONS: Mapping[JobState, Callable[[ClaimedStep], None]] = MappingProxyType(
    {
        JobState.PREPARE: steps.prepare,
        JobState.GRADE: lambda step: steps.grade(step, current_inference()),
        JobState.REPORT: steps.report,
        JobState.DELIVER: delivering.deliver,
    }
)


def run_step(job_id: int, state: JobState) -> JobState | None:
    """Claim a job and run the step it waits for; returns the state that follows, if a step takes it further.

    Failures are written to the ledger and logged without their message, which might name a patient. Raises
    WorkerShutdown where this worker should take no more work.
    """
    with about(job_id=job_id):
        return _claim_and_run(job_id, state)


def _claim_and_run(job_id: int, state: JobState) -> JobState | None:
    node = current_node()
    try:
        claim = take_claim(node, job_id, state)
        if claim is None:
            return None
        with ClaimedStep(node, claim) as step:
            _FUNCTIONS[state](step)
    except StaleClaimError as error:
        logger.warning("%s; the work is thrown away", error)
    except OperationalError:
        logger.warning("job %d: PostgreSQL is away during %s", job_id, state)
    except SchemaError as error:
        logger.critical("job %d is left to others: %s", job_id, error)
    except InferenceUnavailableError as error:
        logger.critical("job %d goes back and this worker stops: %s", job_id, error)
        raise WorkerShutdown(EX_FAILURE) from None
    except Exception as error:  # noqa: BLE001 - the border of a job: recorded, never passed on with its words
        logger.error("job %d: %s failed with %s", job_id, state, without_words(error))  # noqa: TRY400
    else:
        return step.next_state if step.next_state in STEPS else None
    return None


def _run(job_id: int, state: JobState) -> None:
    following = run_step(job_id, state)
    if following is not None:
        send_hint(app, Hint(job_id, following))
