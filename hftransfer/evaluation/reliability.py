"""How sure each point of a reliability diagram is, its decisions being as independent as the test rows make them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hftransfer.evaluation.intervals import bootstrap_weights, effective
from hftransfer.evaluation.predictions import Predictions
from hftransfer.weighting import wilson

RESAMPLES = 500


def with_intervals(
    bins: Sequence[Mapping[str, Any]], predictions: Predictions, confidence: float, seed: int = 0
) -> list[dict[str, Any]]:
    """Return the bins of `_scores.reliability` with `accuracy_low` and `accuracy_high`, Wilson's interval.

    Where rows stand in groups, or a row has several decisions (one a label, one a word), that is the interval of as
    many independent decisions as have the variance between groups, or rows: see `intervals.effective`.
    """
    sure, right, rows = (np.asarray(part) for part in predictions.outcomes.decisions)
    unit = rows if predictions.codes is None else predictions.codes[rows]
    alone = predictions.codes is None and len(np.unique(rows)) == len(rows)
    found = []
    for one in bins:
        count = round(1 / (one["high"] - one["low"]))
        inside = np.clip(np.ceil(sure * count) - 1, 0, count - 1) == round(one["low"] * count)
        share, n = float(one["accuracy"]), float(one["n"])
        if not alone:
            n = _independent(unit[inside], right[inside], predictions.units, confidence, seed)
        low, high = wilson(share, n, confidence)
        found.append({**one, "accuracy_low": low, "accuracy_high": high})
    return found


def _independent(unit: np.ndarray, right: np.ndarray, units: int, confidence: float, seed: int) -> float:
    """Return how many independent decisions tell as much as these do, `unit` being the group of each."""
    counts = np.bincount(unit, minlength=units).astype(np.float64)
    hits = np.bincount(unit, weights=right.astype(np.float64), minlength=units)
    drawn = []
    for weights in bootstrap_weights(units, RESAMPLES, seed):
        of = counts @ weights
        drawn.append(np.divide(hits @ weights, of, out=np.full(of.shape, np.nan), where=of > 0))
    share, there = float(hits.sum() / counts.sum()), int((counts > 0).sum())
    return max(effective(share, np.concatenate(drawn), float(counts.sum()), there, confidence), 1e-6)
