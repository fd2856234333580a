"""What a person is told without looking: events of the ledger, told once each by webhook and by mail.

The table `notification` is the outbox: one row for an event and a way of telling. What could not be told is
due again later, doubling, without end, and holds nothing else up. A message names ledger numbers, states
and reason codes, never a patient or a UID.
"""

import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, Text, cast, delete, func, literal, null, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from worker.node import Node
from worker.records.database import (
    Delivery,
    DestinationState,
    Job,
    Notification,
    ResultObject,
    Study,
    StudyVersion,
)
from worker.records.destinations import back_off
from worker.settings import Settings
from worker.states import DeliveryState, JobState, NotificationChannel, NotificationEvent, StudyState
from worker.upkeep.telling import Message, TellingError, tell_by_mail, tell_by_webhook

logger = logging.getLogger(__name__)

FRESH = timedelta(days=1)
"""What is older isn't told: a site that turns notifications on hears nothing of its past."""
KEPT_FOR = timedelta(days=30)
"""What was told is forgotten after it."""
WORDS = {
    NotificationEvent.HELD: "a study waits for a person",
    NotificationEvent.NOT_GRADABLE: "a study can't be graded",
    NotificationEvent.DELIVERY_FAILED: "a result was refused for good",
    NotificationEvent.DESTINATION_DOWN: "a destination takes nothing",
    NotificationEvent.DESTINATION_UP: "a destination takes results again",
}
_COLUMNS = ("event_key", "event", "study_id", "job_id", "destination", "state", "reason_code", "channel")


def notify(node: Node) -> int:
    """Note what has happened, and tell what is due; returns how many messages were taken."""
    channels = channels_of(node.settings)
    if not channels:
        return 0
    with node.sessions.begin() as session:
        for channel in channels:
            note_events(session, node.settings, channel)
    return sum(_tell_all(node, channel) for channel in channels)


def channels_of(settings: Settings) -> list[NotificationChannel]:
    """The ways of telling that the settings name."""
    named = {
        NotificationChannel.WEBHOOK: settings.notify_url is not None,
        NotificationChannel.MAIL: bool(settings.notify_mail_to),
    }
    return [channel for channel, is_named in named.items() if is_named]


def note_events(session: Session, settings: Settings, channel: NotificationChannel) -> None:
    """Add a row for each event that has none; the unique key makes the same one no second."""
    for question in _events(settings):
        rows = question.add_columns(literal(channel, Notification.channel.type))
        session.execute(
            insert(Notification)
            .from_select(_COLUMNS, rows)
            .on_conflict_do_nothing(index_elements=["event_key", "channel"])
        )
    session.execute(
        insert(Notification)
        .from_select(_COLUMNS, _recoveries(channel))
        .on_conflict_do_nothing(index_elements=["event_key", "channel"])
    )


def forget_told(session: Session, settings: Settings) -> None:
    """Drop what was told long ago, but for what is still so: without its row it would be told again."""
    for channel in NotificationChannel:
        still_so = [*_events(settings), _recoveries(channel)]
        session.execute(
            delete(Notification).where(
                Notification.channel == channel,
                Notification.told_at < func.now() - KEPT_FOR,
                *(Notification.event_key.not_in(_keys(question)) for question in still_so),
            )
        )


def _keys(question: Select[*tuple[Any, ...]]) -> Select[str]:
    return select(next(iter(question.subquery().c)))


