"""How sure a score is: intervals from resampling the rows, and Wilson's where the score is a share of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from hftransfer.weighting import NORMAL, Metric, wilson

CHUNK = 1_000_000  # weights held at a time; the temporaries of the metrics stay below 100 MB
JACKKNIFE_PARTS = 200
KEPT = 24_000_000  # draws of one bootstrap that are kept, a byte each: of test and of validation rows


def bootstrap_weights(n: int, count: int, seed: int, groups: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Yield weights (n, b), float32: how often each row stands in each of `count` resamples of n rows.

    Equal n and seed give equal resamples, so that two runs on the same rows can be compared pair by pair. With
    `groups` (n,), the number of each row's group, whole groups are drawn, as many as there are: rows of one patient
    are no independent witnesses (Davison and Hinkley 1997, section 3.8).
    """
    size = max(CHUNK // n, 1)
    units = n if groups is None else int(groups.max()) + 1
    for times in _drawn(units, count, seed, size):
        weights = times if groups is None else times[groups]
        yield weights.astype(np.float32, order="C")


def _drawn(units: int, count: int, seed: int, size: int) -> Iterator[np.ndarray]:
    """Yield how often each unit is drawn, (units, b), of `size` resamples at a time; the same at every call."""
    if units * count <= KEPT:
        whole = _kept(units, count, seed)
        yield from (whole[:, start : start + size] for start in range(0, count, size))
        return
    rng = np.random.default_rng(seed)
    for start in range(0, count, size):
        yield _draws(rng, units, min(size, count - start))


@lru_cache(maxsize=2)  # every metric of a split, its classes and its baseline are measured on the same resamples
def _kept(units: int, count: int, seed: int) -> np.ndarray:
    return _draws(np.random.default_rng(seed), units, count)


def _draws(rng: np.random.Generator, units: int, count: int) -> np.ndarray:
    """Return how often each unit is drawn, (units, count), in the least integers that hold it."""
    found = np.empty((count, units), np.min_scalar_type(units))
    for one in found:
        one[:] = np.bincount(rng.integers(units, size=units), minlength=units)
    return np.ascontiguousarray((found.astype(np.uint8) if found.max() < 256 else found).T)


def jackknife_weights(n: int, groups: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Yield weights (n, b) that leave out some rows each: one row, or one of `groups` (n,); every 200th beyond 200."""
    units = np.arange(n) if groups is None else groups
    parts = min(int(units.max()) + 1, JACKKNIFE_PARTS)
    size = max(CHUNK // n, 1)
    for start in range(0, parts, size):
        left_out = np.arange(start, min(start + size, parts))
        yield (units[:, None] % parts != left_out).astype(np.float64)


def group_weights(groups: np.ndarray) -> Iterator[np.ndarray]:
    """Yield weights (n, b) that keep one of `groups` (n,) each, in their order."""
    count, size = int(groups.max()) + 1, max(CHUNK // len(groups), 1)
    for start in range(0, count, size):
        yield (groups[:, None] == np.arange(start, min(start + size, count))).astype(np.float64)


def effective(share: float, replicates: np.ndarray, rows: float, units: int, confidence: float) -> float:
    """Return how many independent rows tell as much of a share as `rows` of them in `units` groups do.

    That number has the variance that resampling groups found; it is lowered by how much wider Student's quantile is
    than the normal one, since the variance is itself an estimate (Korn and Graubard 1998). Of a share that resampling
    does not change, each group is one. In simulation (tests) Wilson's interval with it covers as often as it says
    where the bootstrap's own covers too seldom: of shares near 0 or 1.
    """
    from scipy.special import stdtrit

    variance = float(np.nanvar(replicates))
    found = min(share * (1 - share) / variance, rows) if variance > 1e-12 else float(min(rows, units))
    tail = (1 + confidence) / 2
    return found * (NORMAL.inv_cdf(tail) / float(stdtrit(max(units - 1, 1), tail))) ** 2


def corrected(scores: Sequence[float], ratio: float, confidence: float) -> tuple[float, float]:
    """Return the interval of the mean of scores on folds, `ratio` being the test rows of one by its other rows.

    The corrected resampled t of Nadeau and Bengio (2003): folds share their training rows, so the variance of the mean
    is (1 / folds + ratio) times that of the scores. In simulation (tests) it covers what the way of training gives on
    such rows 94 to 97 % of the time at a nominal 95 %, where a bootstrap of out-of-fold answers covers about 90 %: it
    does not know that other rows would have trained another model (Bates, Hastie and Tibshirani 2023).
    """
    from scipy.special import stdtrit

    count = len(scores)
    mean = float(np.mean(scores))
    if count < 2:
        return float("-inf"), float("inf")
    error = float(np.sqrt((1 / count + ratio) * np.var(scores, ddof=1)))
    half = float(stdtrit(count - 1, (1 + confidence) / 2)) * error
    return mean - half, mean + half


def interval(
    value: float, replicates: np.ndarray, left_out: np.ndarray, n: int, confidence: float, metric: Metric
) -> tuple[float, float]:
    """Return the BCa bootstrap interval (Efron 1987) of one score over n rows, or groups of rows.

    Two exceptions. Faultless answers never vary under resampling, which says nothing of the rows not seen: Wilson's
    interval of n right answers out of n stands in, and that of none where all are worth nothing. A recentred metric
    counts the noise of resampling as error, so its replicates lie above the score (or below, where less is found of
    rows that stand twice): their spread around their median is laid around the score.
    """
    replicates = replicates[np.isfinite(replicates)]
    bounds = () if metric.perfect is None else (metric.perfect,) if metric.signed else (metric.perfect, 0.0)
    end = next((bound for bound in bounds if abs(value - bound) < 1e-9), None)
    if end is not None:
        low, high = wilson(end / metric.scale, max(n, 1), confidence)
        return metric.scale * low, metric.scale * high
    if n < 2 and metric.perfect is not None:  # one group, or one row: it is itself in every resample
        most = metric.scale if metric.bounded else max(metric.scale, value)
        return (-metric.scale if metric.signed else 0.0), most
    if not len(replicates):
        return value, value
    tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    if metric.recentred:
        low, high = np.quantile(replicates, tails) - np.median(replicates) + value
        return float(max(low, 0)), float(min(high, metric.scale))
    low, high = np.quantile(replicates, _bias_corrected(value, replicates, left_out, tails))
    return float(min(low, value)), float(max(high, value))


def _bias_corrected(value: float, replicates: np.ndarray, left_out: np.ndarray, tails: np.ndarray) -> np.ndarray:
    tolerance = 1e-6 * max(abs(value), 1e-6)  # replicates are sums of float32
    below, above = np.mean(replicates < value - tolerance), np.mean(replicates > value + tolerance)
    edge = 1 / (2 * len(replicates))
    bias = NORMAL.inv_cdf(float(np.clip((below + 1 - above) / 2, edge, 1 - edge)))
    influence = np.mean(left_out) - left_out
    spread = float(np.sum(influence**2)) ** 1.5
    acceleration = float(np.sum(influence**3)) / (6 * spread) if np.isfinite(spread) and spread > 0 else 0.0
    shifted = bias + np.array([NORMAL.inv_cdf(tail) for tail in tails])
    return np.array([NORMAL.cdf(bias + z / max(1 - acceleration * z, 0.1)) for z in shifted])
