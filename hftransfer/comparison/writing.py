"""A comparison in words, as a table and as files."""

from __future__ import annotations

import csv
import io
import itertools
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hftransfer import answers, artifact
from hftransfer.errors import UserError
from hftransfer.evaluation.overviews import write_comparison
from hftransfer.runs import ROOT, Run, write_text

FILE = "comparison.json"
CHART = "comparison"  # .png and .json of the picture


def output_of(overrides: Sequence[str]) -> Path | None:
    """Return the folder that output=... names, the one thing that can be set when finished runs are compared."""
    folder = None
    for word in overrides:
        name, _, value = word.partition("=")
        if name != "output":
            raise UserError(
                "finished runs are compared as they are", f"found {word}", "Only output=FOLDER can be set here."
            )
        folder = Path(value).absolute()
    return folder


def sentences(comparison: Mapping[str, Any]) -> list[str]:
    """Return what came out: the recommended model against each other one, what the rows can tell, what to take."""
    models = comparison["models"]
    chosen = next(one for one in models if one["recommended"])
    others = [one for one in models if one is not chosen]
    cheaper = [one for one in others if _ratio(chosen, one) is not None and (_ratio(chosen, one) or 0) > 1]
    rest = [one for one in others if one not in cheaper]
    clauses = [_against(comparison, chosen, one) for one in (*cheaper, *rest)]
    said = [f"{'; '.join(clauses)}."]
    tested = f"{comparison['n']:,} test {comparison['unit']}"
    if comparison["resolvable"] > 0:
        can = amount(comparison["resolvable"], comparison["metric"])
        said.append(f"These {tested} can resolve differences above {can}.")
    else:  # no row was answered differently, so nothing tells how much such differences scatter
        said.append(f"Their answers are the same on all {tested}.")
    best = models[0]
    if chosen is not best:
        said.append(f"Cheapest that is not shown to be worse than the best ({best['name']}): {chosen['name']}.")
    elif sum(one["not_worse"] for one in models) > 1:
        said.append(f"{chosen['name']} has the best score, and no other that is not worse took less time.")
    baseline = comparison["baseline"]
    if baseline is not None:
        below = [one["name"] for one in models if not _above(comparison, one["value"], baseline["value"])]
        if below:
            said.append(f"Not above the {baseline['name']} ({baseline['value']:.3f}): {', '.join(below)}.")
    return said


def notes(comparison: Mapping[str, Any]) -> list[str]:
    """Return what has to be known to read the figures."""
    pairs, models = len(comparison["pairs"]), comparison["models"]
    level = f"{comparison['confidence'] * 100:g} %"
    drawn = f"the {comparison['groups']:,} groups of the test rows" if comparison.get("groups") else "the test rows"
    said = [f"Intervals are {level}, of one score or one difference, by the paired bootstrap over {drawn}."]
    if pairs > 1:
        said.append(f"Whether two models differ is judged with p-values corrected for all {pairs} pairs (Holm 1979).")
    said.append("Each model was trained once: what another seed would change is not in the intervals.")
    placed = [one for one in models if one.get("thresholds")]
    for one in placed:
        named = ", ".join(f"`{label}` from {value:.3f} on" for label, value in one["thresholds"].items())
        said.append(f"{one['name']} answers {named}, a threshold of its own, chosen on validation rows.")
    if placed and len(placed) < len(models):
        others = ", ".join(one["name"] for one in models if not one.get("thresholds"))
        said.append(f"Without a threshold, by what is likeliest: {others}.")
    machines = {one["hardware"].partition(", ")[0] for one in models if one["hardware"]}  # not how many threads
    if len(machines) > 1:
        said.append(f"The seconds are from different machines: {'; '.join(sorted(machines))}.")
    if any(one["seconds"] is None for one in models):
        unknown_times = ", ".join(one["name"] for one in models if one["seconds"] is None)
        said.append(f"What it took to make {unknown_times} is not known.")
    return said


def left_out(comparison: Mapping[str, Any]) -> list[str]:
    """Return which methods have no model to compare, and why."""
    return [f"{one['name']} is not among them: {one['reason']}" for one in comparison["skipped"]]


