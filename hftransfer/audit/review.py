"""Files of rows to look through: what a person knows a row by, and the table."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hftransfer.fitting.base import Setup
from hftransfer.tasks.base import Role


def known_by(setup: Setup, split: str, places: np.ndarray) -> list[tuple[str, str]]:
    """Return (row id, texts or names of the pictures' files) of rows (m,) of a split, by their places."""
    there = setup.rows[split].column_names
    roles = [role for role in setup.task.shown if role.name in there]
    rows = (
        setup.rows[split]
        .select_columns(["row_id", *(role.name for role in roles)])
        .select(places)
        .with_format("arrow")[:]
        .to_pylist()
    )
    return [(str(row["row_id"]), _shown(row, roles)) for row in rows]


def write(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def _shown(row: Mapping[str, Any], roles: Sequence[Role]) -> str:
    parts = [role.takes.shown(row[role.name]) for role in roles if role.takes is not None]
    return " | ".join(part for part in parts if part)
