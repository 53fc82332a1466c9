"""single_label: one of several classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from hftransfer.answers import _head, _operating, _scores
from hftransfer.answers._head import EXCLUSIVE, Head, constant
from hftransfer.answers._linear import Classes
from hftransfer.answers._one_value import OneValue
from hftransfer.answers._operating import Point, Yes
from hftransfer.answers._scores import ClassSample, Counts, Decisions, Outcomes, Ranking, by_average
from hftransfer.answers.base import Loss, Rows, Trivial
from hftransfer.views import Plot, Ranked, View
from hftransfer.weighting import Metric, ratio

if TYPE_CHECKING:
    import pyarrow as pa

    from hftransfer.answers.base import Learner
    from hftransfer.config import DataConfig, EvaluationConfig

UNEVEN = 10  # times the rows of the rarest class from which classes are called uneven


@dataclass(frozen=True)
class SingleLabel(OneValue, Head):
    """Truth is (n,) class numbers, outputs are (n, k) probabilities."""

    positive: str | None = None  # the class that is looked for, of two
    why_positive: str = ""
    points: tuple[Point, ...] = ()  # the one of the positive class, where a threshold is asked for
    prevalence: float | None = None  # of the positive class where the model is used, where that is stated
    siblings: tuple[str, ...] = dataclasses.field(default=(), compare=False)  # other kinds that its task offers

    kind = "single_label"
    heeds = frozenset({"label_names"})
    typed = str
    linear: ClassVar[Classes] = Classes()
    problem = "single_label_classification"
    has_points = True

    # --- truth ---

    def formed(
        self, values: pa.Array | None, feature: Any, column: str, config: DataConfig
    ) -> tuple[SingleLabel, list[str]]:
        from hftransfer.answers import _written_truth
        from hftransfer.column_types import STRINGS, is_value

        guesses = []
        if values is not None and is_value(feature, *STRINGS) and config.problem_type is None:
            found = _written_truth.distinct(values)
            _written_truth.refuse_scores(found, column, self.kind, self._numbers)
            _written_truth.refuse_joined(found, column, self.kind)
            guesses = _written_truth.joined(found, column)
        said = f"`{column}` holds whole numbers as decimals; they are read as 0, 1, 2"
        return self, [said] if is_value(feature, "float") else guesses

    def feature(self, encoded: bool = True) -> Any:
        from datasets import Value

        return Value("int64" if encoded else "string")

    def canonical(self, raw: pa.Array, feature: Any, config: DataConfig) -> pa.Array:
        from hftransfer.answers import _truth

        return _truth.names(raw, feature, self._numbers, config.label_names)

    @property
    def _numbers(self) -> str | None:
        """The kind that learns numbers, where the task has it: what may be proposed."""
        return "regression" if "regression" in self.siblings else None

    def learner(self, column: str, features: Mapping[str, Any]) -> Learner:
        from hftransfer.answers._truth import Tally

        return Tally(column, features, self._learnt, classes=True)

    def encode(self, truth: pa.Array) -> pa.Array:
        from hftransfer.answers import _truth

        return _truth.indexes(truth, self.names)

    def strata(self, encoded: pa.Array) -> np.ndarray:
        return np.asarray(encoded.to_numpy())

    def truth(self, encoded: pa.Array) -> np.ndarray:
        return np.asarray(encoded.to_numpy(zero_copy_only=False), np.int64)

    def entries(self, truth: Rows) -> np.ndarray:
        return np.asarray(truth, np.int64)

    # --- model ---

    def claims(self, settings: Any) -> bool:
        several = settings.problem_type == "multi_label_classification"
        number = settings.problem_type == "regression" or (
            settings.problem_type is None and len(settings.id2label) == 1
        )
        return not several and not number

    def loss(self, class_weights: Sequence[float] | None = None, smoothing: float = 0.0) -> Loss:
        return _head.cross_entropy(class_weights, smoothing)

    # --- stored and scored ---

    def columns(self, truth: Rows, outputs: Rows) -> dict[str, pa.Array]:
        import pyarrow as pa

        from hftransfer.answers import _truth

        names = pa.array(self.names, pa.string())
        return {
            "label": names.take(pa.array(truth, pa.int64())),
            "prediction": names.take(pa.array(self.predicted(outputs), pa.int64())),
            "scores": _truth.vectors(outputs),
        }

    def from_columns(self, table: pa.Table) -> tuple[Rows, Rows]:
        from hftransfer.answers import _truth

        label, scores = (table[name].combine_chunks() for name in ("label", "scores"))
        return _truth.codes(label, self.names), _truth.matrix(scores, len(self.names))

    def predicted(self, outputs: Rows) -> np.ndarray:
        scores = np.asarray(outputs)
        if not self.points or self.points[0].threshold is None:
            return np.argmax(scores, axis=1)
        yes = self.names.index(self.points[0].label)  # a threshold is of its own label, whichever is looked for
        return np.where(scores[:, yes] >= self.points[0].threshold, yes, 1 - yes)

    @property
    def looked_for(self) -> int:
        """The number of the positive class, of two."""
        return self.names.index(self.positive) if self.positive is not None else len(self.names) - 1

    def outcomes(self, truth: Rows, outputs: Rows) -> Outcomes:
        predicted = self.predicted(outputs)
        return OfClasses(truth, outputs, len(self.names), predicted, self.looked_for, self.prevalence, self.steps)

    def baseline(self, truth: Rows, rows: Any) -> Trivial:
        return constant("majority class", np.tile(self.frequencies(), (len(truth), 1)))

    def confusions(self, outcomes: Any, headline: str) -> Plot:
        k, pairs = len(self.names), outcomes.truth * len(self.names) + outcomes.predicted
        counts = np.bincount(pairs, minlength=k * k).reshape(k, k)
        return Plot(
            "confusion_matrix", "Confusion matrix of the test rows", "matrix",
            {"headline": f"{headline}, {counts.sum():,} rows", "labels": list(self.names), "rows": "true",
             "columns": "predicted", "counts": counts.tolist()},
        )  # fmt: skip

    # --- labels that are whole numbers one after the other ---

    @cached_property
    def steps(self) -> np.ndarray | None:
        """The classes as numbers, (k,), where they follow one another: stars, grades, or mere codes."""
        from hftransfer.answers import _truth

        return _truth.whole_steps(self.names)

    def guessed(self) -> list[str]:
        found = super().guessed()
        if self.steps is not None:
            found.append(
                f"the labels are the whole numbers {self.names[0]} to {self.names[-1]}, taken as classes: where their "
                "order means something (stars, grades), quadratic_kappa and mae tell how far off answers are, and "
                "data.problem_type=regression learns them as numbers; where they are codes, pass over both"
            )
        return found

    def uneven(self) -> list[str]:
        known = sorted((count, name) for name, count in zip(self.names, self.counts, strict=False) if count)
        if len(known) < 2 or known[-1][0] < UNEVEN * known[0][0]:
            return []
        (least, rare), (most, common) = known[0], known[-1]
        return [
            f"the classes of train are uneven: {common} has {most / least:.0f} times the rows of {rare}; "
            "train.class_weights=balanced weighs them alike, and moves the probabilities with them"
        ]

    # --- an operating point ---

    def asked(self, evaluation: EvaluationConfig, validation: pa.Array) -> tuple[SingleLabel, list[str]]:
        if len(self.names) != 2:
            _operating.refuse(evaluation, f"there are {len(self.names)} classes: {self.described}")
            return self, []
        positive, why = _operating.positive_of(self.names, self.counts, evaluation.positive)
        points = _operating.asked_of(evaluation, [positive])
        stated = evaluation.prevalence
        found = dataclasses.replace(self, positive=positive, why_positive=why, points=points, prevalence=stated)
        truth = found.truth(validation) == found.looked_for
        return found, [doubt for point in points for doubt in _operating.doubts(point, truth)]

    def placed(self, truth: Rows, outputs: Rows) -> SingleLabel:
        yes = self.looked_for
        points = tuple(point.chosen(np.asarray(truth) == yes, np.asarray(outputs)[:, yes]) for point in self.points)
        return dataclasses.replace(self, points=points)

    @property
    def unplaced(self) -> SingleLabel:
        return dataclasses.replace(self, points=())

    def measured_as(self, other: Any) -> SingleLabel:
        if not isinstance(other, SingleLabel) or other.positive not in self.names:
            return self
        return dataclasses.replace(self, positive=other.positive, prevalence=other.prevalence)

    def decisions_of(self, truth: Rows, outputs: Rows, plain: bool = False) -> Iterator[tuple[Point, Yes]]:
        for point in self.points:
            yes, given = self.looked_for, (self.unplaced if plain else self).predicted(outputs)
            yield point, Yes(np.asarray(truth) == yes, given == yes, point.prevalence)

    def shown_threshold(self, point: Point) -> float:
        return _operating.from_threshold(point.threshold or 0.0, self.temperature)

    def plots(self, truth: Rows, outputs: Rows) -> Iterator[Plot]:
        yield from super().plots(truth, outputs)
        for point in self.points:
            yes, shown = self.looked_for, self.calibrate(np.asarray(outputs))
            yield _operating.decision_curve(
                point, np.asarray(truth) == yes, shown[:, yes], self.shown_threshold(point)
            )

    def decided_in(self, scores: str) -> Sequence[str]:
        if not self.points or self.points[0].threshold is None:
            return ()
        yes, no = self.names[self.looked_for], self.names[1 - self.looked_for]
        return [f"answer = {yes!r} if {scores}[{yes!r}] >= {self.points[0].threshold!r} else {no!r}"]

    # --- metrics ---

    @property
    def metrics(self) -> Mapping[str, Metric]:
        unfit = {
            *(() if len(self.names) == 2 else _operating.METRICS),
            *(ORDINAL if self.steps is None else ()),
        }
        return {name: metric for name, metric in self.METRICS.items() if name not in unfit}

    @property
    def default_metrics(self) -> tuple[str, ...]:
        ranked = ("roc_auc", "average_precision") if len(self.names) == 2 else ("roc_auc",)
        usual = (
            *("accuracy", "precision_macro", "recall_macro", "f1_macro", "f1_micro", "f1_weighted"),
            *("mcc", *ranked, "log_loss", "brier", "calibration_error"),
            *(() if self.steps is None else ORDINAL),
        )
        return tuple(dict.fromkeys((*ranked, *_operating.METRICS, *usual))) if self.points else usual

    @property
    def main_metric(self) -> str:
        """The one that a model is judged by: accuracy says little of answers that a threshold was moved for."""
        return "roc_auc" if self.points else "accuracy"

    def badness(self, truth: Any, output: Any) -> float:
        return 0.0 if int(self.predicted(output[None])[0]) == truth else 1.0 - float(output[truth])

    def sureness(self, output: Any) -> float | None:
        return float(output[int(self.predicted(output[None])[0])])

    # --- shown ---

    def to_json(self, row: Mapping[str, Any], output: Any, top_k: int | None = None) -> dict[str, Any]:
        scores = self.shares(self.calibrate(output[None])[0], None)
        label = self.names[int(self.predicted(output[None])[0])]
        ranked = {label: scores.pop(label), **scores}  # the answer first, which a threshold may have moved
        return {"label": label, "score": ranked[label], "scores": dict(list(ranked.items())[:top_k])}

    def view(self, answer: Mapping[str, Any]) -> View:
        return Ranked(tuple(answer["scores"].items()), (answer["label"],))

    def limits(self) -> list[str]:
        return [EXCLUSIVE]

    # --- the artifact ---

    def to_dict(self) -> dict[str, Any]:
        positive = {} if self.positive is None else {"positive": self.positive, "why_positive": self.why_positive}
        points = {"points": [point.to_dict() for point in self.points]} if self.points else {}
        return {**super().to_dict(), **positive, **points}

    def restore(self, noted: Mapping[str, Any]) -> SingleLabel:
        points = tuple(Point.of_dict(one) for one in noted.get("points", ()))
        stated = points[0].prevalence if points else None
        found = {
            "positive": noted.get("positive"),
            "why_positive": noted.get("why_positive", ""),
            "prevalence": stated,
        }
        return dataclasses.replace(cast(SingleLabel, super().restore(noted)), **found, points=points)


class OfClasses(Outcomes):
    """Rows of one class each."""

    def __init__(
        self, truth: Rows, scores: Rows, outputs: int, predicted: np.ndarray, looked_for: int,
        prevalence: float | None = None, steps: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        self.truth, self.scores, self.outputs = np.asarray(truth), np.asarray(scores), outputs
        self.predicted, self.n = predicted, len(self.truth)
        self.looked_for, self.prevalence, self.steps = looked_for, prevalence, steps

    @cached_property
    def on_scale(self) -> np.ndarray:
        """Truth and answer as numbers, (n, 2), of labels that follow one another; else of nothing but NaN."""
        steps = np.full(self.outputs, np.nan) if self.steps is None else self.steps
        return np.stack([steps[self.truth], steps[self.predicted]], axis=1)

    @cached_property
    def yes(self) -> Yes:
        """Which rows are of the positive class, of two, and which are answered so."""
        return Yes(self.truth == self.looked_for, self.predicted == self.looked_for, self.prevalence)

    @cached_property
    def hits(self) -> tuple[np.ndarray, np.ndarray]:
        return self.truth == self.predicted, np.ones(self.n)

    @cached_property
    def counts(self) -> Counts:
        return _scores.counts_of(self.truth, self.predicted, np.arange(self.n), (self.outputs, self.n))

    @cached_property
    def decisions(self) -> Decisions:
        return Decisions(np.max(self.scores, axis=1), self.truth == self.predicted, np.arange(self.n))

    @cached_property
    def surprises(self) -> np.ndarray:
        """The negative log probability of each row's truth, (n,)."""
        return -np.log(np.clip(self.scores[np.arange(self.n), self.truth], _scores.TINY, 1.0, dtype=np.float64))

    @cached_property
    def distances(self) -> np.ndarray:
        """The squared distance of each row's probabilities from the truth, (n,)."""
        missed = np.asarray(self.scores, np.float64) - (np.arange(self.scores.shape[1]) == self.truth[:, None])
        return (missed**2).sum(axis=1)

    @cached_property
    def rankings(self) -> list[Ranking]:
        """One ranking a label; the positive one alone when there are two."""
        positives = [self.looked_for] if self.outputs == 2 else range(self.outputs)
        return [Ranking(self.truth == j, self.scores[:, j]) for j in positives]


