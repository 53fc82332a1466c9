"""Whether one model is better than another: the difference of two scores on the same rows, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hftransfer.evaluation.predictions import Predictions
from hftransfer.evaluation.scoring import replicates


@dataclass(frozen=True)
class Difference:
    """One score minus another on the same rows; `resolvable` is the least difference that would have shown."""

    value: float
    low: float
    high: float
    p_value: float
    resolvable: float


def pairwise(
    predictions: Sequence[Predictions], metric: str, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> dict[tuple[int, int], Difference]:
    """Return the difference of every pair i < j of models: score of i minus score of j on the same rows.

    The rows must be the same, in the same order. Each model's metric is computed once on resamples that all share.
    """
    drawn = [replicates(found, [metric], resamples, seed)[metric] for found in predictions]
    values = [point(found, metric) for found in predictions]
    n = len(predictions[0])
    return {
        (i, j): difference(
            values[i] - values[j],
            drawn[i] - drawn[j],
            n,
            confidence,
            differing(predictions[i], predictions[j], metric),
        )
        for i in range(len(predictions))
        for j in range(i + 1, len(predictions))
    }


def difference(
    value: float, replicates: np.ndarray, n: int, confidence: float = 0.95, differing: int | None = None
) -> Difference:
    """Return a difference with its interval and two-sided p-value, from paired bootstrap replicates over n rows.

    The standard error is the replicates' spread, set right for the n - 1 that resampling forgets, and the quantile is
    Student's, so that interval and p-value always agree (Efron and Tibshirani 1993, chapter 12; Koehn 2004 for the
    paired resampling). In simulation (tests) it rejects 4 to 6 % of equal models already at 50 rows, where BCa rejects
    7 to 12 % and the plain percentile up to 9 %. Where only `differing` rows are answered differently, no p-value is
    below the least that a sign test on them can give (mid-p, 2 ** -differing): four rows show nothing.
    """
    from scipy.special import stdtr, stdtrit

    known = replicates[np.isfinite(replicates)]
    freedom = max(n - 1, 1)
    error = float(np.std(known)) * np.sqrt(n / freedom) if len(known) else 0.0
    if differing is not None and value != 0:
        least = 2.0 ** -min(max(differing, 1), 60)
        error = max(error, abs(value) / float(-stdtrit(freedom, least / 2)))
    half = float(stdtrit(freedom, (1 + confidence) / 2)) * error
    if error == 0:
        return Difference(value, value, value, 1.0 if value == 0 else 0.0, 0.0)
    p_value = min(2 * float(stdtr(freedom, -abs(value) / error)), 1.0)
    return Difference(value, value - half, value + half, p_value, half)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values that may be read together: one false alarm among them is as rare as the level (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    raised = np.array(p_values, np.float64)[order] * (len(p_values) - np.arange(len(p_values)))
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(raised), 1)
    return [float(value) for value in adjusted]


def point(predictions: Predictions, metric: str) -> float:
    """Return one metric of ours on all rows; NaN where it is undefined."""
    from hftransfer.evaluation.scoring import measure_point

    return measure_point(predictions, [metric]).get(metric, float("nan"))


def differing(one: Predictions, other: Predictions, metric: str) -> int:
    """Return how many rows count differently: by their answers, or by their scores where the metric reads those."""
    by_answers = metric in ("accuracy", "mcc", "hamming_loss") or metric.startswith(("precision_", "recall_", "f1_"))
    pairs = (one.predicted(), other.predicted()) if by_answers else (one.scores, other.scores)
    return sum(not np.array_equal(a, b) for a, b in zip(*pairs, strict=True))
