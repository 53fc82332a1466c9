"""likeness: how near two texts are, by the cosine of their vectors."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hftransfer.answers import _numbers
from hftransfer.answers._numbers import OfNumbers
from hftransfer.answers._vectors import Vectors
from hftransfer.answers.base import Answer, Learner, Loss, Rows, Trivial
from hftransfer.errors import UserError
from hftransfer.views import Number, Plot, View

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from hftransfer.config import DataConfig


KEPT = 1000  # outermost scores that are held
FEW = 200  # one score of so many may be a mistake
FAR = 10  # times the width of all others makes it one
MISSING = -1  # as a score below a scale that begins at 0: nobody gave one


@dataclass(frozen=True)
class Likeness(Vectors):
    """Truth is (n,) scores, outputs are (n,) cosines, which are learnt to be 0 at `low` and 1 at `high`."""

    low: float = 0.0
    high: float = 1.0
    rows: int = 0
    decimal: str | None = None  # what stands before decimals in the column that is read

    kind = "likeness"
    heeds = frozenset({"decimal"})
    needs = "number"
    measures_untuned = True
    told_by_values = True
    reads_numbers = True

    # --- truth ---

    def fits(self, feature: Any) -> bool:
        from hftransfer.column_types import NUMBERS, is_value

        return is_value(feature, *NUMBERS)

    def plausible(self, distinct: int, rows: int, named: bool) -> bool:
        return named

    def feature(self, encoded: bool = True) -> Any:
        from datasets import Value

        return Value("float64")

    def formed(
        self, values: pa.Array | None, feature: Any, column: str, config: DataConfig
    ) -> tuple[Likeness, list[str]]:
        from hftransfer.answers import _written_truth

        decimal, said = _written_truth.decimals(values, feature, column, config)
        return dataclasses.replace(self, decimal=decimal), said

    def canonical(self, raw: pa.Array, feature: Any, config: DataConfig) -> pa.Array:
        from hftransfer.answers import _truth

        return _truth.numbers(raw, feature, self.decimal)

    def unusable(self, truth: pa.ChunkedArray, inputs: Mapping[str, pa.ChunkedArray]) -> Iterator[tuple[str, Any]]:
        import pyarrow.compute as pc

        yield "no score", pc.is_null(truth)
        if "compared" in inputs:
            yield "no text to compare with", pc.equal(pc.utf8_trim_whitespace(inputs["compared"]), "")

    def learner(self, column: str, features: Mapping[str, Any]) -> Learner:
        return Range(self, column)

    def refuse_unseen(self, truth: pa.Array, row_ids: pa.Array, split: str) -> None:
        import pyarrow.compute as pc

        beyond = pc.or_(pc.less(truth, self.low), pc.greater(truth, self.high))
        if pc.any(beyond).as_py():
            first = ", ".join(row_ids.filter(beyond).to_pylist()[:3])
            raise UserError(
                f"scores of {split} between {self.low:g} and {self.high:g} are needed, as train's are",
                f"{pc.sum(beyond).as_py()} lie beyond (rows {first})", "Mend them, or scale them alike.",
            )  # fmt: skip

    def truth(self, encoded: pa.Array) -> np.ndarray:
        return np.asarray(encoded.to_numpy(zero_copy_only=False), np.float64)

    # --- model ---

    def targets(
        self, truth: Sequence[Any] | None, encoded: Mapping[str, Any], processor: Any, preparation: Any
    ) -> Any:
        wide = self.high - self.low
        return {} if truth is None else {"labels": [(float(value) - self.low) / wide for value in truth]}

    def loss(self, class_weights: Sequence[float] | None = None, smoothing: float = 0.0) -> Loss:
        def loss(outputs: Any, targets: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
            cosines = (outputs["vectors"][:, 0] * outputs["vectors"][:, 1]).float().sum(dim=-1)
            count = targets.numel() if num_items_in_batch is None else num_items_in_batch
            return (cosines - targets.float()).square().sum() / count

        return loss

    def reduce(self, logits: Any, labels: torch.Tensor) -> Any:
        found = logits[0] if isinstance(logits, tuple) else logits
        return (found[:, 0] * found[:, 1]).float().sum(dim=-1)

    def validation(self, kept: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        sample = self.sample(self.outcomes(labels, np.asarray(kept)), np.ones((len(labels), 1)))
        return {name: float(self.METRICS[name].value(sample)[0]) for name in self.default_metrics}

    def ask(self, model: Any, batch: dict[str, Any], processor: Any) -> list[float]:
        found = self.vectors(model, batch)
        return [float(cosine) for cosine in (found[:, 0] * found[:, 1]).sum(dim=-1)]

    def gathered(self, outputs: list[float]) -> np.ndarray:
        return np.array(outputs, np.float64)

    # --- stored and scored ---

    def columns(self, truth: Rows, outputs: Rows) -> dict[str, pa.Array]:
        import pyarrow as pa

        return {"label": pa.array(truth, pa.float64()), "prediction": pa.array(outputs, pa.float64())}

    def from_columns(self, table: pa.Table) -> tuple[Rows, Rows]:
        return table["label"].to_numpy(), table["prediction"].to_numpy()

    def outcomes(self, truth: Rows, outputs: Rows) -> OfNumbers:
        return OfNumbers(truth, outputs)

    @property
    def default_metrics(self) -> tuple[str, ...]:
        return ("spearman", "pearson")

    @property
    def main_metric(self) -> str:
        return "spearman"

    def baseline(self, truth: Rows, rows: Any) -> Trivial:
        """Return what shared pieces of words say; the order of the rows where no input is at hand."""
        if rows is None:
            return Trivial("order of the rows", "scores by nothing", np.arange(len(truth), dtype=np.float64))
        from sklearn.feature_extraction.text import TfidfVectorizer

        one, other = ([str(text) for text in texts] for texts in list(rows.values())[:2])
        shared = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), max_features=20_000, dtype=np.float32)
        shared.fit([*one, *other])
        cosines = shared.transform(one).multiply(shared.transform(other)).sum(axis=1)
        about = "scores by the cosine of TF-IDF of 2 to 4 characters, fitted on these texts"
        return Trivial("shared pieces of words", about, np.asarray(cosines, np.float64).ravel())

    def plots(self, truth: Rows, outputs: Rows) -> Iterator[Plot]:
        counts, edges = np.histogram(np.asarray(outputs, np.float64), bins=20)
        yield Plot(
            "cosines", "Cosines of the test rows", "histogram",
            {"headline": f"{len(truth):,} rows", "axis": "cosine", "edges": edges.tolist(), "counts": counts.tolist()},
        )  # fmt: skip

    def is_constant(self, outputs: Rows) -> bool:
        return len(set(np.asarray(outputs).tolist())) == 1

    def badness(self, truth: Any, output: Any) -> float:
        return abs((float(truth) - self.low) / (self.high - self.low) - float(output))

    # --- shown ---

    def to_json(self, row: Mapping[str, Any], output: Any, top_k: int | None = None) -> dict[str, Any]:
        return {"score": float(output)}

    def as_json(self, answer: Any) -> dict[str, Any]:
        return {"score": float(answer)}

    def view(self, answer: Mapping[str, Any]) -> View:
        return Number(answer["score"])

    def limits(self) -> list[str]:
        return [f"A score is a cosine: {self.low:g} of the data was learnt as 0, {self.high:g} as 1."]

    def distance(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
        return float(abs(one["score"] - other["score"]))

    # --- the artifact ---

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "low": self.low, "high": self.high, "rows": self.rows}

    def restore(self, noted: Mapping[str, Any]) -> Likeness:
        return Likeness(float(noted["low"]), float(noted["high"]), int(noted["rows"]))

    def same_as(self, other: Answer[Any]) -> bool:
        return self.kind == other.kind


class Range(Learner):
    """Finds between which whole numbers the scores lie; UserError for a few that lie far from all others."""

    def __init__(self, answer: Likeness, column: str) -> None:
        self.answer, self.column, self.rows = answer, column, 0
        self.lowest, self.highest = np.empty(0), np.empty(0)  # KEPT at most, the outermost first
        self.above = math.inf  # the least that is above MISSING

    def add(self, truth: pa.Array) -> None:
        values = np.asarray(truth.to_numpy(zero_copy_only=False), np.float64)
        self.rows += len(values)
        self.lowest = np.sort(np.append(self.lowest, values))[:KEPT]
        self.highest = -np.sort(-np.append(self.highest, values))[:KEPT]
        self.above = min(self.above, float(values[values > MISSING].min(initial=math.inf)))

    def learn(self) -> Likeness:
        if not self.rows or not self.highest[0] > self.lowest[0]:
            found = f"every row of `{self.column}` has {self.lowest[0]:g}" if self.rows else "there is none"
            raise UserError("scores that differ are needed", found, "Name another column in data.columns.")
        low, high = math.floor(self.lowest[0]), math.ceil(self.highest[0])
        self._require_one_scale(low, high)
        return dataclasses.replace(self.answer, low=float(low), high=float(high), rows=self.rows)

    def _require_one_scale(self, low: int, high: int) -> None:
        few = min(max(1, self.rows // FEW), KEPT - 1, self.rows - 1)
        begins, ends = math.floor(self.lowest[few]), math.ceil(self.highest[few])
        for inner, outer in ((low, ends), (begins, high), (begins, ends)):
            if inner < outer and high - low >= FAR * (outer - inner):
                self._refuse(inner, outer)
        if low == MISSING == self.lowest[0] and high > 1 and 0 <= self.above < math.inf:
            self._refuse(0, high)

    def _refuse(self, low: int, high: int) -> None:
        beyond = [*self.lowest[self.lowest < low], *self.highest[self.highest > high]]
        shown = ", ".join(f"{value:g}" for value in sorted(set(beyond))[:3])
        many = f"{'at least ' if len(beyond) >= KEPT else ''}{len(beyond):,}"
        raise UserError(
            "scores on one scale are needed",
            f"{many} of {self.rows:,} of `{self.column}` lie beyond {low} to {high}, where all others are "
            f"({shown})", "Mend or leave out these rows; of numbers without bounds take the logarithm.",
        )  # fmt: skip


Likeness.METRICS = {name: _numbers.METRICS[name] for name in ("spearman", "pearson")}
ANSWER = Likeness()
