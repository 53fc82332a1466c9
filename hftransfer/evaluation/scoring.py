"""Scores of one set of predictions, with and without their intervals, as a whole and class by class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from hftransfer.evaluation.entities import entity_types, has_entities
from hftransfer.evaluation.intervals import bootstrap_weights, interval, jackknife_weights, wilson
from hftransfer.evaluation.metrics import (
    METRICS,
    Metric,
    Outcomes,
    Weighted,
    check_names,
    default_metrics,
    from_hub,
    rate,
)
from hftransfer.evaluation.predictions import Predictions
from hftransfer.tasks.base import Labels

Score = dict[str, float]  # value, low, high
HUB_RESAMPLES = 200  # a metric of the Hub is computed row set by row set, each many times slower than ours


def measure(
    predictions: Predictions,
    metrics: Sequence[str] = (),
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Score]:
    """Return {name: {value, low, high}} for the default metrics of these labels and the ones asked for.

    Rows (sentences for tags) are resampled; a plain share of right rows has Wilson's interval. A metric that is
    undefined on these rows is left out. UserError for a name that is unknown or does not fit.
    """
    return measure_only(predictions, metric_names(predictions.labels, metrics), confidence, resamples, seed)


def measure_only(
    predictions: Predictions, names: Sequence[str], confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> dict[str, Score]:
    """Return the same for these metrics and no others."""
    outcomes, n = Outcomes(predictions), len(predictions)
    values = _point(outcomes, [name for name in names if name in METRICS])
    drawn = _compute(outcomes, values, bootstrap_weights(n, resamples, seed))
    left_out = _compute(outcomes, values, jackknife_weights(n))
    measured: dict[str, Score] = {}
    for name in names:
        if from_hub(name):
            measured |= _measure_from_hub(name, predictions, confidence, seed)
        elif name in values:
            low, high = (
                wilson(values[name], n, confidence)
                if is_share_of_rows(name, predictions.labels)
                else interval(values[name], drawn[name], left_out[name], n, confidence, METRICS[name])
            )
            measured[name] = {"value": values[name], "low": low, "high": high}
    return measured


def measure_point(predictions: Predictions, names: Sequence[str] | None = None) -> dict[str, float]:
    """Return the values alone: of `names`, or of the default metrics; undefined ones are left out."""
    chosen = default_metrics(predictions.labels) if names is None else list(names)
    check_names(chosen, predictions.labels)
    values = _point(Outcomes(predictions), [name for name in chosen if name in METRICS])
    for name in filter(from_hub, chosen):
        values |= _from_hub(name, predictions).compute(range(len(predictions)))
    return values


def prepare_metrics(labels: Labels, metrics: Sequence[str]) -> None:
    """Raise UserError before training for a metric that is unknown, unfit, or that the Hub does not give."""
    check_names(metrics, labels)
    for name in filter(from_hub, metrics):
        from hftransfer.evaluation.modules import load_from_hub

        load_from_hub(name, labels)


def replicates(predictions: Predictions, names: Sequence[str], resamples: int, seed: int) -> dict[str, np.ndarray]:
    """Return each metric of ours on every resample, (resamples,); equal seeds pair two runs on the same rows."""
    return _compute(Outcomes(predictions), names, bootstrap_weights(len(predictions), resamples, seed))


def metric_names(labels: Labels, extra: Sequence[str] = ()) -> list[str]:
    """Return the default metrics and the extra ones, each once; UserError for a name unknown or unfit."""
    check_names(extra, labels)
    return list(dict.fromkeys([*default_metrics(labels), *extra]))


def is_share_of_rows(name: str, labels: Labels) -> bool:
    """Tell whether a metric is the share of right rows, whose interval Wilson gives also at 0 and 1."""
    micro = name in ("precision_micro", "recall_micro", "f1_micro")
    return labels.kind != "tags" and (name == "accuracy" or (labels.kind == "single_label" and micro))


def per_class(
    predictions: Predictions, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> list[dict[str, Any]]:
    """Return name, n, precision, recall, f1, f1_low, f1_high of each class, or of each entity type.

    n counts the rows (words, entities) of the truth; a score with nothing to divide by is None. The interval is the
    bootstrap's, Wilson's for a class without a fault.
    """
    outcomes, n = Outcomes(predictions), len(predictions)
    labels = predictions.labels
    if labels.kind == "regression":
        return []
    entities = labels.kind == "tags" and has_entities(labels.names)
    names = entity_types(labels.names) if entities else labels.names

    def totals(weights: np.ndarray) -> Any:
        sample = Weighted(outcomes, weights)
        return sample.entities if entities else sample.classes

    def f1(weightings: Iterable[np.ndarray]) -> np.ndarray:
        return np.concatenate([rate("f1", totals(weights), np.nan) for weights in weightings], axis=1)

    whole = totals(np.ones((n, 1)))
    scores = {quality: rate(quality, whole, np.nan)[:, 0] for quality in ("precision", "recall", "f1")}
    drawn, left_out = f1(bootstrap_weights(n, resamples, seed)), f1(jackknife_weights(n))
    rows = []
    for i, name in enumerate(names):
        support = int(whole.actual[i, 0])
        low = high = float("nan")
        if np.isfinite(scores["f1"][i]):
            low, high = interval(scores["f1"][i], drawn[i], left_out[i], max(support, 1), confidence, F1_OF_CLASS)
        row = {quality: values[i] for quality, values in scores.items()} | {"f1_low": low, "f1_high": high}
        known = {key: float(value) if np.isfinite(value) else None for key, value in row.items()}
        rows.append({"name": name, "n": support, **known})
    return rows


F1_OF_CLASS: Metric = METRICS["f1_macro"]


def _point(outcomes: Outcomes, names: Sequence[str]) -> dict[str, float]:
    values = _compute(outcomes, names, [np.ones((outcomes.n, 1))])
    return {name: float(value[0]) for name, value in values.items() if np.isfinite(value[0])}


def _compute(outcomes: Outcomes, names: Iterable[str], weightings: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for weights in weightings:
        sample = Weighted(outcomes, weights)
        for name, values in parts.items():
            values.append(METRICS[name].compute(sample))
    return {name: np.concatenate(values) for name, values in parts.items()}


def _measure_from_hub(name: str, predictions: Predictions, confidence: float, seed: int) -> dict[str, Score]:
    metric, n = _from_hub(name, predictions), len(predictions)
    rng = np.random.default_rng(seed)
    values = metric.compute(range(n))
    drawn = [metric.compute(rng.integers(n, size=n).tolist()) for _ in range(HUB_RESAMPLES)]
    tails = ((1 - confidence) / 2, (1 + confidence) / 2)
    measured = {}
    for key, value in values.items():
        found = [scores[key] for scores in drawn if key in scores and np.isfinite(scores[key])]
        if np.isfinite(value) and found:
            low, high = np.quantile(found, tails)
            measured[key] = {"value": value, "low": float(min(low, value)), "high": float(max(high, value))}
    return measured


def _from_hub(name: str, predictions: Predictions) -> Any:
    from hftransfer.evaluation.modules import HubMetric

    return HubMetric(name, predictions)
