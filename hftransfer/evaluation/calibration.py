"""Probabilities that mean what they say: reliability by confidence, and temperature scaling."""

from __future__ import annotations

from typing import Any

import numpy as np

from hftransfer.evaluation.intervals import wilson
from hftransfer.evaluation.metrics import BINS, Outcomes, bin_of, decisions
from hftransfer.evaluation.predictions import Predictions, Rows
from hftransfer.tasks.base import LabelKind

FEWEST = 20  # decisions; a temperature fitted on less says more about chance than about the model
SEARCH = (np.log(0.05), np.log(20.0))


def reliability(predictions: Predictions, confidence: float = 0.95) -> list[dict[str, Any]]:
    """Return, for each bin that has decisions: low, high, n, confidence, accuracy and its Wilson interval.

    A decision is the top answer of a row or word, or each label of a multi-label row (accuracy: how often it is true).
    """
    confidences, right, _ = decisions(Outcomes(predictions))
    bins = bin_of(confidences)
    curve = []
    for i in np.unique(bins):
        inside = bins == i
        share, n = float(right[inside].mean()), int(inside.sum())
        low, high = wilson(share, n, confidence)
        edges = {"low": float(i / BINS), "high": float((i + 1) / BINS)}
        shares = {"accuracy": share, "accuracy_low": low, "accuracy_high": high}
        curve.append({**edges, "n": n, "confidence": float(confidences[inside].mean()), **shares})
    return curve


def fit_temperature(logits: Rows, truth: Rows, kind: LabelKind) -> float:
    """Return the temperature that minimises the negative log likelihood of validation logits (Guo et al. 2017).

    Logits are (n, k), for tags also a list of (words, k). 1.0 for regression, for fewer than 20 decisions, and where
    the likelihood has no optimum within 0.05 to 20, as when every answer is right.
    """
    from scipy.optimize import minimize_scalar

    if kind == "regression":
        return 1.0
    if isinstance(logits, list):
        logits, truth = np.concatenate(logits), np.concatenate(truth)
    logits, truth = np.asarray(logits, np.float64), np.asarray(truth)
    if truth.size < FEWEST:
        return 1.0

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        if kind == "multi_label":
            return float(np.mean(np.logaddexp(0, scaled) - truth * scaled))
        return float(np.mean(_log_sum(scaled) - scaled[np.arange(len(truth)), truth]))

    found = minimize_scalar(loss, bounds=SEARCH, method="bounded", options={"xatol": 1e-4})
    on_edge = min(found.x - SEARCH[0], SEARCH[1] - found.x) < 0.01
    return 1.0 if on_edge or found.fun >= loss(0.0) else float(np.exp(found.x))


def apply_temperature(logits: Rows, temperature: float, kind: LabelKind) -> Rows:
    """Return the probabilities of logits under a temperature, shaped alike; regression values pass unchanged."""
    match kind:
        case "regression":
            return logits
        case "tags":
            return [apply_temperature(words, temperature, "single_label") for words in logits]
        case "multi_label":
            return np.exp(-np.logaddexp(0, -np.asarray(logits, np.float64) / temperature))
        case _:
            scaled = np.asarray(logits, np.float64) / temperature
            return np.exp(scaled - _log_sum(scaled)[:, None])


def _log_sum(logits: np.ndarray) -> np.ndarray:
    top = logits.max(axis=1, keepdims=True)
    return np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]
