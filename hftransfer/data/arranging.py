"""Rows in one of the forms that a task knows, brought into the columns by which it finds its roles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from datasets import Dataset, Features, Value

from hftransfer.config import DataConfig
from hftransfer.data.named_splits import Picked
from hftransfer.data.tables import Rows
from hftransfer.tasks.base import Task

FIRST = 20  # rows by which a form is told


def arrange(picked: Picked, config: DataConfig, task: Task) -> tuple[Picked, DataConfig, dict[str, Any]]:
    """Return the splits with a task's columns in place of those that hold them, the section, and settings.

    The settings are those of `data` that the rows decided: the model is asked by them later.
    """
    first, features = _first(picked.splits["train"].rows)
    found = task.arranged(first, features, config)
    config = config.model_copy(update=dict(found.settings))
    picked = replace(picked, guesses=(*picked.guesses, *found.guesses))
    if found.both is not None:
        splits = {
            use: replace(split, rows=_replaced(split.rows, found.columns, found.both))
            for use, split in picked.splits.items()
        }
        picked, config = replace(picked, splits=splits), config.model_copy(update={"columns": {}})
    return picked, config, dict(found.settings)


def asked_with(rows: Dataset, task: Task) -> Dataset:
    """Return rows to predict on as training's are arranged: without the truth, which they may hold or not."""
    truth = task.truth.name
    held = truth in rows.features or not len(rows)
    found_in = rows if held else rows.add_column(truth, [""] * len(rows))
    first, features = _first(found_in)
    found = task.arranged(first, features, DataConfig(source="-"))
    return rows if found.both is None else _replaced(found_in, found.columns, found.both).remove_columns([truth])


def _first(rows: Rows) -> tuple[list[dict[str, Any]], Features]:
    """Return the first rows and all features; of columns that hold files, none are opened."""
    known = rows.features
    if known is None:
        first = list(rows.take(FIRST))
        return first, rows._resolve_features().features
    plain = [name for name, feature in known.items() if not _opens(feature)]
    if not plain:
        return [], known
    seen = rows.select_columns(plain)
    first = list(seen.select(range(min(FIRST, len(seen))))) if isinstance(seen, Dataset) else list(seen.take(FIRST))
    return first, known


def _opens(feature: Any) -> bool:
    return not isinstance(feature, Value) and type(feature).__name__ in ("Image", "Audio", "Video", "Pdf")


def _replaced(rows: Rows, columns: tuple[str, ...], both: Callable[..., dict[str, list[Any]]]) -> Rows:
    missing = [name for name in columns if name not in (rows.features or columns)]
    if missing:
        return rows  # of hidden truth, or another form: what lacks is said where columns are looked for
    made = list(both(*([] for _ in columns)))
    gone = list(dict.fromkeys([*columns, *(name for name in made if name in (rows.features or ()))]))
    options: dict[str, Any] = {"batched": True, "input_columns": list(columns), "remove_columns": gone}
    if rows.features is not None:
        kept = {name: feature for name, feature in rows.features.items() if name not in gone}
        options["features"] = Features({**kept, **{name: Value("string") for name in made}})
    return rows.map(both, **options)
