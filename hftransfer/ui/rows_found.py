"""Rows to look through, as the result shows them: copies, labels that may be wrong, and the worst mistakes."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from hftransfer.audit import cleanliness_report
from hftransfer.ui import markup
from hftransfer.ui.data_step import cell

SHOWN = 10
FILES = {
    "label_issues": ("Labels to look through", "text_or_file", "about", "given", "suggested", "probability"),
    "likely_copies": ("Likely copies", "split", "text_or_file", "copy_split", "copy_text_or_file", "cosine"),
}
NUMBERS = ("probability", "cosine")


def rows_of(result: Mapping[str, Any], folder: Path) -> str:
    """Return what is known of copies and wrong labels, and the likeliest of those that have a file in the run."""
    found = cleanliness_report.facts(result["data"])
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


def errors_of(found: Sequence[Mapping[str, Any]]) -> str:
    """Return the worst mistakes: pictures as pictures, texts in a table."""
    if not found:
        return markup.note("No mistakes on the test rows.", "good")
    if any(entry.get("form") == "picture" for entry in found[0]["input"].values()):
        figures = []
        for row in found:
            image = next(entry for entry in row["input"].values() if entry.get("form") == "picture")
            words = f"{markup.text(row['prediction'])}, is {markup.text(row['label'])}"
            sure = f" ({row['score']:.2f})" if row.get("score") is not None else ""
            figures.append(
                f"<figure>{markup.picture(image['value'], str(row['label']))}"
                f"<figcaption>{words}{sure}</figcaption></figure>"
            )
        return f'<div class="pictures">{"".join(figures)}</div>'
    roles = list(found[0]["input"])
    rows = [
        [*(cell(row["input"].get(role)) for role in roles), markup.text(row["label"]), markup.text(row["prediction"]),
         "" if row.get("score") is None else f"{row['score']:.2f}"]
        for row in found
    ]  # fmt: skip
    return markup.table([*roles, "is", "answered", "sure"], rows, [len(roles) + 2])
