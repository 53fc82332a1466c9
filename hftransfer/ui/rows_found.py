"""Rows to look through, as the result shows them: copies, labels that may be wrong, and the worst mistakes."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from hftransfer.audit import cleanliness_report
from hftransfer.ui import markup
from hftransfer.ui.rows_shown import cell, heard
from hftransfer.ui.saying import retold, say

SHOWN = 10
FILES = {
    "label_issues": ("text_or_file", "about", "given", "suggested", "probability"),
    "likely_copies": ("split", "text_or_file", "copy_split", "copy_text_or_file", "cosine"),
}
TITLES = {"label_issues": "Labels to look through", "likely_copies": "Likely copies"}
NOT_LOOKED = "not looked for: "
NUMBERS = ("probability", "cosine")


def rows_of(result: Mapping[str, Any], folder: Path) -> str:
    """Return what is known of copies and wrong labels, and the likeliest of those that have a file in the run."""
    found = cleanliness_report.facts(result["data"])
    if not found:
        return ""
    for name in FILES:  # each is named where its rows are
        end = f" ({result['data'][name]['file']})" if result["data"].get(name) else ""
        found = [(about, told.removesuffix(end)) for about, told in found]
    aside = [(about, told) for about, told in found if told.startswith(NOT_LOOKED)]
    known = [pair for pair in found if pair not in aside]
    parts = [
        markup.title("Copies and labels", "nothing was dropped"),
        markup.facts((about, retold(told)) for about, told in known),
    ]
    for about, told in aside:
        why = markup.text(retold(told.removeprefix(NOT_LOOKED)), 400)
        words = f'<abbr title="{why}">{say("not looked for here")}</abbr>'
        parts.append(f'<p class="quiet small">{markup.text(retold(about.capitalize()))}: {words}.</p>')
    for name, columns in FILES.items():
        block = result["data"].get(name)
        if block and block["found"]:
            parts.append(_first(folder / block["file"], TITLES[name], columns))
    return f'<div style="margin-top:26px">{"".join(parts)}</div>'


def _first(path: Path, title: str, columns: Sequence[str]) -> str:
    if not path.exists():  # a run that was brought here without it
        return ""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(islice(csv.DictReader(file), SHOWN))
    columns = [name for name in columns if any(row.get(name) for row in rows)]  # `about` is empty for one label a row
    cells = [[markup.text(row[name]) for name in columns] for row in rows]
    numbers = [place for place, name in enumerate(columns) if name in NUMBERS]
    heads = [retold(name.replace("_", " ")) for name in columns]
    return markup.title(title, say("the first of {file}", file=path.name)) + markup.table(heads, cells, numbers)


def errors_of(found: Sequence[Mapping[str, Any]]) -> str:
    """Return the worst mistakes as a gallery that can be searched, each with the training rows nearest to it."""
    if not found:
        return markup.note("No mistakes on the test rows.", "good")
    words = say("Search the mistakes")
    find = f'<input type="search" class="find" data-finds="#errors .error" placeholder="{words}" aria-label="{words}">'
    return f'{find}<div class="gallery">{"".join(_error(row) for row in found)}</div>'


def _error(row: Mapping[str, Any]) -> str:
    known = {"answer": markup.cut(row["prediction"]), "label": markup.cut(row["label"]), "share": row.get("score")}
    told = say("answered {answer}, is {label}", **known)
    if known["share"] is not None:
        told = say("answered {answer} ({share:.0%} sure), is {label}", **known)
    words = f"<p>{markup.text(told)}</p>"
    near = "".join(
        f"<li>{_held(one['input'])}<span>{markup.text(one['label'] or '', 120)} · {one['cosine']:.2f}</span></li>"
        for one in row.get("near", ())
    )
    taught = f"<details><summary>{say('Nearest training rows')}</summary><ul>{near}</ul></details>" if near else ""
    said = " ".join(
        str(part) for part in (row["prediction"], row["label"], *(e.get("value") for e in row["input"].values()))
        if not str(part).startswith("data:")
    )  # fmt: skip
    held = _held(row["input"])
    return f'<article class="error" data-words="{markup.text(said.lower(), 1000)}">{held}{words}{taught}</article>'


def _held(entries: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what a row holds: pictures and texts, a recording to be heard."""
    parts = []
    for entry in entries.values():
        parts.append(f'<div class="held">{cell(dict(entry))}</div>{heard(entry)}')
    return "".join(parts)
