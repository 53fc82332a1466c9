"""Curves and diagrams as SVG in the page's own colours: no library in the browser, nothing flickers when redrawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from hftransfer.ui.markup import cut, significant, table, text
from hftransfer.ui.saying import say

Point = tuple[float, float]
MOST = 300  # points of one line that are drawn: more cannot be told apart on a screen
WIDTH, HEIGHT = 1000.0, 1000.0  # of the drawing, which is stretched to its place
COLORS = 4  # lines beyond take the colours again


@dataclass(frozen=True)
class Line:
    """One line of a chart."""

    name: str
    points: Sequence[Point]
    style: Literal["line", "dots", "dashed"] = "line"
    color: int | None = None  # 1 to COLORS, 0 for grey; in order unless given
    whiskers: Sequence[tuple[float, float, float]] = ()  # x, low, high
    value: str | None = None  # what the legend says beside the name; the last value unless given


def chart(
    lines: Sequence[Line],
    about: str,
    x: tuple[float, float] | None = None,
    y: tuple[float, float] | None = None,
    x_name: str = "step",
) -> str:
    """Return a figure with its legend; nothing when there is no point yet."""
    drawn = [line for line in lines if any(math.isfinite(v) for _, v in line.points)]
    if not drawn:
        return ""
    every = [point for line in drawn for point in line.points if math.isfinite(point[1])]
    x = x or _span([p[0] for p in every])
    ticks = _ticks(*(y or _span([p[1] for p in every])))
    y = ticks[0], ticks[-1]
    parts = "".join(f'<line class="grid" x1="0" x2="{WIDTH:.0f}" y1="{_y(v, y)}" y2="{_y(v, y)}"/>' for v in ticks)
    legend = []
    for place, line in enumerate(drawn):
        color = f"l{line.color if line.color is not None else place % COLORS + 1}"
        parts += _drawn(line, color, x, y)
        last = line.value if line.value is not None else significant(line.points[-1][1], 3)
        legend.append(f'<span class="{color}">{text(line.name, 60)} <b>{text(last)}</b></span>')
    said = "; ".join(f"{line.name}: {_told(line.points)}" for line in drawn)
    return (
        f'<figure class="chart" role="img" aria-label="{text(f"{about}. {said}", 600)}">'
        f'<figcaption class="legend">{"".join(legend)}</figcaption>'
        f'<div class="y" aria-hidden="true">{"".join(f"<span>{significant(v)}</span>" for v in reversed(ticks))}</div>'
        f'<svg viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" preserveAspectRatio="none" aria-hidden="true">{parts}</svg>'
        f'<div class="x" aria-hidden="true"><span>{significant(x[0])}</span><span>{text(x_name)}</span>'
        f"<span>{significant(x[1], 6)}</span></div></figure>"
    )


def thinned(points: Sequence[Point], most: int = MOST) -> list[Point]:
    """Return at most about `most` points that keep each stretch's lowest and highest, and both ends."""
    if len(points) <= most:
        return list(points)
    found = [points[0]]
    stretch = 2 * (len(points) - 2) / (most - 2)
    start = 1.0
    while start < len(points) - 1:
        part = points[int(start) : max(int(start) + 1, min(int(start + stretch), len(points) - 1))]
        ends = {min(part, key=_second), max(part, key=_second)}
        found += sorted(ends)
        start += stretch
    return [*found, points[-1]]


def _second(point: Point) -> float:
    return point[1]


def _drawn(line: Line, color: str, x: tuple[float, float], y: tuple[float, float]) -> str:
    points = [p for p in thinned(line.points) if math.isfinite(p[1])]
    places = [(_x(a, x), _y(b, y)) for a, b in points]
    if line.style == "dots" or len(places) == 1:
        # a line of no length with round ends is a dot that stays round when the drawing is stretched
        path = "".join(f"M{a} {b}h0" for a, b in places)
        css = "line dots"
    else:
        path = "M" + "L".join(f"{a} {b}" for a, b in places)
        css = f"line {line.style}" if line.style == "dashed" else "line"
    whiskers = "".join(f"M{_x(a, x)} {_y(low, y)}V{_y(high, y)}" for a, low, high in line.whiskers)
    extra = f'<path class="line whisker {color}" d="{whiskers}"/>' if whiskers else ""
    return f'{extra}<path class="{css} {color}" d="{path}"/>'


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:
        room = abs(low) * 0.1 or 1.0
        return low - room, high + room
    return low, high


