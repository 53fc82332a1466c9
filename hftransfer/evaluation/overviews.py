"""Pictures of several models, or of one at several sizes of train: a comparison and a learning curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hftransfer.evaluation import drawing
from hftransfer.evaluation.drawing import AMBER, BLUE, INK, QUIET

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 18000, 36000, 86400, 259200)
CLOSE = 0.1  # share of the axis below which two points stand too close for their names


def write_comparison(comparison: Mapping[str, Any], folder: str | Path, name: str = "comparison") -> Path:
    """Draw the score of each model with its interval against the seconds it took, on a logarithmic axis, as a PNG.

    `comparison` is what comparison.compare returns, which is also the data behind the picture. Models whose seconds
    are not known are lines across.
    """
    figure = _comparison(comparison)
    return drawing.save_image(Path(folder) / f"{name}.png", figure)


def write_curve(curve: Mapping[str, Any], folder: str | Path, name: str = "curve") -> Path:
    """Draw scores with intervals against training rows, the law through them with its band, and today's rows: a PNG.

    `curve` is learning_curve.Curve.to_dict(), which is also the data behind the picture.
    """
    return drawing.save_image(Path(folder) / f"{name}.png", _curve(curve))


def _comparison(comparison: Mapping[str, Any]) -> Figure:
    models, metric = comparison["models"], comparison["metric"]
    timed = sorted((one for one in models if one["seconds"]), key=lambda one: one["seconds"])
    figure = drawing.figure(7.2, 4.3)
    axes = figure.add_subplot()
    for one in timed:
        color = BLUE if one["not_worse"] else "#9aa5b1"
        low, high = max(one["value"] - one["low"], 0), max(one["high"] - one["value"], 0)
        axes.errorbar(
            *([one["seconds"]], [one["value"]], [[low], [high]]),
            fmt="o",
            color=color,
            markersize=9 if one["recommended"] else 7,
            elinewidth=2,
            capsize=4,
            capthick=1.4,
            zorder=3,
        )
        if one["recommended"]:
            axes.plot(
                *(one["seconds"], one["value"]), "o", markersize=17, markerfacecolor="none", markeredgecolor=AMBER,
                markeredgewidth=2, zorder=4,
            )  # fmt: skip
    for one in models:
        if not one["seconds"]:
            axes.axhline(one["value"], color="#9aa5b1", linewidth=1.2, linestyle=(0, (1, 2)))
            axes.annotate(
                drawing.short(one["name"]), (1, one["value"]), xycoords=("axes fraction", "data"), xytext=(-4, 4),
                textcoords="offset points", ha="right", fontsize=10, color=QUIET, parse_math=False,
            )  # fmt: skip
    if timed:
        axes.set_xscale("log")
        axes.set_xlim(timed[0]["seconds"] / 1.9, timed[-1]["seconds"] * 2.6)
        ends = axes.get_xlim()
        axes.set_xticks([t for t in TICKS if ends[0] <= t <= ends[1]] or [timed[0]["seconds"]])
        axes.xaxis.set_major_formatter(_seconds)
        axes.minorticks_off()
        _name(axes, timed, np.log(ends[1] / ends[0]))
    baseline = comparison["baseline"]
    if baseline is not None and _near(baseline["value"], models):
        axes.axhline(baseline["value"], color=QUIET, linewidth=1, linestyle=(0, (4, 4)))
        axes.annotate(
            baseline["name"], (0, baseline["value"]), xycoords=("axes fraction", "data"), xytext=(4, 4),
            textcoords="offset points", fontsize=9, color=QUIET,
        )  # fmt: skip
    drawing.quiet(axes, "both")
    axes.tick_params(labelsize=10)
    axes.set_xlabel("time to make it", color=QUIET, fontsize=10)
    better = "" if comparison["greater_is_better"] else " (lower is better)"
    axes.set_ylabel(f"{metric}{better}", color=QUIET, fontsize=10)
    level = f"{comparison['confidence'] * 100:g} %"
    title = f"{metric} on {comparison['n']:,} test {comparison['unit']}, {level} intervals"
    axes.set_title(title, fontsize=11, color=INK, loc="left", pad=10)
    handles = [
        axes.plot([], [], "o", color=BLUE, label="not shown to be worse than the best")[0],
        axes.plot([], [], "o", color="#9aa5b1", label="worse than the best")[0],
        axes.plot([], [], "o", markersize=12, markerfacecolor="none", markeredgecolor=AMBER, markeredgewidth=2,
                  label="cheapest of the blue ones")[0],
    ]  # fmt: skip
    shown = [handles[0], *([handles[1]] if any(not one["not_worse"] for one in timed) else []), handles[2]]
    figure.legend(handles=shown, loc="outside lower center", ncols=3, frameon=False, labelcolor=INK, fontsize=9)
    return figure


def _curve(curve: Mapping[str, Any]) -> Figure:
    points, fit, metric, rows = curve["points"], curve["fit"], curve["metric"], curve["rows"]
    column = {key: np.array([point[key] for point in points]) for key in ("rows", "value", "low", "high")}
    law = {key: np.array([point[key] for point in fit]) for key in ("rows", "value", "low", "high")}
    figure = drawing.figure(7.2, 4.3)
    axes = figure.add_subplot()
    axes.fill_between(law["rows"], law["low"], law["high"], color=BLUE, alpha=0.13, linewidth=0)
    measured = law["rows"] <= rows
    axes.plot(law["rows"][measured], law["value"][measured], color=BLUE, linewidth=1.6, label="power law, with band")
    axes.plot(law["rows"], law["value"], color=BLUE, linewidth=1.6, linestyle=(0, (3, 3)))
    down, up = np.maximum(column["value"] - column["low"], 0), np.maximum(column["high"] - column["value"], 0)
    axes.errorbar(
        *(column["rows"], column["value"], (down, up)),
        fmt="o",
        color=BLUE,
        markersize=7,
        elinewidth=2,
        capsize=4,
        capthick=1.4,
        zorder=3,
        label="measured",
    )
    axes.axvline(rows, color=AMBER, linewidth=1.6, label="rows of today", zorder=1)
    axes.plot(
        *(2 * rows, fit[-1]["value"]), "o", markersize=8, markerfacecolor="white", markeredgecolor=BLUE,
        markeredgewidth=1.8, zorder=4, label="twice as many",
    )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(column["rows"][0] / 1.25, 2 * rows * 1.25)
    ticks = [10.0**power * digit for power in range(8) for digit in (1, 2, 5)]
    ends = axes.get_xlim()
    axes.set_xticks([tick for tick in ticks if ends[0] <= tick <= ends[1]])
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.minorticks_off()
    drawing.quiet(axes, "both")
    axes.tick_params(labelsize=10)
    axes.set_xlabel("training rows", color=QUIET, fontsize=10)
    axes.set_ylabel(metric if curve["greater_is_better"] else f"{metric} (lower is better)", color=QUIET, fontsize=10)
    title = f"{metric} of the probe by training rows, {curve['confidence'] * 100:g} % intervals"
    axes.set_title(title, fontsize=11, color=INK, loc="left", pad=10)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, labelcolor=INK, fontsize=9)
    return figure


def _near(trivial: float, models: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether a baseline can be shown without squeezing the models into a corner."""
    low, high = min(one["low"] for one in models), max(one["high"] for one in models)
    return low - 1.5 * (high - low) <= trivial <= high + 1.5 * (high - low)


