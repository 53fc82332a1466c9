"""Several models on the same test rows, from their stored answers: who is better, how sure that is, what it costs."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hftransfer import artifact, evaluation
from hftransfer.errors import UserError, unknown
from hftransfer.evaluation import METRICS, Predictions
from hftransfer.methods import fuse
from hftransfer.runs import LADDER, ROOT, Run, called, find, read_json, write_text
from hftransfer.tasks.base import Labels

SCHEMA = 1
FILE = "comparison.json"
CHART = "comparison"  # .png and .json of the picture


@dataclass(frozen=True)
class Contender:
    """One model: its answers to the test rows, and what it took to make it."""

    name: str
    method: str
    model: str
    predictions: Predictions
    seconds: float | None = None  # of the whole run, and of the runs that a fused one is made of
    trainable_parameters: int | None = None
    hardware: str | None = None
    test_fingerprint: str | None = None


@dataclass(frozen=True)
class Skipped:
    """A method that has no model to compare, and why."""

    name: str
    reason: str


# --- where contenders come from ---


def of_run(run: Run, name: str | None = None) -> Contender:
    """Return a finished run by what it stored, called `name`; UserError when it is not done."""
    result, path = run.result(), run.predictions / "test.parquet"
    if not result or not path.is_file():
        raise UserError(
            "finished runs are needed", f"{run.name} is {run.status().state} and has no answers to the test rows",
            f"Wait for it, or go on with it: hftransfer resume {called(run)}",
        )  # fmt: skip
    cost = result["cost"]
    return Contender(
        name or run.name,
        result["method"],
        result["model"],
        Predictions.read_parquet(path, labels_of(run)),
        seconds=fuse.seconds_of(cost),
        trainable_parameters=cost["trainable_parameters"],
        hardware=cost.get("hardware"),
        test_fingerprint=result["data"]["split_fingerprints"]["test"],
    )


def labels_of(run: Run) -> Labels:
    """Return the labels of a finished run, from its artifact's notes, else from the classes of its result."""
    notes = artifact.read_notes(run.artifact)
    if notes:
        return Labels(notes["labels"]["kind"], tuple(notes["labels"]["names"]))
    test = run.result()["test"]
    names = tuple(row["name"] for row in test["classes"])
    return Labels("multi_label" if "hamming_loss" in test["metrics"] else "single_label", names)


def of_model(where: str, reference: Run, revision: str | None = None) -> Contender:
    """Ask a model folder or Hub model about the test rows of a finished run, without training anything.

    Raises UserError when the rows are no longer those of the run, or when the model has another task or other labels.
    """
    from hftransfer import runs
    from hftransfer.hub import connection

    if not all(runs.is_local(name) for name in (where, reference.config().data.source)):
        connection.go_offline_if_unreachable()  # before the Hub's clients are imported
    with tempfile.TemporaryDirectory(prefix="hftransfer-compare-") as folder:  # unpacked archives and the like
        return _asked(where, reference, revision, Path(folder))


