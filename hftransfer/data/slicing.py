"""Columns by whose values scores are told apart: never shown to the model, kept beside the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datasets import ClassLabel, Dataset, Features, Value

from hftransfer.column_types import type_name
from hftransfer.errors import UserError, hint

NONE = "(none)"  # what a row without a value is told by


def require(columns: Sequence[str], features: Mapping[str, Features], roles: Mapping[str, str]) -> None:
    """Raise UserError for a slice that a split lacks, that the model is shown or learns, or of no plain values.

    `features` are those of each split that rows are tested in, `roles` the column of each role.
    """
    for column in columns:
        for use, known in features.items():
            if column not in known:
                raise UserError(
                    "evaluation.slices names columns of the test rows", f"{use} has no column {column!r}",
                    hint(column, known),
                )  # fmt: skip
            if not isinstance(known[column], ClassLabel | Value):
                raise UserError(
                    "evaluation.slices names columns of plain values",
                    f"`{column}` is {type_name(known[column])}", "Name another column.",
                )  # fmt: skip
        shown = [role for role, found in roles.items() if found == column]
        if shown:
            raise UserError(
                "evaluation.slices names columns that the model is not shown", f"`{column}` is its {shown[0]}",
                "Name another column.",
            )  # fmt: skip


def values_of(rows: Dataset, columns: Sequence[str]) -> dict[str, list[str]]:
    """Return the value of each row as text, by column."""
    found = {}
    for column in columns:
        feature, values = rows.features[column], rows.select_columns([column])[:][column]
        found[column] = [_text(feature, value) for value in values]
    return found


def _text(feature: Any, value: Any) -> str:
    empty = value is None or value != value or (isinstance(value, str) and not value.strip())  # NaN is not itself
    if empty or (isinstance(feature, ClassLabel) and value < 0):
        return NONE
    return str(feature.int2str(value) if isinstance(feature, ClassLabel) else value)