def _name(axes: Axes, timed: Sequence[Mapping[str, Any]], width: float) -> None:
    """Write each model's name beside its point.

    Of those that stand close, the first is named to the left, the last to the right, the others above one another.
    """
    logs = [np.log(one["seconds"]) for one in timed]
    starts = [i for i in range(len(timed)) if i == 0 or logs[i] - logs[i - 1] > CLOSE * width]
    for first, behind in zip(starts, [*starts[1:], len(timed)], strict=True):
        above = 0
        for i in range(first, behind):
            one, style = timed[i], "bold" if timed[i]["recommended"] else "normal"
            place: dict[str, Any] = {"xytext": (13, 0), "ha": "left", "va": "center"}
            at = (one["seconds"], one["value"])
            if i < behind - 1 and i == first:
                place |= {"xytext": (-13, 0), "ha": "right"}
            elif i < behind - 1:
                above += 1
                at = (one["seconds"], max(other["high"] for other in timed[first:behind]))
                place |= {"xytext": (0, 15 * above - 9), "ha": "center", "va": "bottom"}
            axes.annotate(
                drawing.short(one["name"]), at, textcoords="offset points", fontsize=11, color=INK, fontweight=style,
                parse_math=False, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1}, **place,
            )  # fmt: skip


def _seconds(value: float, place: float) -> str:
    if value < 60:
        return f"{value:.3g} s"
    return f"{value / 60:.3g} min" if value < 3600 else f"{value / 3600:.3g} h"
