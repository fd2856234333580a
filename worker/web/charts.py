"""Small charts as SVG, drawn on the server: they need no script and print well."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final
from xml.etree.ElementTree import Element, SubElement, tostring

from markupsafe import Markup

WIDTH: Final = 640
HEIGHT: Final = 200
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 24, 24
MOST_LABELS: Final = 8
MOST_COLOURS: Final = 6
LEGEND_LINE: Final = 16


def draw_lines(title: str, labels: Sequence[str], lines: Mapping[str, Sequence[float | None]]) -> Markup:
    """Draw one line a name over the same labels, from 0 up; None leaves a gap."""
    chart, top = _begin(title, labels, lines, max(_values(lines), default=0.0))
    for number, values in enumerate(lines.values()):
        points = [
            (_across(index, len(labels)), _down(value, top))
            for index, value in enumerate(values)
            if value is not None
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        SubElement(chart, "polyline", {"class": f"line s{number % MOST_COLOURS}", "points": path})
        for x, y in points:
            dot = {"class": f"fill s{number % MOST_COLOURS}", "cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": "3"}
            SubElement(chart, "circle", dot)
    return _finish(chart)


def draw_bars(title: str, labels: Sequence[str], parts: Mapping[str, Sequence[float]]) -> Markup:
    """Draw one bar a label, its parts stacked in the order of their names."""
    totals = [sum(values) for values in zip(*parts.values(), strict=True)]
    chart, top = _begin(title, labels, parts, max(totals, default=0.0))
    thick = min(40.0, 0.7 * (WIDTH - LEFT - RIGHT) / max(1, len(labels)))
    below = [0.0] * len(labels)
    for number, values in enumerate(parts.values()):
        for index, value in enumerate(values):
            upper, lower = _down(below[index] + value, top), _down(below[index], top)
            below[index] += value
            SubElement(
                chart,
                "rect",
                {
                    "class": f"fill s{number % MOST_COLOURS}",
                    "x": f"{_across(index, len(labels)) - thick / 2:.1f}",
                    "y": f"{upper:.1f}",
                    "width": f"{thick:.1f}",
                    "height": f"{lower - upper:.1f}",
                },
            )
    return _finish(chart)


def _values(lines: Mapping[str, Sequence[float | None]]) -> list[float]:
    return [value for values in lines.values() for value in values if value is not None]


def _begin(
    title: str, labels: Sequence[str], names: Mapping[str, object], highest: float
) -> tuple[Element, float]:
    """Draw title, axis, labels and legend; returns the chart and the value at its upper edge."""
    top = highest or 1.0
    chart = Element("svg", {"class": "chart", "role": "img"})
    SubElement(chart, "title").text = title
    for share in (0.0, 0.5, 1.0):
        y = f"{_down(share * top, top):.1f}"
        SubElement(
            chart, "line", {"class": "grid", "x1": f"{LEFT}", "x2": f"{WIDTH - RIGHT}", "y1": y, "y2": y}
        )
        _write(chart, f"{share * top:.3g}", LEFT - 6, float(y) + 4, "end")
    step = max(1, -(-len(labels) // MOST_LABELS))
    for index in range(0, len(labels), step):
        _write(chart, labels[index], _across(index, len(labels)), HEIGHT - 6, "middle")
    _write_legend(chart, names)
    return chart, top


def _write_legend(chart: Element, names: Iterable[str]) -> None:
    """Name the series above the chart, which grows upwards where one line doesn't hold them."""
    across, line = float(LEFT), 0
    placed = []
    for name in names:
        width = 30.0 + 7 * len(name)
        if across > LEFT and across + width > WIDTH:
            across, line = float(LEFT), line + 1
        placed.append((name, across, line))
        across += width
    above = line * LEGEND_LINE
    chart.set("viewBox", f"0 {-above} {WIDTH} {HEIGHT + above}")
    for number, (name, left, row) in enumerate(placed):
        y = row * LEGEND_LINE - above
        place = {"x": f"{left:.0f}", "y": f"{y + 4}", "width": "10", "height": "10"}
        SubElement(chart, "rect", {"class": f"fill s{number % MOST_COLOURS}", **place})
        _write(chart, name, left + 14, y + 13, "start")


def _write(chart: Element, words: str, x: float, y: float, anchor: str) -> None:
    SubElement(chart, "text", {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}).text = words


def _across(index: int, count: int) -> float:
    return LEFT + (index + 0.5) * (WIDTH - LEFT - RIGHT) / max(1, count)


def _down(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)


def _finish(chart: Element) -> Markup:
    return Markup(tostring(chart, encoding="unicode"))  # noqa: S704 - ElementTree has escaped every word
