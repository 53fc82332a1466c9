"""Figures as text: seconds, bytes, scores, intervals, tables with aligned columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def settled(value: object) -> str:
    """Return a setting's value as people write it."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def megabytes(size: float) -> str:
    """Return bytes as 0.0 MB."""
    return f"{size / 1e6:,.1f} MB"


def duration(seconds: float) -> str:
    """Return seconds as 9.5 s, 3 min 20 s or 2 h 05 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def interval(score: Mapping[str, Any]) -> str:
    """Return the interval of a score as text, empty where it has none."""
    ends = (score.get("low"), score.get("high"))
    return "" if None in ends else " to ".join(map(number, ends))


def number(value: float | None) -> str:
    """Return a score as text, empty where there is none."""
    return "" if value is None else f"{value:.3f}"


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines with aligned columns."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
