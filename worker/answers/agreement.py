"""How far two checkpoints agree on the studies that both have read."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import date

from rich.table import Table
from sqlalchemy import text
from sqlalchemy.orm import Session

from model.grade import Grade

_COUNTS = text("""
    SELECT older_model, newer_model, origin, older_grade, newer_grade, count(*) AS studies,
           sum(abs(probability_change)) AS change
    FROM v_model_agreement
    WHERE created_at >= coalesce(CAST(:since AS timestamptz), '-infinity')
    GROUP BY older_model, newer_model, origin, older_grade, newer_grade
""")


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two checkpoints on the same inputs; `kappa` is None where chance alone would always agree."""

    older_model: str
    newer_model: str
    origin: str
    studies: int
    agreeing: int
    kappa: float | None
    mean_change: float


def measure_agreement(session: Session, since: date | None = None) -> list[Agreement]:
    """Compare every two checkpoints that have read the same studies, by what let the second one read."""
    cells: defaultdict[tuple[str, str, str], dict[tuple[Grade, Grade], int]] = defaultdict(dict)
    changes: defaultdict[tuple[str, str, str], float] = defaultdict(float)
    for row in session.execute(_COUNTS, {"since": since}):
        pair = (row.older_model, row.newer_model, row.origin)
        cells[pair][Grade(row.older_grade), Grade(row.newer_grade)] = row.studies
        changes[pair] += row.change
    return [_agreement(pair, counts, changes[pair]) for pair, counts in sorted(cells.items())]


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
    for heading in ("studies", "same grade", "kappa", "mean |ΔP|"):
        table.add_column(heading, justify="right")
    for item in measured:
        table.add_row(
            item.older_model,
            item.newer_model,
            item.origin,
            str(item.studies),
            str(item.agreeing),
            "" if item.kappa is None else f"{item.kappa:.2f}",
            f"{item.mean_change:.3f}",
        )
    return table


def _agreement(
    pair: tuple[str, str, str], counts: dict[tuple[Grade, Grade], int], change: float
) -> Agreement:
    studies = sum(counts.values())
    agreeing = sum(count for (first, second), count in counts.items() if first == second)
    return Agreement(*pair, studies, agreeing, cohens_kappa(counts), change / studies)
