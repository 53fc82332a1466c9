"""multi_label: any number of labels, each a question of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from hftransfer.answers import _operating, _scores
from hftransfer.answers._head import Head, constant
from hftransfer.answers._linear import Labels
from hftransfer.answers._operating import Point, Yes
from hftransfer.answers._scores import ClassSample, Counts, Decisions, Outcomes, Ranking, by_average
from hftransfer.answers.base import Learner, Loss, Rows, Trivial
from hftransfer.views import Plot, Ranked, View
from hftransfer.weighting import Metric

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from hftransfer.config import DataConfig, EvaluationConfig

GIVEN = 0.5  # the probability from which a label is given


@dataclass(frozen=True)
class MultiLabel(Head):
    """Truth is (n, k) of 0 and 1, outputs are (n, k) probabilities."""

    hot: tuple[str, ...] = ()  # what the places of lists of 0 and 1 say, where the column holds such
    points: tuple[Point, ...] = ()  # one a label, where thresholds are asked for

    kind = "multi_label"
    heeds = frozenset({"label_names", "label_separator"})
    several = True
    needs = "class names, whole numbers, or lists of them"
    told_by_values = True
    linear: ClassVar[Labels] = Labels()
    problem = "multi_label_classification"
    named = False
    has_points = True

    # --- truth ---

    def fits(self, feature: Any) -> bool:
        from hftransfer.answers import _truth

        return _truth.holds_names(feature) and _truth.is_list(feature)

    def feature(self, encoded: bool = True) -> Any:
        from datasets import List, Value

        return List(Value("int64" if encoded else "string"))

    def formed(
        self, values: pa.Array | None, feature: Any, column: str, config: DataConfig
    ) -> tuple[MultiLabel, list[str]]:
        from hftransfer.answers import _truth
        from hftransfer.errors import UserError

        width = None if values is None or not _truth.is_list(feature) else _truth.multi_hot(values)
        asked = config.label_names
        if width is None:
            if asked is not None:
                raise UserError(
                    "data.label_names names the places of lists of 0 and 1", f"`{column}` holds none", "Drop it."
                )
            return self, []
        if asked is not None and len(asked) != width:
            raise UserError(
                f"data.label_names must name the {width} places of the lists of `{column}`",
                f"it names {len(asked)}", f"Give {width} names.",
            )  # fmt: skip
        names = asked or tuple(f"label_{place}" for place in range(width))
        said = f"`{column}` holds lists of 0 and 1, read as {width} labels that a row has or not: {_truth.some(names)}"
        more = "" if asked else "; data.label_names=[...] names them"
        return dataclasses.replace(self, hot=names), [said + more]

    def learner(self, column: str, features: Mapping[str, Any]) -> Learner:
        from datasets import List, Value

        return super().learner(column, {**features, column: List(Value("string"))} if self.hot else features)

    def _learnt(self, names: tuple[str, ...], counts: tuple[int, ...], rows: int) -> MultiLabel:
        if self.hot:  # in the order of the places, those that no row has too
            known = dict(zip(names, counts, strict=True))
            names, counts = self.hot, tuple(known.get(name, 0) for name in self.hot)
        return dataclasses.replace(self, names=names, counts=counts, rows=rows, hot=())

    def canonical(self, raw: pa.Array, feature: Any, config: DataConfig) -> pa.Array:
        from hftransfer.answers import _truth

        if self.hot:
            return _truth.of_multi_hot(raw, self.hot)
        if _truth.is_list(feature):
            return _truth.name_lists(_truth.plain_lists(raw), feature)
        return _truth.as_lists(raw, feature, config.label_separator)

    def unusable(self, truth: pa.ChunkedArray, inputs: Mapping[str, pa.ChunkedArray]) -> Any:
        from hftransfer.answers import _truth

        yield from super().unusable(truth, inputs)
        yield "a label that is null", _truth.holds_null(truth)

    def encode(self, truth: pa.Array) -> pa.Array:
        import pyarrow as pa
        import pyarrow.compute as pc

        from hftransfer.answers import _truth

        found = _truth.indexes(truth.flatten(), self.names)
        rows = pc.list_parent_indices(truth).to_numpy()
        pairs = np.unique(np.stack([rows, pc.fill_null(found, -1).to_numpy()], axis=1), axis=0).astype(np.int64)
        lengths = np.bincount(pairs[:, 0], minlength=len(truth))
        return _truth.lists(pa.array(lengths), pa.array(pairs[:, 1]), truth.is_null())

    def strata(self, encoded: pa.Array) -> np.ndarray:
        import pyarrow.compute as pc

        return label_sets(pc.list_parent_indices(encoded).to_numpy(), encoded.flatten().to_numpy(), len(encoded))

    def truth(self, encoded: pa.Array) -> np.ndarray:
        import pyarrow.compute as pc

        found = np.zeros((len(encoded), len(self.names)), np.int64)
        found[pc.list_parent_indices(encoded).to_numpy(), encoded.flatten().to_numpy(zero_copy_only=False)] = 1
        return found

    def entries(self, truth: Rows) -> np.ndarray:
        return np.asarray(truth, np.float32)

    # --- model ---

    def claims(self, settings: Any) -> bool:
        return bool(settings.problem_type == "multi_label_classification")

    def targets(
        self, truth: Sequence[Any] | None, encoded: Mapping[str, Any], processor: Any, preparation: Any
    ) -> Any:
        if truth is None:
            return {}
        return {"labels": [[float(i in set(row)) for i in range(len(self.names))] for row in truth]}

    def loss(self, class_weights: Sequence[float] | None = None, smoothing: float = 0.0) -> Loss:
        import torch
        from torch.nn import functional

        weight = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)

        def loss(outputs: Any, targets: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
            logits = outputs["logits"].float()
            aims = targets.float() * (1 - smoothing) + smoothing / 2
            total = functional.binary_cross_entropy_with_logits(
                logits, aims, pos_weight=None if weight is None else weight.to(logits.device), reduction="sum"
            )
            return total / (targets.numel() if num_items_in_batch is None else num_items_in_batch)

        return loss

    def class_weights(self, asked: Any, rows: int) -> list[float] | None:
        if asked == "balanced":
            return [(rows - count) / max(count, 1) for count in self.counts]
        return super().class_weights(asked, rows)

    # --- stored and scored ---

    def columns(self, truth: Rows, outputs: Rows) -> dict[str, pa.Array]:
        from hftransfer.answers import _truth

        predicted = self.predicted(outputs)
        return {"label": self._names(truth), "prediction": self._names(predicted), "scores": _truth.vectors(outputs)}

    def _names(self, values: np.ndarray) -> pa.Array:
        import pyarrow as pa

        from hftransfer.answers import _truth

        rows, codes = np.nonzero(values)
        names = pa.array(self.names, pa.string()).take(pa.array(codes))
        return _truth.lists(pa.array(np.bincount(rows, minlength=len(values))), names)

    def from_columns(self, table: pa.Table) -> tuple[Rows, Rows]:
        from hftransfer.answers import _truth

        label, scores = (table[name].combine_chunks() for name in ("label", "scores"))
        truth = np.zeros((len(label), len(self.names)), np.int64)
        rows = np.repeat(np.arange(len(label)), np.diff(label.offsets))
        truth[rows, _truth.codes(label.flatten(), self.names)] = 1
        return truth, _truth.matrix(scores, len(self.names))

    def predicted(self, outputs: Rows) -> np.ndarray:
        return (np.asarray(outputs) >= self.thresholds).astype(np.int64)

    @property
    def thresholds(self) -> np.ndarray:
        """The probability from which each label is given, (k,)."""
        found = {point.label: point.threshold for point in self.points if point.threshold is not None}
        return np.array([found.get(name, GIVEN) for name in self.names])

    # --- operating points ---

    def asked(self, evaluation: EvaluationConfig, validation: pa.Array) -> tuple[MultiLabel, list[str]]:
        _operating.refuse(evaluation, "a row has any number of labels here", several=True)
        found = dataclasses.replace(self, points=_operating.asked_of(evaluation, self.names))
        if not found.points:
            return self, []
        truth = self.truth(validation) == 1
        said, blind = [], []
        for point, of_label in zip(found.points, truth.T, strict=True):
            if of_label.all() or not of_label.any():
                blind.append(point.label)
            else:
                said += _operating.doubts(point, of_label)
        if blind:
            named = ", ".join(f"`{name}`" for name in blind)
            said.append(f"given from {GIVEN:g} on, since validation rows with and without are lacking: {named}")
        return found, said

    def placed(self, truth: Rows, outputs: Rows) -> MultiLabel:
        columns = zip(self.points, np.asarray(truth).T == 1, np.asarray(outputs).T, strict=False)
        return dataclasses.replace(self, points=tuple(point.chosen(has, scores) for point, has, scores in columns))

    @property
    def unplaced(self) -> MultiLabel:
        return dataclasses.replace(self, points=())

    def decisions_of(self, truth: Rows, outputs: Rows, plain: bool = False) -> Iterator[tuple[Point, Yes]]:
        predicted = (self.unplaced if plain else self).predicted(outputs)
        columns = zip(np.asarray(truth).T == 1, predicted.T == 1, strict=True)
        for point, (has, given) in zip(self.points, columns, strict=False):
            yield point, Yes(has, given)

    def shown_threshold(self, point: Point) -> float:
        return _operating.from_threshold(GIVEN if point.threshold is None else point.threshold, self.temperature)

    def decided_in(self, scores: str) -> Sequence[str]:
        if not self.points:
            return ()
        least = dict(zip(self.names, self.thresholds.tolist(), strict=True))
        return [
            f"least = {least!r}",
            f"answer = [label for label, score in {scores}.items() if score >= least[label]]",
        ]

    def outcomes(self, truth: Rows, outputs: Rows) -> Outcomes:
        return OfLabels(truth, outputs, self.predicted(outputs))

    def logits(self, outputs: Rows) -> np.ndarray:
        found = np.asarray(outputs, np.float64)
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(found) - np.log1p(-found))

    def decided(self, truth: Rows, outputs: Rows) -> tuple[np.ndarray, np.ndarray]:
        edge = 1e-15  # a probability that is 1 by rounding would count as a certainty
        return self.logits(np.clip(np.asarray(outputs, np.float64), edge, 1 - edge)), np.asarray(truth)

    def baseline(self, truth: Rows, rows: Any) -> Trivial:
        self.frequencies()
        counts = np.array(self.counts, np.float64)
        shares = np.minimum(counts / (self.rows or counts.max()), 1)
        return constant("labels of most rows", np.tile(shares, (len(truth), 1)))

    def confusions(self, outcomes: Any, headline: str) -> Plot:
        found, answered, actual = (part.sum(axis=1).astype(int) for part in outcomes.counts)
        rows = [
            {"name": name, "true_positives": int(f), "false_negatives": int(a - f), "false_positives": int(p - f)}
            for name, f, a, p in zip(self.names, found, actual, answered, strict=True)
        ]
        return Plot(
            "confusion_matrix", "Answers right, missing and wrong by label, of the test rows", "bars",
            {"headline": f"{headline}, {outcomes.n:,} rows", "labels": rows},
        )  # fmt: skip

    @property
    def default_metrics(self) -> tuple[str, ...]:
        usual = (
            *("f1_micro", "f1_macro", "f1_weighted", "precision_micro", "precision_macro", "recall_micro"),
            *("recall_macro", "accuracy", "hamming_loss", "roc_auc", "average_precision", "calibration_error"),
        )
        return tuple(dict.fromkeys((self.main_metric, *usual)))

    @property
    def main_metric(self) -> str:
        """The one that a model is judged by: one that no threshold moves, where some are chosen."""
        return "average_precision" if self.points else "f1_micro"

    def badness(self, truth: Any, output: Any) -> float:
        return float(np.sum(self.predicted(output) != truth))

    # --- shown ---

    def to_json(self, row: Mapping[str, Any], output: Any, top_k: int | None = None) -> dict[str, Any]:
        given = [name for name, yes in zip(self.names, self.predicted(output[None])[0], strict=True) if yes]
        return {"labels": given, "scores": self.shares(self.calibrate(output[None])[0], top_k)}

    def view(self, answer: Mapping[str, Any]) -> View:
        return Ranked(tuple(answer["scores"].items()), tuple(answer["labels"]), several=True)

    def limits(self) -> list[str]:
        half = "a threshold of its own" if self.points else "a probability of one half"
        return [f"It knows the labels above alone; each is given on its own, from {half}."]

    # --- the artifact ---

    def to_dict(self) -> dict[str, Any]:
        points = {"points": [point.to_dict() for point in self.points]} if self.points else {}
        return {**super().to_dict(), **points}

    def restore(self, noted: Mapping[str, Any]) -> MultiLabel:
        points = tuple(Point.of_dict(one) for one in noted.get("points", ()))
        return dataclasses.replace(cast(MultiLabel, super().restore(noted)), points=points)


class OfLabels(Outcomes):
    """Rows of any number of labels."""

    def __init__(self, truth: Rows, scores: Rows, predicted: np.ndarray) -> None:
        self.truth, self.scores, self.predicted = np.asarray(truth), np.asarray(scores), predicted
        self.n, self.outputs = self.truth.shape

    @cached_property
    def hits(self) -> tuple[np.ndarray, np.ndarray]:
        """A row is right when all of it is."""
        return (self.truth == self.predicted).all(axis=1), np.ones(self.n)

    @cached_property
    def counts(self) -> Counts:
        tables = [self.truth * self.predicted, self.predicted, self.truth]
        shape = (self.outputs, self.n)
        return Counts(*(_scores.table(*np.nonzero(np.transpose(part)), shape=shape) for part in tables))

    @cached_property
    def decisions(self) -> Decisions:
        """Each label's probability, and how often it is true."""
        rows = np.repeat(np.arange(self.n), self.outputs)
        return Decisions(np.ravel(self.scores), np.ravel(self.truth), rows)

    @cached_property
    def rankings(self) -> list[Ranking]:
        """One ranking a label."""
        return [Ranking(self.truth[:, j] == 1, self.scores[:, j]) for j in range(self.outputs)]


