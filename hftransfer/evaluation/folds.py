"""Scores of repeated cross-validation: what a way of training gives on such rows, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hftransfer.answers.base import Answer
from hftransfer.config import EvaluationConfig
from hftransfer.evaluation.intervals import corrected
from hftransfer.evaluation.predictions import Predictions
from hftransfer.evaluation.reporting import trivial_answers
from hftransfer.evaluation.scoring import measure_point


def record(test: Predictions, metrics: Sequence[str], other_rows: int, rows: Any = None) -> dict[str, Any]:
    """Return {n, other_rows, metrics, trivial} of one fold; `rows` are the inputs that a trivial answer is made of."""
    names = [*test.answer.default_metrics, *(name for name in metrics if name not in test.answer.default_metrics)]
    trivial, found = trivial_answers(test, rows)
    main = test.answer.main_metric
    return {
        "n": len(test),
        "other_rows": other_rows,
        "metrics": measure_point(test, names),
        "trivial": {"name": trivial.name, "value": measure_point(found, [main]).get(main)},
    }


def report(
    records: Sequence[Mapping[str, Any]],
    answer: Answer[Any],
    config: EvaluationConfig,
    group: str | None,
    copies: bool = False,
    added: int = 0,
) -> dict[str, Any]:
    """Return {folds, repeats, n, other_rows, confidence, metrics, advantage, sentences} of the records of all folds.

    A metric has the mean of its folds' scores with an interval (see `intervals.corrected`), the scores, and in how
    many folds it is undefined. `advantage` is that over the trivial answer of each fold, above 0 is better. `copies`:
    rows have copies among the others, which stand in other folds. `added`: rows that were learned from in every fold
    and tested in none.
    """  # fmt: skip
    known, main, confidence = answer.metrics, answer.main_metric, config.confidence
    n = sum(one["n"] for one in records if one["repeat"] == 1)
    names = dict.fromkeys(name for one in records for name in one["metrics"])
    ratio = float(np.mean([one["n"] / (n - one["n"]) for one in records]))
    metrics = {}
    for name in names:
        scores = [one["metrics"][name] for one in records if name in one["metrics"]]
        low, high = corrected(scores, ratio, confidence)
        metric = known.get(name)
        if metric is not None:  # the interval of a mean knows no bounds
            low = low if metric.signed else max(low, 0.0)
            high = min(high, metric.scale) if metric.in_points and metric.greater_is_better else high
        value = float(np.mean(scores))
        metrics[name] = {
            "value": value, "low": low, "high": high, "scores": scores, "undefined": len(records) - len(scores),
        }  # fmt: skip
    sign = 1.0 if known[main].greater_is_better else -1.0
    gains = [
        sign * (one["metrics"][main] - one["trivial"]["value"])
        for one in records
        if main in one["metrics"] and one["trivial"]["value"] is not None
    ]
    advantage = None
    if gains:
        low, high = corrected(gains, ratio, confidence)
        advantage = {"value": float(np.mean(gains)), "low": low, "high": high, "name": records[0]["trivial"]["name"]}
    found = {
        "folds": config.folds, "repeats": config.repeats, "n": n,
        "other_rows": round(float(np.mean([one["other_rows"] for one in records]))),
        "confidence": confidence, "metrics": metrics, "advantage": advantage,
    }  # fmt: skip
    return {**found, "sentences": sentences(found, main, group, copies, added)}


def sentences(found: Mapping[str, Any], main: str, group: str | None, copies: bool, added: int = 0) -> list[str]:
    """Return what was done, what came of it, and what the interval covers."""
    times = "once" if found["repeats"] == 1 else f"{found['repeats']} times"
    seen = f"any row of its group (`{group}`)" if group else "it"
    said = [
        f"{found['folds']} folds: each of all {found['n']:,} rows was tested {times}, by a model that had not seen "
        f"{seen}, made with {found['other_rows']:,} others (validation rows among them)."
    ]
    score = found["metrics"].get(main)
    if score is not None:
        said.append(
            f"Over the folds {main} is {score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f}). That is what "
            "this way of training gives on so many such rows, whichever they are (Nadeau and Bengio 2003); what the "
            "one model that is kept gives, the test rows say."
        )
    gained = found["advantage"]
    if gained is not None:
        shown = "" if gained["low"] > 0 else ": that it is better is not shown"
        said.append(
            f"Over the folds its advantage on the {gained['name']} is {gained['value']:+.3f} "
            f"({gained['low']:+.3f} to {gained['high']:+.3f}){shown}."
        )
    if added:
        said.append(f"Rows that were added ({added:,}) are learned from in every fold and tested in none.")
    if copies:
        said.append("Copies of a row may stand in other folds, where a model has seen them: these scores flatter.")
    lacking = [f"{name} in {one['undefined']}" for name, one in found["metrics"].items() if one["undefined"]]
    if lacking:
        said.append(
            f"Undefined in some of {found['folds'] * found['repeats']} folds, and left out: {', '.join(lacking)}."
        )
    return said
