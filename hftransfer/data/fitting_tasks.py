"""Which tasks a data set may be for: those that load some of its rows, the likeliest by column names first."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from hftransfer.config import DataConfig
from hftransfer.data.catalogued import folder_of
from hftransfer.data.collections import is_collection
from hftransfer.data.columns import Choice, rank
from hftransfer.data.loading import load, pick
from hftransfer.errors import UserError
from hftransfer.tasks.base import Task

ROWS = 120  # that are loaded for each task


@dataclass(frozen=True)
class Fitting:
    """A task that can learn from a source: its name, how well the columns' names speak for it (0 to 1), and which."""

    task: str
    speaks: float
    choices: tuple[Choice, ...]


def fitting(config: DataConfig, tasks: Sequence[Task], seed: int, work_dir: Path) -> list[Fitting]:
    """Return the tasks that could load the source's first rows, likeliest first; those alike in the order given."""
    section = config.model_copy(update={"columns": {}})
    given, found = _given(section, work_dir), []
    folder = folder_of(section, work_dir)
    collected = folder is not None and is_collection(folder)
    for task in tasks:
        most = min(config.max_rows or ROWS, ROWS) if task.reads is None else config.max_rows
        try:
            data = load(section.model_copy(update={"max_rows": most}), task, seed, work_dir)
        except UserError:
            continue
        formed = None if collected and task.reads else given
        found.append(Fitting(task.name, _speaks(task, data.columns, formed), tuple(data.columns)))
    return sorted(found, key=lambda one: -one.speaks)


def _given(config: DataConfig, work_dir: Path) -> set[str] | None:
    """Return the columns of a source; None where it is several files with columns of their own."""
    try:
        return set(pick(config, work_dir).splits["train"].rows.features)
    except UserError:
        return None


def _speaks(task: Task, choices: Sequence[Choice], given: Collection[str] | None) -> float:
    """Return the mean over roles of 1 for a column of a role's whole name, 0.6 for a part of it, 0.2 for its type.

    A column that is none of those `given`, but that the task formed of them, is worth half; where `given` is None,
    the files are the task's own.
    """
    roles = {role.name: role for role in task.roles}
    marks = []
    for choice in choices:
        found = rank(roles[choice.role], choice.column)
        if given is not None and choice.column not in given:
            marks.append(0.5)
            continue
        marks.append(0.2 if found is None else (1.0, 0.6)[found[0]] - 0.02 * found[1])
    return sum(marks) / len(marks) if marks else 0.0
