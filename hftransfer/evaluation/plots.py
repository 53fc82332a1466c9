"""Plots of one set of predictions, each as a PNG and as the data behind it in JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hftransfer.evaluation.calibration import reliability
from hftransfer.evaluation.metrics import Outcomes
from hftransfer.evaluation.predictions import Predictions
from hftransfer.evaluation.scoring import measure_point

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, QUIET, FAINT = "#24303f", "#7a8594", "#e3e7ec"
BLUE, AMBER, ROSE = "#2f6f9f", "#d9a441", "#c8636b"
DPI = 150
LONGEST = 22  # characters of a label that are shown
MOST_COUNTS = 15  # classes up to which every cell holds its count
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 18000, 36000, 86400, 259200)
CLOSE = 0.1  # share of the axis below which two points stand too close for their names
MOST_NAMES = 60  # classes up to which every row and column is named


def write_plots(predictions: Predictions, folder: str | Path) -> list[Path]:
    """Write the plots that fit these labels into `folder` and return the paths, PNG and JSON in pairs.

    Classes: confusion_matrix and reliability; regression: predicted_vs_true.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if predictions.labels.kind == "regression":
        return _save(folder, "predicted_vs_true", *_predicted_vs_true(predictions))
    matrix = _label_bars(predictions) if predictions.labels.kind == "multi_label" else _confusion_matrix(predictions)
    return [*_save(folder, "confusion_matrix", *matrix), *_save(folder, "reliability", *_reliability(predictions))]


def write_comparison(comparison: Mapping[str, Any], folder: str | Path, name: str = "comparison") -> Path:
    """Draw the score of each model with its interval against the seconds it took, on a logarithmic axis, as a PNG.

    `comparison` is what comparison.compare returns, which is also the data behind the picture. Models whose seconds
    are not known are lines across.
    """
    figure = _comparison(comparison)
    return _save_image(Path(folder) / f"{name}.png", figure)


def write_curve(curve: Mapping[str, Any], folder: str | Path, name: str = "curve") -> Path:
    """Draw scores with intervals against training rows, the law through them with its band, and today's rows: a PNG.

    `curve` is learning_curve.Curve.to_dict(), which is also the data behind the picture.
    """
    return _save_image(Path(folder) / f"{name}.png", _curve(curve))


def confusion_counts(predictions: Predictions) -> np.ndarray:
    """Return counts (k, k) of true (rows) and predicted (columns) classes, of words for tags."""
    k, answers = len(predictions.labels.names), predictions.predicted()
    tags = predictions.labels.kind == "tags"
    truth, answers = (np.concatenate(part) if tags else np.asarray(part) for part in (predictions.truth, answers))
    return np.bincount(truth * k + answers, minlength=k * k).reshape(k, k)


