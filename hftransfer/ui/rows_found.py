"""Copies and labels to look through, as the result shows them: what was found, and the first rows of each file."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from hftransfer import cleanness
from hftransfer.ui import markup

SHOWN = 10
FILES = {
    "label_issues": ("Labels to look through", "text_or_file", "about", "given", "suggested", "probability"),
    "likely_copies": ("Likely copies", "split", "text_or_file", "copy_split", "copy_text_or_file", "cosine"),
}
NUMBERS = ("probability", "cosine")


def rows_of(result: Mapping[str, Any], folder: Path) -> str:
    """Return what is known of copies and wrong labels, and the likeliest of those that have a file in the run."""
    found = cleanness.facts(result["data"])
    if not found:
        return ""
    for name in FILES:  # each is named where its rows are
        end = f" ({result['data'][name]['file']})" if result["data"].get(name) else ""
        found = [(about, told.removesuffix(end)) for about, told in found]
    parts = [markup.title("Copies and labels", "nothing was dropped"), markup.facts(found)]
    for name, (title, *columns) in FILES.items():
        block = result["data"].get(name)
        if block and block["found"]:
            parts.append(_first(folder / block["file"], title, columns))
    return f'<div style="margin-top:26px">{"".join(parts)}</div>'


def _first(path: Path, title: str, columns: list[str]) -> str:
    if not path.exists():  # a run that was brought here without it
        return ""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(islice(csv.DictReader(file), SHOWN))
    columns = [name for name in columns if any(row.get(name) for row in rows)]  # `about` is empty for one label a row
    cells = [[markup.text(row[name]) for name in columns] for row in rows]
    numbers = [place for place, name in enumerate(columns) if name in NUMBERS]
    heads = [name.replace("_", " ") for name in columns]
    return markup.title(title, f"the first of {path.name}") + markup.table(heads, cells, numbers)
