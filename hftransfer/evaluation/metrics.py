"""Every metric of ours, for many weightings of the rows at once: a score is one weighting, a bootstrap many."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hftransfer.errors import UserError, unknown
from hftransfer.evaluation.entities import Entities, entity_types, find_entities, has_entities
from hftransfer.evaluation.predictions import Predictions
from hftransfer.tasks.base import LabelKind, Labels

if TYPE_CHECKING:
    from scipy.sparse import csr_array

BINS = 15  # as Guo et al. 2017
TINY = 1e-7  # a probability of 0 costs this much in log loss: scores are stored as float32


class Weighted:
    """Outcomes under weights (n, b): `weights[i, j]` is how often row i counts in weighting j."""

    def __init__(self, outcomes: Outcomes, weights: np.ndarray) -> None:
        self.outcomes, self.weights = outcomes, weights

    def total(self, values: np.ndarray) -> np.ndarray:
        """Return the weighted sums (b,) of one value a row."""
        # einsum rather than @: no threads of BLAS, so the same sums on every machine, and faster for such flat shapes
        return np.einsum("i,ij->j", values.astype(self.weights.dtype), self.weights).astype(np.float64)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Return the weighted means (b,) of one value a row."""
        return self.total(values) / self.rows

    @cached_property
    def rows(self) -> np.ndarray:
        """The rows (b,) of each weighting."""
        return self.weights.sum(axis=0, dtype=np.float64)

    @cached_property
    def classes(self) -> Totals:
        """The totals of each class."""
        return self._totals(self.outcomes.classes)

    @cached_property
    def entities(self) -> Totals:
        """The totals of each entity type."""
        return self._totals(self.outcomes.entities)

    def sums(self, table: csr_array) -> np.ndarray:
        """Return the weighted row sums (m, b) of a sparse (m, n) table."""
        return np.asarray(table @ self.weights, np.float64)

    def _totals(self, counts: Counts) -> Totals:
        return Totals(*(self.sums(table) for table in counts))


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


Statistic = Callable[[Weighted], np.ndarray]


@dataclass(frozen=True)
class Metric:
    """A named score: what it is, the kinds of labels it fits, and how it is computed from weighted outcomes."""

    about: str
    kinds: tuple[LabelKind, ...]
    compute: Statistic
    greater_is_better: bool = True
    perfect: float | None = None  # the value of faultless answers, for scores between 0 and 1
    recentred: bool = False  # resampling adds noise that this metric counts as error: see intervals.interval


def check_names(names: Sequence[str], labels: Labels | None = None) -> None:
    """Raise UserError for the first name that is neither a metric of ours that fits these labels nor one of the Hub.

    A name with a slash is taken for a metric of some user on the Hub, which only loading it can tell.
    """
    choices = list(METRICS) if labels is None else applicable(labels)
    for name in names:
        if name in METRICS and name not in choices:
            wanted = f"a metric that fits the labels ({', '.join(METRICS[name].kinds)} for {name})"
            raise UserError(
                wanted, f"these are {labels.kind if labels else 'unknown'}", f"Choices: {', '.join(choices)}."
            )
        if name not in METRICS and not from_hub(name):
            raise unknown("metric", name, choices)


def from_hub(name: str) -> bool:
    """Tell whether a name that is none of ours is loaded from the Hub: evaluate's own, or `user/metric`."""
    return name not in METRICS and (name in HUB_METRICS or HUB_NAME.fullmatch(name) is not None)


def applicable(labels: Labels) -> list[str]:
    """Return the names of our metrics that fit these labels."""
    entities = labels.kind == "tags" and has_entities(labels.names)
    return [
        name
        for name, metric in METRICS.items()
        if labels.kind in metric.kinds and (entities or not name.endswith("_entity"))
    ]


def default_metrics(labels: Labels) -> list[str]:
    """Return the names of the metrics that are always measured for these labels."""
    fitting = applicable(labels)
    return [name for name in DEFAULTS[labels.kind] if name in fitting]


def main_metric(labels: Labels) -> str:
    """Return the metric by which the best checkpoint is chosen unless the config names one."""
    if labels.kind == "tags":
        return "f1_entity" if has_entities(labels.names) else "accuracy"
    return {"single_label": "accuracy", "multi_label": "f1_micro", "regression": "rmse"}[labels.kind]


