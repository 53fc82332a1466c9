"""Metrics as `evaluate` knows them: ours as classes that need no network, and those of the Hub by name."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, ClassVar

import datasets
import evaluate
import numpy as np

from hftransfer.errors import UserError, nearest
from hftransfer.evaluation.metrics import METRICS, Outcomes, Weighted, applicable, check_names, default_metrics
from hftransfer.evaluation.predictions import Predictions
from hftransfer.tasks.base import LabelKind, Labels

CITATION = "Weighted outcomes and bootstrap: hftransfer, https://github.com/hftransfer/hftransfer"


def compute(predictions: Predictions, names: Sequence[str], weights: np.ndarray) -> dict[str, np.ndarray]:
    """Return each metric of ours, one value (b,) a weighting of the rows; NaN where it is undefined."""
    sample = Weighted(Outcomes(predictions), weights)
    return {name: METRICS[name].compute(sample) for name in names}


class _OurMetric(evaluate.Metric):
    """Computes from scores (probabilities in the order of `names`) all that fits, or the `metrics` named."""

    kind: ClassVar[LabelKind]
    columns: ClassVar[dict[str, Any]]

    def _info(self) -> evaluate.MetricInfo:
        fitting = [f"{name}: {metric.about}" for name, metric in METRICS.items() if self.kind in metric.kinds]
        return evaluate.MetricInfo(
            description="\n".join(fitting),
            citation=CITATION,
            inputs_description=str(_OurMetric.__doc__),
            features=datasets.Features(self.columns),
        )

    def _compute(
        self, *, predictions: Any, references: Any, names: Sequence[str] = (), metrics: Sequence[str] | None = None
    ) -> dict[str, float]:
        labels = Labels(self.kind, tuple(names))
        wanted = default_metrics(labels) if metrics is None else list(metrics)
        check_names(wanted, labels)
        rows = [str(i) for i in range(len(references))]
        if self.kind == "tags":  # the width is said because a sentence may have no words
            scores: Any = [np.reshape(words, (-1, len(labels.names))) for words in predictions]
            truth: Any = [np.asarray(words, np.int64) for words in references]
        else:
            scores, truth = np.array(predictions), np.array(references)
        values = compute(Predictions(labels, rows, truth, scores), wanted, np.ones((len(rows), 1)))
        return {name: float(value[0]) for name, value in values.items() if np.isfinite(value[0])}


_NUMBERS = datasets.Sequence(datasets.Value("float32"))
_INDICES = datasets.Sequence(datasets.Value("int64"))


class SingleLabelMetrics(_OurMetric):
    """One class a row: predictions (n, k) probabilities, references (n,) class indices."""

    kind = "single_label"
    columns: ClassVar = {"predictions": _NUMBERS, "references": datasets.Value("int64")}


class MultiLabelMetrics(_OurMetric):
    """Any number of labels a row: predictions (n, k) probabilities, references (n, k) of 0 and 1."""

    kind = "multi_label"
    columns: ClassVar = {"predictions": _NUMBERS, "references": _INDICES}


class RegressionMetrics(_OurMetric):
    """A number a row: predictions and references (n,) floats."""

    kind = "regression"
    columns: ClassVar = {"predictions": datasets.Value("float64"), "references": datasets.Value("float64")}


class TagMetrics(_OurMetric):
    """A tag a word: predictions a (words, k) table of probabilities a sentence, references (words,) tag indices."""

    kind = "tags"
    columns: ClassVar = {"predictions": datasets.Sequence(_NUMBERS), "references": _INDICES}


MODULES: dict[LabelKind, type[_OurMetric]] = {
    module.kind: module for module in (SingleLabelMetrics, MultiLabelMetrics, RegressionMetrics, TagMetrics)
}


def load_from_hub(name: str, labels: Labels) -> evaluate.EvaluationModule:
    """Load a metric of the Hub by name; UserError when it is not there, cannot be reached, or lacks a package."""
    try:
        return evaluate.load(name, keep_in_memory=True)
    except OSError as error:  # evaluate says "doesn't exist" of a Hub that it cannot reach, too
        match = nearest(name.rpartition("/")[2], applicable(labels))
        ours = f"take {match!r}, which needs no network" if match else "take one of ours"
        raise UserError(
            f"the metric {name!r} must load from the Hub",
            "there is none of that name, or no network",
            f"Check the name and the network, or {ours}.",
        ) from error
    except ImportError as error:
        raise UserError(
            f"the metric {name!r} needs another package", " ".join(str(error).split()).rstrip("."), "Install it."
        ) from error


class HubMetric:
    """A metric of the Hub, loaded by name; its code runs in this process, as with `evaluate.load`."""

    def __init__(self, name: str, predictions: Predictions) -> None:
        self.name, self.labels = name, predictions.labels
        self.module = load_from_hub(name, self.labels)
        features = self.module.features
        self.as_names = "string" in str(features[0] if isinstance(features, list) else features)
        self.answers, self.truth = self._column(predictions.predicted()), self._column(predictions.truth)

    def compute(self, rows: Sequence[int]) -> dict[str, float]:
        """Return its scores on these rows, named as the metric, or `metric.score` where it gives several."""
        try:
            result = self.module.compute(
                predictions=[self.answers[row] for row in rows], references=[self.truth[row] for row in rows]
            )
        except (ValueError, TypeError) as error:
            raise UserError(
                f"the metric {self.name!r} must fit {self.labels.kind} answers",
                f"it says: {' '.join(str(error).split())}".rstrip("."),
                "Remove it from evaluation.metrics.",
            ) from error
        scores = {key: float(value) for key, value in result.items() if isinstance(value, Real)}
        return {self.name if len(scores) == 1 else f"{self.name}.{key}": value for key, value in scores.items()}

    def _column(self, values: Any) -> list[Any]:
        plain = [np.asarray(value).tolist() for value in values]
        if not self.as_names or self.labels.kind in ("multi_label", "regression"):
            return plain
        names = self.labels.names
        return [[names[i] for i in row] if isinstance(row, list) else names[row] for row in plain]