def _confusion_matrix(predictions: Predictions) -> tuple[Figure, dict[str, Any]]:
    from matplotlib.colors import PowerNorm

    names, counts = predictions.labels.names, confusion_counts(predictions)
    k, totals = len(names), counts.sum(axis=1)
    shares = np.divide(counts, totals[:, None], out=np.zeros(counts.shape), where=totals[:, None] > 0)

    cell = 0.62 if k <= MOST_COUNTS else max(0.26, 8 / k * (k > MOST_NAMES) + 0.26 * (k <= MOST_NAMES))
    side = min(max(cell * k, 1.8), 9)
    longest = max(len(_short(name)) for name in names) * 0.075
    figure = _figure(side + longest + 2.4, side + 0.7 * longest + 1.3)
    axes = figure.add_subplot()
    # a bent scale lets rare confusions show beside a full diagonal
    image = axes.imshow(shares, cmap=_blues(), norm=PowerNorm(0.65, 0, 1), interpolation="nearest")
    if k <= MOST_NAMES:
        size = 9 if k <= MOST_COUNTS else 7
        flat = k <= 4 and longest < 1
        turn: dict[str, Any] = {} if flat else {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        axes.set_xticks(range(k), [_short(name) for name in names], fontsize=size, parse_math=False, **turn)
        axes.set_yticks(range(k), [_short(name) for name in names], fontsize=size, parse_math=False)
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
    unit = "words" if predictions.labels.kind == "tags" else "rows"
    axes.set_title(_headline(predictions, f"{totals.sum():,} {unit}"), fontsize=10, color=INK, loc="left", pad=10)
    bar = figure.colorbar(
        image, ax=axes, fraction=0.046, pad=0.03, aspect=28, ticks=[0, 0.1, 0.5, 1], format="{x:.0%}"
    )
    bar.set_label("share of the true class", color=QUIET, fontsize=8)
    bar.ax.tick_params(length=0, labelsize=8, colors=QUIET)
    bar.outline.set_visible(False)
    axes.spines[:].set_visible(False)
    return figure, {"labels": list(names), "rows": "true", "columns": "predicted", "counts": counts.tolist()}


def _label_bars(predictions: Predictions) -> tuple[Figure, dict[str, Any]]:
    names, (right, answered, actual) = predictions.labels.names, Outcomes(predictions).classes
    found, answered, actual = (table.sum(axis=1).astype(int) for table in (right, answered, actual))
    data = [
        {"name": name, "true_positives": int(f), "false_negatives": int(a - f), "false_positives": int(p - f)}
        for name, f, a, p in zip(names, found, actual, answered, strict=True)
    ]
    figure = _figure(6.6, min(0.3 * len(names), 11) + 1.3)
    axes = figure.add_subplot()
    starts = np.zeros(len(names))
    for part, color in (("true_positives", BLUE), ("false_negatives", AMBER), ("false_positives", ROSE)):
        widths = np.array([row[part] for row in data])
        axes.barh(range(len(names)), widths, left=starts, height=0.68, color=color, label=part.replace("_", " "))
        starts += widths
    if len(names) <= MOST_NAMES:
        size = 9 if len(names) <= 30 else 6
        axes.set_yticks(range(len(names)), [_short(name) for name in names], fontsize=size, parse_math=False)
    else:
        axes.set_yticks([])
    axes.invert_yaxis()
    axes.margins(y=0.02)
    _quiet(axes, "x")
    axes.set_xlabel("rows", color=QUIET)
    axes.set_title(_headline(predictions, f"{len(predictions):,} rows"), fontsize=10, color=INK, loc="left", pad=10)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, labelcolor=INK, fontsize=9)
    return figure, {"labels": data}


def _reliability(predictions: Predictions) -> tuple[Figure, dict[str, Any]]:
    curve = reliability(predictions)
    column = {key: np.array([point[key] for point in curve]) for key in curve[0]}
    figure = _figure(4.6, 5.2)
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
        label="measured, 95 % interval",
    )
    axes.set(xlim=(0, 1), ylim=(-0.02, 1.02))
    axes.set_ylabel("share true" if predictions.labels.kind == "multi_label" else "accuracy", color=QUIET)
    axes.legend(frameon=False, fontsize=8, labelcolor=INK, loc="upper left")
    error = measure_point(predictions, ["calibration_error"])["calibration_error"]
    axes.set_title(f"calibration error {error:.3f}", fontsize=10, color=INK, loc="left", pad=10)
    width = column["high"] - column["low"]
    histogram.bar(column["low"], column["n"], width * 0.92, align="edge", color="#b9cfdf")
    histogram.set_ylabel("decisions", color=QUIET, fontsize=8)
    histogram.set_xlabel("probability" if predictions.labels.kind == "multi_label" else "confidence", color=QUIET)
    histogram.yaxis.get_major_locator().set_params(nbins=2, integer=True)
    _quiet(axes, "both")
    _quiet(histogram, "y")
    return figure, {"calibration_error": error, "bins": curve}


