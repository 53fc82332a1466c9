"""Raw columns made canonical, and the rows that no model can learn from found before an epoch meets them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Features, Value

from hftransfer import answers
from hftransfer.answers.base import Answer
from hftransfer.column_types import NUMBERS, STRINGS, element, is_list, is_value
from hftransfer.config import DataConfig
from hftransfer.data.columns import (
    Choice,
    alternatives,
    choose,
    likely_groups,
    numbers_mostly,
    shared_values,
    unused_folds,
)
from hftransfer.errors import NAMED_ROWS, UserError, with_rows
from hftransfer.tasks.base import Role, Task


@dataclass(frozen=True)
class Reading:
    """How a source's columns become a task's: the column of each role, and what the truth is."""

    roles: tuple[Role, ...]
    columns: dict[str, str]
    answer: Answer[Any]  # as the task offers it, before anything is learnt
    config: DataConfig
    folder: Path | None = None  # that names in a table are relative to
    alternatives: tuple[str, ...] = ()  # columns that may hold the truth as well

    @property
    def truth(self) -> str:
        """The role that holds the truth."""
        return next(role.name for role in self.roles if role.answer)

    @property
    def shown(self) -> tuple[Role, ...]:
        """The roles that a model is shown."""
        return tuple(role for role in self.roles if not role.answer)

    def learner(self, features: Features) -> Any:
        """Return what learns from the truth; it may speak of columns that may hold the truth as well, no others."""
        known = {name: features[name] for name in (self.columns[self.truth], *self.alternatives) if name in features}
        return self.answer.learner(self.columns[self.truth], known)

    def features(self, encoded: bool = True) -> Features:
        """Return the features of canonical rows, with the truth as it is trained on, or as it is read."""
        truth = self.answer.feature(encoded)
        found = {role.name: truth if role.takes is None else role.takes.feature() for role in self.roles}
        return Features({"row_id": Value("string")} | found)


def plan(
    features: Features, preview: pa.Table, whole: bool, config: DataConfig, task: Task
) -> tuple[tuple[Choice, ...], Reading, list[str], list[str]]:
    """Decide which columns are read and how, from the training rows' types and a preview.

    Returns warnings too, and what was guessed of the columns' form.
    """
    named = [replace(role, words=task.words_of(role, config)) for role in task.roles]
    choices = choose(
        features, preview, named, config.column_names, task=task.name, answers=task.answers,
        group=config.group or None, whole=whole,
    )  # fmt: skip
    columns = {choice.role: choice.column for choice in choices}
    column = columns[task.truth.name]
    values = preview[column].combine_chunks() if column in preview.column_names else None
    written = values is not None and is_value(features[column], *STRINGS) and numbers_mostly(values)
    answer = answers.choose(task.answers, features[column], config, written)
    roles = tuple(role for role in task.roles if role.name in columns)
    answer, guesses = answer.formed(values, features[column], column, config)
    warnings = []
    if config.group is None:
        shared = [] if task.gathers else shared_values(preview, roles, columns)
        warnings = [*likely_groups(features, preview, list(columns.values()), whole), *shared]
    warnings += unused_folds(features, preview, {*columns.values(), config.group or None, config.split_column or None})
    others = alternatives(features, preview, whole, task, choices, config)
    return choices, Reading(roles, columns, answer, config, alternatives=tuple(others)), warnings, guesses


def previewable(features: Features) -> list[str]:
    """Return the columns whose values are looked at: no images, which may be large, and of lists those of numbers."""
    return [
        name
        for name, feature in features.items()
        if (isinstance(feature, ClassLabel | Value) and "binary" not in feature.dtype)
        or (is_list(feature) and is_value(element(feature), *NUMBERS, "bool"))
    ]


@dataclass
class BadRows:
    """The rows of one split that cannot be used, by reason."""

    split: str
    rows: int = 0
    bad: int = 0
    reasons: dict[str, tuple[int, list[str]]] = field(default_factory=dict)

    def add(self, table: pa.Table, found: Mapping[int, str], reading: Reading) -> None:
        """Count the bad rows found in a canonical table."""
        self.rows += table.num_rows
        self.bad += len(found)
        for place, reason in found.items():
            count, first = self.reasons.get(reason, (0, []))
            first = [*first, _row_name(table, place, reading)] if len(first) < NAMED_ROWS else first
            self.reasons[reason] = (count + 1, first)

    def warnings(self, policy: str) -> list[str]:
        """Return the warning about dropped rows; UserError when the policy refuses them, or most rows are bad."""
        if not self.bad:
            return []
        listed = "; ".join(
            f"{count} with {reason} ({', '.join(first)}{', ...' if count > len(first) else ''})"
            for reason, (count, first) in self.reasons.items()
        )
        said = "; ".join(f"{count} with {reason}" for reason, (count, _) in self.reasons.items())
        first = [name for _, names in self.reasons.values() for name in names]
        if 2 * self.bad > self.rows:
            raise UserError(
                f"usable rows are needed in {self.split}",
                f"{self.bad} of {self.rows} are not: {listed}",
                "Name other columns in data.columns, or mend the data.",
            )
        if policy == "refuse":
            raise UserError(
                f"every row of {self.split} must be usable",
                f"{self.bad} of {self.rows} are not: {listed}",
                "Mend them, or set data.bad_rows=drop.",
            )
        return [
            with_rows(f"{self.split}: {self.bad} of {self.rows} rows dropped: {said}", first, self.bad > len(first))
        ]


def _row_name(table: pa.Table, place: int, reading: Reading) -> str:
    """Return what a person finds a row by: its id, and the file of an image."""
    files = [role.takes.file(table[role.name][place].as_py()) for role in reading.shown if role.takes is not None]
    return " ".join([table["row_id"][place].as_py(), *filter(None, files)])


def require_columns(use: str, features: Features, reading: Reading) -> list[str]:
    """Return the columns that are read; UserError when a split lacks one of them."""
    for role, column in reading.columns.items():
        if column not in features:
            raise UserError(
                f"every split needs the column `{column}` ({role})",
                f"{use} has {', '.join(features)}",
                f"Rename its columns, or name another split in data.{use}.",
            )
    return list(dict.fromkeys(reading.columns.values()))


def canonical(table: pa.Table, features: Features, row_ids: pa.Array, reading: Reading) -> pa.Table:
    """Return `row_id` and the roles' columns with the roles' types; truth is as it is read still, nulls stay nulls."""
    columns: dict[str, Any] = {"row_id": row_ids}
    for role in reading.roles:
        name = reading.columns[role.name]
        raw = table[name]
        if role.takes is not None:
            columns[role.name] = role.takes.canonical(raw, role.required, reading.folder)
        else:
            raw = raw.combine_chunks() if raw.num_chunks != 1 else raw.chunk(0)
            columns[role.name] = reading.answer.canonical(raw, features[name], reading.config)
    return pa.table(columns)


@dataclass(frozen=True)
class Inspected:
    """What one look at a canonical table found: unusable rows with the reason, prints and sketches by role."""

    bad: dict[int, str]
    prints: dict[str, list[bytes]]
    sketches: dict[str, Any]
    seen: dict[str, Any]


def inspect(table: pa.Table, reading: Reading) -> Inspected:
    """Look at every value once: what cannot be used, and what tells equal and nearly equal rows."""
    found: dict[int, str] = {}
    prints: dict[str, list[bytes]] = {}
    sketches: dict[str, Any] = {}
    seen: dict[str, Any] = {}
    for role in reading.shown:
        assert role.takes is not None
        looked = role.takes.look(table[role.name], role.required)
        prints[role.name], sketches[role.name], seen[role.name] = looked.prints, looked.sketches, looked.seen
        for reason, mask in looked.unusable:
            _note(found, mask, reason)
    inputs = {role.name: table[role.name] for role in reading.shown}
    for reason, mask in reading.answer.unusable(table[reading.truth], inputs):
        _note(found, mask, reason)
    return Inspected(dict(sorted(found.items())), prints, sketches, seen)


def joined(seen: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was seen of each role's values, with more of them."""
    both = {name: seen[name].and_(value) if seen.get(name) is not None else value for name, value in more.items()}
    return {**seen, **both}


def learnt_of(seen: Mapping[str, Mapping[str, Any]], reading: Reading) -> tuple[dict[str, Any], list[str]]:
    """Return settings that the rows decide, and what is to be said, from what was seen of each split, by role."""
    settings: dict[str, Any] = {}
    said: list[str] = []
    for role in reading.shown:
        assert role.takes is not None
        found = {use: roles[role.name] for use, roles in seen.items() if roles.get(role.name) is not None}
        more, told = role.takes.learn(found, reading.config) if found else ({}, [])
        settings |= more
        said += told
    return settings, said


def _note(found: dict[int, str], mask: Any, reason: str) -> None:
    marked = pc.fill_null(mask, False) if isinstance(mask, pa.Array | pa.ChunkedArray) else mask
    for place in np.flatnonzero(np.asarray(marked)):
        found.setdefault(int(place), reason)
