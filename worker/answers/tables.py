"""The ledger's answers as tables on a terminal, as CSV and as JSON."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from rich.table import Table
from rich.text import Text

from dicom_node.reading.series_rules import SeriesRole
from model.card import SIMULATED_STATEMENT
from model.grade import Contrast, Grade
from model.grade import Verdict as GradeVerdict
from worker.answers.findings import Finding, Verdict
from worker.records.queries import StudyStanding
from worker.states import JobState, StudyState
from worker.study.decisions import SeriesStanding

CONTRAST_HEADINGS = {Contrast.FLAIR: "FLAIR", Contrast.T1CE: "T1 post", Contrast.T2: "T2"}
STATE_STYLES = {
    JobState.DONE: "green",
    JobState.NOT_GRADABLE: "yellow",
    JobState.HELD: "red",
    JobState.SUPERSEDED: "dim",
}
VERDICT_STYLES = {
    Verdict.OK: "green",
    Verdict.WARNING: "yellow",
    Verdict.FAILED: "red",
    Verdict.SKIPPED: "dim",
}


def status_table(standings: Sequence[StudyStanding]) -> Table:
    """Where each study stands; shows study numbers, nothing of a patient."""
    table = Table(title="gliograde: studies, newest first", title_justify="left")
    for heading in ("study", "instances", "state", "grade", "P(HGG)", "delivered", "seconds"):
        table.add_column(
            heading, justify="right" if heading in ("instances", "P(HGG)", "seconds") else "left"
        )
    table.add_column("why", overflow="fold")
    for standing in standings:
        table.add_row(
            str(standing.study_id),
            str(standing.instances),
            state_text(standing),
            grade_words(standing.grade, standing.verdict),
            probability_text(standing),
            delivered_text(standing),
            f"{standing.seconds:.0f}",
            standing.hold_reason or standing.reason or "",
        )
    return table


def roles_table(study_id: int, standings: Sequence[SeriesStanding]) -> Table:
    """What each series of a study was taken for, and why or why not."""
    table = Table(title=f"gliograde: series of study {study_id}", title_justify="left")
    for heading in ("series", "name", "images", "taken for", "confidence"):
        table.add_column(heading, justify="right" if heading in ("images", "confidence") else "left")
    table.add_column("why", overflow="fold")
    for item in standings:
        number = "" if item.series_number is None else str(item.series_number)
        table.add_row(
            f"{number}:{item.part}" if item.part else number or item.series_instance_uid,
            item.series_description,
            str(item.instances),
            _taken_for(item),
            "" if item.confidence is None else f"{_confidence(item):.2f}",
            _why(item),
        )
    return table


def findings_page(findings: Sequence[Finding]) -> Text:
    """One line for what is in order; under what isn't, a second one that says what to do."""
    page = Text()
    for finding in findings:
        page.append(f"{finding.verdict:8}", style=VERDICT_STYLES[finding.verdict])
        page.append(f"{finding.check}: {finding.detail}\n")
        if finding.advice:
            page.append(f"{'':8}→ {finding.advice}\n")
    page.rstrip()
    return page


def _taken_for(item: SeriesStanding) -> Text:
    """The contrast it was chosen for; in brackets what it is like where it wasn't chosen."""
    if item.taken_as is not None:
        return Text(item.taken_as.upper(), style="green")
    return Text(f"({item.role})" if item.role not in (None, SeriesRole.OTHER) else "", style="dim")


def _confidence(item: SeriesStanding) -> float:
    return 1.0 if item.decided_by is not None and item.taken_as else item.confidence or 0.0


def _why(item: SeriesStanding) -> str:
    if item.evidence is None:
        return "not looked at yet"
    decided = ""
    if item.decided_by is not None and item.decided_at is not None:
        decided = f"set as {item.decided_as} by {item.decided_by}, {item.decided_at:%Y-%m-%d %H:%M} UTC"
    passed_over = f"passed over: {item.passed_over}" if item.passed_over else ""
    return "; ".join(words for words in (decided, passed_over, item.evidence) if words)


def state_text(standing: StudyStanding) -> Text:
    """State of the study as long as it arrives or is held, else of its job."""
    if standing.study_state is not StudyState.STABLE or standing.job_state is None:
        words = {StudyState.OPEN: "arriving", StudyState.HELD: "held"}.get(standing.study_state, "stable")
        return Text(words, style="red" if standing.study_state is StudyState.HELD else "cyan")
    return Text(standing.job_state.replace("_", " "), style=STATE_STYLES.get(standing.job_state, "cyan"))


