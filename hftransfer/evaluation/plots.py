"""Plots of one set of predictions, each as a PNG and as the data behind it in JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hftransfer.evaluation import drawing
from hftransfer.evaluation.drawing import AMBER, BLUE, INK, QUIET, ROSE
from hftransfer.evaluation.predictions import Predictions
from hftransfer.evaluation.reliability import with_intervals

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_COUNTS = 15  # classes up to which every cell holds its count
MOST_NAMES = 60  # classes up to which every row and column is named


def write_plots(predictions: Predictions, folder: str | Path, confidence: float = 0.95) -> list[Path]:
    """Write the plots that fit these answers into `folder` and return the paths, PNG and JSON in pairs.

    `confidence`: of the intervals that some of them show.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for plot in predictions.answer.plots(predictions.truth, predictions.outputs):
        data = {"chart": plot.chart, "title": plot.title, **plot.data}
        if "bins" in data:
            data |= {"bins": with_intervals(data["bins"], predictions, confidence), "level": confidence}
        written += _save(folder, plot.name, CHARTS[plot.chart]({**data, **plot.arrays}), data)
    return written


def _matrix(plot: Mapping[str, Any]) -> Figure:
    """Draw what is taken for what: counts (k, k) of true (rows) and predicted (columns) classes."""
    from matplotlib.colors import PowerNorm

    names, counts = plot["labels"], np.array(plot["counts"])
    k, totals = len(names), counts.sum(axis=1)
    shares = np.divide(counts, totals[:, None], out=np.zeros(counts.shape), where=totals[:, None] > 0)

    cell = 0.62 if k <= MOST_COUNTS else max(0.26, 8 / k * (k > MOST_NAMES) + 0.26 * (k <= MOST_NAMES))
    side = min(max(cell * k, 1.8), 9)
    longest = max(len(drawing.short(name)) for name in names) * 0.075
    figure = drawing.figure(side + longest + 2.4, side + 0.7 * longest + 1.3)
    axes = figure.add_subplot()
    # a bent scale lets rare confusions show beside a full diagonal
    image = axes.imshow(shares, cmap=drawing.blues(), norm=PowerNorm(0.65, 0, 1), interpolation="nearest")
    if k <= MOST_NAMES:
        size = 9 if k <= MOST_COUNTS else 7
        flat = k <= 4 and longest < 1
        turn: dict[str, Any] = {} if flat else {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        axes.set_xticks(range(k), [drawing.short(name) for name in names], fontsize=size, parse_math=False, **turn)
        axes.set_yticks(range(k), [drawing.short(name) for name in names], fontsize=size, parse_math=False)
        axes.set_xticks(np.arange(1, k) - 0.5, minor=True)
        axes.set_yticks(np.arange(1, k) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1.5 if k <= MOST_COUNTS else 0.6)
    if k <= MOST_COUNTS:
        size = 10 if counts.max() < 10_000 else 8
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if shares[row, column] > 0.4 else INK if count else "#b4bcc6"
            axes.text(column, row, f"{count:,}", ha="center", va="center", color=color, fontsize=size)
    axes.tick_params(which="both", length=0, colors=INK)
    axes.set_xlabel("predicted", color=QUIET, labelpad=8)
    axes.set_ylabel("true", color=QUIET, labelpad=8)
    axes.set_title(plot["headline"], fontsize=10, color=INK, loc="left", pad=10)
    bar = figure.colorbar(
        image, ax=axes, fraction=0.046, pad=0.03, aspect=28, ticks=[0, 0.1, 0.5, 1], format="{x:.0%}"
    )
    bar.set_label("share of the true class", color=QUIET, fontsize=8)
    bar.ax.tick_params(length=0, labelsize=8, colors=QUIET)
    bar.outline.set_visible(False)
    axes.spines[:].set_visible(False)
    return figure


def _bars(plot: Mapping[str, Any]) -> Figure:
    """Draw how many answers are right, missing and wrong, by label."""
    data = plot["labels"]
    names = [row["name"] for row in data]
    figure = drawing.figure(6.6, min(0.3 * len(names), 11) + 1.3)
    axes = figure.add_subplot()
    starts = np.zeros(len(names))
    for part, color in (("true_positives", BLUE), ("false_negatives", AMBER), ("false_positives", ROSE)):
        widths = np.array([row[part] for row in data])
        axes.barh(range(len(names)), widths, left=starts, height=0.68, color=color, label=part.replace("_", " "))
        starts += widths
    if len(names) <= MOST_NAMES:
        size = 9 if len(names) <= 30 else 6
        axes.set_yticks(range(len(names)), [drawing.short(name) for name in names], fontsize=size, parse_math=False)
    else:
        axes.set_yticks([])
    axes.invert_yaxis()
    axes.margins(y=0.02)
    drawing.quiet(axes, "x")
    axes.set_xlabel("rows", color=QUIET)
    axes.set_title(plot["headline"], fontsize=10, color=INK, loc="left", pad=10)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, labelcolor=INK, fontsize=9)
    return figure


