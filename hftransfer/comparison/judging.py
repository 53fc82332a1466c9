"""Several models on the same test rows, from their stored answers: who is better, how sure that is, what it costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hftransfer.comparison.contenders import Contender, Skipped, gather, is_run, require_same_rows
from hftransfer.comparison.writing import new_folder, notes, record, sentences, write
from hftransfer.errors import UserError, unknown
from hftransfer.evaluation.differences import holm, pairwise
from hftransfer.evaluation.names import check_names
from hftransfer.evaluation.predictions import Predictions
from hftransfer.evaluation.scoring import measure_only
from hftransfer.runs import find

SCHEMA = 1


def judge(names: Sequence[str], found: Sequence[Contender], metric: str | None = None) -> dict[str, Any]:
    """Compare gather with the confidence, the resamples, the seed and the baseline of the first run named."""
    run = find(next(name for name in names if is_run(name)))
    config = run.config()
    return compare(
        found, metric, config.evaluation.confidence, config.evaluation.resamples, config.seed, run.result()["baseline"]
    )


def of_finished(names: Sequence[str], metric: str | None, folder: Path | None, card: bool) -> dict[str, Any]:
    """Compare what names stand for, write the comparison into a folder (a new one below runs/ where none is given).

    With `card`, put it into the results and cards of the runs among them. Returns the comparison and its `folder`.
    """
    found = gather(names)
    compared = judge(names, found, metric)
    folder = (folder or new_folder()).absolute()
    write(compared, folder)
    for name, one in zip(names, found, strict=True):
        if card and is_run(name):
            record(find(name), one.name, compared, folder)
    return compared | {"folder": str(folder)}


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
    answer = found[0].predictions.answer
    metric = metric or answer.main_metric
    check_names([metric], answer)
    if metric not in answer.metrics:
        raise unknown("metric that can be compared row by row", metric, answer.metrics)
    higher = answer.metrics[metric].greater_is_better
    groups = next((one.predictions.groups for one in found if one.predictions.groups is not None), None)
    predictions = [  # resampled alike, or the same rows of two models would be no pairs
        dataclasses.replace(one.predictions, answer=one.predictions.answer.measured_as(answer), groups=groups)
        for one in found
    ]
    scores = [_score(one, metric, confidence, resamples, seed) for one in predictions]
    order = sorted(range(len(found)), key=lambda i: -scores[i]["value"] if higher else scores[i]["value"])
    ranked = [found[i] for i in order]
    pairs = pairwise([predictions[i] for i in order], metric, confidence, resamples, seed)
    corrected = holm([pair.p_value for pair in pairs.values()])
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
        "groups": None if predictions[0].codes is None else predictions[0].units,
        "unit": answer.unit,
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
                "thresholds": {
                    point.label: one.predictions.answer.shown_threshold(point)
                    for point in one.predictions.answer.points
                },
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
    found = measure_only(predictions, [metric], confidence, resamples, seed)
    if metric not in found:
        raise UserError(f"{metric} must be defined on the test rows", "it is not", "Choose another --metric.")
    return dict(found[metric])


def _baseline(found: Mapping[str, Any] | None, metric: str) -> dict[str, Any] | None:
    if not found or metric not in found["metrics"]:
        return None
    return {"name": found["name"], "value": found["metrics"][metric]["value"]}
