"""One weighted pass over the rows: a score is one weighting, a bootstrap many; answers and evaluation share it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_array

NORMAL = NormalDist()


class Sample:
    """Outcomes under weights (n, b): `weights[i, j]` is how often row i counts in weighting j."""

    def __init__(self, outcomes: Any, weights: np.ndarray) -> None:
        self.outcomes, self.weights = outcomes, weights

    def total(self, values: np.ndarray) -> np.ndarray:
        """Return the weighted sums (b,) of one value a row (n,), or (m, b) of m values a row (n, m)."""
        # einsum rather than @: no threads of BLAS, so the same sums on every machine, and faster for such flat shapes
        form = "i,ij->j" if values.ndim == 1 else "im,ij->mj"
        return np.einsum(form, values.astype(self.weights.dtype), self.weights).astype(np.float64)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Return the weighted means (b,) of one value a row."""
        return self.total(values) / self.rows

    def sums(self, table: csr_array) -> np.ndarray:
        """Return the weighted row sums (m, b) of a sparse (m, n) table."""
        return np.asarray(table @ self.weights, np.float64)

    @cached_property
    def rows(self) -> np.ndarray:
        """The rows (b,) of each weighting."""
        return self.weights.sum(axis=0, dtype=np.float64)


Statistic = Callable[[Any], np.ndarray]  # a Sample -> one value a weighting (b,); NaN where it is undefined

Witnesses = Callable[[Statistic, float], float]  # a share, the rows that it is of -> how many independent ones


@dataclass(frozen=True)
class Metric:
    """A named score: what it is, and how it is computed from weighted outcomes.

    `perfect` is the value of faultless answers, for scores between 0 and `scale`. `is_share` tells that it is a share
    of rows, whose interval is Wilson's where rows are independent. `closed` gives the interval of what is made of
    shares of some of the rows: of the outcomes under one weighting, at a confidence, told how many witnesses each has.
    `counted` tells which rows (n,) it is of, where that is not all. `recentred`: resampling adds noise that this
    metric counts as error, or takes away what it counts (see evaluation.intervals). `by_factor`: two values are
    compared by how many times one is the other. `bounded`: whether `scale` is the most that it can be.
    """

    about: str
    value: Statistic
    greater_is_better: bool = True
    perfect: float | None = None
    is_share: bool = False
    closed: Callable[[Any, float, Witnesses], tuple[float, float]] | None = None
    counted: Callable[[Any], np.ndarray] | None = None
    recentred: bool = False
    by_factor: bool = False
    scale: float = 1.0
    signed: bool = False  # whether it can be below 0
    bounded: bool = True
    hub: str | None = None  # id at huggingface.co/metrics, where it has one that measures the same
    hub_type: str | None = None  # what a model's metadata call it, where that id names several figures together

    @property
    def in_points(self) -> bool:
        """Whether differences are told in points, hundredths of the scale: of metrics that have a bound."""
        return self.perfect is not None or self.recentred


@dataclass(frozen=True)
class ByClass:
    """Scores of each class: their names, what they are of (m, b), the main one (with an interval), the support."""

    names: tuple[str, ...]
    values: dict[str, Statistic]
    main: str
    support: Statistic
    perfect: float = 1.0


def ratio(part: np.ndarray, whole: np.ndarray, otherwise: float = 0.0) -> np.ndarray:
    """Return part / whole, and `otherwise` where there is nothing to divide by."""
    out = np.full(np.shape(part), otherwise, np.float64)
    return np.divide(part, whole, out=out, where=whole > 0)


def wilson(value: float, n: float, confidence: float) -> tuple[float, float]:
    """Return Wilson's score interval for a share `value` of n rows (Wilson 1927, Brown, Cai and DasGupta 2001)."""
    z = NORMAL.inv_cdf((1 + confidence) / 2)
    centre = (value + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(value * (1 - value) / n + z**2 / (4 * n**2))
    return float(max(centre - half, 0)), float(min(centre + half, 1))