def main_metric_of(measured: Collection[str]) -> str:
    """Return the main metric among the names that were measured, for a reader who has result.json but no labels."""
    for of_one_kind, main in (("rmse", "rmse"), ("f1_entity", "f1_entity"), ("hamming_loss", "f1_micro")):
        if of_one_kind in measured:
            return main
    return "accuracy"


def greater_is_better(name: str) -> bool:
    """Tell whether a higher value of one of our metrics, or of the loss, is the better one."""
    if name == "loss":
        return False
    if name not in METRICS:
        raise unknown("metric to choose by", name, METRICS)
    return METRICS[name].greater_is_better


class Outcomes:
    """What each row contributes to each metric, worked out once per set of predictions."""

    def __init__(self, predictions: Predictions) -> None:
        self.labels, self.kind = predictions.labels, predictions.labels.kind
        self.truth, self.scores, self.predicted = predictions.truth, predictions.scores, predictions.predicted()
        self.n = len(predictions)

    @cached_property
    def hits(self) -> tuple[np.ndarray, np.ndarray]:
        """Right answers and answers of each row: words for tags; a multi-label row is right when all of it is."""
        if self.kind == "tags":
            right = [np.sum(truth == answer) for truth, answer in zip(self.truth, self.predicted, strict=True)]
            return np.array(right), np.array([len(truth) for truth in self.truth])
        right = self.truth == self.predicted
        return (right.all(axis=1) if self.kind == "multi_label" else right), np.ones(self.n)

    @cached_property
    def classes(self) -> Counts:
        if self.kind == "multi_label":
            tables = [self.truth * self.predicted, self.predicted, self.truth]
            return Counts(*(_table(*np.nonzero(np.transpose(t)), shape=(self.outputs, self.n)) for t in tables))
        if self.kind == "tags":
            rows = np.repeat(np.arange(self.n), self.hits[1])
            truth, predicted = np.concatenate(self.truth), np.concatenate(self.predicted)
        else:
            rows, truth, predicted = np.arange(self.n), self.truth, self.predicted
        right, shape = truth == predicted, (self.outputs, self.n)
        return Counts(
            _table(truth[right], rows[right], shape=shape),
            _table(predicted, rows, shape=shape),
            _table(truth, rows, shape=shape),
        )

    @cached_property
    def entities(self) -> Counts:
        names = self.labels.names
        actual, predicted = find_entities(self.truth, names), find_entities(self.predicted, names)
        types, words = len(entity_types(names)), int(self.hits[1].sum()) + self.n
        right = np.isin(_key(actual, words, types), _key(predicted, words, types))
        shape = (types, self.n)
        return Counts(
            _table(actual.type[right], actual.sentence[right], shape=shape),
            _table(predicted.type, predicted.sentence, shape=shape),
            _table(actual.type, actual.sentence, shape=shape),
        )

    @cached_property
    def gaps(self) -> csr_array:
        """Right minus confidence, summed by bin of confidence and row: (BINS, n)."""
        confidence, right, rows = decisions(self)
        return _table(bin_of(confidence), rows, right - confidence, shape=(BINS, self.n))

    @cached_property
    def rankings(self) -> list[Ranking]:
        """One ranking a label; the last label alone when there are two."""
        if self.kind == "multi_label":
            return [Ranking(self.truth[:, j] == 1, self.scores[:, j]) for j in range(self.outputs)]
        positives = [1] if self.outputs == 2 else range(self.outputs)
        return [Ranking(self.truth == j, self.scores[:, j]) for j in positives]

    @cached_property
    def orders(self) -> tuple[Order, Order]:
        """The rows in the order of the truth, and of the answers."""
        return Order(self.truth), Order(self.scores)

    @property
    def outputs(self) -> int:
        return self.labels.outputs


