"""Scores of decisions among classes, for many weightings of the rows at once: what three kinds of label share."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hftransfer.weighting import Metric, Sample, Statistic, ratio

if TYPE_CHECKING:
    from scipy.sparse import csr_array

BINS = 15  # as Guo et al. 2017
TINY = 1e-7  # a probability of 0 costs this much in log loss: scores are stored as float32


class Totals(NamedTuple):
    """True positives, predictions and true members of each class, (k, b) each."""

    true_positives: np.ndarray
    predicted: np.ndarray
    actual: np.ndarray


class Counts(NamedTuple):
    """The same by row: sparse (k, n) tables."""

    true_positives: csr_array
    predicted: csr_array
    actual: csr_array


class Decisions(NamedTuple):
    """Confidence, right or not (1 or 0) and row of every decision (Guo et al. 2017)."""

    confidence: np.ndarray
    right: np.ndarray
    row: np.ndarray


class Outcomes:
    """What each row contributes to each metric; a kind says what its hits, classes and decisions are."""

    n: int
    outputs: int  # classes

    @property
    def hits(self) -> tuple[np.ndarray, np.ndarray]:
        """Right answers and answers of each row."""
        raise NotImplementedError

    @property
    def counts(self) -> Counts:
        """The counts of each class."""
        raise NotImplementedError

    @property
    def decisions(self) -> Decisions:
        """Every decision."""
        raise NotImplementedError

    @cached_property
    def gaps(self) -> csr_array:
        """Right minus confidence, summed by bin of confidence and row: (BINS, n)."""
        confidence, right, rows = self.decisions
        return table(bin_of(confidence), rows, right - confidence, shape=(BINS, self.n))

    @cached_property
    def of_row(self) -> np.ndarray:
        """Decisions of each row (n,)."""
        return np.bincount(self.decisions.row, minlength=self.n).astype(np.float64)


class ClassSample(Sample):
    """Outcomes of decisions under weights; the totals of the classes are worked out once for all metrics."""

    @cached_property
    def classes(self) -> Totals:
        """The totals of each class."""
        return self.totals(self.outcomes.counts)

    def totals(self, counts: Counts) -> Totals:
        """Return weighted totals."""
        return Totals(*(self.sums(part) for part in counts))


def table(
    classes: np.ndarray, rows: np.ndarray, values: np.ndarray | None = None, *, shape: tuple[int, int]
) -> csr_array:
    """Return a sparse (m, n) table of counts, or of values."""
    from scipy.sparse import csr_array

    # float32 sums of counts are exact below 2**24 and halve the memory of a bootstrap
    values = np.ones(len(rows)) if values is None else values
    return csr_array((np.asarray(values, np.float32), (classes, rows)), shape=shape)


def counts_of(truth: np.ndarray, predicted: np.ndarray, rows: np.ndarray, shape: tuple[int, int]) -> Counts:
    """Return counts of decisions of one class each."""
    right = truth == predicted
    return Counts(
        table(truth[right], rows[right], shape=shape),
        table(predicted, rows, shape=shape),
        table(truth, rows, shape=shape),
    )


def bin_of(confidence: np.ndarray) -> np.ndarray:
    """Return the equal-width bin (0 to BINS - 1) of each confidence; a bin holds its upper edge."""
    return np.clip(np.ceil(np.asarray(confidence, np.float64) * BINS).astype(int) - 1, 0, BINS - 1)


def reliability(outcomes: Outcomes) -> list[dict[str, Any]]:
    """Return, for each bin that has decisions: low, high, n, confidence and accuracy."""
    confidences, right, _ = outcomes.decisions
    bins = bin_of(confidences)
    curve = []
    for i in np.unique(bins):
        inside = bins == i
        edges = {"low": float(i / BINS), "high": float((i + 1) / BINS), "n": int(inside.sum())}
        shares = {"confidence": float(confidences[inside].mean()), "accuracy": float(right[inside].mean())}
        curve.append({**edges, **shares})
    return curve


class Ranking:
    """Positives and negatives of one label in the order of their scores.

    Rows between which no weighting can tell are summed first, by sparse tables: a good model has few such steps.
    """

    def __init__(self, positive: np.ndarray, scores: np.ndarray) -> None:
        self.positive, self.scores = np.asarray(positive, bool), np.asarray(scores)

    @cached_property
    def upwards(self) -> tuple[csr_array, csr_array, np.ndarray]:
        """Positives and negatives (steps, n) from the lowest score up, and which steps (steps,) are ties of both.

        A step is one score that both have, or a run of negatives' scores and the run of positives' above it.
        """
        _, level = np.unique(self.scores, return_inverse=True)
        has = np.zeros((2, int(level.max()) + 1), bool)
        has[self.positive.astype(np.intp), level] = True
        tied, below = has[0] & has[1], has[0]
        begins = tied.copy()
        begins[1:] |= tied[:-1] | (below[1:] & ~below[:-1])
        begins[0] = True
        steps = np.cumsum(begins) - 1
        return *self._parted(steps[level], int(steps[-1]) + 1), tied[begins]

    @cached_property
    def downwards(self) -> tuple[csr_array, csr_array]:
        """Positives and negatives (steps, n) from the highest score down; a step ends with a score of positives."""
        known = np.unique(-self.scores[self.positive])
        return self._parted(np.searchsorted(known, -self.scores, "left"), len(known) + 1)

    def _parted(self, step: np.ndarray, count: int) -> tuple[csr_array, csr_array]:
        rows = np.flatnonzero(self.positive), np.flatnonzero(~self.positive)
        shape = (count, len(step))
        return table(step[rows[0]], rows[0], shape=shape), table(step[rows[1]], rows[1], shape=shape)

    def roc_auc(self, weights: np.ndarray) -> np.ndarray:
        """Return the weighted share of pairs in the right order, ties counting half; NaN with one class."""
        above, below, tied = self.upwards
        positives, negatives = above @ weights, below @ weights
        under = np.cumsum(negatives, axis=0)
        every = under[-1].astype(np.float64)
        under[tied] -= negatives[tied] / 2
        won = np.einsum("ij,ij->j", positives, under)
        return ratio(won, positives.sum(axis=0, dtype=np.float64) * every, np.nan)

    def average_precision(self, weights: np.ndarray) -> np.ndarray:
        """Return the weighted mean of the precision at each positive's score; NaN without positives."""
        positives, negatives = (part @ weights for part in self.downwards)
        found = np.cumsum(positives, axis=0)
        precision = ratio(found, found + np.cumsum(negatives, axis=0))
        return ratio(np.einsum("ij,ij->j", positives, precision), found[-1], np.nan)