def _asked(where: str, reference: Run, revision: str | None, folder: Path) -> Contender:
    from hftransfer import catalog, data, objectives
    from hftransfer.hub import origins
    from hftransfer.predictor import Predictor

    config = reference.config()
    noted = read_json(reference.folder / origins.FILE)
    config = origins.read(noted).pin(config) if noted else config
    task = catalog.task(config.task)
    rows = data.load(config.data, task, config.seed, folder)
    wanted = reference.result()["data"]["split_fingerprints"]["test"]
    if rows.fingerprints["test"] != wanted:
        raise UserError(
            f"the test rows of {reference.name} are needed to ask {where} about them",
            f"its data now gives other ones (fingerprint {rows.fingerprints['test'][:16]}, it was {wanted[:16]})",
            "Bring the data back, or compare finished runs alone.",
        )
    predictor = Predictor(where, revision)
    if predictor.task.name != config.task:
        raise UserError(
            f"a model for {config.task} is needed", f"{where} is one for {predictor.task.name}", "Leave it out."
        )
    labels = labels_of(reference)
    order = _order_of_labels(where, predictor.labels, labels)
    inputs = [role.name for role in task.roles if role.kind not in ("label", "tags")]
    test = rows.splits["test"]
    asked = [{name: row[name] for name in inputs if name in row} for row in test]
    logits = predictor.logits(asked)
    if labels.kind == "regression":
        scores: Any = np.array([float(row[0]) for row in logits])
    elif labels.kind == "tags":
        scores = [objectives.probabilities("tags", words[:, order]) for words in logits]
    else:
        scores = objectives.probabilities(labels.kind, np.stack(logits)[:, order])
    stored = Predictions.read_parquet(reference.predictions / "test.parquet", labels)
    cost: Mapping[str, Any] = predictor.notes.get("cost") or {}
    return Contender(
        where,
        str(predictor.notes.get("method", "as it is")),
        str(predictor.notes.get("model", where)),
        Predictions(labels, list(test["row_id"]), stored.truth, scores),
        seconds=fuse.seconds_of(cost),
        trainable_parameters=cost.get("trainable_parameters"),
        hardware=cost.get("hardware"),
        test_fingerprint=wanted,
    )


def _order_of_labels(where: str, found: Labels, wanted: Labels) -> list[int]:
    """Return which output stands for each label, by name without case and punctuation, as for zero_shot."""
    from hftransfer import direct

    order = direct.matching(found.names, wanted) if found.names else []
    if found.kind != wanted.kind or len(found.names) != len(wanted.names) or order is None:
        held = ", ".join(found.names[:8]) or found.kind
        raise UserError(
            f"a model with the labels {', '.join(wanted.names[:8]) or wanted.kind} is needed",
            f"{where} has {held} ({found.kind})",
            "Leave it out, or train it on this data: hftransfer train",
        )
    return order


def contenders(names: Sequence[str]) -> list[Contender]:
    """Return the models that names stand for: runs by name or folder, model folders, Hub ids; at least one is a run.

    Models that are no runs are asked about the test rows of the first run.
    """
    runs = {name: find(name) for name in names if is_run(name)}
    for name in names:
        require_no_ladder(name)
    if not runs:
        raise UserError(
            "a finished run must be among the names: its test rows are what all are compared on",
            f"{', '.join(names)}: no run here is called so" if names else "found no name",
            "Run: hftransfer compare runs/A runs/B; or: hftransfer compare CONFIG",
        )
    places = [str(runs[name].folder.resolve()) if name in runs else name for name in names]
    twice = [name for name, place in zip(names, places, strict=True) if places.count(place) > 1]
    if twice:
        raise UserError("different models are needed to compare", f"{twice[-1]} is named twice", "Name each once.")
    short = _short_names(runs, set(names) - set(runs))
    reference = next(iter(runs.values()))
    stored = {name: of_run(run, short[name]) for name, run in runs.items()}
    require_same_rows([*stored.values()])  # before any model is asked
    return [stored[name] if name in stored else of_model(name, reference) for name in names]


def judge(names: Sequence[str], found: Sequence[Contender], metric: str | None = None) -> dict[str, Any]:
    """Compare contenders with the confidence, the resamples, the seed and the baseline of the first run named."""
    run = find(next(name for name in names if is_run(name)))
    config = run.config()
    return compare(
        found, metric, config.evaluation.confidence, config.evaluation.resamples, config.seed, run.result()["baseline"]
    )


def of_finished(names: Sequence[str], metric: str | None, folder: Path | None, card: bool) -> dict[str, Any]:
    """Compare what names stand for, write the comparison into a folder (a new one below runs/ where none is given).

    With `card`, put it into the results and cards of the runs among them. Returns the comparison and its `folder`.
    """
    found = contenders(names)
    compared = judge(names, found, metric)
    folder = (folder or new_folder()).absolute()
    write(compared, folder)
    for name, one in zip(names, found, strict=True):
        if card and is_run(name):
            record(find(name), one.name, compared, folder)
    return compared | {"folder": str(folder)}


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


