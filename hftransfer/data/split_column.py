"""A column that says of each row which split it is in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset, IterableDataset, Value

from hftransfer.config import DataConfig
from hftransfer.data.columns import words
from hftransfer.data.named_splits import Source, split_of
from hftransfer.errors import UserError, hint

NAMES = {words(name) for name in ("split", "set", "subset", "partition", "usage", "data_split", "dataset_split")}
MARKS = {words(f"{verb}{name}") for verb in ("is_", "in_", "") for name in ("train", "test", "val", "validation")}
MARKED = ({"0", "1"}, {"true", "false"}, {"yes", "no"}, {"y", "n"})
MOST = 20  # values of a column that says so


def divided(source: Source, config: DataConfig) -> Source:
    """Return a source of one split as several, where a column says which row is in which.

    It is the one that the user names, else one called so whose values are names of splits, train among them.
    UserError for one called so whose values may mean that, and are not all known.
    """
    if config.split_column is False or len(source.splits) != 1:
        return source
    (rows,) = source.splits.values()
    features = rows.features or {}
    column = config.split_column
    if column is not None and column not in features:
        raise UserError("data.split_column must name a column", f"found {column!r}", hint(column, features))
    if column is not None:
        return _by(source, column, _values(rows, column), ())
    named = {*config.columns.values(), config.group}
    for one in [one for one in features if isinstance(features[one], Value) and one not in named]:
        if words(one) not in NAMES | MARKS:
            continue
        values = _values(rows, one)
        kinds = {value: split_of(value) for value in values if value}
        if words(one) in NAMES and None not in kinds.values() and len({*kinds.values()} - {None}) > 1:
            counts = ", ".join(f"{value} {values[value]:,}" for value in kinds)
            guess = f"`{one}` says which split a row is in: {counts} (data.split_column=false does not use it)"
            return _by(source, one, values, (guess,))
        _ask(one, values, kinds)
    return source


def _ask(column: str, values: dict[str, int], kinds: dict[str, str | None]) -> None:
    """Raise UserError where a column may say which split a row is in, and not by names of splits alone."""
    marks = words(column) in MARKS and {value.lower() for value in kinds} in MARKED
    if not marks and ("train" not in kinds.values() or len(kinds) < 2 or len(kinds) > MOST):
        return
    first = next((value for value, kind in kinds.items() if kind == "train"), next(iter(kinds)))
    other = next(value for value in kinds if value != first)
    raise UserError(
        f"it must be known whether `{column}` says which split a row is in",
        "it holds " + ", ".join(f"{value} ({values[value]:,} rows)" for value in list(kinds)[:6]),
        f"Set data.split_column={column} with data.train and data.test to its values ({first}, {other}), or "
        "data.split_column=false.",
    )


def _by(source: Source, column: str, values: dict[str, int], guesses: tuple[str, ...]) -> Source:
    (rows,) = source.splits.values()
    left = values.get("", 0)
    warnings = (f"{left:,} rows are in no split: `{column}` is empty",) if left else ()
    return replace(
        source,
        splits={value: _only(rows, column, value) for value in values if value},
        warnings=(*source.warnings, *warnings),
        guesses=(*source.guesses, *guesses),
        files={},
    )


def _name(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _values(rows: Any, column: str) -> dict[str, int]:
    """Return the values of a column as texts, and how often each stands, in their order."""
    found: dict[str, int] = {}
    for part in rows.select_columns([column]).with_format("arrow").iter(batch_size=10_000):
        for one in pc.value_counts(part[column]).to_pylist():
            name = _name(one["values"])
            found[name] = found.get(name, 0) + one["counts"]
    return found


def _only(rows: Any, column: str, value: str) -> Any:
    if isinstance(rows, IterableDataset):
        return rows.filter(_Is(value), input_columns=[column])
    assert isinstance(rows, Dataset)
    held = rows.select_columns([column]).with_format("arrow")[:][column].to_pylist()
    return rows.select(np.flatnonzero([_name(one) == value for one in held]))


class _Is:
    """Whether a cell holds a value, blanks around it aside."""

    def __init__(self, value: str) -> None:
        self.value = value

    def __call__(self, cell: Any) -> bool:
        return _name(cell) == self.value
