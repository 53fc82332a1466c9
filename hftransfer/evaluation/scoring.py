"""Scores of one set of predictions, with and without their intervals, as a whole and class by class."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from hftransfer.answers.base import Answer
from hftransfer.evaluation.intervals import (
    bootstrap_weights,
    effective,
    group_weights,
    interval,
    jackknife_weights,
)
from hftransfer.evaluation.names import check_names, from_hub, metric_names
from hftransfer.evaluation.predictions import Predictions
from hftransfer.safety import machine
from hftransfer.weighting import Metric, Statistic, wilson

R = TypeVar("R")
Score = dict[str, float]  # value, low, high
MOST_THREADS = 8  # each holds a part of the weights and what is made of it
HUB_RESAMPLES = 200  # a metric of the Hub is computed row set by row set, each many times slower than ours


def measure(
    predictions: Predictions,
    metrics: Sequence[str] = (),
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Score]:
    """Return {name: {value, low, high}} for the default metrics of these answers and the ones asked for.

    Rows (sentences for tags), or whole groups of them, are resampled; a plain share of right rows that stand each for
    itself has Wilson's interval. A metric that is undefined on these rows is left out. UserError for a name that is
    unknown or does not fit.
    """
    return measure_only(predictions, metric_names(predictions.answer, metrics), confidence, resamples, seed)


def measure_only(
    predictions: Predictions, names: Sequence[str], confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> dict[str, Score]:
    """Return the same for these metrics and no others."""
    ours = {name: metric for name in names if (metric := predictions.answer.METRICS.get(name)) is not None}
    found = measure_outcomes(predictions, ours, predictions.outcomes, confidence, resamples, seed)
    measured: dict[str, Score] = {}
    for name in names:
        if from_hub(name, predictions.answer):
            measured |= _measure_from_hub(name, predictions, confidence, seed)
        elif name in found:
            measured[name] = found[name]
    return measured


def measure_outcomes(
    rows: Predictions,
    metrics: Mapping[str, Metric],
    outcomes: Any,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Score]:
    """Return {name: {value, low, high}} of metrics of what each of these rows contributes; undefined ones left out."""
    n, codes = len(rows), rows.codes
    whole = rows.answer.sample(outcomes, np.ones((n, 1)))
    values = {name: float(metric.value(whole)[0]) for name, metric in metrics.items()}
    values = {name: value for name, value in values.items() if np.isfinite(value)}

    def witnesses(share: Statistic, of: float) -> float:
        if codes is None:
            return of
        weightings = bootstrap_weights(n, resamples, seed, codes)
        drawn = np.concatenate([share(rows.answer.sample(outcomes, weights)) for weights in weightings])
        alone = [share(rows.answer.sample(outcomes, weights)) for weights in group_weights(codes)]
        units = int(np.isfinite(np.concatenate(alone)).sum())  # a group without a row of the share is no witness
        return effective(float(share(whole)[0]), drawn, of, max(units, 1), confidence)

    resampled = {
        name: metric
        for name, metric in metrics.items()
        if name in values and metric.closed is None and not (metric.is_share and codes is None)
    }
    drawn = _weighted(rows, resampled, outcomes, bootstrap_weights(n, resamples, seed, codes))
    left_out = _weighted(rows, resampled, outcomes, jackknife_weights(n, codes))
    measured = {}
    for name, value in values.items():
        metric = metrics[name]
        if metric.closed is not None:
            low, high = metric.closed(whole, confidence, witnesses)
        elif metric.is_share and (codes is None or rows.units == 1 or value in (0.0, 1.0)):
            low, high = wilson(value, rows.units, confidence)
        else:
            units = rows.units if metric.counted is None else _units(metric.counted(outcomes), codes)
            low, high = interval(value, drawn[name], left_out[name], units, confidence, metric)
        measured[name] = {"value": value, "low": low, "high": high}
    return measured


def _units(counted: np.ndarray, codes: np.ndarray | None) -> int:
    """Return how many rows, or groups with such a row, a metric is of."""
    return int(counted.sum()) if codes is None else len(np.unique(codes[counted]))


def measure_point(predictions: Predictions, names: Sequence[str] | None = None) -> dict[str, float]:
    """Return the values alone: of `names`, or of the default metrics; undefined ones are left out."""
    answer = predictions.answer
    chosen = list(answer.default_metrics) if names is None else list(names)
    check_names(chosen, answer)
    values = _point(predictions, [name for name in chosen if name in answer.METRICS])
    for name in [name for name in chosen if from_hub(name, answer)]:
        values |= _from_hub(name, predictions).compute(range(len(predictions)))
    return values


def prepare_metrics(answer: Answer[Any], metrics: Sequence[str]) -> None:
    """Raise UserError before training for a metric that is unknown, unfit, or that the Hub does not give."""
    check_names(metrics, answer)
    for name in [name for name in metrics if from_hub(name, answer)]:
        from hftransfer.evaluation.hub_metrics import load_from_hub

        load_from_hub(name, answer)


def replicates(predictions: Predictions, names: Sequence[str], resamples: int, seed: int) -> dict[str, np.ndarray]:
    """Return each metric of ours on every resample, (resamples,); equal seeds pair two runs on the same rows."""
    return _metrics(predictions, names, bootstrap_weights(len(predictions), resamples, seed, predictions.codes))


def per_class(
    predictions: Predictions, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> list[dict[str, Any]]:
    """Return name, n and the scores of each class (or entity type), the main one with `_low` and `_high`.

    n counts the rows (words, entities) of the truth; a score with nothing to divide by is None. The interval is the
    bootstrap's, Wilson's for a class without a fault.
    """
    table, n = predictions.answer.by_class(), len(predictions)
    if table is None:
        return []

    def over(statistic: Statistic, weightings: Iterable[np.ndarray]) -> np.ndarray:
        found = [statistic(predictions.answer.sample(predictions.outcomes, weights)) for weights in weightings]
        return np.concatenate(found, axis=1)

    whole = predictions.answer.sample(predictions.outcomes, np.ones((n, 1)))
    scores = {name: statistic(whole)[:, 0] for name, statistic in table.values.items()}
    support = table.support(whole)[:, 0]
    main = table.values[table.main]
    codes = predictions.codes
    drawn, left_out = over(main, bootstrap_weights(n, resamples, seed, codes)), over(main, jackknife_weights(n, codes))
    held = support if codes is None else (over(table.support, group_weights(codes)) > 0).sum(axis=1)
    faultless = Metric("", main, perfect=table.perfect)
    rows = []
    for i, name in enumerate(table.names):
        low = high = float("nan")
        if np.isfinite(scores[table.main][i]):
            counted = max(int(held[i]), 1)
            low, high = interval(scores[table.main][i], drawn[i], left_out[i], counted, confidence, faultless)
        row = {quality: values[i] for quality, values in scores.items()}
        row |= {f"{table.main}_low": low, f"{table.main}_high": high}
        known = {key: float(value) if np.isfinite(value) else None for key, value in row.items()}
        rows.append({"name": name, "n": int(support[i]), **known})
    return rows


def _point(predictions: Predictions, names: Sequence[str]) -> dict[str, float]:
    values = _metrics(predictions, names, [np.ones((len(predictions), 1))])
    return {name: float(value[0]) for name, value in values.items() if np.isfinite(value[0])}


def _metrics(
    predictions: Predictions, names: Iterable[str], weightings: Iterable[np.ndarray]
) -> dict[str, np.ndarray]:
    chosen = {name: predictions.answer.METRICS[name] for name in names}
    return _weighted(predictions, chosen, predictions.outcomes, weightings)


def _weighted(
    rows: Predictions, metrics: Mapping[str, Metric], outcomes: Any, weightings: Iterable[np.ndarray]
) -> dict[str, np.ndarray]:
    def values_of(weights: np.ndarray) -> list[np.ndarray]:
        sample = rows.answer.sample(outcomes, weights)
        return [metric.value(sample) for metric in metrics.values()]

    found = list(_side_by_side(values_of, weightings)) if metrics else []
    return {name: np.concatenate([values[i] for values in found]) for i, name in enumerate(metrics)}


def _side_by_side(work: Callable[[np.ndarray], R], parts: Iterable[np.ndarray]) -> Iterator[R]:
    """Yield what work makes of each part, in order, a thread for each core: numpy's loops wait for no interpreter.

    No more parts are made than threads take, so that few are in memory.
    """
    parts = iter(parts)
    first = next(parts, None)
    second = next(parts, None)
    if first is None:
        return
    if second is None:  # few rows: nothing to share out
        yield work(first)
        return
    threads = min(machine.cores(), MOST_THREADS)
    with ThreadPoolExecutor(threads) as pool:
        waiting = deque(pool.submit(work, part) for part in (first, second))
        for part in parts:
            if len(waiting) > threads:
                yield waiting.popleft().result()
            waiting.append(pool.submit(work, part))
        while waiting:
            yield waiting.popleft().result()


def _measure_from_hub(name: str, predictions: Predictions, confidence: float, seed: int) -> dict[str, Score]:
    metric, n = _from_hub(name, predictions), len(predictions)
    rng = np.random.default_rng(seed)
    values = metric.compute(range(n))
    drawn = [metric.compute(_drawn(rng, n, predictions.codes)) for _ in range(HUB_RESAMPLES)]
    tails = ((1 - confidence) / 2, (1 + confidence) / 2)
    measured = {}
    for key, value in values.items():
        found = [scores[key] for scores in drawn if key in scores and np.isfinite(scores[key])]
        if np.isfinite(value) and found:
            low, high = np.quantile(found, tails)
            measured[key] = {"value": value, "low": float(min(low, value)), "high": float(max(high, value))}
    return measured


def _drawn(rng: np.random.Generator, n: int, codes: np.ndarray | None) -> list[int]:
    """Return rows drawn with replacement, or those of groups that are."""
    if codes is None:
        return list(rng.integers(n, size=n).tolist())
    groups = int(codes.max()) + 1
    members = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=groups))
    drawn = rng.integers(groups, size=groups)
    return [int(row) for one in drawn for row in members[ends[one - 1] if one else 0 : ends[one]]]


def _from_hub(name: str, predictions: Predictions) -> Any:
    from hftransfer.evaluation.hub_metrics import HubMetric

    return HubMetric(name, predictions)
