"""Whose each row is, by the column that the user named: a cell that holds nothing names nobody."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from hftransfer.errors import UserError, hint


def names_of(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return the names of groups (n,) as strings without blanks around them; null where a cell is empty or NaN.

    In tables of text an empty cell is a text of no letters: as a name it would make one group of all such rows.
    """
    flat = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if isinstance(flat, pa.ChunkedArray):  # of no rows
        flat = pa.array([], flat.type)
    if pa.types.is_floating(flat.type):
        flat = pc.if_else(pc.is_nan(flat), pa.scalar(None, flat.type), flat)
    try:
        named = flat.cast(pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):  # lists and the like
        named = pa.array([None if value is None else str(value) for value in flat.to_pylist()], pa.string())
    named = pc.utf8_trim_whitespace(named)
    return pc.if_else(pc.equal(named, ""), pa.scalar(None, pa.string()), named)


def numbered(rows: Dataset, column: str | None) -> np.ndarray | None:
    """Return a group number (n,) for each row; a row without a group is one by itself. None without a column."""
    if column is None:
        return None
    if column not in rows.features:
        raise UserError("data.group must name a column", f"found {column!r}", hint(column, rows.features))
    codes = _names(rows, column).dictionary_encode().indices
    alone = np.arange(len(codes)) + len(codes)
    return np.where(codes.is_valid().to_numpy(zero_copy_only=False), codes.fill_null(0).to_numpy(), alone)


def named(rows: Dataset, column: str, row_ids: pa.ChunkedArray) -> list[str] | None:
    """Return the name of each row's group; a row without one is a group by itself. None where the split has none."""
    if column not in rows.features:
        return None
    values = _names(rows, column).to_pylist()
    values += [None] * (len(row_ids) - len(values))  # rows that were added
    return [row if value is None else value for value, row in zip(values, row_ids.to_pylist(), strict=True)]


def of_stream(values: pa.ChunkedArray, rows: pa.Table, good: np.ndarray) -> pa.Array:
    """Return the name of each good row's group; a row without one is a group by itself."""
    return pc.coalesce(names_of(values).take(pa.array(good)), rows["row_id"].combine_chunks())


def known(rows: Dataset, column: str) -> set[str]:
    """Return the names of all groups; nothing where there is no such column."""
    return set(_names(rows, column).drop_null().unique().to_pylist()) if column in rows.features else set()


def _names(rows: Dataset, column: str) -> pa.Array:
    return names_of(rows.select_columns([column]).with_format("arrow")[:][column])
