"""An evaluation as pictures: ROC, reliability, risk against coverage, and where the network looked."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from model.assessment.evaluation import BLANKED_NAME, CHECKPOINT_NAME, MIRRORED_NAME, Evaluation
from model.assessment.evaluation_measure import Measured, Picture
from model.metrics import (
    Estimate,
    Flags,
    Numbers,
    RiskCoverage,
    calibration_bins,
    roc_curve,
)

ROC, RELIABILITY, RISK, ATTENTION = "roc.png", "reliability.png", "risk-coverage.png", "attention.png"
_DPI = 150
_PALE = "#8f8f8f"
_COLOURS = {CHECKPOINT_NAME: "#1b6ca8", BLANKED_NAME: "#c8701a", MIRRORED_NAME: "#7a3e9d"}
_ACCENT = _COLOURS[CHECKPOINT_NAME]
_MAP = "viridis"
_LEAST_OPACITY, _OPACITY = 0.2, 0.65
_PIXEL_MM = 240 / 224
_BAR_MM = 50


def plot_evaluation(
    folder: Path, measured: Measured, evaluation: Evaluation, is_hgg: Flags, threshold: float
) -> None:
    """Write the PNG files into a folder; none of attention where nobody was depicted."""
    probability = measured.probability
    values = {
        CHECKPOINT_NAME: probability,
        BLANKED_NAME: measured.blanked,
        MIRRORED_NAME: measured.mirrored,
    }
    warning = "TRAINING FIGURE" if evaluation.seen else None
    with _page(folder / ROC, warning) as axes:
        _draw_roc(axes, evaluation, values, is_hgg, threshold)
    ece = evaluation.checkpoint.estimates["ECE"]
    plot_calibration(folder, probability, is_hgg, ece, evaluation.risk_coverage, warning)
    if measured.pictures:
        contact_sheet(measured.pictures).savefig(folder / ATTENTION)


def plot_calibration(
    folder: Path,
    probability: Numbers,
    is_hgg: Flags,
    ece: Estimate,
    curve: RiskCoverage,
    warning: str | None = None,
) -> None:
    """Write how far probabilities can be trusted: the reliability diagram, and risk against coverage."""
    with _page(folder / RELIABILITY, warning) as axes:
        _draw_reliability(axes, probability, is_hgg, ece)
    with _page(folder / RISK, warning) as axes:
        _draw_risk(axes, curve)


@contextmanager
def _page(path: Path, warning: str | None) -> Iterator[Axes]:
    figure = Figure(figsize=(5.2, 6.6), dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    yield axes
    axes.grid(color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", fontsize=7, frameon=False)
    if warning is not None:
        figure.suptitle(warning, color="#b00020")
    figure.savefig(path)


def contact_sheet(pictures: Sequence[Picture]) -> Figure:
    """Show patients two to a line, FLAIR without and with attention, the tumour outlined in both."""
    lines = -(-len(pictures) // 2)
    figure = Figure(figsize=(9.6, 0.6 + 2.75 * lines), dpi=_DPI, layout="constrained")
    cells = figure.subplots(lines, 4, squeeze=False).ravel()
    shown = None
    for cell in cells:
        cell.axis("off")
    for picture, plain, overlay in zip(pictures, cells[::2], cells[1::2], strict=False):
        flair, attention, tumour = (each.T for each in (picture.flair, picture.attention, picture.tumour))
        places = np.argwhere(flair != 0)
        (top, left), (bottom, right) = places.min(axis=0), places.max(axis=0)
        brain = flair != 0
        low, high = np.percentile(flair[brain], [1, 99.5])
        grey = np.where(brain, np.clip((flair - low) / (high - low), 0.05, 1), 0)
        for axes in (plain, overlay):
            axes.imshow(grey, cmap="gray", vmin=0, vmax=1)
            if tumour.any():
                axes.contour(tumour, [0.5], colors="white", linewidths=0.9)
            axes.set(xlim=(left - 4, right + 4), ylim=(bottom + 12, top - 4))
        covered = brain * (_LEAST_OPACITY + (_OPACITY - _LEAST_OPACITY) * attention)
        shown = overlay.imshow(attention, cmap=_MAP, vmin=0, vmax=1, alpha=covered)
        if tumour.any():
            overlay.contour(tumour, [0.5], colors="white", linewidths=0.9)
        end = left + _BAR_MM / _PIXEL_MM
        plain.plot([left, end], [bottom + 6] * 2, color="white", linewidth=1.5)
        plain.text(end + 3, bottom + 6, f"{_BAR_MM} mm", fontsize=6, va="center", color="white")
        words = f"{picture.patient.name} · {picture.patient.grade} · P(HGG) {picture.probability:.2f}"
        plain.set_title(words, fontsize=7, loc="left")
    assert shown is not None
    figure.colorbar(shown, ax=list(cells), shrink=0.6, pad=0.01, label="Attention (0–1, one scale for all)")
    return figure


def _draw_roc(
    axes: Axes, evaluation: Evaluation, values: Mapping[str, Numbers], is_hgg: Flags, threshold: float
) -> None:
    axes.plot([0, 1], [0, 1], "--", color=_PALE, linewidth=1, label="chance")
    for row in (evaluation.checkpoint, *evaluation.baselines):
        if row.name not in values:
            continue
        known = ~np.isnan(values[row.name])
        curve, auc = roc_curve(values[row.name][known], is_hgg[known]), row.estimates["AUC"]
        label = f"{row.name}: AUC {auc.value:.3f} [{auc.low:.3f}, {auc.high:.3f}]"
        axes.plot(curve.false_positive_rate, curve.sensitivity, color=_COLOURS[row.name], label=label)
    called = values[CHECKPOINT_NAME] >= threshold
    reached = called[~is_hgg].mean(), called[is_hgg].mean()
    axes.plot(*reached, "o", color=_ACCENT, label=f"threshold {threshold:.2f}", clip_on=False)
    axes.set(
        title=f"ROC, {is_hgg.sum()} HGG and {(~is_hgg).sum()} LGG",
        xlabel="1 − specificity: share of LGG called HGG",
        ylabel="sensitivity: share of HGG called HGG",
        xlim=(-0.01, 1.01),
        ylim=(-0.01, 1.01),
        aspect="equal",
    )


def _draw_reliability(axes: Axes, probability: Numbers, is_hgg: Flags, error: Estimate) -> None:
    bins = calibration_bins(probability, is_hgg)
    counts = zip((bins.share * bins.patients).round().astype(int), bins.patients.astype(int), strict=True)
    limits = [stats.binomtest(int(k), int(n)).proportion_ci(method="wilson") for k, n in counts]
    bars = np.abs(np.array([[each.low, each.high] for each in limits]).T - bins.share)
    axes.plot([0, 1], [0, 1], "--", color=_PALE, linewidth=1, label="calibrated")
    axes.errorbar(
        bins.probability,
        bins.share,
        bars,
        fmt="o-",
        color=_ACCENT,
        linewidth=1.2,
        elinewidth=0.8,
        capsize=2,
        label=f"{len(bins.share)} bins of as many patients; bars: Wilson 95 %",
    )
    axes.plot(probability, np.full(len(probability), -0.04), "|", color=_PALE, markersize=5, label="patients")
    axes.set(
        title=f"Reliability, ECE {error.value:.3f} [{error.low:.3f}, {error.high:.3f}]",
        xlabel="mean probability of HGG",
        ylabel="share of patients that are HGG",
        xlim=(-0.02, 1.02),
        ylim=(-0.07, 1.02),
        aspect="equal",
    )


def _draw_risk(axes: Axes, curve: RiskCoverage) -> None:
    coverage, risk = curve
    axes.step(100 * coverage, 100 * risk, where="post", color=_ACCENT, label="errors among patients kept")
    axes.set(
        title=f"Risk by coverage, mean risk {100 * curve.area:.1f} %",
        xlabel="patients kept, the surest first (%)",
        ylabel="errors among them (%)",
        xlim=(0, 100),
        ylim=(0, max(5.0, 110 * float(risk.max()))),
    )
