"""Rows to predict on, from a table file: the columns that a model reads, by role."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Image, Value

from hftransfer.data.cleaning import IMAGE, UNREADABLE
from hftransfer.data.columns import NEEDS, is_image, type_name, words
from hftransfer.data.sources import read_tables
from hftransfer.errors import UserError
from hftransfer.tasks.base import Role, Task


def read_inputs(path: Path, task: Task, columns: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return a file's rows by role, in order; image names in it are relative to the file.

    `columns` is what a model was trained on, by role; a column named otherwise is found by the role's own names, or as
    the only one that fits. Raises UserError when none fits, and names the first row that lacks a value.
    """
    rows, _ = read_tables([path], streaming=False)
    assert isinstance(rows, Dataset)
    values = {}
    for role in [role for role in task.roles if role.kind not in ("label", "tags")]:
        column = _column(path, rows.features, role, task, columns)
        if column is not None:
            values[role.name] = _values(path, rows, column, role, required=role.required)
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]


def _column(path: Path, features: Features, role: Role, task: Task, columns: Mapping[str, str]) -> str | None:
    if columns and role.name not in columns:
        return None  # the model never saw such a column
    if not role.required and role.name not in columns:
        return role.name if role.name in features else None
    by_words = {words(name): name for name in reversed(features)}
    names = [columns.get(role.name), role.name, *(by_words.get(words(word)) for word in role.words)]
    taken = {column for other, column in columns.items() if other != role.name}
    taken |= {other.name for other in task.roles if other is not role}
    fitting = [name for name, feature in features.items() if name not in taken and _fits(role, feature)]
    found = next((name for name in names if name in fitting), None)
    if found is None and len(fitting) == 1:
        return fitting[0]
    if found is None:
        raise UserError(
            f"{path.name} needs a column for {role.name} ({NEEDS[role.kind]})",
            "it has " + ", ".join(f"{name} ({type_name(feature)})" for name, feature in features.items()),
            f"Name the column {columns.get(role.name, role.name)}.",
        )
    return found


def _fits(role: Role, feature: Any) -> bool:
    text = isinstance(feature, Value) and "string" in feature.dtype
    if role.kind == "image":
        return text or is_image(feature)
    return text or (role.kind == "words" and not isinstance(feature, Value) and type_name(feature) == "list of string")


def _values(path: Path, rows: Dataset, column: str, role: Role, required: bool) -> Sequence[Any]:
    if is_image(rows.features[column]):
        rows = rows.cast_column(column, Image(decode=False))
    values = list(rows[column])
    for number, value in enumerate(values):
        empty = value is None or (isinstance(value, str | list) and not len(value))
        if (empty or (isinstance(value, str) and not value.strip())) and required:
            raise UserError(
                f"every row of {path.name} needs a value in `{column}`", f"row {number} has none",
                "Fill it in, or remove the row.",
            )  # fmt: skip
        if role.kind == "image":
            values[number] = _image(path, number, value)
    return values


def _image(path: Path, number: int, value: Any) -> Any:
    if isinstance(value, str):
        return os.path.join(path.parent, value)
    try:
        return IMAGE.decode_example(value)
    except UNREADABLE as error:
        raise UserError(
            f"every image of {path.name} must be readable", f"row {number}: {error}", "Mend it, or remove the row."
        ) from error
