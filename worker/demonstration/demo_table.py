"""The demo's live table."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from worker.answers.tables import CONTRAST_HEADINGS, grade_words, probability_text, state_text
from worker.demonstration.demo_study import DemoStudy
from worker.records.queries import StudyStanding


def render_demo(studies: Sequence[DemoStudy], statement: str, activity: str) -> RenderableType:
    """The table of all studies, the reasons of those that were not graded, and what is going on."""
    table = Table(box=SIMPLE_HEAD, show_lines=True, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("study", min_width=8)
    table.add_column("truth", no_wrap=True)
    table.add_column("series taken", min_width=20)
    table.add_column("grade", no_wrap=True)
    table.add_column("P(HGG)", no_wrap=True, justify="right")
    table.add_column("PACS", no_wrap=True)
    table.add_column("state", min_width=8)
    table.add_column("s", no_wrap=True, justify="right")
    for study in studies:
        table.add_row(*_row(study))
    reasons = [
        Text(f"{study.title}: {standing.hold_reason or standing.reason}\n", style="yellow")
        for study in studies
        if (standing := study.standing) is not None and (standing.hold_reason or standing.reason)
    ]
    below = Spinner("dots", activity) if activity else Text("")
    return Group(table, *reasons, Text(f"* {statement}", style="italic"), below)


def _row(study: DemoStudy) -> list[str | Text]:
    standing = study.standing
    if standing is None:
        return [study.title, study.truth, "", "", "", "", Text(study.activity, style="cyan"), ""]
    grade = Text(grade_words(standing.grade, standing.verdict))
    if standing.grade and study.truth:
        is_right = standing.grade == study.truth
        grade = Text(f"{standing.grade} {'✓' if is_right else '✗'}", style="green" if is_right else "red")
    total = standing.delivered[1]
    return [
        study.title,
        study.truth,
        _series_taken(standing),
        grade,
        probability_text(standing),
        f"{study.objects_at_pacs}/{total}" if total else "",
        Text(study.activity, style="cyan") if study.activity else state_text(standing),
        f"{standing.seconds:.0f}" if study.is_answered else "",
    ]


def _series_taken(standing: StudyStanding) -> str:
    return "\n".join(
        f"{heading} ← {taken.series_number}: {taken.series_description}"
        for contrast, heading in CONTRAST_HEADINGS.items()
        if (taken := standing.roles.get(contrast)) is not None
    )
