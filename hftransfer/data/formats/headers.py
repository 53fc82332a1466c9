"""Whether the first row of a table names its columns, by what stands below it."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from hftransfer import tasks
from hftransfer.data.columns import words
from hftransfer.data.formats.base import Settings
from hftransfer.errors import UserError

NUMBER = re.compile(r"[-+]?[0-9]+([.,][0-9]+)*")
PROSE = 4  # words from which on a name reads like a text


def names_of(
    path: Path, rows: Sequence[Sequence[str]], settings: Settings
) -> tuple[bool, tuple[str, ...], tuple[str, ...]]:
    """Return whether the first of these rows names the columns, their names, and what was guessed.

    UserError where that cannot be told, or where the user gave another number of names.
    """
    first, below = rows[0], rows[1:]
    width = len(below[0]) if below else len(first)
    if isinstance(settings.header, tuple):
        if len(settings.header) != width:
            raise UserError(
                f"data.header must name the {width} columns of {path.name}", f"it names {len(settings.header)}",
                f"Give {width} names.",
            )  # fmt: skip
        return tuple(map(clean, first)) == settings.header, settings.header, ()
    if settings.header is None and len(below) > 1 and not _is_known(first, below) and _is_known(below[0], below[1:]):
        raise UserError(
            f"the first line of {path.name} must name its columns",
            f"names stand in the second, {', '.join(map(clean, below[0][:4]))}; above is {' '.join(first)[:60]!r}",
            "Remove what stands above the names.",
        )
    if settings.header is False or (settings.header is None and is_row(first, below)):
        columns = tuple(f"column_{place}" for place in range(1, width + 1))
        some = ", ".join(columns[:3]) + (", ..." if width > 3 else "")
        said = f"{path.name}: no header was found, its first line is a row like the others; columns are called {some}"
        return False, columns, () if settings.header is False else (f"{said} (data.header=[...] names them)",)
    if settings.header is None and _reads_like_a_row(first, below):
        cell = next(cell for cell in first if is_prose(cell))
        raise UserError(
            f"it must be known whether the first line of {path.name} names its columns",
            f"it reads like a row: {cell[:60]!r}",
            settings.advice("data.header=true if it does, or data.header=[...] to the names", "write names above it"),
        )
    named = [clean(name) or f"Unnamed: {place}" for place, name in enumerate(first)]
    if len(first) == width - 1 and _numbered(below):  # as R writes the names of rows
        return True, ("Unnamed: 0", *named), (f"{path.name}: the first column has no name, and numbers the rows",)
    broken = [name for name in first if "\n" in name or "\r" in name]
    names = ", ".join(f"`{clean(name)}`" for name in broken)
    blanks = f"{path.name}: line breaks in names of columns are read as blanks: {names}"
    return True, tuple(named), (blanks,) if broken else ()


def clean(name: str) -> str:
    """Return the name of a column on one line."""
    return " ".join(name.split())


def is_row(first: Sequence[str], below: Sequence[Sequence[str]]) -> bool:
    """Tell whether a first row is surely one of the rows: a value of it comes back below it, or numbers go on."""
    below = [row for row in below if len(row) == len(first)]
    if _is_known(first, below):
        return False
    for place, cell in enumerate(first):
        values = [row[place] for row in below if row[place]]
        if not cell.strip() or not values:
            continue
        if values.count(cell) >= 2 or (cell in values and 2 * len(set(values)) <= len(values)):
            return True
        if len(values) > 1 and all(NUMBER.fullmatch(value) for value in [cell, *values]):
            return True
    return False


def _reads_like_a_row(first: Sequence[str], below: Sequence[Sequence[str]]) -> bool:
    if _is_known(first, below):
        return False
    for place, cell in enumerate(first):
        values = [row[place] for row in below if len(row) > place and row[place]]
        if is_prose(cell) and values and 2 * sum(map(is_prose, values)) >= len(values):
            return True
    return False


def _is_known(first: Sequence[str], below: Sequence[Sequence[str]]) -> bool:
    """Tell whether a name that columns often have stands in a first row, and not below it as well."""
    return any(
        words(cell) in known() and not any(len(row) > place and row[place] == cell for row in below)
        for place, cell in enumerate(first)
    )


def is_prose(cell: str) -> bool:
    """Tell whether a cell has as many words as a text and few names."""
    return len(cell.split()) >= PROSE or (len(cell.split()) >= 2 and cell.rstrip().endswith((".", "!")))


def _numbered(rows: Sequence[Sequence[str]]) -> bool:
    """Tell whether the first fields number the rows, as programs do that name no column for that."""
    firsts = [row[0] for row in rows]
    counted = [*map(str, range(len(firsts)))], [*map(str, range(1, len(firsts) + 1))]
    return len({*map(len, rows)}) == 1 and len(firsts) > 2 and firsts in counted


@cache
def known() -> frozenset[tuple[str, ...]]:
    """Return the names that columns of any task have, in words."""
    found: set[tuple[str, ...]] = {("id",), ("index",), ("split",)}
    for module in pkgutil.iter_modules(tasks.__path__):
        task = getattr(importlib.import_module(f"hftransfer.tasks.{module.name}"), "TASK", None)
        for role in task.roles if task is not None else ():
            found |= {words(role.name), *map(words, role.words)}
    return frozenset(found)
