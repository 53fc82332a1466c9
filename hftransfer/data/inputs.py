"""Rows to predict on, from a table file: the columns that a model reads, by role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from hftransfer.column_types import NUMBERS, STRINGS, is_value, type_name
from hftransfer.config import DataConfig
from hftransfer.data import written_lists
from hftransfer.data.arranging import asked_with
from hftransfer.data.columns import IDENTIFIERS, numbers_alone, words
from hftransfer.data.named_files import Finder
from hftransfer.data.named_splits import Split
from hftransfer.data.nested import opened, unfolded
from hftransfer.data.parts_of_recordings import of_parts
from hftransfer.data.plain_texts import lines
from hftransfer.data.recordings import with_parts
from hftransfer.data.suffixes import TEXTS
from hftransfer.data.tables import read_tables
from hftransfer.data.unanswerable import Unanswerable
from hftransfer.errors import UserError
from hftransfer.tasks.base import Role, Task

FIRST = 1000  # rows that tell whether a column holds numbers


def read_inputs(path: Path, task: Task, columns: Mapping[str, str]) -> list[dict[str, Any] | Unanswerable]:
    """Return a file's rows by role, in order; names of files in it are found as in training.

    `columns` is what a model was trained on, by role; a column named otherwise is found by the role's own names, or as
    the only one that fits. A file of text has an input a line. Raises UserError when no column fits, and when no row
    has a value.
    """
    if path.suffix.lower() in TEXTS:
        role = _only(path, task)
        values: dict[str, Sequence[Any]] = {role.name: _placed(path, lines(path), role)}
    else:
        rows = opened(unfolded(read_tables([path], streaming=False).rows))
        assert isinstance(rows, Dataset)
        rows, _ = written_lists.opened(rows, DataConfig(source=str(path)))
        rows = of_parts(Split(with_parts(rows), "", path.parent), task, columns)[0].rows
        rows = asked_with(rows, task)
        values = {}
        for role in task.shown:
            column = _column(path, rows, role, task, columns)
            if column is not None:
                values[role.name] = _values(path, rows, column, role)
    required = [role for role in task.shown if role.required]
    found = [_row(dict(zip(values, row, strict=True)), required) for row in zip(*values.values(), strict=True)]
    if found and all(isinstance(row, Unanswerable) for row in found):
        raise UserError(
            f"rows with {required[0].takes.asked if required[0].takes else 'a value'} are needed in {path.name}",
            f"all {len(found):,} have {found[0].reason if isinstance(found[0], Unanswerable) else 'none'}",
            "Fill them in, or name another file.",
        )
    return found


def _row(row: dict[str, Any], required: Sequence[Role]) -> dict[str, Any] | Unanswerable:
    for role in required:
        value = row[role.name]
        if isinstance(value, Unanswerable):
            return value
        empty = value is None or (isinstance(value, str | list) and not len(value))
        if empty or (isinstance(value, str) and not value.strip()):
            return Unanswerable(value, f"no {role.name}")
    return row


def _only(path: Path, task: Task) -> Role:
    required = [role for role in task.shown if role.required]
    if len(required) > 1:
        raise UserError(
            f"a value is needed for each of {', '.join(role.name for role in required)}",
            f"{path.name} holds one a line",
            "Give a table with a column for each.",
        )
    return required[0]


def _column(path: Path, rows: Dataset, role: Role, task: Task, columns: Mapping[str, str]) -> str | None:
    if columns and role.name not in columns:
        return None  # the model never saw such a column
    if not role.required and role.name not in columns:
        return role.name if role.name in rows.features else None
    features = rows.features
    by_words = {words(name): name for name in reversed(features)}
    own = columns.get(role.name, role.name)
    names = [own, by_words.get(words(own)), role.name, *(by_words.get(words(word)) for word in role.words)]
    taken = {column for other, column in columns.items() if other != role.name}
    taken |= {other.name for other in task.roles if other is not role}
    assert role.takes is not None
    fitting = [name for name, feature in features.items() if name not in taken and role.takes.offered(feature)]
    named = [name for name in names if name in features and name not in taken]
    takes = role.takes
    found = next((n for n in named if takes.offered(features[n]) or takes.can_be(features[n], ())), None)
    if found is None and len(fitting) > 1:  # numbers beside them are hardly meant
        fitting = [name for name in fitting if not _of_numbers(rows, name)]
    answers = {words(word) for word in task.truth.words}
    fitting = [name for name in fitting if words(name) not in answers]  # what is to be answered is nothing to ask
    if not role.takes.identifies:
        fitting = [name for name in fitting if not IDENTIFIERS & set(words(name))]
    if found is None and len(fitting) == 1:
        _require_name(path, fitting[0], features)
        return fitting[0]
    if found is None:
        raise UserError(
            f"{path.name} needs a column for {role.name} ({role.takes.needs})",
            "it has " + ", ".join(f"{name} ({type_name(feature)})" for name, feature in features.items()),
            f"Name the column {columns.get(role.name, role.name)}.",
        )
    return found


def _require_name(path: Path, column: str, features: Mapping[str, Any]) -> None:
    """Raise UserError where the one column of a table is called as no column is: that may be its first row."""
    if len(features) == 1 and len(column.split()) > 1:
        raise UserError(
            f"the first line of {path.name} must name its column", f"it is {column[:60]!r}, which may be a row",
            "Write a name above it, or give a file of lines that ends in .txt.",
        )  # fmt: skip


def _of_numbers(rows: Dataset, name: str) -> bool:
    if not is_value(rows.features[name], *STRINGS):
        return False
    return numbers_alone(rows.select_columns([name]).with_format("arrow")[:FIRST][name])


def _values(path: Path, rows: Dataset, column: str, role: Role) -> Sequence[Any]:
    assert role.takes is not None
    if is_value(rows.features[column], *STRINGS, *NUMBERS) and role.takes.suffixes:
        return _placed(path, rows[column], role)
    return role.takes.cells(rows, column, path)


def _placed(path: Path, values: Sequence[Any], role: Role) -> Sequence[Any]:
    """Return values as they are; of those that name files, where these are."""
    assert role.takes is not None
    if not role.takes.suffixes:
        return values
    finder = Finder(path.parent, role.takes.suffixes)
    return [_place(value, finder) for value in values]


def _place(value: Any, finder: Finder) -> Any:
    """Return where a file is that a cell names."""
    if value is None or not str(value).strip():
        return None
    place = finder.place(str(value))
    return str(place) if place.is_file() else Unanswerable(value, f"no file of that name in {finder.folder} or below")
