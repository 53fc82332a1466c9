"""Rows that people added to those of a source: learned from, and never tested on."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import Features

from hftransfer.data.cleaning import Reading, canonical
from hftransfer.data.tree import leads_out
from hftransfer.errors import UserError
from hftransfer.tasks.base import Role

SETTING = "data.added"
SPLIT = "added"  # in the ids of such rows: added:0, added:1, ...


def joined(train: pa.Table, path: str | Path, reading: Reading) -> pa.Table:
    """Return train's canonical table (`row_id` and a column a role) with the rows of a file of JSON lines behind it.

    Each line gives the roles by name; a picture or a recording is the name of a file beside it. UserError for a line
    that lacks a role, names a file elsewhere, or holds values of another type.
    """
    place = Path(path).expanduser()
    rows = read(place)
    for number, row in enumerate(rows, 1):
        _require(row, number, reading.roles, place)
    names = [role.name for role in reading.roles]
    try:
        table = pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})
        features = Features.from_arrow_schema(table.schema)
        ids = pa.array([f"{SPLIT}:{number}" for number in range(len(rows))])
        beside = replace(reading, columns={name: name for name in names}, folder=place.parent)
        return pa.concat_tables([train, canonical(table, features, ids, beside).cast(train.schema)])
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise UserError(
            f"{SETTING} must hold rows like those of the source", " ".join(str(error).split())[:200], "Mend the file."
        ) from error


def read(place: Path) -> list[dict[str, object]]:
    """Return the rows of a file of JSON lines; UserError where it is none, or empty."""
    try:
        rows = [json.loads(line) for line in place.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise UserError(f"{SETTING} names a file of JSON lines", f"{place}: {error}", "Check the path.") from error
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{SETTING} needs rows", f"{place.name} has {len(rows)} lines", "Add rows, or leave it out.")
    return rows


def _require(row: dict[str, object], number: int, roles: tuple[Role, ...], place: Path) -> None:
    for role in roles:
        value = row.get(role.name)
        if value is None and role.required:
            raise UserError(
                f"a row of {SETTING} needs {', '.join(one.name for one in roles if one.required)}",
                f"line {number} of {place.name} has {', '.join(row) or 'nothing'}", "Name them.",
            )  # fmt: skip
        names_file = role.takes is not None and role.takes.lazy and isinstance(value, str)
        if names_file and leads_out(Path(os.path.normpath(place.parent / str(value))), place.parent):
            raise UserError(
                f"files of {SETTING} must lie beside it", f"line {number} names {str(value)[:80]!r}", "Move the file."
            )


def apart(good: np.ndarray, own: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of the source's own rows, of which splits are cut, and those of added ones behind them."""
    return good[good < own], good[good >= own]
