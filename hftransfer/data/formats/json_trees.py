"""Where the rows are in a JSON file that is one value as a whole: a list, under a key, or column by column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hftransfer.data.columns import words
from hftransfer.data.formats.base import Settings
from hftransfer.data.named_splits import split_of
from hftransfer.errors import UserError, hint

DEPTH = 3  # keys below which rows are looked for
Row = dict[str, Any]


def rows_in(path: Path, tree: Any, settings: Settings) -> tuple[list[Row], list[str]]:
    """Return the rows in a tree, and what was guessed; UserError where there are none, or several lists of them."""
    if settings.key is not None:
        return _under(path, tree, settings.key), []
    if isinstance(tree, list):
        return _list(path, tree), []
    if not isinstance(tree, dict):
        raise _none(path, "it holds one plain value", settings)
    if set(tree) >= {"columns", "data"} and isinstance(tree["columns"], list):  # pandas, orient="split"
        names = [str(name) for name in tree["columns"]]
        held: list[Any] = tree["data"] if isinstance(tree["data"], list) else [None]
        odd = next((at for at, row in enumerate(held) if not isinstance(row, list) or len(row) != len(names)), None)
        if odd is not None:
            raise _none(path, f"row {odd} under `data` is no list of {len(names)} values", settings)
        rows = [dict(zip(names, row, strict=True)) for row in held]
        return rows, [f"{path.name}: rows under `data`, their names under `columns`"]
    if set(tree) == {"schema", "data"} and isinstance(tree["data"], list):  # pandas, orient="table"
        return _list(path, tree["data"]), [f"{path.name}: the rows stand under `data` (data.key)"]
    found = dict(_lists(tree))
    if len(found) == 1:
        key, rows = next(iter(found.items()))
        return _list(path, rows), [f"{path.name}: the rows stand under `{key}` (data.key)"]
    if found and all(split_of(key) and len(words(key)) == 1 for key in found):
        rows = [{**row, "split": key} for key, rows in found.items() for row in rows]
        return rows, [f"{path.name}: `{'`, `'.join(found)}` hold the rows of a split each"]
    if found:
        raise UserError(
            f"it must be known where the rows of {path.name} are", f"they may be under {' or '.join(found)}",
            settings.advice(f"data.key, for example to {next(iter(found))}", "keep one of them"),
        )  # fmt: skip
    return _by_columns(path, tree, settings)


def _under(path: Path, tree: Any, key: str) -> list[Row]:
    for part in key.split("."):
        if not isinstance(tree, dict) or part not in tree:
            known = list(tree) if isinstance(tree, dict) else []
            raise UserError(f"data.key must name a key of {path.name}", f"found {part!r}", hint(part, known))
        tree = tree[part]
    if not isinstance(tree, list):
        raise UserError(
            f"rows must stand under {key} in {path.name}", f"it is no list: {str(tree)[:60]}", "Mend data.key."
        )
    return _list(path, tree)


def _list(path: Path, values: list[Any]) -> list[Row]:
    if values and all(isinstance(value, str) for value in values):
        return [{"text": value} for value in values]
    for place, value in enumerate(values):
        if not isinstance(value, dict):
            raise UserError(
                f"every row of {path.name} must be a JSON object", f"row {place} is {str(value)[:60]}",
                'Write it as {"name": value, ...}.',
            )  # fmt: skip
    return values


def _lists(tree: Mapping[str, Any], above: str = "", depth: int = 1) -> Iterator[tuple[str, list[Any]]]:
    """Yield lists of objects with the keys that lead to them."""
    for key, value in tree.items():
        name = f"{above}{key}"
        if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            yield name, value
        elif isinstance(value, dict) and depth < DEPTH:
            yield from _lists(value, f"{name}.", depth + 1)


def _by_columns(path: Path, tree: Mapping[str, Any], settings: Settings) -> tuple[list[Row], list[str]]:
    """Return the rows of a tree of columns, or of rows by name, as pandas writes them."""
    values = list(tree.values())
    if values and all(isinstance(value, list) for value in values):
        if len({len(value) for value in values}) > 1:
            raise _none(path, f"its lists differ in length: {', '.join(tree)}", settings)
        rows = [dict(zip(tree, row, strict=True)) for row in zip(*values, strict=True)]
        return rows, [f"{path.name}: a list for each column"]
    if not values or not all(isinstance(value, dict) for value in values):
        raise _none(path, f"its keys are {', '.join(map(str, tree))[:200]}", settings)
    inner = [tuple(value) for value in values]
    if _numbers(inner[0]) and not _numbers(tree):
        by_column = True
    elif _numbers(tree):
        by_column = False
    elif len(tree) != len(inner[0]) and len(set(inner)) == 1:
        by_column = len(tree) < len(inner[0])
    else:
        raise _none(path, "neither its keys nor those below them number rows", settings)
    if by_column:
        index = list(dict.fromkeys(key for keys in inner for key in keys))
        rows = [{name: column.get(key) for name, column in tree.items()} for key in index]
        return rows, [f"{path.name}: written column by column, as pandas does"]
    return list(values), [f"{path.name}: rows by their numbers, as pandas writes them"]


def _numbers(keys: Any) -> bool:
    return all(str(key).isdigit() for key in keys)


def _none(path: Path, found: str, settings: Settings) -> UserError:
    return UserError(
        f"{path.name} must hold rows: a list of objects, or one a line", found,
        settings.advice("data.key to the key under which the rows stand", "write one object a line"),
    )  # fmt: skip
