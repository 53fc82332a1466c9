"""What a model answered on one split, row by row: every score, interval and plot is computed from this record."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hftransfer.errors import UserError
from hftransfer.tasks.base import Labels

if TYPE_CHECKING:
    import pyarrow as pa

Rows = Any  # an array, one entry a row; for tags a list of arrays, one array a sentence


@dataclass(frozen=True, eq=False)
class Predictions:
    """Truth and scores of one split, in the data set's order.

    By kind, truth and scores are: single_label (n,) int and (n, k) probabilities; multi_label (n, k) of 0 and 1 and
    (n, k) probabilities; regression (n,) floats both; tags lists of (words,) int and (words, k) probabilities.
    """

    labels: Labels
    row_ids: list[str]
    truth: Rows
    scores: Rows

    def __post_init__(self) -> None:
        if not len(self.row_ids) == len(self.truth) == len(self.scores):
            raise ValueError(f"{len(self.row_ids)} row ids, {len(self.truth)} labels, {len(self.scores)} scores")
        if not self.row_ids:
            raise UserError("rows to measure are needed", "the split is empty", "Set data.test_size or data.test.")
        broken = sum(not np.isfinite(row).all() for row in self.scores)
        if broken:
            raise UserError(
                "finite scores are needed",
                f"the model's answers to {broken} of {len(self)} rows are NaN or infinite: training diverged",
                "Lower train.learning_rate, or turn off train.fp16.",
            )

    def __len__(self) -> int:
        return len(self.row_ids)

    def select(self, mask: np.ndarray) -> Predictions:
        """Return the rows that a mask (rows,) marks."""
        places = np.flatnonzero(mask)

        def of(rows: Rows) -> Rows:
            return [rows[place] for place in places] if self.labels.kind == "tags" else rows[places]

        return Predictions(self.labels, [self.row_ids[i] for i in places], of(self.truth), of(self.scores))

    def predicted(self) -> Rows:
        """Return the answers, shaped as `truth`: the most probable label, the labels at .5 or more, or the value."""
        match self.labels.kind:
            case "single_label":
                return np.argmax(self.scores, axis=1)
            case "multi_label":
                return (np.asarray(self.scores) >= 0.5).astype(np.int64)
            case "tags":
                return [np.argmax(words, axis=1) for words in self.scores]
            case _:
                return self.scores

    def to_parquet(self, path: str | Path) -> None:
        """Write row_id, label, prediction (names, or values for regression) and scores (float32, in label order)."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = {
            "row_id": pa.array(self.row_ids, pa.string()),
            "label": self._column(self.truth),
            "prediction": self._column(self.predicted()),
            "scores": self._score_column(),
        }
        pq.write_table(pa.table(columns), path, compression="zstd")

    @classmethod
    def read_parquet(cls, path: str | Path, labels: Labels) -> Predictions:
        """Read what `to_parquet` wrote; UserError when the file names labels that `labels` lacks."""
        import pyarrow.parquet as pq

        table = pq.read_table(path).combine_chunks()
        label, scores = (table[name].combine_chunks() for name in ("label", "scores"))
        row_ids = table["row_id"].to_pylist()
        k = len(labels.names)
        match labels.kind:
            case "single_label":
                return cls(labels, row_ids, _codes(label, labels), _matrix(scores, k))
            case "multi_label":
                truth = np.zeros((len(row_ids), k), np.int64)
                truth[np.repeat(np.arange(len(row_ids)), np.diff(label.offsets)), _codes(label.flatten(), labels)] = 1
                return cls(labels, row_ids, truth, _matrix(scores, k))
            case "tags":
                ends = label.offsets.to_numpy()
                codes, flat = _codes(label.flatten(), labels), _matrix(scores.flatten(), k)
                sentences = [slice(first, last) for first, last in pairwise(ends - ends[0])]
                return cls(
                    labels, row_ids, [codes[words] for words in sentences], [flat[words] for words in sentences]
                )
            case _:
                return cls(labels, row_ids, label.to_numpy(), table["prediction"].to_numpy())

    def _column(self, values: Rows) -> pa.Array:
        import pyarrow as pa

        names = pa.array(self.labels.names, pa.string())
        match self.labels.kind:
            case "single_label":
                return names.take(pa.array(values, pa.int64()))
            case "multi_label":
                rows, codes = np.nonzero(values)
                return _lists(np.bincount(rows, minlength=len(self)), names.take(pa.array(codes)))
            case "tags":
                codes = np.concatenate([np.asarray(row, np.int64) for row in values])
                return _lists([len(row) for row in values], names.take(pa.array(codes)))
            case _:
                return pa.array(values, pa.float64())

    def _score_column(self) -> pa.Array:
        import pyarrow as pa

        scores = np.concatenate(self.scores) if self.labels.kind == "tags" else np.asarray(self.scores)
        vectors = _lists(np.full(len(scores), scores[0].size), pa.array(scores.ravel(), pa.float32()))
        return _lists([len(row) for row in self.scores], vectors) if self.labels.kind == "tags" else vectors


def _lists(lengths: Rows, values: pa.Array) -> pa.Array:
    import pyarrow as pa

    return pa.ListArray.from_arrays(pa.array(np.append(0, np.cumsum(lengths)), pa.int32()), values)


def _codes(names: pa.Array, labels: Labels) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    codes = pc.index_in(names, value_set=pa.array(labels.names, pa.string()))
    if codes.null_count:
        missing = sorted(set(names.filter(codes.is_null()).to_pylist()))
        raise UserError(
            f"predictions of the labels {', '.join(labels.names)} are needed",
            f"the file also has {', '.join(map(str, missing))}",
            "Read it with the labels of the run that wrote it.",
        )
    return np.asarray(codes.to_numpy(zero_copy_only=False), np.int64)


def _matrix(vectors: pa.Array, width: int) -> np.ndarray:
    return np.asarray(vectors.flatten().to_numpy()).reshape(-1, width)