def _ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Return round values that cover low to high."""
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 12) for k in range(first, max(last, first + 1) + 1)]


def _x(value: float, span: tuple[float, float]) -> str:
    return f"{WIDTH * (value - span[0]) / ((span[1] - span[0]) or 1):.1f}"


def _y(value: float, span: tuple[float, float]) -> str:
    return f"{HEIGHT * (1 - (value - span[0]) / ((span[1] - span[0]) or 1)):.1f}"


def _told(points: Sequence[Point]) -> str:
    first, last = points[0], points[-1]
    if len(points) == 1:
        return f"{significant(last[1])} at {significant(last[0])}"
    return f"{significant(first[1])} at {significant(first[0])} to {significant(last[1])} at {significant(last[0], 6)}"


# --- from a run's plots/*.json ---

WIDE = 5  # labels of a matrix that fit beside another chart
MOST_CLASSES = 30  # a larger matrix is no picture any more


def of_plot(plot: dict[str, Any]) -> str:
    """Return a plot of a run as the page draws it; nothing for one that is too large, or that it cannot draw."""
    drawn = {
        "matrix": confusion,
        "bars": by_label,
        "reliability": reliability,
        "scatter": residuals,
        "histogram": bins,
        "lines": lines_of,
    }
    return drawn[plot["chart"]](plot) if plot.get("chart") in drawn else ""


def is_wide(plot: dict[str, Any]) -> bool:
    """Tell whether a plot needs the whole width of a page: a matrix of many labels."""
    return plot.get("chart") == "matrix" and len(plot.get("labels", ())) > WIDE


def lines_of(plot: dict[str, Any]) -> str:
    """Return lines over one axis, with marks across it."""
    drawn = [Line(str(one["name"]), one["points"], value="") for one in plot.get("lines", []) if one["points"]]
    every = [y for line in drawn for _, y in line.points]
    if not every:
        return ""
    marks = [Line(str(one["name"]), [(one["x"], min(every)), (one["x"], max(every))], "dashed", 0, value="")
             for one in plot.get("marks", [])]  # fmt: skip
    return chart([*drawn, *marks], str(plot.get("headline", "")), x=(0, 1), x_name=str(plot.get("x", "")))


def by_label(plot: dict[str, Any]) -> str:
    """Return how many answers are right, missing and wrong by label, as a table."""
    rows = [
        [text(row["name"]), *(f"{row[part]:,}" for part in ("true_positives", "false_negatives", "false_positives"))]
        for row in plot.get("labels", [])[:MOST_CLASSES]
    ]
    return table([say("label"), say("right"), say("missing"), say("wrong")], rows, [1, 2, 3]) if rows else ""


def bins(plot: dict[str, Any]) -> str:
    """Return how many rows have which value."""
    middles = [(a + b) / 2 for a, b in pairwise(plot.get("edges", []))]
    points = [(x, float(n)) for x, n in zip(middles, plot.get("counts", []), strict=False)]
    axis = str(plot.get("axis", ""))
    return (
        chart([Line(say("rows"), points, value="")], say("Rows by {axis}", axis=axis), x_name=axis) if points else ""
    )


def confusion(plot: dict[str, Any]) -> str:
    """Return the confusion matrix as a table whose cells are tinted by their share of the true class."""
    names, counts = plot.get("labels", []), plot.get("counts", [])
    if not counts or len(names) > MOST_CLASSES:
        return ""
    totals = [sum(row) or 1 for row in counts]
    named = [cut(name) for name in names]
    head = "".join(f'<th scope="col" title="{text(name)}">{text(name, 14)}</th>' for name in names)
    rows = "".join(
        f'<tr><th scope="row" title="{text(name)}">{text(name, 22)}</th>'
        + "".join(
            f'<td class="{"strong" if n / totals[i] > 0.5 else ""}" style="--share:{n / totals[i]:.3f}"'
            f' title="{text(say("{name} answered as {other}: {n:,}", name=named[i], other=named[j], n=n))}">{n:,}</td>'
            for j, n in enumerate(counts[i])
        )
        + "</tr>"
        for i, name in enumerate(names)
    )
    return (
        '<div class="scroll"><table class="matrix"><caption class="quiet small" style="text-align:left">'
        f"{say('rows: what is true, columns: what was answered')}</caption>"
        f"<thead><tr><td class='corner'></td>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def reliability(plot: dict[str, Any]) -> str:
    """Return how often the model is right at each confidence, beside the diagonal of a perfectly calibrated one."""
    bins = [b for b in plot.get("bins", []) if b.get("n")]
    if not bins:
        return ""
    measured = [(b["confidence"], b["accuracy"]) for b in bins]
    whiskers = [(b["confidence"], b["accuracy_low"], b["accuracy_high"]) for b in bins]
    error = plot.get("calibration_error")
    return chart(
        [
            Line(say("perfect"), [(0, 0), (1, 1)], "dashed", 0, value=""),
            Line(say("measured"), measured, color=1, whiskers=whiskers, value=""),
        ],
        say("Reliability: calibration error {error}", error=significant(error, 3)),
        x=(0, 1),
        y=(0, 1),
        x_name=say("confidence"),
    )


def residuals(plot: dict[str, Any]) -> str:
    """Return how far answers of a regression are from the truth."""
    histogram = plot.get("residual_histogram", {})
    edges, counts = histogram.get("edges", []), histogram.get("counts", [])
    middles = [(a + b) / 2 for a, b in pairwise(edges)]
    points = [(x, float(n)) for x, n in zip(middles, counts, strict=False)]
    return (
        chart([Line(say("rows"), points, value="")], say("Answer minus truth"), x_name=say("answer minus truth"))
        if points
        else ""
    )