def _predicted_vs_true(predictions: Predictions) -> tuple[Figure, dict[str, Any]]:
    truth, answers = (np.asarray(part, np.float64) for part in (predictions.truth, predictions.predicted()))
    residuals = answers - truth
    counts, edges = np.histogram(residuals, bins=min(40, max(8, int(np.sqrt(len(truth))))))
    figure = _figure(7.6, 4.2)
    axes, histogram = figure.subplots(1, 2, width_ratios=(3, 2))
    ends = min(truth.min(), answers.min()), max(truth.max(), answers.max())
    axes.plot(ends, ends, color=QUIET, linewidth=1, linestyle=(0, (4, 4)), zorder=3)
    if len(truth) <= 2000:
        axes.scatter(truth, answers, s=12, color=BLUE, alpha=0.45, linewidths=0)
    else:
        axes.hexbin(truth, answers, gridsize=40, mincnt=1, cmap=_blues(0.15), bins="log", linewidths=0.2)
    axes.set_xlabel("true", color=QUIET)
    axes.set_ylabel("predicted", color=QUIET)
    values = measure_point(predictions, ["rmse", "r2"])
    said = ", ".join(f"{name} {value:.3f}" for name, value in values.items())
    axes.set_title(f"{len(truth):,} rows, {said}", fontsize=10, color=INK, loc="left", pad=10)
    histogram.bar(edges[:-1], counts, np.diff(edges) * 0.92, align="edge", color="#b9cfdf")
    histogram.axvline(0, color=QUIET, linewidth=1, linestyle=(0, (4, 4)))
    histogram.set_xlabel("predicted - true", color=QUIET)
    histogram.set_ylabel("rows", color=QUIET)
    _quiet(axes, "both")
    _quiet(histogram, "y")
    quantiles = {str(q): float(np.quantile(residuals, q)) for q in (0.05, 0.25, 0.5, 0.75, 0.95)}
    return figure, {
        "n": len(truth),
        "bias": float(residuals.mean()),
        "residual_quantiles": quantiles,
        "residual_histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def _comparison(comparison: Mapping[str, Any]) -> Figure:
    models, metric = comparison["models"], comparison["metric"]
    timed = sorted((one for one in models if one["seconds"]), key=lambda one: one["seconds"])
    figure = _figure(7.2, 4.3)
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
                _short(one["name"]), (1, one["value"]), xycoords=("axes fraction", "data"), xytext=(-4, 4),
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
    _quiet(axes, "both")
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
    figure = _figure(7.2, 4.3)
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
    _quiet(axes, "both")
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
                _short(one["name"]), at, textcoords="offset points", fontsize=11, color=INK, fontweight=style,
                parse_math=False, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1}, **place,
            )  # fmt: skip


def _seconds(value: float, place: float) -> str:
    if value < 60:
        return f"{value:.3g} s"
    return f"{value / 60:.3g} min" if value < 3600 else f"{value / 3600:.3g} h"


def _headline(predictions: Predictions, rows: str) -> str:
    return f"accuracy {measure_point(predictions, ['accuracy'])['accuracy']:.3f}, {rows}"


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure  # never pyplot: its global state is not safe beside other threads
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    return Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout=layout)


def _blues(start: float = 0.0) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    stops = LinearSegmentedColormap.from_list("calm", ["#f4f6f8", "#a9c7db", BLUE, "#173a59"])
    return LinearSegmentedColormap.from_list("calm_part", stops(np.linspace(start, 1, 64)))


def _quiet(axes: Axes, grid: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(length=0, labelsize=8, labelcolor=INK)
    axes.grid(axis=grid, color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)


def _short(name: str) -> str:
    words = " ".join(name.split())
    return words if len(words) <= LONGEST else words[: LONGEST - 1].rstrip() + "…"


def _save(folder: Path, name: str, figure: Figure, data: dict[str, Any]) -> list[Path]:
    image, table = folder / f"{name}.png", folder / f"{name}.json"
    _save_image(image, figure)
    table.write_text(json.dumps(data, indent=1), encoding="utf-8")
    return [image, table]


def _save_image(path: Path, figure: Figure) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    pixels.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True, dpi=(DPI, DPI))  # a third of the bytes
    return path
