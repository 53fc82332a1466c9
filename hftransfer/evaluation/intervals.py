"""How sure a score is: intervals from resampling the rows, and Wilson's where the score is a share of rows."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import NormalDist

import numpy as np

from hftransfer.evaluation.metrics import Metric

CHUNK = 1_000_000  # weights held at a time; the temporaries of the metrics stay below 100 MB
JACKKNIFE_GROUPS = 200
NORMAL = NormalDist()


def bootstrap_weights(n: int, count: int, seed: int) -> Iterator[np.ndarray]:
    """Yield weights (n, b), float32: how often each row stands in each of `count` resamples of n rows.

    Equal n and seed give equal resamples, so that two runs on the same rows can be compared pair by pair.
    """
    rng = np.random.default_rng(seed)
    size = max(CHUNK // n, 1)
    for start in range(0, count, size):
        draws = [np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(min(size, count - start))]
        yield np.ascontiguousarray(np.array(draws, np.float32).T)


def jackknife_weights(n: int) -> Iterator[np.ndarray]:
    """Yield weights (n, b) that leave out one group of rows each: single rows up to 200, every 200th row beyond."""
    groups = min(n, JACKKNIFE_GROUPS)
    size = max(CHUNK // n, 1)
    for start in range(0, groups, size):
        left_out = np.arange(start, min(start + size, groups))
        yield (np.arange(n)[:, None] % groups != left_out).astype(np.float64)


def wilson(value: float, n: float, confidence: float) -> tuple[float, float]:
    """Return Wilson's score interval for a share `value` of n rows (Wilson 1927, Brown, Cai and DasGupta 2001)."""
    z = NORMAL.inv_cdf((1 + confidence) / 2)
    centre = (value + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(value * (1 - value) / n + z**2 / (4 * n**2))
    return float(max(centre - half, 0)), float(min(centre + half, 1))


def interval(
    value: float, replicates: np.ndarray, left_out: np.ndarray, n: int, confidence: float, metric: Metric
) -> tuple[float, float]:
    """Return the BCa bootstrap interval (Efron 1987) of one score.

    Two exceptions. Faultless answers never vary under resampling, which says nothing of the rows not seen: Wilson's
    interval of n right answers out of n stands in. A recentred metric counts the noise of resampling as error, so its
    replicates lie above the score: their spread around their median is laid around the score.
    """
    replicates = replicates[np.isfinite(replicates)]
    if metric.perfect is not None and abs(value - metric.perfect) < 1e-9:
        return wilson(metric.perfect, n, confidence)
    if not len(replicates):
        return value, value
    tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    if metric.recentred:
        low, high = np.quantile(replicates, tails) - np.median(replicates) + value
        return float(max(low, 0)), float(min(high, 1))
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