def _events(settings: Settings) -> Iterator[Select[*tuple[Any, ...]]]:
    """One question for each kind of event: its key, the event, and what a message tells."""
    wanted = settings.notify_on
    fresh = func.now() - FRESH
    if NotificationEvent.HELD in wanted:
        yield select(
            func.concat("study:", Study.id, ":held:", func.md5(func.coalesce(Study.hold_reason, ""))),
            _event(NotificationEvent.HELD),
            *(Study.id, null(), null(), cast(Study.state, Text), literal("study_held")),
        ).where(Study.state == StudyState.HELD, Study.last_instance_at > fresh)
    for event, state in (
        (NotificationEvent.HELD, JobState.HELD),
        (NotificationEvent.NOT_GRADABLE, JobState.NOT_GRADABLE),
    ):
        if event in wanted:
            yield (
                select(
                    func.concat("job:", Job.id, f":{state}"),
                    _event(event),
                    *(StudyVersion.study_id, Job.id, null(), cast(Job.state, Text), Job.reason_code),
                )
                .join(StudyVersion, StudyVersion.id == Job.study_version_id)
                .join(Study, Study.id == StudyVersion.study_id)
                .where(Job.state == state, Job.ended_at > fresh, Study.state != StudyState.HELD)
            )
    if NotificationEvent.DELIVERY_FAILED in wanted:
        yield (
            select(
                func.concat("job:", Job.id, ":delivery_failed:", Delivery.destination),
                _event(NotificationEvent.DELIVERY_FAILED),
                *(StudyVersion.study_id, Job.id, Delivery.destination, cast(Delivery.state, Text), null()),
            )
            .distinct()
            .join(ResultObject, ResultObject.id == Delivery.result_object_id)
            .join(Job, Job.result_id == ResultObject.result_id)
            .join(StudyVersion, StudyVersion.id == Job.study_version_id)
            .where(Delivery.state == DeliveryState.FAILED, or_(Job.ended_at.is_(None), Job.ended_at > fresh))
        )
    if NotificationEvent.DESTINATION_DOWN in wanted:
        yield select(
            _down_key(),
            _event(NotificationEvent.DESTINATION_DOWN),
            *(null(), null(), DestinationState.name, literal("down"), null()),
        ).where(DestinationState.failing_since <= func.now() - settings.notify_destination_after)


def _recoveries(channel: NotificationChannel) -> Select[*tuple[Any, ...]]:
    """Destinations that were noted as down and whose failures since then are over."""
    return (
        select(
            func.replace(Notification.event_key, ":down:", ":up:"),
            _event(NotificationEvent.DESTINATION_UP),
            *(null(), null(), DestinationState.name, literal("up"), null()),
            Notification.channel,
        )
        .join(DestinationState, DestinationState.name == Notification.destination)
        .where(
            Notification.event == NotificationEvent.DESTINATION_DOWN,
            Notification.channel == channel,
            or_(DestinationState.failing_since.is_(None), Notification.event_key != _down_key()),
        )
    )


def _down_key() -> ColumnElement[str]:
    since = func.extract("epoch", DestinationState.failing_since)
    return func.concat("destination:", DestinationState.id, ":down:", since)


def _event(event: NotificationEvent) -> ColumnElement[NotificationEvent]:
    return literal(event, Notification.event.type)


def _tell_all(node: Node, channel: NotificationChannel) -> int:
    """Tell what is due, oldest first, until one can't be told: the others would wait for the same."""
    told = 0
    while _tell_next(node, channel):
        told += 1
    return told


def _tell_next(node: Node, channel: NotificationChannel) -> bool:
    with node.sessions.begin() as session:
        row = session.scalars(
            select(Notification)
            .where(
                Notification.channel == channel,
                Notification.told_at.is_(None),
                or_(Notification.not_before.is_(None), Notification.not_before <= func.now()),
            )
            .order_by(Notification.id)
            .limit(1)
            # another teller's is its own
            .with_for_update(skip_locked=True)
        ).one_or_none()
        if row is None:
            return False
        tell = tell_by_webhook if channel is NotificationChannel.WEBHOOK else tell_by_mail
        try:
            tell(node.settings, _message(row))
        except TellingError as error:
            row.attempts += 1
            _wait(session, node.settings, row, str(error))
            return False
        row.attempts, row.detail = row.attempts + 1, None
        session.execute(update(Notification).where(Notification.id == row.id).values(told_at=func.now()))
    return True


def _wait(session: Session, settings: Settings, row: Notification, detail: str) -> None:
    """Leave the channel alone for a while, however many messages wait for it."""
    logger.warning("notification %d is not told by %s: %s", row.id, row.channel, detail)
    row.detail = detail
    session.flush()
    session.execute(
        update(Notification)
        .where(Notification.channel == row.channel, Notification.told_at.is_(None))
        .values(not_before=func.now() + back_off(settings, row.attempts))
    )


def _message(row: Notification) -> Message:
    return {
        "notification": row.id,
        "message": WORDS[row.event],
        "event": row.event.value,
        "study": row.study_id,
        "job": row.job_id,
        "destination": row.destination,
        "state": row.state,
        "reason_code": row.reason_code,
        "noted_at": row.created_at.isoformat(),
    }
