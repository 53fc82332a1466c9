"""Whose each row is, where the files themselves say so: rows of one owner stay on one side of a cut."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import datasets
from datasets import Dataset, IterableDataset

from hftransfer.config import DataConfig
from hftransfer.data.named_splits import Picked
from hftransfer.errors import UserError
from hftransfer.inputs.base import Input
from hftransfer.tasks.base import Task

FIRST = 20  # values by which a column is told to hold inputs

Owners = Sequence[tuple[str | None, ...]]


def told_apart(picked: Picked, task: Task, config: DataConfig) -> tuple[Picked, DataConfig, dict[str, Any]]:
    """Return the splits with a column of whose rows are, the section with it as `group`, and that setting.

    Where nobody named another group, or none. The column holds numbers in the order of the rows: from a hash of an
    identifier, which goes no further, whoever has a list of them would find it out.
    """
    if config.group is False:
        return picked, config.model_copy(update={"group": None}), {}
    for role in task.shown:
        takes = role.takes
        if takes is None or not takes.owned_by or config.group not in (None, *takes.owned_by):
            continue
        if config.streaming:
            _refuse_streamed(picked, takes, config.columns.get(role.name))
        found = _owners(picked, takes, config.columns.get(role.name))
        if not found:
            continue
        place, guess = _chosen(found, takes, config.group)
        picked = replace(picked, guesses=(*picked.guesses, guess))
        if place is None:
            return picked, config, {}
        name = takes.owned_by[place]
        return _with_column(picked, name, found, place), config.model_copy(update={"group": name}), {"group": name}
    return picked, config, {}


def _owners(picked: Picked, takes: Input, named: Any) -> dict[str, Owners]:
    """Return the owners of each split's rows, of the splits whose files say any."""
    found: dict[str, Owners] = {}
    for use, split in picked.splits.items():
        if not isinstance(split.rows, Dataset) or not len(split.rows):
            continue
        column = named if named in split.rows.features else _column(split.rows, takes)
        owners = None if column is None else takes.owners(_undecoded(split.rows, column))
        if owners is not None:
            found[use] = owners
    return found


def _refuse_streamed(picked: Picked, takes: Input, named: Any) -> None:
    """Raise UserError for a stream whose files say whose they are: nothing there keeps those of one together."""
    for split in picked.splits.values():
        if not isinstance(split.rows, IterableDataset) or split.rows.features is None:
            continue
        first = list(split.rows.decode(False).take(FIRST))
        columns = {name: [row[name] for row in first] for name in split.rows.features}
        fitting = (name for name, feature in split.rows.features.items() if takes.fits(feature, columns[name]))
        column = named if named in columns else next(fitting, None)
        values = [
            os.path.join(split.folder or "", one) if isinstance(one, str) else one
            for one in columns.get(str(column), [])
        ]
        if takes.owners(values) is not None:
            whose = " and ".join(takes.owners_called)
            raise UserError(
                f"rows of one {whose} stay together only where all are on disk",
                f"data.streaming is true, and the files of `{column}` name theirs",
                "Set data.streaming=false, or data.group to a column that tells them apart (false: each row counts "
                "for itself).",
            )


def _column(rows: Dataset, takes: Input) -> str | None:
    for name, feature in rows.features.items():
        if takes.fits(feature, _undecoded(rows.select(range(min(FIRST, len(rows)))), name)):
            return name
    return None


def _undecoded(rows: Dataset, column: str) -> list[Any]:
    found = rows.select_columns([column])
    if isinstance(rows.features[column], datasets.Image):
        found = found.cast_column(column, datasets.Image(decode=False))
    return list(found[:][column])


def _chosen(found: Mapping[str, Owners], takes: Input, asked: Any) -> tuple[int | None, str]:
    """Return by which of `takes.owned_by` rows are told apart, None for none of them, and what is to be said."""
    rows = sum(map(len, found.values()))
    for place, name in enumerate(takes.owned_by):
        owners = {_owner(one, place) for held in found.values() for one in held} - {None}
        if len(owners) > 1 or name == asked:
            what = takes.owners_called[place]
            said = f"rows of one {what} stay together: {len(owners):,} in {rows:,} rows, numbered as `{name}`"
            before = f"; all are of one {takes.owners_called[place - 1]}, as it seems" if place else ""
            return place, f"{said}{before} (data.group; false: each row for itself)"
    called = " and ".join(takes.owners_called)
    return None, f"all rows that say so are of one {called}: each counts for itself (data.group)"


def _owner(one: tuple[str | None, ...], place: int) -> str | None:
    """Return the owner of that place, else of the next that is known."""
    return next((f"{at} {owner}" for at, owner in enumerate(one[place:]) if owner is not None), None)


def _with_column(picked: Picked, name: str, found: Mapping[str, Owners], place: int) -> Picked:
    numbers: dict[str, str] = {}
    splits = dict(picked.splits)
    for use, owners in found.items():
        known = [_owner(one, place) for one in owners]
        values = [None if one is None else numbers.setdefault(one, str(len(numbers) + 1)) for one in known]
        rows = splits[use].rows
        assert isinstance(rows, Dataset)
        made = Dataset.from_dict({name: values}, features=datasets.Features({name: datasets.Value("string")}))
        kept = rows.remove_columns([name]) if name in rows.features else rows
        splits[use] = replace(splits[use], rows=datasets.concatenate_datasets([kept, made], axis=1))
    return replace(picked, splits=splits)
