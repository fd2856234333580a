"""An evaluation as files: `report.md` and pictures for people, JSON and CSV for programs."""

import csv
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from model.assessment.evaluation import BLANKED_NAME, MIRRORED_NAME, Evaluation, Row
from model.assessment.evaluation_measure import Measured
from model.assessment.evaluation_plots import ATTENTION, RELIABILITY, RISK, ROC, plot_evaluation
from model.attention_scores import AttentionScores
from model.card import Card
from model.cohorts.brats import Patient
from model.gates import Gates
from model.grade import Grade
from model.metrics import Estimate

_COMPARED = ("AUC", "balanced accuracy", "F1 of HGG", "F1 of LGG", "MCC")
_TRAINING = "TRAINING FIGURE: "
_COVERAGES = (0.5, 0.7, 0.8, 0.9, 1.0)


def write_evaluation(
    folder: Path, card: Card, patients: Sequence[Patient], measured: Measured, evaluation: Evaluation
) -> None:
    """Write all files into a folder, made where it is not there, over an earlier evaluation's."""
    folder.mkdir(parents=True, exist_ok=True)
    is_hgg = np.array([patient.grade is Grade.HGG for patient in patients])
    plot_evaluation(folder, measured, evaluation, is_hgg, card.threshold)
    (folder / "report.md").write_text(report(card, measured, evaluation), encoding="utf-8")
    (folder / "results.json").write_text(json.dumps(to_record(card, evaluation), indent=2) + "\n")
    _write_csv(
        folder / "results.csv",
        ["table", "name", "hgg", "lgg", "figure", "value", "low", "high"],
        (
            [table, row.name, row.hgg, row.lgg, figure, *map(_blank, estimate)]
            for table, row in _tables(evaluation)
            for figure, estimate in row.estimates.items()
        ),
    )
    numbers = zip(
        measured.probability,
        measured.bright,
        measured.blanked,
        measured.mirrored,
        measured.enhancing_ml,
        strict=True,
    )
    scores = AttentionScores._fields
    _write_csv(
        folder / "patients.csv",
        ["id", "name", "grade", "source", "trained_on", "called", "verdict", "attention_ml",
         "appearance_distance", "probability", "bright_share", "probability_tumour_blanked",
         "probability_tumour_mirrored", "enhancing_ml", *(f"attention_{name}" for name in scores),
         *(f"grad_cam_{name}" for name in scores)],
        (
            [each.id, each.name, each.grade, each.source, each.id in evaluation.seen,
             Grade.HGG if p >= card.threshold else Grade.LGG, judgement.verdict, judgement.attention_ml,
             judgement.appearance_distance, *map(_blank, (p, *rest, *attention, *grad_cam))]
            for each, judgement, (p, *rest), attention, grad_cam
            in zip(patients, measured.judgement, numbers, measured.attention, measured.grad_cam, strict=True)
        ),
    )  # fmt: skip


def to_record(card: Card, evaluation: Evaluation) -> dict[str, object]:
    """Give everything as JSON takes it; a number that a cohort can't give is null."""
    return {
        "checkpoints": list(evaluation.checkpoints),
        "weights_sha256": card.weights_sha256 if len(evaluation.checkpoints) == 1 else None,
        "statement": card.training_statement,
        "threshold": card.threshold,
        "training_figures": bool(evaluation.seen),
        "tables": [
            {"table": table, "name": row.name, "hgg": row.hgg, "lgg": row.lgg, **_records(row.estimates)}
            for table, row in _tables(evaluation)
        ],
        "risk_coverage": [column.tolist() for column in evaluation.risk_coverage],
        "verdicts": {
            each.verdict: {name: value for name, value in each._asdict().items() if name != "verdict"}
            for each in evaluation.judged
        },
        "attention": {
            "patients": evaluation.attention_patients,
            **{name: _records(scores) for name, scores in evaluation.attention.items()},
        },
    }


