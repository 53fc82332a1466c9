"""Answers of a model as the Try step draws them: one, many in a table, and what mattered for one."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from hftransfer import views
from hftransfer.ui import markup, received
from hftransfer.ui.markup import Card
from hftransfer.ui.saying import say

SHOWN_ROWS = 50


def answer_of(found: Mapping[str, Any]) -> str:
    """Return one answer of the Predictor, drawn as its view says."""
    return markup.view(views.from_dict(found["view"]))


def explanation(found: Mapping[str, Any]) -> str:
    """Return what mattered: words tinted by their weight, or the picture with the parts that spoke for the answer."""
    head = markup.title("What mattered", "blue spoke for the answer, amber against it")
    if found.get("form") == "tokens":
        parts = found["parts"]
        largest = max((abs(part["weight"]) for part in parts), default=0) or 1
        words = "".join(
            f"<span {_tint(part['weight'], largest)}>{markup.text(part['text'])}</span> " for part in parts
        )
        inside = f'<p class="words" style="margin:0">{words}</p>'
    else:
        weights = found["weights"]
        largest = max((abs(w) for row in weights for w in row), default=0) or 1
        cells = "".join(f"<i {_tint(weight, largest)}></i>" for row in weights for weight in row)
        columns = len(weights[0]) if weights else 1
        picture = markup.picture(found["image"], say("the picture that was asked"))
        inside = f'<div class="heat" style="--columns:{columns}">{picture}<div>{cells}</div></div>'
    return f'<div class="card-block" style="padding:20px 22px">{head}{inside}</div>'


def _tint(weight: float, largest: float) -> str:
    css = "for" if weight >= 0 else "against"
    return f'class="{css}" style="--weight:{abs(weight) / largest:.2f}" title="{weight:+.3f}"'


def examples_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return examples to click: texts as cards, pictures as pictures."""
    if not rows:
        return markup.note("This run kept no examples.")
    if all(entry["form"] != "picture" for row in rows for entry in row["input"].values()):
        cards = [Card(str(row["row_id"]), " · ".join(_words(e) for e in row["input"].values())) for row in rows]
        return markup.cards(cards, None, "Examples", wide=True)
    figures = "".join(
        f'<button type="button" data-pick="{markup.text(row["row_id"])}">'
        f"{markup.picture(_picture_of(row), say('example'))}</button>"
        for row in rows
    )
    return f'<div class="pictures picks" role="group" aria-label="{say("Examples")}">{figures}</div>'


def _picture_of(row: Mapping[str, Any]) -> str:
    return next(str(entry["value"]) for entry in row["input"].values() if entry["form"] == "picture")


def _words(entry: Mapping[str, Any]) -> str:
    value = entry.get("called", entry.get("value"))
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 160 else text[:159] + "…"


def answers_of(found: Sequence[Mapping[str, Any]]) -> str:
    """Return the answers to a table's rows; the first of them, when they are many."""
    rows = [
        [markup.text(_words({"value": _shown(one["input"])})), markup.text(_short(one))] for one in found[:SHOWN_ROWS]
    ]
    more = (
        say("The first {shown} of {n:,}; all of them are in the download.", shown=SHOWN_ROWS, n=len(found))
        if len(found) > SHOWN_ROWS
        else ""
    )
    return markup.table([say("input"), say("answer")], rows) + markup.note(more)


def _shown(value: Any) -> Any:
    return " · ".join(map(str, value.values())) if isinstance(value, dict) else value


def _short(one: Mapping[str, Any]) -> str:
    view = views.from_dict(one["view"])
    if isinstance(view, views.Number):
        return f"{view.value:.5g}"
    return ", ".join(view.given) if isinstance(view, views.Ranked) and view.several else views.line(view)


def table_of(found: Sequence[Mapping[str, Any]]) -> str:
    """Write answers as a CSV file and return its place."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["input", "answer"])
    for one in found:
        row = [_shown(one["input"]), _short(one)]
        # a spreadsheet would run what starts like a formula
        writer.writerow([f"'{v}" if str(v)[:1] in ("=", "+", "-", "@") else v for v in map(str, row)])
    path = received.place("answers.csv")
    path.write_text(out.getvalue(), encoding="utf-8")
    return str(path)
