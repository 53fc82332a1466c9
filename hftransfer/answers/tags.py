"""tags: one of several classes for every word of a sentence; entities where their names mark some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hftransfer.answers import _head, _scores
from hftransfer.answers._entities import Entities, entity_types, find_entities, has_entities, marking
from hftransfer.answers._head import EXCLUSIVE, IGNORED, Head, constant
from hftransfer.answers._linear import Classes
from hftransfer.answers._scores import ClassSample, Counts, Decisions, Outcomes, Totals, by_average, rate
from hftransfer.answers.base import Loss, Rows, Trivial
from hftransfer.views import Marked, Plot, View
from hftransfer.weighting import ByClass, Metric

if TYPE_CHECKING:
    import pyarrow as pa

    from hftransfer.config import DataConfig


@dataclass(frozen=True)
class Tags(Head):
    """Truth is a list of (words,) class numbers, outputs are a list of (words, k) probabilities."""

    kind = "tags"
    heeds = frozenset({"label_names"})
    needs = "list of class names"
    unit = "sentences"
    linear: ClassVar[Classes] = Classes(by_part=True)
    padding: ClassVar[Mapping[str, int]] = {"labels": IGNORED}
    aligned = True

    # --- truth ---

    def fits(self, feature: Any) -> bool:
        from hftransfer.answers import _truth

        return _truth.holds_tags(feature)

    def feature(self, encoded: bool = True) -> Any:
        from datasets import List, Value

        return List(Value("int64" if encoded else "string"))

    def canonical(self, raw: pa.Array, feature: Any, config: DataConfig) -> pa.Array:
        from hftransfer.answers import _truth

        return _truth.name_lists(_truth.plain_lists(raw), feature, config.label_names)

    def unusable(self, truth: pa.ChunkedArray, inputs: Mapping[str, pa.ChunkedArray]) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        from hftransfer.answers import _truth

        yield "no tags", pc.is_null(truth)
        yield "a tag that is null", _truth.holds_null(truth)
        words = next(column for column in inputs.values() if pa.types.is_list(column.type))
        differ = pc.not_equal(pc.list_value_length(words), pc.list_value_length(truth))
        yield "tags and words that differ in number", differ

    def encode(self, truth: pa.Array) -> pa.Array:
        from hftransfer.answers import _truth

        return _truth.map_lists(truth, lambda flat: _truth.indexes(flat, self.names))

    def truth(self, encoded: pa.Array) -> list[np.ndarray]:
        flat = encoded.flatten().to_numpy(zero_copy_only=False)
        ends = encoded.offsets.to_numpy() - encoded.offsets[0].as_py()
        return [np.asarray(flat[first:last], np.int64) for first, last in pairwise(ends)]

    def entries(self, truth: Rows) -> np.ndarray:
        return np.concatenate([np.asarray(words, np.int64) for words in truth])

    def guessed(self) -> list[str]:
        found, marked = super().guessed(), marking(self.names)
        others = [name for name in self.names if name != "O" and name not in marked]
        if marked and others:
            few = ", ".join(f"`{name}`" for name in others[:5])
            found.append(
                f"beside tags that mark entities, as `{marked[0]}` does, there are others than O: {few}; so answers "
                "are scored word by word, not by whole entities"
            )
        return found

    # --- model ---

    def targets(
        self, truth: Sequence[Any] | None, encoded: Mapping[str, Any], processor: Any, preparation: Any
    ) -> Any:
        """Put each word's tag on its first piece; without truth, mark where words begin: `ask` looks for that."""
        labels = []
        for places, row in zip(encoded["_words"], encoded["_row"], strict=True):
            tags = None if truth is None else truth[row]
            labels.append([IGNORED if at < 0 else 0 if tags is None else tags[at] for at in places])
        return {"labels": labels}

    def loss(self, class_weights: Sequence[float] | None = None, smoothing: float = 0.0) -> Loss:
        return _head.cross_entropy(class_weights, smoothing)

    def ask(self, model: Any, batch: dict[str, Any], processor: Any) -> list[Any]:
        known = batch["labels"].cpu().numpy() != IGNORED
        logits = _head.logits_of(model, batch)
        return [self.of_logits(words[kept]) for words, kept in zip(logits, known, strict=True)]

    def join(self, parts: Sequence[Any]) -> Any:
        return np.concatenate(list(parts))

    def gathered(self, outputs: list[Any]) -> Rows:
        return outputs

    def of_entries(self, targets: np.ndarray, logits: np.ndarray, rows: np.ndarray) -> tuple[Rows, Rows]:
        starts = np.flatnonzero(np.diff(rows)) + 1
        return np.split(targets, starts), [self.of_logits(part) for part in np.split(logits, starts)]

    def validation(self, kept: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        known = labels != IGNORED
        truth = [row[words] for row, words in zip(labels, known, strict=True)]
        outputs = [self.of_logits(row[words]) for row, words in zip(kept, known, strict=True)]
        return self.measured(truth, outputs)

    # --- stored and scored ---

    def columns(self, truth: Rows, outputs: Rows) -> dict[str, pa.Array]:
        import pyarrow as pa

        from hftransfer.answers import _truth

        lengths = pa.array([len(row) for row in outputs])
        scores = np.concatenate([np.asarray(row).reshape(-1, len(self.names)) for row in outputs])
        return {
            "label": self._names(truth),
            "prediction": self._names(self.predicted(outputs)),
            "scores": _truth.lists(lengths, _truth.vectors(scores)),
        }

    def _names(self, rows: Rows) -> pa.Array:
        import pyarrow as pa

        from hftransfer.answers import _truth

        codes = np.concatenate([np.asarray(row, np.int64) for row in rows])
        names = pa.array(self.names, pa.string()).take(pa.array(codes))
        return _truth.lists(pa.array([len(row) for row in rows]), names)

    def from_columns(self, table: pa.Table) -> tuple[Rows, Rows]:
        from hftransfer.answers import _truth

        label, scores = (table[name].combine_chunks() for name in ("label", "scores"))
        ends = label.offsets.to_numpy()
        codes = _truth.codes(label.flatten(), self.names)
        flat = _truth.matrix(scores.flatten(), len(self.names))
        sentences = [slice(first, last) for first, last in pairwise(ends - ends[0])]
        return [codes[words] for words in sentences], [flat[words] for words in sentences]

    def predicted(self, outputs: Rows) -> list[np.ndarray]:
        return [np.argmax(words, axis=1) for words in outputs]

    def outcomes(self, truth: Rows, outputs: Rows) -> Outcomes:
        return OfWords(truth, outputs, self.predicted(outputs), self.names)

    def sample(self, outcomes: Any, weights: np.ndarray) -> EntitySample:
        return EntitySample(outcomes, weights)

    def baseline(self, truth: Rows, rows: Any) -> Trivial:
        shares = self.frequencies()
        return constant("majority tag", [np.tile(shares, (len(words), 1)) for words in truth])

    def decided(self, truth: Rows, outputs: Rows) -> tuple[np.ndarray, np.ndarray]:
        return self.logits(np.concatenate(list(outputs))), np.concatenate(list(truth))

    def calibrate(self, outputs: Rows) -> Rows:
        if self.temperature == 1.0:
            return outputs
        return [self.of_logits(self.logits(words) / self.temperature) for words in outputs]

    def calibration(self, truth: Rows, outputs: Rows) -> dict[str, Any] | None:
        return {"temperature": self.temperature}

    def by_class(self) -> ByClass:
        if not has_entities(self.names):
            return super().by_class()  # type: ignore[return-value]
        return ByClass(
            tuple(entity_types(self.names)),
            {quality: _rate_of_entities(quality) for quality in ("precision", "recall", "f1")},
            "f1",
            lambda sample: sample.entities.actual,
        )

    def confusions(self, outcomes: Any, headline: str) -> Plot:
        k = len(self.names)
        pairs = np.concatenate(outcomes.truth) * k + np.concatenate(outcomes.predicted)
        counts = np.bincount(pairs, minlength=k * k).reshape(k, k)
        return Plot(
            "confusion_matrix", "Confusion matrix of the test rows", "matrix",
            {"headline": f"{headline}, {counts.sum():,} words", "labels": list(self.names), "rows": "true",
             "columns": "predicted", "counts": counts.tolist()},
        )  # fmt: skip

    def average(self, several: Sequence[Rows]) -> Rows:
        return [np.mean(words, axis=0) for words in zip(*several, strict=True)]

    def reordered(self, outputs: Rows, order: Sequence[int]) -> Rows:
        return [words[:, list(order)] for words in outputs]

    @property
    def metrics(self) -> Mapping[str, Metric]:
        entities = has_entities(self.names)
        return {name: found for name, found in self.METRICS.items() if entities or not name.endswith("_entity")}

    @property
    def default_metrics(self) -> tuple[str, ...]:
        names = ("f1_entity", "precision_entity", "recall_entity", "accuracy", "f1_macro")
        return tuple(name for name in names if name in self.metrics)

    @property
    def main_metric(self) -> str:
        return "f1_entity" if has_entities(self.names) else "accuracy"

    def badness(self, truth: Any, output: Any) -> float:
        return float(np.mean(np.argmax(output, axis=1) != truth)) if len(truth) else 0.0

    # --- shown ---

    def to_json(self, row: Mapping[str, Any], output: Any, top_k: int | None = None) -> dict[str, Any]:
        scores = self.calibrate([output])[0]
        best = scores.argmax(axis=-1)
        words = next(value for value in row.values() if isinstance(value, list))
        return {
            "words": words,
            "tags": [self.names[i] for i in best],
            "scores": [round(float(s[i]), 6) for s, i in zip(scores, best, strict=True)],
        }

    def view(self, answer: Mapping[str, Any]) -> View:
        return Marked(tuple(zip(answer["words"], answer["tags"], answer["scores"], strict=True)))

    @property
    def adds(self) -> str:
        return ", which answers word by word"

    def limits(self) -> list[str]:
        if has_entities(self.names):
            return ["An entity counts as right with its exact span and type; one half found counts as not found."]
        return [EXCLUSIVE]

    def distance(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
        if len(one["scores"]) != len(other["scores"]):
            return float("inf")
        apart = [abs(a - b) for a, b in zip(one["scores"], other["scores"], strict=True)]
        return float(np.max(apart, initial=0.0))  # NaN where any is, unlike max()


class OfWords(Outcomes):
    """Sentences, each word of one class."""

    def __init__(self, truth: Rows, scores: Rows, predicted: Rows, names: tuple[str, ...]) -> None:
        self.truth, self.scores, self.predicted, self.names = truth, scores, predicted, names
        self.n, self.outputs = len(truth), len(names)

    @cached_property
    def hits(self) -> tuple[np.ndarray, np.ndarray]:
        right = [np.sum(truth == answer) for truth, answer in zip(self.truth, self.predicted, strict=True)]
        return np.array(right), np.array([len(truth) for truth in self.truth])

    @cached_property
    def words(self) -> np.ndarray:
        """The sentence of each word."""
        return np.repeat(np.arange(self.n), self.hits[1])

    @cached_property
    def counts(self) -> Counts:
        shape = (self.outputs, self.n)
        return _scores.counts_of(np.concatenate(self.truth), np.concatenate(self.predicted), self.words, shape)

    @cached_property
    def decisions(self) -> Decisions:
        confidence = np.concatenate([words.max(axis=1) for words in self.scores])
        right = np.concatenate(self.truth) == np.concatenate(self.predicted)
        return Decisions(confidence, right, self.words)

    @cached_property
    def entities(self) -> Counts:
        """The counts of each entity type."""
        actual, predicted = find_entities(self.truth, self.names), find_entities(self.predicted, self.names)
        types, words = len(entity_types(self.names)), int(self.hits[1].sum()) + self.n
        right = np.isin(_key(actual, words, types), _key(predicted, words, types))
        shape = (types, self.n)
        return Counts(
            _scores.table(actual.type[right], actual.sentence[right], shape=shape),
            _scores.table(predicted.type, predicted.sentence, shape=shape),
            _scores.table(actual.type, actual.sentence, shape=shape),
        )


class EntitySample(ClassSample):
    """The same under weights, with the totals of entities."""

    @cached_property
    def entities(self) -> Totals:
        """The totals of each entity type."""
        return self.totals(self.outcomes.entities)


def _key(spans: Entities, words: int, types: int) -> np.ndarray:
    """Return one number a span, equal for equal spans of equal type."""
    return (spans.first * words + spans.last) * types + spans.type


def _of_entities(quality: str) -> Any:
    return lambda sample: _scores.averaged(quality, "micro", sample.entities)


def _rate_of_entities(quality: str) -> Any:
    return lambda sample: rate(quality, sample.entities, np.nan)


Tags.METRICS = {
    "accuracy": _scores.ACCURACY,
    **by_average(),
    **{
        f"{quality}_entity": Metric(
            f"{name} of whole entities: exact span and type",
            _of_entities(quality),
            perfect=1.0,
            hub="seqeval",
            hub_type=quality,
        )
        for quality, name in _scores.QUALITIES.items()
    },
    **_scores.CALIBRATION,
}
ANSWER = Tags()