def report(card: Card, measured: Measured, evaluation: Evaluation) -> str:
    """Say in Markdown what was measured, every interval 95 % over patients."""
    own = evaluation.checkpoint
    lines = [
        f"# {_TRAINING if evaluation.seen else ''}{_graders(evaluation)} on {own.hgg} HGG and {own.lgg} LGG",
        "",
        *_warning(evaluation),
        f"{card.training_statement}. HGG is the glioblastoma collection, LGG the lower-grade one (WHO 2 and",
        "3); no histology, no molecular grade. In brackets: 95 % intervals over patients.",
        "",
        *_table(["figure", "value"], [[name, _words(each)] for name, each in own.estimates.items()]),
        "",
        f"![ROC curve]({ROC}) ![Reliability diagram]({RELIABILITY})",
        "",
        "## Beside what needs no network, and the paper",
        "",
        *_compared(row for table, row in _tables(evaluation) if table != "source"),
        "",
        "Where the source alone does about as well, a figure of the whole cohort says little about tumours:",
        "look at the sources with both grades. Without tumour (8 mm around it go with it) no one has a",
        "grade: an AUC above 0.60 there says that the network reads something else. The paper states F1",
        "0.9118, its own table gives 0.9111.",
        "",
        "## By source",
        "",
        *_compared(row for table, row in _tables(evaluation) if table == "source"),
        "",
        "## When the least certain are left to a person",
        "",
        *_table(["surest patients kept", "share of errors"], _risks(evaluation)),
        "",
        f"![Risk by coverage]({RISK})",
        "",
        "## What the gates say",
        "",
        f"{(card.gates or Gates()).statement}{_each_its_own(evaluation)}",
        "",
        *_table(["verdict", "HGG / LGG", "grades wrong", "without a tumour"], _verdicts(evaluation)),
        "",
        "## Attention",
        "",
        *_attention(evaluation),
        *([f"\n![Attention]({ATTENTION})"] if measured.pictures else []),
    ]
    return "\n".join(lines) + "\n"


def _graders(evaluation: Evaluation) -> str:
    count = len(evaluation.checkpoints)
    return evaluation.checkpoints[0] if count == 1 else f"{count} checkpoints, each on patients it never saw,"


def _warning(evaluation: Evaluation) -> list[str]:
    if not evaluation.seen:
        return []
    return [
        f"**These are training figures: {len(evaluation.seen)} of the patients were trained on. They say",
        "nothing about a new patient.**",
        "",
    ]


def _tables(evaluation: Evaluation) -> Iterable[tuple[str, Row]]:
    """Each row with the table that it stands in, marked where it is a training figure."""

    def marked(row: Row) -> Row:
        return row._replace(name=f"{_TRAINING}{row.name}") if evaluation.seen else row

    yield "cohort", marked(evaluation.checkpoint)
    for row in evaluation.baselines:
        yield "baseline", marked(row) if row.name in (BLANKED_NAME, MIRRORED_NAME) else row
    yield "published", evaluation.published
    yield from (("source", marked(row)) for row in evaluation.by_source)


def _compared(rows: Iterable[Row]) -> list[str]:
    cells = [
        [row.name, f"{row.hgg} / {row.lgg}", *(_words(row.estimates.get(name)) for name in _COMPARED)]
        for row in rows
    ]
    return _table(["", "HGG / LGG", *_COMPARED], cells)


def _risks(evaluation: Evaluation) -> list[list[str]]:
    coverage, risk = evaluation.risk_coverage
    kept = sorted({math.ceil(share * len(risk) - 1e-9) - 1 for share in _COVERAGES})
    return [[f"{coverage[index]:.0%}", f"{risk[index]:.3f}"] for index in kept]


def _each_its_own(evaluation: Evaluation) -> str:
    if len(evaluation.checkpoints) == 1:
        return ""
    return (
        " Each checkpoint has its own limits; these are the first one's, which judged those without a tumour."
    )


def _verdicts(evaluation: Evaluation) -> list[list[str]]:
    return [
        [
            each.verdict.replace("_", " "),
            f"{each.hgg} / {each.lgg}",
            f"{each.wrong} of {each.hgg + each.lgg}",
            str(each.tumour_free),
        ]
        for each in evaluation.judged
    ]


def _attention(evaluation: Evaluation) -> list[str]:
    if not evaluation.attention:
        return ["No patient has a segmented tumour: the attention was not scored."]
    names = list(evaluation.attention)
    rows = [
        [score, *(_words(evaluation.attention[name][score]) for name in names)]
        for score in AttentionScores._fields
    ]
    return [
        f"Means of the {evaluation.attention_patients} patients with a segmented tumour. A sign below 0.5",
        "says that the attention avoids the tumour; pointing and energy must beat chance.",
        "",
        *_table(["score", *names], rows),
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *rows]]


def _words(estimate: Estimate | None) -> str:
    if estimate is None or math.isnan(estimate.value):
        return "–"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _records(estimates: dict[str, Estimate]) -> dict[str, dict[str, float | None]]:
    return {
        name: {key: None if math.isnan(value) else value for key, value in each._asdict().items()}
        for name, each in estimates.items()
    }


def _blank(value: float) -> float | str:
    return "" if math.isnan(value) else float(value)


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
