"""regression: a number."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hftransfer.answers import _numbers
from hftransfer.answers._head import Head, constant
from hftransfer.answers._linear import Numbers
from hftransfer.answers._numbers import OfNumbers
from hftransfer.answers._one_value import OneValue
from hftransfer.answers.base import Answer, Learner, Loss, Rows, Trivial
from hftransfer.views import Number, Plot, View
from hftransfer.weighting import Sample

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from hftransfer.config import DataConfig


@dataclass(frozen=True)
class Regression(OneValue, Head):
    """Truth and outputs are (n,) floats."""

    total: float = 0.0  # of the truth of train
    decimal: str | None = None  # what stands before decimals in the column that is read, where that is said or seen

    kind = "regression"
    heeds = frozenset({"decimal"})
    typed = float
    contradicts = False
    linear: ClassVar[Numbers] = Numbers()
    problem = "regression"
    named = False

    # --- truth ---

    def formed(
        self, values: pa.Array | None, feature: Any, column: str, config: DataConfig
    ) -> tuple[Regression, list[str]]:
        from hftransfer.answers import _written_truth

        decimal, said = _written_truth.decimals(values, feature, column, config)
        return dataclasses.replace(self, decimal=decimal), said

    def feature(self, encoded: bool = True) -> Any:
        from datasets import Value

        return Value("float64")

    def canonical(self, raw: pa.Array, feature: Any, config: DataConfig) -> pa.Array:
        from hftransfer.answers import _truth

        return _truth.numbers(raw, feature, self.decimal)

    def learner(self, column: str, features: Mapping[str, Any]) -> Learner:
        return Sums(self)

    def refuse_unseen(self, truth: pa.Array, row_ids: pa.Array, split: str) -> None:
        """Any number may stand in any split."""

    def counted(self, encoded: pa.Array) -> Regression:
        values = encoded.to_numpy(zero_copy_only=False)
        return dataclasses.replace(self, rows=len(values), total=float(np.mean(values)) * len(values))

    def less(self, encoded: pa.Array) -> Regression:
        values = encoded.to_numpy(zero_copy_only=False)
        return dataclasses.replace(self, rows=self.rows - len(values), total=self.total - float(np.sum(values)))

    def missing(self, split: str, encoded: pa.Array | None = None) -> list[str]:
        return []

    def truth(self, encoded: pa.Array) -> np.ndarray:
        return np.asarray(encoded.to_numpy(zero_copy_only=False), np.float64)

    def entries(self, truth: Rows) -> np.ndarray:
        return np.asarray(truth, np.float32)

    # --- model ---

    def configure(self, settings: Any) -> None:
        settings.num_labels = 1
        settings.problem_type = self.problem

    def of_config(self, settings: Any) -> Regression:
        return self

    def claims(self, settings: Any) -> bool:
        return settings.problem_type == "regression" or (settings.problem_type is None and len(settings.id2label) == 1)

    def targets(
        self, truth: Sequence[Any] | None, encoded: Mapping[str, Any], processor: Any, preparation: Any
    ) -> Any:
        return {} if truth is None else {"labels": [float(value) for value in truth]}

    def loss(self, class_weights: Sequence[float] | None = None, smoothing: float = 0.0) -> Loss:
        from torch.nn import functional

        def loss(outputs: Any, targets: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
            logits = outputs["logits"].float()
            total = functional.mse_loss(logits.view(-1), targets.float().view(-1), reduction="sum")
            return total / (targets.numel() if num_items_in_batch is None else num_items_in_batch)

        return loss

    def class_weights(self, asked: Any, rows: int) -> list[float] | None:
        if asked is not None:
            from hftransfer.errors import UserError

            raise UserError("train.class_weights needs classes", "this is a regression", "Drop train.class_weights.")
        return None

    def as_truth(self, labels: np.ndarray) -> np.ndarray:
        return np.asarray(labels, np.float64).reshape(len(labels))

    # --- stored and scored ---

    def gathered(self, outputs: list[Any]) -> Rows:
        return np.array([float(value) for value in outputs], np.float64)

    def sample(self, outcomes: Any, weights: np.ndarray) -> Any:
        return Sample(outcomes, weights)

    def columns(self, truth: Rows, outputs: Rows) -> dict[str, pa.Array]:
        import pyarrow as pa

        from hftransfer.answers import _truth

        scores = _truth.vectors(np.asarray(outputs).reshape(-1, 1))
        values = (pa.array(values, pa.float64()) for values in (truth, outputs))
        return {**dict(zip(("label", "prediction"), values, strict=True)), "scores": scores}

    def from_columns(self, table: pa.Table) -> tuple[Rows, Rows]:
        return table["label"].to_numpy(), table["prediction"].to_numpy()

    def predicted(self, outputs: Rows) -> Rows:
        return outputs

    def differing(self, one: Rows, other: Rows, metric: str, theirs: Answer[Any] | None = None) -> int:
        return int(np.sum(np.asarray(one) != np.asarray(other)))

    def outcomes(self, truth: Rows, outputs: Rows) -> OfNumbers:
        return OfNumbers(truth, outputs)

    def baseline(self, truth: Rows, rows: Any) -> Trivial:
        if not self.rows:
            raise ValueError("the baseline of a regression needs the training rows' mean; nobody counted")
        return constant("mean", np.full(len(truth), self.total / self.rows))

    def unlikelihood(self, truth: Rows, outputs: Rows) -> tuple[str, float]:
        """Return the mean squared error."""
        return "squared error", float(np.mean((np.asarray(outputs, np.float64) - np.asarray(truth, np.float64)) ** 2))

    def unlikelihoods(self, truth: Rows, outputs: Rows) -> tuple[np.ndarray, np.ndarray]:
        return (np.asarray(outputs, np.float64) - np.asarray(truth, np.float64)) ** 2, np.ones(len(truth))

    def calibrated(self, truth: Rows, outputs: Rows) -> Regression:
        return self

    def calibrate(self, outputs: Rows) -> Rows:
        return outputs

    def calibration(self, truth: Rows, outputs: Rows) -> dict[str, Any] | None:
        return None

    def by_class(self) -> None:
        return None

    def plots(self, truth: Rows, outputs: Rows) -> Iterator[Plot]:
        values, answers = (np.asarray(part, np.float64) for part in (truth, outputs))
        residuals = answers - values
        counts, edges = np.histogram(residuals, bins=min(40, max(8, int(np.sqrt(len(values))))))
        measured = self.measured(truth, outputs)
        said = ", ".join(f"{name} {measured[name]:.3f}" for name in ("rmse", "r2") if name in measured)
        quantiles = {str(q): float(np.quantile(residuals, q)) for q in (0.05, 0.25, 0.5, 0.75, 0.95)}
        yield Plot(
            "predicted_vs_true", "Predicted against true values of the test rows", "scatter",
            {"headline": f"{len(values):,} rows, {said}", "n": len(values), "bias": float(residuals.mean()),
             "residual_quantiles": quantiles,
             "residual_histogram": {"edges": edges.tolist(), "counts": counts.tolist()}},
            {"truth": values, "answers": answers},
        )  # fmt: skip

    @property
    def default_metrics(self) -> tuple[str, ...]:
        return ("mae", "rmse", "r2", "pearson", "spearman")

    @property
    def main_metric(self) -> str:
        return "rmse"

    def translated(self, other: Answer[Any]) -> Callable[[Rows], Rows] | None:
        return (lambda outputs: outputs) if type(other) is type(self) else None

    def badness(self, truth: Any, output: Any) -> float:
        return abs(float(truth) - float(output))

    # --- shown ---

    def to_json(self, row: Mapping[str, Any], output: Any, top_k: int | None = None) -> dict[str, Any]:
        return {"score": float(output)}

    def view(self, answer: Mapping[str, Any]) -> View:
        return Number(answer["score"])

    @property
    def adds(self) -> str:
        return ""

    def limits(self) -> list[str]:
        return ["An answer has no interval of its own; outside the range of the training labels it is a guess."]

    def distance(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
        return float(abs(one["score"] - other["score"]) / max(1.0, abs(one["score"])))

    # --- the artifact ---

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "names": [], "rows": self.rows, "total": self.total}

    def restore(self, noted: Mapping[str, Any]) -> Regression:
        return Regression(rows=int(noted.get("rows", 0)), total=float(noted.get("total", 0.0)))


class Sums(Learner):
    """Adds up what a stream holds."""

    def __init__(self, answer: Regression) -> None:
        self.answer, self.rows, self.total = answer, 0, 0.0

    def add(self, truth: pa.Array) -> None:
        self.rows += len(truth)
        self.total += float(np.sum(truth.to_numpy(zero_copy_only=False)))

    def learn(self) -> Regression:
        return dataclasses.replace(self.answer, rows=self.rows, total=self.total, decimal=None)


Regression.METRICS = _numbers.METRICS
ANSWER = Regression()