def _against(comparison: Mapping[str, Any], chosen: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    pair, metric = pair_of(comparison, chosen["name"], other["name"]), comparison["metric"]
    size = f"{amount(pair['advantage'], metric)} ({_plain(pair['low'], metric)} to {_plain(pair['high'], metric)})"
    if not pair["shown"]:
        return (
            f"{other['name']} is not distinguishable from {chosen['name']} on {comparison['n']:,} {comparison['unit']}"
        )
    time = _for_the_time(_ratio(chosen, other))
    if pair["better"] == chosen["name"]:
        return f"{chosen['name']} beats {other['name']} by {size}{time}"
    return f"{other['name']} beats {chosen['name']} by {size}"


def pair_of(comparison: Mapping[str, Any], one: str, other: str) -> Mapping[str, Any]:
    """Return the pair of two models, whichever of them is the better."""
    found: Mapping[str, Any] = next(
        pair for pair in comparison["pairs"] if {pair["better"], pair["worse"]} == {one, other}
    )
    return found


def amount(value: float, metric: str) -> str:
    """Return a difference with its unit: points where the metric lies between 0 and 1, else the metric's own."""
    known = answers.metrics()[metric]
    if known.in_points:
        value /= known.scale
        return f"{100 * value:.1f} points of {metric}"
    return f"{value:.3g} of {metric}"


def _plain(value: float, metric: str) -> str:
    return amount(value, metric).partition(" ")[0]


def _above(comparison: Mapping[str, Any], value: float, trivial: float) -> bool:
    return bool(value > trivial if comparison["greater_is_better"] else value < trivial)


def _ratio(one: Mapping[str, Any], other: Mapping[str, Any]) -> float | None:
    if not one["seconds"] or not other["seconds"]:
        return None
    return float(one["seconds"] / other["seconds"])


def _for_the_time(ratio: float | None) -> str:
    if ratio is None:
        return ""
    if ratio >= 1.1:
        return f" for {ratio:.0f}x the time" if ratio >= 9.5 else f" for {ratio:.1f}x the time"
    return " in the same time" if ratio > 0.9 else f" in {ratio:.0%} of the time"


COLUMNS = (
    "name", "method", "model", "metric", "value", "low", "high", "n", "seconds", "trainable_parameters",
    "behind_best", "behind_low", "behind_high", "p_holm", "not_worse", "recommended",
)  # fmt: skip


def rows(comparison: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one flat row a model, the best first, with the keys COLUMNS."""
    best = comparison["models"][0]
    found = []
    for one in comparison["models"]:
        pair = None if one is best else pair_of(comparison, best["name"], one["name"])
        behind = {"behind_best": None, "behind_low": None, "behind_high": None, "p_holm": None}
        if pair is not None:
            keys = ("advantage", "low", "high", "p_holm")
            behind = dict(zip(behind, (pair[key] for key in keys), strict=True))
        found.append({**one, "metric": comparison["metric"], "n": comparison["n"], **behind})
    return [{name: row[name] for name in COLUMNS} for row in found]


def table(comparison: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the table as text cells, header first; the recommended model is marked."""
    metric = comparison["metric"]
    interval = f"{comparison['confidence'] * 100:g}% interval"
    cells: list[tuple[str, ...]] = [
        ("", "model", metric, interval, "behind the best", "p (Holm)", "seconds", "trained parameters")
    ]
    for row in rows(comparison):
        behind = p_value = ""
        if row["behind_best"] is not None:
            ends = f"{_plain(row['behind_low'], metric)} to {_plain(row['behind_high'], metric)}"
            behind = f"{_plain(row['behind_best'], metric)} ({ends})"
            p_value = "< 0.001" if row["p_holm"] < 0.001 else f"{row['p_holm']:.3f}"
        mark = "recommended" if row["recommended"] else "as good" if row["not_worse"] else ""
        seconds = "" if row["seconds"] is None else f"{row['seconds']:,.1f}"
        trained = "" if row["trainable_parameters"] is None else f"{row['trainable_parameters']:,}"
        score, ends = f"{row['value']:.3f}", f"{row['low']:.3f} to {row['high']:.3f}"
        cells.append((mark, row["name"], score, ends, behind, p_value, seconds, trained))
    return cells


def to_markdown(comparison: Mapping[str, Any]) -> str:
    """Return verdict, table and notes as Markdown."""
    from hftransfer.card.markup import bullets, code, prose
    from hftransfer.card.markup import table as drawn

    header, *lines = table(comparison)
    shown = [(mark and f"**{mark}**", code(name), *rest) for mark, name, *rest in lines]
    remarks = bullets(map(prose, (*comparison["notes"], *left_out(comparison))))
    return "\n\n".join([prose_of(comparison), drawn(header, shown), remarks]) + "\n"


def prose_of(comparison: Mapping[str, Any]) -> str:
    """Return the verdict as Markdown in which no name is a link, HTML or a formula."""
    from hftransfer.card.markup import prose

    return " ".join(map(prose, comparison["sentences"]))


def to_csv(comparison: Mapping[str, Any]) -> str:
    """Return the table as CSV with the header COLUMNS."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows(comparison))
    return out.getvalue()


def record(run: Run, name: str, comparison: Mapping[str, Any], folder: Path) -> None:
    """Put a comparison that was written into `folder`, where the run is `name`, into the run's result and card."""
    from hftransfer.card import report

    picture = f"{artifact.PLOTS}/{CHART}.png"
    for place in (run.folder, run.artifact):
        if place.is_dir():
            (place / artifact.PLOTS).mkdir(exist_ok=True)
            shutil.copyfile(folder / f"{CHART}.png", place / picture)
    result = run.result() | {"comparison": {**comparison, "name": name, "picture": picture}}
    write_text(run.result_path, json.dumps(result, indent=1))
    report.write(run.artifact if run.artifact.is_dir() else run.folder, result, run.config())


def new_folder() -> Path:
    """Return the folder, not there yet, that a comparison of finished runs is written to when none is named."""
    named = ROOT / f"{time.strftime('%Y%m%d-%H%M%S')}-comparison"
    others = (named.with_name(f"{named.name}-{number}") for number in itertools.count(2))
    return next(folder.absolute() for folder in itertools.chain([named], others) if not folder.exists())


def write(comparison: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write comparison.json, .md and .csv and the chart comparison.png into a folder; return their paths."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError("a folder to write to is needed", f"{folder}: {error.strerror}", "Set output=...") from error
    written = []
    for suffix, text in (
        ("json", json.dumps(comparison, indent=1)), ("md", to_markdown(comparison)), ("csv", to_csv(comparison)),
    ):  # fmt: skip
        written.append(folder / f"comparison.{suffix}")
        write_text(written[-1], text)
    return [*written, write_comparison(comparison, folder)]
