"""Columns that each say of one label whether a row has it, `toxic` and `obscene`, as the one column that they mean."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features, IterableDataset, List, Value, concatenate_datasets

from hftransfer.column_types import NUMBERS, STRINGS, is_value
from hftransfer.config import DataConfig
from hftransfer.errors import UserError, hint
from hftransfer.tasks.base import Task

R = TypeVar("R", Dataset, IterableDataset)
YES, NO = frozenset({"1", "1.0", "true", "yes"}), frozenset({"0", "0.0", "false", "no"})
FIRST = 2_000  # rows that tell what columns are
NAMES = List(Value("string"))


def parts_of(config: DataConfig, task: Task) -> tuple[str, ...]:
    """Return the columns that are named for the truth, where they are several; UserError where one is needed."""
    parts: tuple[str, ...] = ()
    for role, column in config.columns.items():
        if isinstance(column, str):
            continue
        if role != task.truth.name or not any(answer.several for answer in task.answers):
            raise UserError(
                f"data.columns.{role} names one column", f"it names {len(column)}: {', '.join(column)}", "Name one."
            )
        if len(column) < 2 or len(set(column)) < len(column):
            raise UserError(
                f"data.columns.{role} names one column, or several that say of a label each whether a row has it",
                f"it names {', '.join(column) or 'none'}", "Name the column itself, or all of them.",
            )  # fmt: skip
        parts = column
    return parts


def joined(rows: R, columns: Sequence[str], use: str) -> R:
    """Return rows with a column of lists of the names among `columns` that hold a 1; UserError for other values."""
    if not columns:
        return rows
    features = rows.features or {}
    missing = [name for name in columns if features and name not in features]
    if missing and use == "train":
        raise UserError(
            "data.columns must name columns", f"there is no column {missing[0]!r}", hint(missing[0], list(features))
        )
    if missing and len(missing) < len(columns):
        raise UserError(
            f"every split needs the columns {', '.join(columns)}", f"{use} has no {', '.join(missing)}",
            "Add them, with 0 in every row if none has that label.",
        )  # fmt: skip
    if missing:  # a split whose labels are hidden
        return rows
    name = ", ".join(columns)
    if isinstance(rows, IterableDataset):
        return rows.map(
            functools.partial(_named, name, columns),
            batched=True, features=Features({**features, name: NAMES}) if features else None,
        )  # fmt: skip
    held = rows.select_columns(list(columns)).with_format("arrow")[:]
    made = Dataset(pa.table({name: _names(held, columns)}).cast(Features({name: NAMES}).arrow_schema))
    return concatenate_datasets([rows, made.cast(Features({name: NAMES}))], axis=1)


def _named(name: str, columns: Sequence[str], batch: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _names(pa.table({one: batch[one] for one in columns}), columns).to_pylist()}


def says_of_one(feature: Any, values: pa.ChunkedArray) -> bool:
    """Tell whether a column says of one label whether a row has it: 0 or 1, and both."""
    if not is_value(feature, *STRINGS, *NUMBERS, "bool"):
        return False
    found = {_word(value) for value in pc.unique(values.drop_null()).to_pylist()[:3]}
    return len(found) == 2 and bool(found & YES) and bool(found & NO)


def columns_of_one(rows: Any, task: Task) -> list[str]:
    """Return the columns that say of one label each whether a row has it, by the first rows; none, where one does."""
    if not any(answer.several for answer in task.answers) or not isinstance(rows, Dataset):
        return []
    first = rows.select(range(min(len(rows), FIRST)))
    plain = [name for name, feature in rows.features.items() if isinstance(feature, Value)]
    held = first.select_columns(plain).with_format("arrow")[:] if plain else None
    found = [name for name in plain if held is not None and says_of_one(rows.features[name], held[name])]
    return found if len(found) > 1 else []


def _names(table: pa.Table, columns: Sequence[str]) -> pa.Array:
    """Return the list of names of each row; null where one of the columns is."""
    given = np.zeros((table.num_rows, len(columns)), bool)
    known = np.ones(table.num_rows, bool)
    for place, name in enumerate(columns):
        for value in pc.unique(table[name]).to_pylist():
            word = _word(value)
            if word is not None and word not in YES | NO:
                raise UserError(
                    f"columns of labels hold 0 and 1: `{name}` is one of {', '.join(columns)}",
                    f"it also holds {value!r}", "Mend it, or leave it out of data.columns.",
                )  # fmt: skip
        words = [_word(value) for value in table[name].to_pylist()]
        given[:, place] = [word in YES for word in words]
        known &= np.array([word is not None for word in words], bool)
    given &= known[:, None]
    offsets = np.concatenate([[0], np.cumsum(given.sum(axis=1))]).astype(np.int32)
    flat = pa.array(columns, pa.string()).take(pa.array(np.nonzero(given)[1]))
    return pa.ListArray.from_arrays(pa.array(offsets), flat, mask=pa.array(~known))


def _word(value: Any) -> str | None:
    word = "" if value is None else str(value).strip().lower()
    return word or None