def decisions(outcomes: Outcomes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return confidence, right or not, and row of every decision.

    A decision is the top answer of a row or word (Guo et al. 2017), or each label's probability in multi-label.
    """
    if outcomes.kind == "multi_label":
        return np.ravel(outcomes.scores), np.ravel(outcomes.truth), np.repeat(np.arange(outcomes.n), outcomes.outputs)
    if outcomes.kind == "tags":
        confidence = np.concatenate([words.max(axis=1) for words in outcomes.scores])
        right = np.concatenate(outcomes.truth) == np.concatenate(outcomes.predicted)
        return confidence, right, np.repeat(np.arange(outcomes.n), outcomes.hits[1])
    return np.max(outcomes.scores, axis=1), outcomes.truth == outcomes.predicted, np.arange(outcomes.n)


def bin_of(confidence: np.ndarray) -> np.ndarray:
    """Return the equal-width bin (0 to BINS - 1) of each confidence; a bin holds its upper edge."""
    return np.clip(np.ceil(np.asarray(confidence, np.float64) * BINS).astype(int) - 1, 0, BINS - 1)


class Ranking:
    """Positives and negatives of one label in the order of their scores."""

    def __init__(self, positive: np.ndarray, scores: np.ndarray) -> None:
        order = np.argsort(scores, kind="stable")
        chosen = positive[order]
        self.positives, self.negatives = order[chosen], order[~chosen]
        above, below = scores[self.positives], scores[self.negatives]
        self.lower = np.searchsorted(below, above, "left")  # negatives under each positive, without its ties
        self.upper = np.searchsorted(below, above, "right")
        self.own = np.searchsorted(above, above, "left")  # positives under each positive

    def roc_auc(self, weights: np.ndarray) -> np.ndarray:
        """Return the weighted share of pairs in the right order, ties counting half; NaN with one class."""
        positive, negatives = weights[self.positives], _running(weights[self.negatives])
        won = np.einsum("ij,ij->j", positive, (negatives[self.lower] + negatives[self.upper]) / 2)
        return _ratio(won, positive.sum(axis=0, dtype=np.float64) * negatives[-1], np.nan)

    def average_precision(self, weights: np.ndarray) -> np.ndarray:
        """Return the weighted mean of the precision at each positive's score; NaN without positives."""
        positive, negatives = weights[self.positives], _running(weights[self.negatives])
        positives = _running(positive)
        found = positives[-1] - positives[self.own]
        precision = _ratio(found, found + negatives[-1] - negatives[self.lower])
        return _ratio(np.einsum("ij,ij->j", positive, precision), positives[-1], np.nan)


class Order:
    """Rows in the order of one value."""

    def __init__(self, values: np.ndarray) -> None:
        self.order = np.argsort(values, kind="stable")
        ordered = values[self.order]
        self.first = np.searchsorted(ordered, values, "left")
        self.behind = np.searchsorted(ordered, values, "right")

    def centred_ranks(self, weights: np.ndarray) -> np.ndarray:
        """Return ranks (n, b) from -1/2 to 1/2 with mean 0, tied rows sharing the middle of their places."""
        places = _running(weights[self.order])
        middle = places[self.first]
        middle += places[self.behind]
        return middle / (2 * places[-1]) - 0.5


def _table(
    classes: np.ndarray, rows: np.ndarray, values: np.ndarray | None = None, *, shape: tuple[int, int]
) -> csr_array:
    from scipy.sparse import csr_array

    # float32 sums of counts are exact below 2**24 and halve the memory of a bootstrap
    values = np.ones(len(rows)) if values is None else values
    return csr_array((np.asarray(values, np.float32), (classes, rows)), shape=shape)


def _key(spans: Entities, words: int, types: int) -> np.ndarray:
    """Return one number a span, equal for equal spans of equal type."""
    return (spans.first * words + spans.last) * types + spans.type


def _running(weights: np.ndarray) -> np.ndarray:
    """Return cumulative sums down the rows, behind a row of zeros."""
    sums = np.zeros((len(weights) + 1, weights.shape[1]), weights.dtype)
    np.cumsum(weights, axis=0, out=sums[1:])
    return sums


def _ratio(part: np.ndarray, whole: np.ndarray, otherwise: float = 0.0) -> np.ndarray:
    out = np.full(np.shape(part), otherwise, np.float64)
    return np.divide(part, whole, out=out, where=whole > 0)


# --- the statistics -------------------------------------------------------------------------------------------------


def _counted(quality: str, average: str) -> Statistic:
    """Build precision, recall or F1 as scikit-learn averages them.

    The macro average is over the classes that occur in the truth or among the answers; entities are counted micro.
    """

    def compute(sample: Weighted) -> np.ndarray:
        right, predicted, actual = sample.entities if average == "entity" else sample.classes
        if average in ("micro", "entity"):
            right, predicted, actual = (counts.sum(axis=0, keepdims=True) for counts in (right, predicted, actual))
        weight = actual if average == "weighted" else predicted + actual > 0
        values = rate(quality, Totals(right, predicted, actual))
        return _ratio((values * weight).sum(axis=0), weight.sum(axis=0), np.nan)

    return compute


def rate(quality: str, totals: Totals, otherwise: float = 0.0) -> np.ndarray:
    """Return precision, recall or F1 of each class (k, b); `otherwise` where nothing is there to divide by."""
    right, predicted, actual = totals
    part, whole = {
        "precision": (right, predicted),
        "recall": (right, actual),
        "f1": (2 * right, predicted + actual),
    }[quality]
    return _ratio(part, whole, otherwise)


def _accuracy(sample: Weighted) -> np.ndarray:
    right, answers = sample.outcomes.hits
    return _ratio(sample.total(right), sample.total(answers), np.nan)


def _mcc(sample: Weighted) -> np.ndarray:
    right, predicted, actual = sample.classes
    n, correct = actual.sum(axis=0), right.sum(axis=0)
    spread = (n**2 - (predicted**2).sum(axis=0)) * (n**2 - (actual**2).sum(axis=0))
    return _ratio(correct * n - (predicted * actual).sum(axis=0), np.sqrt(np.maximum(spread, 0)))


def _mean_ranking(measure: Callable[[Ranking, np.ndarray], np.ndarray]) -> Statistic:
    def compute(sample: Weighted) -> np.ndarray:
        values = np.stack([measure(ranking, sample.weights) for ranking in sample.outcomes.rankings])
        defined = ~np.isnan(values)
        return _ratio(np.where(defined, values, 0).sum(axis=0), defined.sum(axis=0), np.nan)

    return compute


def _log_loss(sample: Weighted) -> np.ndarray:
    scores, truth = sample.outcomes.scores, sample.outcomes.truth
    return sample.mean(-np.log(np.clip(scores[np.arange(len(truth)), truth], TINY, 1.0, dtype=np.float64)))


def _brier(sample: Weighted) -> np.ndarray:
    scores, truth = sample.outcomes.scores, sample.outcomes.truth
    missed = np.asarray(scores, np.float64) - (np.arange(scores.shape[1]) == truth[:, None])
    return sample.mean((missed**2).sum(axis=1))


def _calibration_error(sample: Weighted) -> np.ndarray:
    per_row = sample.outcomes.outputs if sample.outcomes.kind == "multi_label" else sample.outcomes.hits[1]
    return _ratio(
        np.abs(sample.sums(sample.outcomes.gaps)).sum(axis=0), sample.total(per_row * np.ones(sample.outcomes.n))
    )


def _hamming_loss(sample: Weighted) -> np.ndarray:
    return sample.mean((sample.outcomes.truth != sample.outcomes.predicted).mean(axis=1))


def _error(loss: Callable[[np.ndarray], np.ndarray]) -> Statistic:
    return lambda sample: sample.mean(loss(sample.outcomes.scores - sample.outcomes.truth))


def _rmse(sample: Weighted) -> np.ndarray:
    return np.sqrt(_error(np.square)(sample))


def _r2(sample: Weighted) -> np.ndarray:
    truth = sample.outcomes.truth - np.mean(sample.outcomes.truth)
    spread = sample.mean(truth**2) - sample.mean(truth) ** 2
    return 1 - _ratio(_error(np.square)(sample), np.where(spread > TINY * np.var(truth), spread, 0), np.nan)


def _pearson(sample: Weighted) -> np.ndarray:
    x, y = (_standardised(values) for values in (sample.outcomes.truth, sample.outcomes.scores))
    x_mean, y_mean = sample.mean(x), sample.mean(y)
    covariance = sample.mean(x * y) - x_mean * y_mean
    return _correlation(covariance, sample.mean(x**2) - x_mean**2, sample.mean(y**2) - y_mean**2)


def _spearman(sample: Weighted) -> np.ndarray:
    x, y = (order.centred_ranks(sample.weights) for order in sample.outcomes.orders)
    x_weighted = x * sample.weights
    products = ((x_weighted, y), (x_weighted, x), (y * sample.weights, y))
    return _correlation(*(np.einsum("ij,ij->j", a, b) / len(x) for a, b in products))


def _standardised(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / max(values.std(), np.finfo(float).tiny)


def _correlation(covariance: np.ndarray, x_variance: np.ndarray, y_variance: np.ndarray) -> np.ndarray:
    """Return correlations from moments of quantities of size about 1; NaN where one of the two hardly varies."""
    product = x_variance * y_variance
    varying = np.minimum(x_variance, y_variance) > 1e-6
    return np.clip(_ratio(covariance, np.sqrt(np.where(varying, product, 0)), np.nan), -1, 1)


SINGLE: tuple[LabelKind, ...] = ("single_label",)
MULTI: tuple[LabelKind, ...] = ("multi_label",)
VALUES: tuple[LabelKind, ...] = ("regression",)
TAGS: tuple[LabelKind, ...] = ("tags",)
CLASSES = SINGLE + MULTI + TAGS

_QUALITIES = {"precision": "precision", "recall": "recall", "f1": "F1"}
_AVERAGES = {
    "macro": (CLASSES, "{}, the plain mean over the classes"),
    "micro": (CLASSES, "{} of all decisions together"),
    "weighted": (CLASSES, "{}, the mean over the classes weighted by their rows"),
    "entity": (TAGS, "{} of whole entities: exact span and type"),
}

METRICS: dict[str, Metric] = {
    "accuracy": Metric(
        "share of right answers: rows, rows with every label right (multi-label), or words (tags)",
        CLASSES,
        _accuracy,
        perfect=1.0,
    ),
    **{
        f"{quality}_{average}": Metric(about.format(name), kinds, _counted(quality, average), perfect=1.0)
        for quality, name in _QUALITIES.items()
        for average, (kinds, about) in _AVERAGES.items()
    },
    "mcc": Metric("Matthews correlation coefficient, -1 to 1", SINGLE, _mcc, perfect=1.0),
    "roc_auc": Metric(
        "area under the ROC curve: of the last label when there are two, else the mean of each against the rest",
        SINGLE + MULTI,
        _mean_ranking(Ranking.roc_auc),
        perfect=1.0,
    ),
    "average_precision": Metric(
        "area under the precision-recall curve, the mean over the labels",
        MULTI,
        _mean_ranking(Ranking.average_precision),
        perfect=1.0,
    ),
    "log_loss": Metric("mean negative log probability of the truth, in nats", SINGLE, _log_loss, False),
    "brier": Metric("mean squared distance of the probabilities from the truth, 0 to 2", SINGLE, _brier, False),
    "calibration_error": Metric(
        f"expected calibration error in {BINS} bins of equal width (Naeini et al. 2015, Guo et al. 2017)",
        CLASSES,
        _calibration_error,
        False,
        recentred=True,
    ),
    "hamming_loss": Metric("share of labels answered wrongly", MULTI, _hamming_loss, False, perfect=0.0),
    "mae": Metric("mean absolute error", VALUES, _error(np.abs), False),
    "rmse": Metric("root of the mean squared error", VALUES, _rmse, False),
    "r2": Metric("share of the variance explained; 0 is what the mean of these rows gives", VALUES, _r2),
    "pearson": Metric("linear correlation of answer and truth", VALUES, _pearson),
    "spearman": Metric("rank correlation of answer and truth", VALUES, _spearman),
}

DEFAULTS: dict[LabelKind, tuple[str, ...]] = {
    "single_label": (
        *("accuracy", "precision_macro", "recall_macro", "f1_macro", "f1_micro", "f1_weighted"),
        *("mcc", "roc_auc", "log_loss", "brier", "calibration_error"),
    ),
    "multi_label": (
        *("f1_micro", "f1_macro", "f1_weighted", "precision_micro", "precision_macro", "recall_micro", "recall_macro"),
        *("accuracy", "hamming_loss", "roc_auc", "average_precision", "calibration_error"),
    ),
    "regression": ("mae", "rmse", "r2", "pearson", "spearman"),
    "tags": ("f1_entity", "precision_entity", "recall_entity", "accuracy", "f1_macro"),
}

# What `evaluate` itself keeps on the Hub and can be computed from answers and truth alone, less what is ours above.
HUB_METRICS = frozenset(
    (
        *("bleu", "brier_score", "cer", "character", "charcut_mt", "chrf", "confusion_matrix"),
        *("exact_match", "google_bleu", "mape", "mase", "mean_iou", "meteor", "nist_mt"),
        *("poseval", "rouge", "sacrebleu", "seqeval", "smape", "ter", "wer"),
    )
)
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")  # no path to a file: only what the Hub serves