def _mcc(sample: ClassSample) -> np.ndarray:
    right, predicted, actual = sample.classes
    n, correct = actual.sum(axis=0), right.sum(axis=0)
    spread = (n**2 - (predicted**2).sum(axis=0)) * (n**2 - (actual**2).sum(axis=0))
    return ratio(correct * n - (predicted * actual).sum(axis=0), np.sqrt(np.maximum(spread, 0)))


def _log_loss(sample: ClassSample) -> np.ndarray:
    return sample.mean(sample.outcomes.surprises)


def _brier(sample: ClassSample) -> np.ndarray:
    return sample.mean(sample.outcomes.distances)


def _mae(sample: ClassSample) -> np.ndarray:
    truth, answer = sample.outcomes.on_scale.T
    return sample.mean(np.abs(truth - answer))


def _quadratic_kappa(sample: ClassSample) -> np.ndarray:
    truth, answer = (sample.outcomes.on_scale - sample.outcomes.on_scale.mean()).T
    by_chance = sample.mean(truth**2) + sample.mean(answer**2) - 2 * sample.mean(truth) * sample.mean(answer)
    return 1 - ratio(sample.mean((truth - answer) ** 2), by_chance, np.nan)


ORDINAL = ("quadratic_kappa", "mae")
SingleLabel.METRICS = {
    "accuracy": dataclasses.replace(_scores.ACCURACY, is_share=True),
    **by_average(share=("micro",)),
    "mcc": Metric(
        "Matthews correlation coefficient, -1 to 1", _mcc, perfect=1.0, signed=True, hub="matthews_correlation"
    ),
    "roc_auc": _scores.ROC_AUC,
    "average_precision": _scores.AVERAGE_PRECISION,
    **_operating.METRICS,
    "log_loss": Metric("mean negative log probability of the truth, in nats", _log_loss, False),
    "brier": Metric("mean squared distance of the probabilities from the truth, 0 to 2", _brier, False),
    **_scores.CALIBRATION,
    "quadratic_kappa": Metric(
        "kappa with quadratic weights (Cohen 1968) of labels that are whole numbers one after the other, -1 to 1",
        _quadratic_kappa, perfect=1.0, signed=True,
    ),
    "mae": Metric("mean absolute error", _mae, False, hub="mae"),
}  # fmt: skip
ANSWER = SingleLabel()