def label_sets(rows: np.ndarray, indexes: np.ndarray, count: int) -> np.ndarray:
    """Return a class number (count,) for each row's set of labels, rare sets counted as their rarest label.

    `rows` and `indexes` (n,) are the pairs of row and label, sorted.
    """
    frequency = np.bincount(indexes, minlength=1)
    sets: list[list[int]] = [[] for _ in range(count)]
    for row, index in zip(rows.tolist(), indexes.tolist(), strict=True):
        sets[row].append(index)
    keys = [tuple(found) for found in sets]
    often: dict[tuple[int, ...], int] = {}
    for key in keys:
        often[key] = often.get(key, 0) + 1
    merged = [key if often[key] >= 3 or not key else (min(key, key=lambda i: frequency[i]),) for key in keys]
    numbers = {key: number for number, key in enumerate(sorted(set(merged)))}
    return np.array([numbers[key] for key in merged], dtype=np.int64)


def _hamming_loss(sample: ClassSample) -> np.ndarray:
    return sample.mean((sample.outcomes.truth != sample.outcomes.predicted).mean(axis=1))


MultiLabel.METRICS = {
    "accuracy": dataclasses.replace(_scores.ACCURACY, is_share=True),
    **by_average(),
    "roc_auc": _scores.ROC_AUC,
    "average_precision": _scores.AVERAGE_PRECISION,
    **_scores.CALIBRATION,
    "hamming_loss": Metric("share of labels answered wrongly", _hamming_loss, False, perfect=0.0),
}
ANSWER = MultiLabel()
