"""How far two checkpoints agree on the studies that both have read."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from rich.table import Table
from sqlalchemy import RowMapping, text
from sqlalchemy.orm import Session

from model.grade import Grade

_COUNTS = text("""
    SELECT older_model, newer_model, origin, older_grade, newer_grade, count(*) AS studies,
           count(*) FILTER (WHERE older_verdict <> newer_verdict) AS other_verdicts,
           count(probability_change) AS compared, coalesce(sum(abs(probability_change)), 0) AS change
    FROM v_model_agreement
    WHERE created_at >= coalesce(CAST(:since AS timestamptz), '-infinity')
    GROUP BY older_model, newer_model, origin, older_grade, newer_grade
""")


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two checkpoints on the same inputs.

    `other_verdicts` counts the studies of which one said something else than the other, such as a grade where
    the other saw no tumour. Of the `graded` ones, those that both gave a grade, `agreeing` have the same;
    `kappa` is None where chance alone would always agree, `mean_change` where no two probabilities were told.
    """

    older_model: str
    newer_model: str
    origin: str
    studies: int
    other_verdicts: int
    graded: int
    agreeing: int
    kappa: float | None
    mean_change: float | None


def measure_agreement(session: Session, since: date | None = None) -> list[Agreement]:
    """Compare every two checkpoints that have read the same studies, by what let the second one read."""
    pairs: defaultdict[tuple[str, str, str], list[RowMapping]] = defaultdict(list)
    for row in session.execute(_COUNTS, {"since": since}).mappings():
        pairs[row["older_model"], row["newer_model"], row["origin"]].append(row)
    return [_agreement(pair, rows) for pair, rows in sorted(pairs.items())]


def cohens_kappa(counts: dict[tuple[Grade, Grade], int]) -> float | None:
    """Agreement beyond chance, at most 1 (Cohen 1960); `counts` by both readers' grades."""
    total = sum(counts.values())
    observed = sum(count for (first, second), count in counts.items() if first == second) / total
    expected = sum(
        sum(count for (first, _), count in counts.items() if first == grade)
        * sum(count for (_, second), count in counts.items() if second == grade)
        for grade in Grade
    ) / (total * total)
    return None if expected == 1 else (observed - expected) / (1 - expected)


def agreement_table(measured: list[Agreement]) -> Table:
    """Agreement for a person."""
    table = Table(title="gliograde: agreement of checkpoints", title_justify="left")
    for heading in ("older", "newer", "read by"):
        table.add_column(heading)
    for heading in ("studies", "other verdict", "both graded", "same grade", "kappa", "mean |ΔP|"):
        table.add_column(heading, justify="right")
    for item in measured:
        table.add_row(
            *(item.older_model, item.newer_model, item.origin),
            *map(str, (item.studies, item.other_verdicts, item.graded, item.agreeing)),
            "" if item.kappa is None else f"{item.kappa:.2f}",
            "" if item.mean_change is None else f"{item.mean_change:.3f}",
        )
    return table


def _agreement(pair: tuple[str, str, str], rows: Sequence[RowMapping]) -> Agreement:
    counts = {
        (Grade(row["older_grade"]), Grade(row["newer_grade"])): row["studies"]
        for row in rows
        if row["older_grade"] and row["newer_grade"]
    }
    compared = sum(row["compared"] for row in rows)
    return Agreement(
        *pair,
        studies=sum(row["studies"] for row in rows),
        other_verdicts=sum(row["other_verdicts"] for row in rows),
        graded=sum(counts.values()),
        agreeing=sum(count for (first, second), count in counts.items() if first == second),
        kappa=cohens_kappa(counts) if counts else None,
        mean_change=sum(row["change"] for row in rows) / compared if compared else None,
    )
