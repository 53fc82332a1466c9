"""Rows as the page shows them: cells, a table or a gallery of them, and what so many of them can show of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hftransfer.ui import markup
from hftransfer.ui.saying import say


def tells_of(answer: Mapping[str, Any]) -> str:
    """Return what the test rows will be able to show, before anything is trained; empty where it is not known."""
    known = answer.get("tells")
    if not known:
        return ""
    words = say(
        "Test rows: {n:,}. A score near {near:.2f} will be known to about ±{half:.2f}; two models must differ by "
        "about {difference:.2f} to be told apart.", **known,
    )  # fmt: skip
    return f'<div style="margin-top:12px">{markup.small(words)}</div>'


def table_of(columns: list[str], rows: list[dict[str, Any]]) -> str:
    """Return rows as a table, those with pictures or recordings as a gallery."""
    cells = [[cell(row.get(name)) + heard(row.get(name)) for name in columns] for row in rows]
    drawn = markup.table(columns, cells)
    entries = [entry for row in rows for entry in row.values() if entry]
    seen = any(entry.get("form") == "picture" or "sound" in entry for entry in entries)
    return f'<div class="as-gallery">{drawn}</div>' if seen else drawn


def heard(entry: Mapping[str, Any] | None) -> str:
    """Return what plays a recording; empty for anything else."""
    if not entry or "sound" not in entry:
        return ""
    return f'<audio controls preload="none" src="{markup.text(entry["sound"], 10**7)}"></audio>'


def cell(entry: dict[str, Any] | None) -> str:
    """Return one cell of a preview as HTML: text, number, picture or nothing."""
    if not entry or entry.get("value") is None:
        return '<span class="quiet">' + say("empty") + "</span>"
    if entry.get("form") == "picture":
        return markup.picture(entry["value"], say("row"))
    return markup.text(entry.get("called", entry["value"]))