def is_run(name: str) -> bool:
    """Tell whether a name is that of a run, or its folder."""
    return any((folder / "config.yaml").is_file() for folder in (Path(name), ROOT / name))


def require_no_ladder(name: str) -> None:
    """Raise UserError for the folder of a ladder, which holds runs and is none."""
    folder = next((folder for folder in (Path(name), ROOT / name) if (folder / LADDER).is_file()), None)
    if folder is not None:
        inside = sorted(path.parent.as_posix() for path in folder.glob("*/config.yaml"))
        raise UserError(
            "the name of a run or of a model is needed", f"{name} is a folder of several runs",
            f"Name those that are meant: {', '.join(inside)}",
        )  # fmt: skip


def _short_names(runs: Mapping[str, Run], models: set[str]) -> dict[str, str]:
    """Call runs by their methods where that tells all apart, else by their names, else by what `find` takes."""
    for call in (lambda run: run.config().method.name, lambda run: run.name):
        names = {name: call(run) for name, run in runs.items()}
        if len({*names.values(), *models}) == len(names) + len(models):
            return names
    return {name: called(run) for name, run in runs.items()}


def require_same_rows(found: Sequence[Contender]) -> None:
    """Raise UserError unless all answered the same test rows: by content, by row id, and by the truth they carry."""
    first = found[0]
    for other in found[1:]:
        one, two = first.predictions, other.predictions
        if first.test_fingerprint != other.test_fingerprint:
            differ = f"the test rows of {other.name} are others than those of {first.name} (fingerprints differ)"
        elif one.row_ids != two.row_ids:
            differ = f"the row ids of {other.name} are others than those of {first.name}"
        elif one.labels.names != two.labels.names:
            differ = f"{first.name} has the labels {', '.join(one.labels.names)}, {other.name} others"
        else:
            continue
        raise UserError(
            "models that answered the same test rows are needed", differ,
            "Compare runs of one data set, one seed and one way to split.",
        )  # fmt: skip


# --- the comparison ---


def compare(
    found: Sequence[Contender],
    metric: str | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    baseline: Mapping[str, Any] | None = None,
    skipped: Sequence[Skipped] = (),
) -> dict[str, Any]:
    """Return every model's score with its interval, every pair's difference, and the verdict, as plain values.

    A pair differs when its Holm-corrected p-value is below 1 - confidence. `recommended` is the model that took the
    fewest seconds of those that are not worse than the best. Raises UserError for a metric that does not fit, and for
    models that answered different rows.
    """
    if len(found) < 2:
        reasons = "; ".join(f"{one.name}: {one.reason}" for one in skipped)
        raise UserError(
            "two models are needed to compare", f"there is {len(found)}{f' ({reasons})' if reasons else ''}",
            "Name more runs, or other --methods.",
        )  # fmt: skip
    require_same_rows(found)
    labels = found[0].predictions.labels
    metric = metric or evaluation.main_metric(labels)
    evaluation.check_names([metric], labels)
    if metric not in METRICS:
        raise unknown("metric that can be compared row by row", metric, METRICS)
    higher = METRICS[metric].greater_is_better
    predictions = [one.predictions for one in found]
    scores = [_score(one, metric, confidence, resamples, seed) for one in predictions]
    order = sorted(range(len(found)), key=lambda i: -scores[i]["value"] if higher else scores[i]["value"])
    ranked = [found[i] for i in order]
    pairs = evaluation.pairwise([one.predictions for one in ranked], metric, confidence, resamples, seed)
    corrected = evaluation.holm([pair.p_value for pair in pairs.values()])
    rows: list[dict[str, Any]] = []
    for ((i, j), pair), p_holm in zip(pairs.items(), corrected, strict=True):
        sign = 1.0 if higher else -1.0  # a positive advantage is always the first one's
        ends = sorted((sign * pair.low, sign * pair.high))
        rows.append(
            {
                "better": ranked[i].name,
                "worse": ranked[j].name,
                "advantage": sign * pair.value,
                "low": ends[0],
                "high": ends[1],
                "p_value": pair.p_value,
                "p_holm": p_holm,
                "shown": p_holm < 1 - confidence,
                "resolvable": pair.resolvable,
            }
        )
    to_best = {row["worse"]: row for row in rows if row["better"] == ranked[0].name}
    not_worse = [one for one in ranked if one is ranked[0] or not to_best[one.name]["shown"]]
    timed = [one for one in not_worse if one.seconds is not None]
    chosen = min(timed, key=lambda one: one.seconds or 0.0) if timed else ranked[0]
    top: list[float] = [row["resolvable"] for row in rows if row["better"] == ranked[0].name and not row["shown"]]
    comparison: dict[str, Any] = {
        "schema": SCHEMA,
        "metric": metric,
        "greater_is_better": higher,
        "n": len(predictions[0]),
        "unit": "sentences" if labels.kind == "tags" else "rows",
        "confidence": confidence,
        "models": [
            {
                "name": one.name,
                "method": one.method,
                "model": one.model,
                **scores[order[place]],
                "seconds": one.seconds,
                "trainable_parameters": one.trainable_parameters,
                "hardware": one.hardware,
                "not_worse": one in not_worse,
                "recommended": one is chosen,
            }
            for place, one in enumerate(ranked)
        ],
        "pairs": rows,
        "resolvable": max(top) if top else rows[0]["resolvable"],
        "baseline": _baseline(baseline, metric),
        "skipped": [dataclasses.asdict(one) for one in skipped],
    }
    comparison["sentences"] = sentences(comparison)
    comparison["verdict"] = " ".join(comparison["sentences"])
    comparison["notes"] = notes(comparison)
    return comparison


