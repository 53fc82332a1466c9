"""Means over seeds with intervals, the time to an accuracy, and how far two orders agree."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np
import scipy.stats

Curve = Sequence[tuple[float, float]]  # (training seconds, accuracy), as training goes


def half_width(values: Sequence[float]) -> float:
    """Return half of the 95 % interval of a mean (Student's t); NaN for one value, which has no spread."""
    if len(values) < 2:
        return float("nan")
    return float(scipy.stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5)


def mean(values: Sequence[float], digits: int = 3, scale: float = 1.0, sign: str = "") -> str:
    """Return the mean of `values` times `scale` with its 95 % interval, as text."""
    scaled = [scale * value for value in values]
    centre, half = statistics.mean(scaled), half_width(scaled)
    if np.isnan(half):
        return f"{centre:{sign}.{digits}f}"
    return f"{centre:{sign}.{digits}f} ({centre - half:{sign}.{digits}f} to {centre + half:{sign}.{digits}f})"


def paired(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Return the mean of ours less theirs in points, seed by seed, with its 95 % interval, as text."""
    return mean([one - other for one, other in zip(ours, theirs, strict=True)], 1, 100, "+")


def reached(curve: Curve, level: float) -> float:
    """Return the seconds after which `curve` is at `level` or above for the first time; infinite if never."""
    return next((seconds for seconds, accuracy in curve if accuracy >= level), float("inf"))


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """Return Spearman's correlation; 0 where one side is all ties and has no order."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(scipy.stats.spearmanr(one, other).statistic)


def agreement(truth: Sequence[float], draws: np.ndarray, said: Sequence[float]) -> tuple[float, float, float]:
    """Return Spearman's correlation of `said` with `truth` and the 95 % percentile interval of its bootstrap.

    `truth` (m,) are the models' scores, `draws` (m, b) the same on resampled test rows.
    """
    found = [spearman(draw, said) for draw in np.asarray(draws).T]
    low, high = np.quantile(found, (0.025, 0.975))
    return spearman(truth, said), float(low), float(high)
