"""What a study, a job and a delivery can be, and which change may follow which.

The tables are the documentation: a state is left only along `JOB_TRANSITIONS`, which has no way back.
"""

from dataclasses import dataclass
from enum import StrEnum


class StudyState(StrEnum):
    """Where a study stands in arriving."""

    OPEN = "open"
    """Instances may still be coming."""
    STABLE = "stable"
    """Quiet for the quiet period; its manifest is frozen as a version."""
    HELD = "held"
    """Its identity is in doubt; a person has to look. Never graded, never dropped."""


class Completeness(StrEnum):
    """What a frozen manifest rests on."""

    QUIET = "quiet"
    """Nothing came for the quiet period; no source could be asked."""
    VERIFIED = "verified"
    """The source counted the same instances, twice."""
    UNVERIFIED = "unverified"
    """The longest wait was over before the source agreed."""


class JobState(StrEnum):
    """The step a job waits for or is in, or how it ended."""

    PREPARE = "prepare"
    GRADE = "grade"
    REPORT = "report"
    DELIVER = "deliver"
    DONE = "done"
    NOT_GRADABLE = "not_gradable"
    HELD = "held"
    SUPERSEDED = "superseded"


class DeliveryState(StrEnum):
    """Where one object stands on its way to one destination."""

    PENDING = "pending"
    SENDING = "sending"
    """In the hands of the sender that holds the destination's claim."""
    UNKNOWN = "unknown"
    """The answer was lost, or the sender: the destination may or may not have it."""
    UNCOMMITTED = "uncommitted"
    """Sent; the destination has yet to commit to it (only where its settings ask for that)."""
    SENT = "sent"
    SENT_WARNING = "sent_warning"
    COMMITTED = "committed"
    FAILED = "failed"
    """Refused for good; a person has to look."""
    DISMISSED = "dismissed"
    """Refused for good, and a person said that it need not be delivered."""


_ARRIVED = frozenset({DeliveryState.SENT, DeliveryState.SENT_WARNING, DeliveryState.UNCOMMITTED})

DELIVERY_TRANSITIONS: dict[DeliveryState, frozenset[DeliveryState]] = {
    DeliveryState.PENDING: frozenset({DeliveryState.SENDING, DeliveryState.FAILED}),
    # back to pending: refused for now, or never put on the line
    DeliveryState.SENDING: frozenset({DeliveryState.PENDING, DeliveryState.UNKNOWN, DeliveryState.FAILED})
    | _ARRIVED,
    # to sending: a query said that the destination hasn't got it, or there is no asking
    DeliveryState.UNKNOWN: frozenset({DeliveryState.SENDING, DeliveryState.FAILED}) | _ARRIVED,
    DeliveryState.UNCOMMITTED: frozenset(
        {DeliveryState.COMMITTED, DeliveryState.PENDING, DeliveryState.FAILED}
    ),
    DeliveryState.SENT: frozenset(),
    DeliveryState.SENT_WARNING: frozenset(),
    DeliveryState.COMMITTED: frozenset(),
    # by a person's word alone, once the cause is gone or is let be
    DeliveryState.FAILED: frozenset({DeliveryState.PENDING, DeliveryState.DISMISSED}),
    DeliveryState.DISMISSED: frozenset(),
}

UNDELIVERED = tuple(
    state
    for state, following in DELIVERY_TRANSITIONS.items()
    if following and state is not DeliveryState.FAILED
)
"""What a sender still has to do with."""
UNSETTLED = (*UNDELIVERED, DeliveryState.FAILED)
"""And what a person still has to look at."""
DELIVERED = (DeliveryState.SENT, DeliveryState.SENT_WARNING, DeliveryState.COMMITTED)


class StepOutcome(StrEnum):
    """How one claim of a step ended."""

    DONE = "done"
    FAILED = "failed"


class WorkWord(StrEnum):
    """What a person can say to a study that stands still."""

    RETRY = "retry"
    """Its newest job was held, found nothing gradable or was refused by a destination; the cause is gone."""
    RELEASE = "release"
    """It was held as incomplete, and is taken as it is."""
    DISMISS = "dismiss"
    """What a destination refused of its results need not be delivered."""


class ReadingOrigin(StrEnum):
    """Why an input was read by a checkpoint whose word is not sent."""

    REPLAY = "replay"
    """A person asked what another checkpoint makes of past studies."""
    SHADOW = "shadow"
    """The setting `shadow_model` names a candidate that reads every new study too."""


class NotificationEvent(StrEnum):
    """What a person can be told of without looking."""

    HELD = "held"
    """A study of doubtful identity, or a job that was given up: a person has to look."""
    NOT_GRADABLE = "not_gradable"
    DELIVERY_FAILED = "delivery_failed"
    """A destination refused something of a result for good."""
    DESTINATION_DOWN = "destination_down"
    DESTINATION_UP = "destination_up"
    """Told to whom it was told that the destination is down."""


class NotificationChannel(StrEnum):
    """How it is told."""

    WEBHOOK = "webhook"
    MAIL = "mail"


_STOPPED = frozenset({JobState.HELD, JobState.SUPERSEDED})

JOB_TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    # done straight from prepare: what the network would see has been graded before;
    # deliver straight from prepare: and its delivery had been called off, or refused and is retried;
    # report straight from prepare: that it isn't graded is reported
    JobState.PREPARE: frozenset(
        {JobState.GRADE, JobState.REPORT, JobState.DELIVER, JobState.NOT_GRADABLE, JobState.DONE}
    )
    | _STOPPED,
    JobState.GRADE: frozenset({JobState.REPORT, JobState.NOT_GRADABLE}) | _STOPPED,
    # not gradable from report: that was reported before, and nothing has changed since
    JobState.REPORT: frozenset({JobState.DELIVER, JobState.NOT_GRADABLE}) | _STOPPED,
    JobState.DELIVER: frozenset({JobState.DONE, JobState.NOT_GRADABLE}) | _STOPPED,
    JobState.DONE: frozenset(),
    JobState.NOT_GRADABLE: frozenset(),
    JobState.HELD: frozenset(),
    JobState.SUPERSEDED: frozenset(),
}

ACTIVE = tuple(state for state, following in JOB_TRANSITIONS.items() if following)


@dataclass(frozen=True, slots=True)
class Step:
    """The Celery task that takes a job out of a state, and the queue it is sent to."""

    task: str
    queue: str


STEPS: dict[JobState, Step] = {
    JobState.PREPARE: Step("worker.tasks.prepare", "cpu"),
    JobState.GRADE: Step("worker.tasks.grade", "gpu"),
    JobState.REPORT: Step("worker.tasks.report", "cpu"),
    JobState.DELIVER: Step("worker.tasks.deliver", "send"),
}