def _score(predictions: Predictions, metric: str, confidence: float, resamples: int, seed: int) -> dict[str, float]:
    found = evaluation.measure_only(predictions, [metric], confidence, resamples, seed)
    if metric not in found:
        raise UserError(f"{metric} must be defined on the test rows", "it is not", "Choose another --metric.")
    return dict(found[metric])


def _baseline(found: Mapping[str, Any] | None, metric: str) -> dict[str, Any] | None:
    if not found or metric not in found["metrics"]:
        return None
    return {"name": found["name"], "value": found["metrics"][metric]["value"]}


# --- in words ---


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
    said = [f"Intervals are {level}, of one score or one difference, by the paired bootstrap over the test rows."]
    if pairs > 1:
        said.append(f"Whether two models differ is judged with p-values corrected for all {pairs} pairs (Holm 1979).")
    said.append("Each model was trained once: what another seed would change is not in the intervals.")
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
    if METRICS[metric].perfect is not None or METRICS[metric].recentred:
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


# --- tables and files ---

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
    from hftransfer.card import bullets, code, prose
    from hftransfer.card import table as drawn

    header, *lines = table(comparison)
    shown = [(mark and f"**{mark}**", code(name), *rest) for mark, name, *rest in lines]
    remarks = bullets(map(prose, (*comparison["notes"], *left_out(comparison))))
    return "\n\n".join([prose_of(comparison), drawn(header, shown), remarks]) + "\n"


def prose_of(comparison: Mapping[str, Any]) -> str:
    """Return the verdict as Markdown in which no name is a link, HTML or a formula."""
    from hftransfer.card import prose

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
    from hftransfer import card

    picture = f"{artifact.PLOTS}/{CHART}.png"
    for place in (run.folder, run.artifact):
        if place.is_dir():
            (place / artifact.PLOTS).mkdir(exist_ok=True)
            shutil.copyfile(folder / f"{CHART}.png", place / picture)
    result = run.result() | {"comparison": {**comparison, "name": name, "picture": picture}}
    write_text(run.result_path, json.dumps(result, indent=1))
    card.write(run.artifact if run.artifact.is_dir() else run.folder, result, run.config())


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
    return [*written, evaluation.write_comparison(comparison, folder)]
