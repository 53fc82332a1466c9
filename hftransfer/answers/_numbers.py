"""Scores of numbers against true ones: errors, and correlations of values and of ranks under any weighting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from hftransfer.answers._scores import TINY, running
from hftransfer.weighting import Metric, Sample, Statistic, ratio

Rows = Any


class OfNumbers:
    """Rows of a number each."""

    def __init__(self, truth: Rows, scores: Rows) -> None:
        self.truth, self.scores, self.n = np.asarray(truth), np.asarray(scores), len(truth)

    @cached_property
    def orders(self) -> tuple[Order, Order]:
        """The rows in the order of the truth, and of the answers."""
        return Order(self.truth), Order(self.scores)


class Order:
    """Rows in the order of one value."""

    def __init__(self, values: np.ndarray) -> None:
        self.order = np.argsort(values, kind="stable")
        ordered = values[self.order]
        self.first = np.searchsorted(ordered, values, "left")
        self.behind = np.searchsorted(ordered, values, "right")

    def centred_ranks(self, weights: np.ndarray) -> np.ndarray:
        """Return ranks (n, b) from -1/2 to 1/2 with mean 0, tied rows sharing the middle of their places."""
        places = running(weights[self.order])
        middle = places[self.first]
        middle += places[self.behind]
        return middle / (2 * places[-1]) - 0.5


def _error(loss: Callable[[np.ndarray], np.ndarray]) -> Statistic:
    return lambda sample: sample.mean(loss(sample.outcomes.scores - sample.outcomes.truth))


def _rmse(sample: Sample) -> np.ndarray:
    return np.sqrt(_error(np.square)(sample))


def _r2(sample: Sample) -> np.ndarray:
    truth = sample.outcomes.truth - np.mean(sample.outcomes.truth)
    spread = sample.mean(truth**2) - sample.mean(truth) ** 2
    return 1 - ratio(_error(np.square)(sample), np.where(spread > TINY * np.var(truth), spread, 0), np.nan)


def _pearson(sample: Sample) -> np.ndarray:
    x, y = (_standardised(values) for values in (sample.outcomes.truth, sample.outcomes.scores))
    x_mean, y_mean = sample.mean(x), sample.mean(y)
    covariance = sample.mean(x * y) - x_mean * y_mean
    return _correlation(covariance, sample.mean(x**2) - x_mean**2, sample.mean(y**2) - y_mean**2)


def _spearman(sample: Sample) -> np.ndarray:
    x, y = (order.centred_ranks(sample.weights) for order in sample.outcomes.orders)
    x_weighted = x * sample.weights
    products = ((x_weighted, y), (x_weighted, x), (y * sample.weights, y))
    return _correlation(*(np.einsum("ij,ij->j", a, b) / len(x) for a, b in products))


def _standardised(values: np.ndarray) -> np.ndarray:
    return np.asarray((values - values.mean()) / max(values.std(), np.finfo(float).tiny))


def _correlation(covariance: np.ndarray, x_variance: np.ndarray, y_variance: np.ndarray) -> np.ndarray:
    """Return correlations from moments of quantities of size about 1; NaN where one of the two hardly varies."""
    product = x_variance * y_variance
    varying = np.minimum(x_variance, y_variance) > 1e-6
    return np.clip(ratio(covariance, np.sqrt(np.where(varying, product, 0)), np.nan), -1, 1)


METRICS: Mapping[str, Metric] = {
    "mae": Metric("mean absolute error", _error(np.abs), False, hub="mae"),
    "rmse": Metric("root of the mean squared error", _rmse, False),
    "r2": Metric(
        "share of the variance explained; 0 is what the mean of these rows gives", _r2, signed=True, hub="r_squared"
    ),
    "pearson": Metric("linear correlation of answer and truth", _pearson, signed=True, hub="pearsonr"),
    "spearman": Metric("rank correlation of answer and truth", _spearman, signed=True, hub="spearmanr"),
}
