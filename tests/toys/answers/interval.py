"""interval: two numbers, a low one and a high one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hftransfer.answers.base import Answer, Learner, Loss, Rows, Trivial
from hftransfer.views import Items, Plot, View
from hftransfer.weighting import Metric, Sample

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from hftransfer.config import DataConfig


@dataclass(frozen=True)
class Interval(Answer[np.ndarray]):
    """Truth and outputs are (n, 2) floats."""

    middle: tuple[float, float] = (0.0, 0.0)  # the mean of train

    kind = "interval"
    needs = "list of two numbers"
    contradicts = False
    makes_head = True
    names = ()
    counts = ()

    def fits(self, feature: Any) -> bool:
        from hftransfer.column_types import element, is_list, is_value

        return is_list(feature) and is_value(element(feature), "float")

    def feature(self, encoded: bool = True) -> Any:
        from datasets import List, Value

        return List(Value("float64"))

    def canonical(self, raw: pa.Array, feature: Any, config: DataConfig) -> pa.Array:
        import pyarrow as pa

        return raw.cast(pa.list_(pa.float64()))

    def unusable(self, truth: pa.ChunkedArray, inputs: Mapping[str, pa.ChunkedArray]) -> Iterator[tuple[str, Any]]:
        import pyarrow.compute as pc

        yield "no two numbers", pc.not_equal(pc.fill_null(pc.list_value_length(truth), 0), 2)

    def learner(self, column: str, features: Mapping[str, Any]) -> Learner:
        return Means(self)

    def configure(self, settings: Any) -> None:
        settings.num_labels = 2
        settings.problem_type = "regression"

    def targets(
        self, truth: Sequence[Any] | None, encoded: Mapping[str, Any], processor: Any, preparation: Any
    ) -> Any:
        return {} if truth is None else {"labels": [list(map(float, pair)) for pair in truth]}

    def loss(self, class_weights: Sequence[float] | None = None, smoothing: float = 0.0) -> Loss:
        def loss(outputs: Any, targets: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
            total = ((outputs["logits"].float() - targets.float()) ** 2).sum()
            return total / (targets.numel() if num_items_in_batch is None else num_items_in_batch)

        return loss

    def validation(self, kept: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        found = self.outcomes(labels, kept)
        return {"shared": float(_shared(Sample(found, np.ones((found.n, 1))))[0])}

    def ask(self, model: Any, batch: dict[str, Any], processor: Any) -> list[np.ndarray]:
        inputs = {name: value for name, value in batch.items() if name != "labels" and not name.startswith("_")}
        return list(model(**inputs)["logits"].float().cpu().numpy().astype(np.float64))

    def truth(self, encoded: pa.Array) -> Rows:
        return np.array(encoded.to_pylist(), np.float64).reshape(-1, 2)

    def gathered(self, outputs: list[Any]) -> Rows:
        return np.array(outputs, np.float64).reshape(-1, 2)

    def columns(self, truth: Rows, outputs: Rows) -> dict[str, pa.Array]:
        import pyarrow as pa

        return {
            name: pa.array([list(map(float, pair)) for pair in rows], pa.list_(pa.float64()))
            for name, rows in (("label", truth), ("prediction", outputs))
        }

    def from_columns(self, table: pa.Table) -> tuple[Rows, Rows]:
        return self.gathered(table["label"].to_pylist()), self.gathered(table["prediction"].to_pylist())

    def outcomes(self, truth: Rows, outputs: Rows) -> Any:
        return Pairs(np.asarray(truth, np.float64), np.asarray(outputs, np.float64))

    METRICS: ClassVar[Mapping[str, Metric]] = {}
    main_metric = "shared"
    default_metrics = ("shared",)

    def baseline(self, truth: Rows, rows: Any) -> Trivial:
        return Trivial("mean interval", "answers the same whatever the input", np.tile(self.middle, (len(truth), 1)))

    def badness(self, truth: Any, output: np.ndarray) -> float:
        return float(np.abs(np.asarray(truth) - output).sum())

    def plots(self, truth: Rows, outputs: Rows) -> Iterator[Plot]:
        return iter(())

    def to_json(self, row: Mapping[str, Any], output: np.ndarray, top_k: int | None = None) -> dict[str, Any]:
        low, high = (float(end) for end in output)
        return {"low": low, "high": high}

    def view(self, answer: Mapping[str, Any]) -> View:
        return Items((("low", answer["low"], "where it begins"), ("high", answer["high"], "where it ends")))

    def limits(self) -> list[str]:
        return ["Its low end may lie above its high end."]

    def distance(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
        return max(abs(one[end] - other[end]) for end in ("low", "high"))

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "middle": list(self.middle)}

    def restore(self, noted: Mapping[str, Any]) -> Interval:
        low, high = noted.get("middle", (0.0, 0.0))
        return Interval((float(low), float(high)))


class Pairs:
    """Each row's own share of what it and the truth cover together, (n,)."""

    def __init__(self, truth: np.ndarray, found: np.ndarray) -> None:
        self.n = len(truth)
        low, high = np.maximum(truth[:, 0], found[:, 0]), np.minimum(truth[:, 1], found[:, 1])
        whole = np.maximum(truth[:, 1], found[:, 1]) - np.minimum(truth[:, 0], found[:, 0])
        self.shared = np.maximum(high - low, 0) / np.maximum(whole, 1e-12)


class Means(Learner):
    """Adds up both ends."""

    def __init__(self, answer: Interval) -> None:
        self.answer, self.rows, self.total = answer, 0, np.zeros(2)

    def add(self, truth: pa.Array) -> None:
        values = np.array([pair for pair in truth.to_pylist() if pair], np.float64).reshape(-1, 2)
        self.rows, self.total = self.rows + len(values), self.total + values.sum(axis=0)

    def learn(self) -> Interval:
        low, high = self.total / max(self.rows, 1)
        return dataclasses.replace(self.answer, middle=(float(low), float(high)))


def _shared(sample: Sample) -> np.ndarray:
    return sample.mean(sample.outcomes.shared)


Interval.METRICS = {"shared": Metric("share of both intervals that they have in common", _shared, perfect=1.0)}
ANSWER = Interval()
