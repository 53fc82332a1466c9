"""What a model answered on one split, row by row: every score, interval and plot is computed from this record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hftransfer.answers.base import Answer, Rows
from hftransfer.errors import UserError


@dataclass(frozen=True, eq=False)
class Predictions:
    """Truth and outputs of one split, in the data set's order; both have the form that the kind of answer says."""

    answer: Answer[Any]
    row_ids: Sequence[str]
    truth: Rows
    outputs: Rows
    groups: Sequence[str] | None = None  # of each row: those of one group are resampled together

    def __post_init__(self) -> None:
        if not len(self.row_ids) == len(self.truth) == len(self.outputs):
            raise ValueError(f"{len(self.row_ids)} row ids, {len(self.truth)} labels, {len(self.outputs)} outputs")
        if not len(self.row_ids):
            raise UserError("rows to measure are needed", "the split is empty", "Set data.test_size or data.test.")
        broken = _broken(self.answer, self.outputs)
        if broken:
            raise UserError(
                "finite scores are needed",
                f"the model's answers to {broken} of {len(self)} rows are NaN or infinite: training diverged",
                "Lower train.learning_rate, or turn off train.fp16.",
            )

    def __len__(self) -> int:
        return len(self.row_ids)

    @cached_property
    def codes(self) -> np.ndarray | None:
        """The number of each row's group, (n,); None where each row stands for itself."""
        return None if self.groups is None else np.unique(np.asarray(self.groups), return_inverse=True)[1]

    @property
    def units(self) -> int:
        """How many independent witnesses there are: groups, or rows."""
        return len(self) if self.codes is None else int(self.codes.max()) + 1

    @cached_property
    def outcomes(self) -> Any:
        """What each row contributes to each metric."""
        return self.answer.outcomes(self.truth, self.outputs)

    def select(self, mask: np.ndarray) -> Predictions:
        """Return the rows that a mask (rows,) marks."""
        places = np.flatnonzero(mask)

        def of(rows: Rows) -> Rows:
            return rows[places] if isinstance(rows, np.ndarray) else [rows[place] for place in places]

        groups = None if self.groups is None else [self.groups[int(i)] for i in places]
        ids = [self.row_ids[int(i)] for i in places]
        return Predictions(self.answer, ids, of(self.truth), of(self.outputs), groups)

    def to_parquet(self, path: str | Path) -> None:
        """Write row_id, label, prediction, the columns that the kind of answer has beside them, and the groups."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        writer = None
        size = self.answer.stored_at_once or len(self)
        try:
            for start in range(0, len(self), size):
                part = slice(start, start + size)
                groups = None if self.groups is None else list(self.groups)[part]
                table = pa.table({
                    "row_id": pa.array(list(self.row_ids)[part], pa.string()),
                    **self.answer.columns(self.truth[part], self.outputs[part]),
                    **({} if groups is None else {"group": pa.array(groups, pa.string())}),
                })  # fmt: skip
                writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
                writer.write_table(table)
        finally:
            if writer is not None:
                writer.close()

    @classmethod
    def read_parquet(cls, path: str | Path, answer: Answer[Any]) -> Predictions:
        """Read what `to_parquet` wrote; UserError when the file holds answers of another vocabulary."""
        import pyarrow.parquet as pq

        table = pq.read_table(path).combine_chunks()
        groups = table["group"].to_pylist() if "group" in table.column_names else None
        return cls(answer, table["row_id"].to_pylist(), *answer.from_columns(table), groups)


def _broken(answer: Answer[Any], outputs: Rows) -> int:
    """Return how many rows' outputs are not made of numbers."""
    if isinstance(outputs, np.ndarray) and np.issubdtype(outputs.dtype, np.floating):  # all rows in one go
        return int((~np.isfinite(outputs)).reshape(len(outputs), -1).any(axis=1).sum())
    return sum(not answer.is_finite(row) for row in outputs)
