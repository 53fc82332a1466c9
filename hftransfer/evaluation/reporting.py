"""What result.json says of the scores: test and validation with intervals, and the trivial answer they must beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hftransfer.config import EvaluationConfig
from hftransfer.evaluation.metrics import METRICS, main_metric
from hftransfer.evaluation.predictions import Predictions
from hftransfer.evaluation.scoring import Score, measure, metric_names, per_class
from hftransfer.tasks.base import Labels

NAMES = {
    "single_label": "majority class",
    "multi_label": "labels of most rows",
    "regression": "mean",
    "tags": "majority tag",
}


def report(
    predictions: Predictions,
    validation_predictions: Predictions | None,
    labels: Labels,
    config: EvaluationConfig,
    seed: int,
    train_mean: float | None = None,
    train_rows: int | None = None,
) -> dict[str, Any]:
    """Return the blocks `test`, `validation` (None without one) and `baseline` of result.json.

    A block has n, confidence, metrics, classes (not for regression) and notes on what was left out; the baseline has
    name, metrics and, when the run falls short of it, `below`: the sentence that says so.
    """
    settings: dict[str, Any] = {"confidence": config.confidence, "resamples": config.resamples, "seed": seed}

    def block(split: Predictions) -> dict[str, Any]:
        metrics = measure(split, config.metrics, **settings)
        return {
            "n": len(split),
            "confidence": config.confidence,
            "metrics": metrics,
            "classes": per_class(split, **settings),
            "notes": undefined(split, config.metrics, metrics),
        }

    test = block(predictions)
    trivial = baseline(labels, predictions, config.metrics, train_mean=train_mean, train_rows=train_rows, **settings)
    below = below_baseline(test["metrics"], trivial["metrics"], main_metric(labels))
    return {
        "test": test,
        "validation": block(validation_predictions) if validation_predictions else None,
        "baseline": trivial | ({"below": below} if below else {}),
    }


def without_rows(
    predictions: Predictions, left_out: np.ndarray | None, config: EvaluationConfig, seed: int
) -> dict[str, Any] | None:
    """Return {n, left_out, metrics} of the rows that `left_out` (rows,) leaves; None if it marks none, or all."""
    if left_out is None or not left_out.any() or left_out.all():
        return None
    kept = predictions.select(~left_out)
    metrics = measure(kept, config.metrics, config.confidence, config.resamples, seed)
    return {"n": len(kept), "left_out": int(left_out.sum()), "confidence": config.confidence, "metrics": metrics}


def baseline(
    labels: Labels,
    predictions: Predictions,
    metrics: Sequence[str] = (),
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    train_mean: float | None = None,
    train_rows: int | None = None,
) -> dict[str, Any]:
    """Measure the best constant answer of the training split on the same rows: {name, metrics}.

    It is the most frequent class or tag, the mean (`train_mean`), or every label that at least half of the training
    rows have; the training frequencies are its probabilities. Without `train_rows` the multi-label frequencies are
    taken relative to the most frequent label, which is then always answered.
    """
    scores = _constant(labels, predictions, train_mean, train_rows)
    trivial = Predictions(labels, predictions.row_ids, predictions.truth, scores)
    return {"name": NAMES[labels.kind], "metrics": measure(trivial, metrics, confidence, resamples, seed)}


def below_baseline(measured: dict[str, Score], baseline: dict[str, Score], metric: str) -> str | None:
    """Return the sentence to say when a run's value is worse than its baseline's, else None."""
    if metric not in measured or metric not in baseline:
        return None
    value, trivial = measured[metric]["value"], baseline[metric]["value"]
    higher = METRICS[metric].greater_is_better
    if value >= trivial if higher else value <= trivial:
        return None
    return (
        f"{metric} is {value:.3f}, worse than the {trivial:.3f} of the trivial baseline, "
        "which answers the same whatever the input: this model is of no use as it is."
    )


def undefined(predictions: Predictions, metrics: Sequence[str], measured: dict[str, Score]) -> list[str]:
    """Return a sentence for every metric of ours that could not be computed on these rows."""
    missing = [n for n in metric_names(predictions.labels, metrics) if n in METRICS and n not in measured]
    return [f"{name} is undefined on these rows and left out." for name in missing]


def _constant(labels: Labels, predictions: Predictions, train_mean: float | None, train_rows: int | None) -> Any:
    n = len(predictions)
    if labels.kind == "regression":
        if train_mean is None:
            raise ValueError("the baseline of a regression needs train_mean")
        return np.full(n, float(train_mean))
    counts = np.array(labels.counts, np.float64)
    if len(counts) != len(labels.names) or not counts.any():
        raise ValueError(
            f"the baseline needs the training counts of {len(labels.names)} labels; found {labels.counts}"
        )
    if labels.kind == "multi_label":
        return np.tile(np.minimum(counts / (train_rows or counts.max()), 1), (n, 1))
    frequencies = counts / counts.sum()
    if labels.kind == "tags":
        return [np.tile(frequencies, (len(words), 1)) for words in predictions.truth]
    return np.tile(frequencies, (n, 1))