def grade_words(grade: Grade | None, verdict: GradeVerdict | None) -> str:
    """The grade, or what stands in its place; empty where the network was not asked."""
    return grade or (verdict.replace("_", " ") if verdict is not None else "")


def probability_text(standing: StudyStanding) -> str:
    """Probability of HGG, marked where the weights have seen only simulated tumours."""
    if standing.probability is None:
        return ""
    return f"{standing.probability:.3f}{'*' if standing.trained_on_simulated else ''}"


def delivered_text(standing: StudyStanding) -> str:
    """Deliveries made of all."""
    made, total = standing.delivered
    return f"{made} of {total}" if total else ""


Value = str | int | float | bool | None

COLUMNS: Mapping[str, Callable[[StudyStanding], Value]] = {
    "study_id": lambda item: item.study_id,
    "study_instance_uid": lambda item: item.study_instance_uid,
    "patient_id": lambda item: item.patient_id,
    "accession_number": lambda item: item.accession_number,
    "study_date": lambda item: item.study_date,
    "study_state": lambda item: item.study_state,
    "version": lambda item: item.version,
    "completeness": lambda item: item.completeness,
    "job_state": lambda item: item.job_state,
    "reason_code": lambda item: "study_held" if item.hold_reason else item.reason_code,
    "reason": lambda item: item.hold_reason or item.reason,
    "preprocessing_warnings": lambda item: item.preprocessing_warnings,
    "verdict": lambda item: item.verdict,
    "grade": lambda item: item.grade,
    "probability": lambda item: item.probability,
    "is_calibrated": lambda item: item.is_calibrated,
    "attention_ml": lambda item: item.attention_ml,
    "appearance_distance": lambda item: item.appearance_distance,
    "model_name": lambda item: item.model_name,
    "model_version": lambda item: item.model_version,
    "checkpoint_sha256": lambda item: item.checkpoint_sha256,
    "trained_on_simulated": lambda item: item.trained_on_simulated,
    "result_uid": lambda item: item.result_uid,
    "flair_series_number": lambda item: _series_number(item, Contrast.FLAIR),
    "t1ce_series_number": lambda item: _series_number(item, Contrast.T1CE),
    "t2_series_number": lambda item: _series_number(item, Contrast.T2),
    "delivered": lambda item: item.delivered[0],
    "deliveries": lambda item: item.delivered[1],
    "received_at": lambda item: _iso(item.first_instance_at),
    "ended_at": lambda item: _iso(item.ended_at),
    "seconds": lambda item: round(item.seconds, 3),
}
"""What a program reads of a study; times are ISO 8601."""


def result_records(standings: Iterable[StudyStanding]) -> list[dict[str, Value]]:
    """One flat record a study."""
    return [{name: column(item) for name, column in COLUMNS.items()} for item in standings]


def results_table(standings: Sequence[StudyStanding]) -> Table:
    """Results for a person."""
    table = Table(title="gliograde: results, newest first", title_justify="left")
    for heading in ("study", "accession", "date", "state", "grade", "P(HGG)", "model", "delivered"):
        table.add_column(heading)
    table.add_column("why", overflow="fold")
    for item in standings:
        table.add_row(
            str(item.study_id),
            item.accession_number,
            item.study_date,
            state_text(item),
            grade_words(item.grade, item.verdict),
            probability_text(item),
            f"{item.model_name} {item.model_version}" if item.model_name else "",
            delivered_text(item),
            item.hold_reason or item.reason or "",
        )
    if any(item.trained_on_simulated for item in standings):
        table.caption = f"* {SIMULATED_STATEMENT}."
    return table


def to_csv(standings: Iterable[StudyStanding]) -> str:
    """Records as CSV with a heading line."""
    output = io.StringIO()
    writer = csv.DictWriter(output, fieldnames=list(COLUMNS))
    writer.writeheader()
    writer.writerows(result_records(standings))
    return output.getvalue()


def to_json(standings: Iterable[StudyStanding]) -> str:
    """Records as a JSON list."""
    return json.dumps(result_records(standings), indent=2)


def _series_number(item: StudyStanding, contrast: Contrast) -> int | None:
    taken = item.roles.get(contrast)
    return None if taken is None else taken.series_number


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