def running(weights: np.ndarray) -> np.ndarray:
    """Return cumulative sums down the rows, behind a row of zeros."""
    sums = np.zeros((len(weights) + 1, weights.shape[1]), weights.dtype)
    np.cumsum(weights, axis=0, out=sums[1:])
    return sums


# --- the statistics ---


def rate(quality: str, totals: Totals, otherwise: float = 0.0) -> np.ndarray:
    """Return precision, recall or F1 of each class (k, b); `otherwise` where nothing is there to divide by."""
    right, predicted, actual = totals
    part, whole = {
        "precision": (right, predicted),
        "recall": (right, actual),
        "f1": (2 * right, predicted + actual),
    }[quality]
    return ratio(part, whole, otherwise)


def averaged(quality: str, average: str, totals: Totals) -> np.ndarray:
    """Return precision, recall or F1 (b,) as scikit-learn averages them.

    The macro average is over the classes that occur in the truth or among the answers.
    """
    right, predicted, actual = totals
    if average == "micro":
        right, predicted, actual = (counts.sum(axis=0, keepdims=True) for counts in totals)
    weight = actual if average == "weighted" else predicted + actual > 0
    values = rate(quality, Totals(right, predicted, actual))
    return ratio((values * weight).sum(axis=0), weight.sum(axis=0), np.nan)


def _of_classes(quality: str, average: str) -> Statistic:
    return lambda sample: averaged(quality, average, sample.classes)


def accuracy(sample: ClassSample) -> np.ndarray:
    """Return the share of right answers."""
    right, answers = sample.outcomes.hits
    return ratio(sample.total(right), sample.total(answers), np.nan)


def mean_ranking(measure: Callable[[Ranking, np.ndarray], np.ndarray]) -> Statistic:
    """Return the mean of a measure over the labels for which it is defined."""

    def compute(sample: ClassSample) -> np.ndarray:
        values = np.stack([measure(ranking, sample.weights) for ranking in sample.outcomes.rankings])
        defined = ~np.isnan(values)
        return ratio(np.where(defined, values, 0).sum(axis=0), defined.sum(axis=0), np.nan)

    return compute


def calibration_error(sample: ClassSample) -> np.ndarray:
    """Return the expected calibration error over BINS bins."""
    return ratio(np.abs(sample.sums(sample.outcomes.gaps)).sum(axis=0), sample.total(sample.outcomes.of_row))


QUALITIES = {"precision": "precision", "recall": "recall", "f1": "F1"}
AVERAGES = {
    "macro": "{}, the plain mean over the classes",
    "micro": "{} of all decisions together",
    "weighted": "{}, the mean over the classes weighted by their rows",
}
ACCURACY = Metric(
    "share of right answers: rows, rows with every label right (multi-label), or words (tags)",
    accuracy,
    perfect=1.0,
    hub="accuracy",
)
CALIBRATION = {
    "calibration_error": Metric(
        f"expected calibration error in {BINS} bins of equal width (Naeini et al. 2015, Guo et al. 2017)",
        calibration_error,
        False,
        recentred=True,
    )
}
ROC_AUC = Metric(
    "area under the ROC curve: of the last label when there are two, else the mean of each against the rest",
    mean_ranking(Ranking.roc_auc),
    perfect=1.0,
    hub="roc_auc",
)
AVERAGE_PRECISION = Metric(
    "area under the precision-recall curve: of the positive class when there are two, else the mean over the labels",
    mean_ranking(Ranking.average_precision),
    perfect=1.0,
)


def by_average(share: tuple[str, ...] = ()) -> dict[str, Metric]:
    """Return precision, recall and F1 by how classes are averaged; those averages in `share` are shares of rows."""
    return {
        f"{quality}_{average}": Metric(
            about.format(name), _of_classes(quality, average), perfect=1.0, is_share=average in share, hub=quality
        )
        for quality, name in QUALITIES.items()
        for average, about in AVERAGES.items()
    }