def _reliability(plot: Mapping[str, Any]) -> Figure:
    """Draw how often the model is right at each confidence."""
    curve = plot["bins"]
    column = {key: np.array([point[key] for point in curve]) for key in curve[0]}
    figure = drawing.figure(4.6, 5.2)
    axes, histogram = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=(0, (4, 4)), label="confidence = accuracy")
    low, high = (np.abs(column["accuracy"] - column[f"accuracy_{side}"]) for side in ("low", "high"))
    axes.errorbar(
        *(column["confidence"], column["accuracy"]),
        yerr=(low, high),
        fmt="o-",
        color=BLUE,
        ecolor="#9dbdd4",
        markersize=4.5,
        linewidth=1.3,
        elinewidth=1.3,
        label=f"measured, {100 * plot['level']:g} % interval",
    )
    axes.set(xlim=(0, 1), ylim=(-0.02, 1.02))
    axes.set_ylabel("share true" if plot["several"] else "accuracy", color=QUIET)
    axes.legend(frameon=False, fontsize=8, labelcolor=INK, loc="upper left")
    axes.set_title(f"calibration error {plot['calibration_error']:.3f}", fontsize=10, color=INK, loc="left", pad=10)
    width = column["high"] - column["low"]
    histogram.bar(column["low"], column["n"], width * 0.92, align="edge", color="#b9cfdf")
    histogram.set_ylabel("decisions", color=QUIET, fontsize=8)
    histogram.set_xlabel("probability" if plot["several"] else "confidence", color=QUIET)
    histogram.yaxis.get_major_locator().set_params(nbins=2, integer=True)
    drawing.quiet(axes, "both")
    drawing.quiet(histogram, "y")
    return figure


def _scatter(plot: Mapping[str, Any]) -> Figure:
    """Draw answers against the truth, and how far they are apart."""
    truth, answers, residuals = plot["truth"], plot["answers"], plot["residual_histogram"]
    edges, counts = np.array(residuals["edges"]), np.array(residuals["counts"])
    figure = drawing.figure(7.6, 4.2)
    axes, histogram = figure.subplots(1, 2, width_ratios=(3, 2))
    ends = min(truth.min(), answers.min()), max(truth.max(), answers.max())
    axes.plot(ends, ends, color=QUIET, linewidth=1, linestyle=(0, (4, 4)), zorder=3)
    if len(truth) <= 2000:
        axes.scatter(truth, answers, s=12, color=BLUE, alpha=0.45, linewidths=0)
    else:
        axes.hexbin(truth, answers, gridsize=40, mincnt=1, cmap=drawing.blues(0.15), bins="log", linewidths=0.2)
    axes.set_xlabel("true", color=QUIET)
    axes.set_ylabel("predicted", color=QUIET)
    axes.set_title(plot["headline"], fontsize=10, color=INK, loc="left", pad=10)
    histogram.bar(edges[:-1], counts, np.diff(edges) * 0.92, align="edge", color="#b9cfdf")
    histogram.axvline(0, color=QUIET, linewidth=1, linestyle=(0, (4, 4)))
    histogram.set_xlabel("predicted - true", color=QUIET)
    histogram.set_ylabel("rows", color=QUIET)
    drawing.quiet(axes, "both")
    drawing.quiet(histogram, "y")
    return figure


def _histogram(plot: Mapping[str, Any]) -> Figure:
    """Draw how many rows have which value."""
    edges, counts = np.array(plot["edges"]), np.array(plot["counts"])
    figure = drawing.figure(5.6, 3.6)
    axes = figure.add_subplot()
    axes.bar(edges[:-1], counts, np.diff(edges) * 0.92, align="edge", color="#b9cfdf")
    axes.set_xlabel(plot["axis"], color=QUIET)
    axes.set_ylabel("rows", color=QUIET)
    axes.set_title(plot["headline"], fontsize=10, color=INK, loc="left", pad=10)
    drawing.quiet(axes, "y")
    return figure


def _lines(plot: Mapping[str, Any]) -> Figure:
    """Draw lines over one axis, the first of them the one that matters, and marks across it."""
    figure = drawing.figure(6.2, 3.9)
    axes = figure.add_subplot()
    styles = [(BLUE, "-", 2.0), (QUIET, (0, (4, 4)), 1.2), (QUIET, "-", 1.0), (AMBER, "-", 1.2)]
    for line, (color, style, width) in zip(plot["lines"], styles, strict=False):
        x, y = np.array(line["points"]).reshape(-1, 2).T
        axes.plot(x, y, color=color, linestyle=style, linewidth=width, label=line["name"])
    for mark in plot["marks"]:
        axes.axvline(mark["x"], color=AMBER, linewidth=1.4, label=mark["name"], zorder=1)
    axes.set_xlabel(plot["x"], color=QUIET)
    axes.set_ylabel(plot["y"], color=QUIET)
    axes.set_title(plot["headline"], fontsize=10, color=INK, loc="left", pad=10, parse_math=False)
    drawing.quiet(axes, "both")
    figure.legend(loc="outside lower center", ncols=4, frameon=False, labelcolor=INK, fontsize=9)
    return figure


CHARTS: dict[str, Callable[[Mapping[str, Any]], Figure]] = {
    "matrix": _matrix, "bars": _bars, "reliability": _reliability, "scatter": _scatter, "histogram": _histogram,
    "lines": _lines,
}  # fmt: skip


def _save(folder: Path, name: str, figure: Figure, data: dict[str, Any]) -> list[Path]:
    image, table = folder / f"{name}.png", folder / f"{name}.json"
    drawing.save_image(image, figure)
    table.write_text(json.dumps(data, indent=1), encoding="utf-8")
    return [image, table]
