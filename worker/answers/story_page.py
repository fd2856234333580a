"""A study's story on a terminal, and as JSON."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from pydantic_core import to_json as to_json_bytes
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from model.card import SIMULATED_STATEMENT
from worker.answers.study_story import (
    DeliveryStory,
    EventStory,
    ResultStory,
    StepStory,
    StudyStory,
    VersionStory,
)
from worker.answers.tables import grade_words, roles_table


def story_json(story: StudyStory) -> str:
    """The story as one JSON object; times are ISO 8601."""
    return to_json_bytes(story, indent=2).decode()


def story_page(story: StudyStory) -> Group:
    """The story from the first instance to the last delivery."""
    senders = ", ".join(story.senders) or "nobody"
    between = f"{_time(story.first_instance_at)} to {_time(story.last_instance_at)} UTC"
    lines = [
        f"study {story.study_id}, {story.study_instance_uid}",
        f"received: {story.instances} instances from {senders}, {between}",
        f"state: {story.state}" + (f", {story.hold_reason}" if story.hold_reason else ""),
    ]
    parts: list[RenderableType] = [Text("\n".join(lines)), roles_table(story.study_id, story.series)]
    for version in story.versions:
        parts += _version(version)
    if story.events:
        parts.append(_events_table(story.events))
    return Group(*parts)


def _version(version: VersionStory) -> list[RenderableType]:
    reason = f", {version.reason_code or ''}: {version.reason}" if version.reason else ""
    manifest = f"{version.instances} instances ({version.completeness})"
    lines = [
        f"version {version.number}: frozen {_time(version.frozen_at)} with {manifest}",
        f"job {version.job_id} is {version.job_state}{reason}",
    ]
    if result := version.result:
        lines.append(f"result: {_said(result)}, by {result.model}, {_time(result.created_at)}")
        if result.trained_on_simulated and result.probability is not None:
            lines.append(f"{SIMULATED_STATEMENT}.")
    lines += _delivery_lines(version.deliveries)
    parts: list[RenderableType] = [Text("\n".join(lines))]
    if version.steps:
        parts.append(_steps_table(version.steps))
    return parts


def _said(result: ResultStory) -> str:
    """The grade or why there is none, and what the gates looked at."""
    words = [grade_words(result.grade, result.verdict) or "not graded"]
    if result.probability is not None:
        calibrated = "" if result.is_calibrated else " (not calibrated)"
        words.append(f"P(HGG) {result.probability:.3f}{calibrated}")
    if result.attention_ml is not None:
        words.append(f"attention over {result.attention_ml:.1f} ml")
    if result.appearance_distance is not None:
        words.append(f"distance from usual images {result.appearance_distance:.2f}")
    return ", ".join(words)


def _delivery_lines(deliveries: Sequence[DeliveryStory]) -> list[str]:
    """One line a destination and state; details of what isn't simply there."""
    groups: Counter[tuple[str, str, str]] = Counter()
    for item in deliveries:
        status = "" if not item.status else f" (status 0x{item.status:04X})"
        groups[item.destination, item.state, f"{status} {item.detail or ''}".rstrip()] += 1
    return [
        f"delivery to {destination}: {count} {state}{detail}"
        for (destination, state, detail), count in groups.items()
    ]


def _steps_table(steps: Sequence[StepStory]) -> Table:
    table = Table("step", "started (UTC)", "seconds", "outcome", "worker")
    table.add_column("detail", overflow="fold")
    for run in steps:
        seconds = "" if run.seconds is None else f"{run.seconds:.1f}"
        outcome = run.outcome or "running, or its worker was lost"
        table.add_row(
            run.step, _time(run.started_at), seconds, outcome, Text(run.claimed_by), Text(run.detail or "")
        )
    return table


def _events_table(events: Sequence[EventStory]) -> Table:
    table = Table(title="audit trail", title_justify="left")
    for heading in ("when (UTC)", "event", "outcome", "detail", "from", "to", "objects"):
        table.add_column(heading)
    for event in events:
        table.add_row(
            _time(event.occurred_at),
            event.event,
            "success" if event.outcome == 0 else f"failure {event.outcome}",
            Text(event.detail),
            Text(event.source),
            Text(event.target),
            str(event.instances or ""),
        )
    return table


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"
