"""Rows without labels that a model is least sure of: proposed one by one, labelled, and added to the training rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import gradio as gr

from hftransfer import views
from hftransfer.ui import adding, markup, visitors
from hftransfer.ui.page import Page, html
from hftransfer.ui.saying import say
from hftransfer.ui.visitors import Visitor

MOST = 30  # rows that are proposed
Row = dict[str, Any]  # {value: by role, guess, sure}


def build(page: Page) -> tuple[Any, Callable[[], None]]:
    """Lay out the part, hidden; return the state that holds the rows to propose, and what wires the part."""
    rows = gr.State([])
    with gr.Column(visible=False, elem_id="doubtful") as box:
        html(markup.title("Label what it is least sure of", "each row you label is added to those it learns from"))
        shown = html(elem_id="doubtful-row")
        with gr.Row(elem_classes="inline"):
            label = gr.Dropdown([], label="It is", allow_custom_value=True, min_width=160, elem_id="doubtful-label")
            keep = gr.Button("Add it", scale=0, min_width=90, elem_id="doubtful-add")
            skip = gr.Button("Skip it", scale=0, min_width=90, elem_id="doubtful-skip")

    def wire() -> None:
        parts = [rows, box, shown, label]
        page.on(keep.click, partial(kept, page), [page.run, rows, label], parts)
        page.on(skip.click, lambda visitor, name, left: drawn(visitor, name, left[1:]), [page.run, rows], parts)
        page.on(rows.change, lambda visitor, name, left: drawn(visitor, name, left)[1:], [page.run, rows], parts[1:])

    return rows, wire


def proposed(found: Sequence[Mapping[str, Any]], roles: Sequence[str]) -> list[Row]:
    """Return the answered rows that a model was least sure of, those first; none of answers without a measure."""
    rows: list[Row] = []
    for one in found:
        view = views.from_dict(one["view"])
        if not isinstance(view, views.Ranked) or view.several or not view.scores or not view.given:
            continue
        value = one["input"] if isinstance(one["input"], Mapping) else {roles[0]: one["input"]} if roles else {}
        sure = dict(view.scores).get(view.given[0], 1.0)
        if value and all(isinstance(part, str) for part in value.values()):
            rows.append({"value": dict(value), "guess": view.given[0], "sure": float(sure)})
    return sorted(rows, key=lambda row: row["sure"])[:MOST]


def kept(page: Page, visitor: Visitor, name: str | None, left: list[Row], label: str | None) -> list[Any]:
    """Add the first of the rows with its label, and propose the next one."""
    run = visitors.find(visitor, name or "")
    adding.add(visitor, page.settings, run, left[0]["value"], label or left[0]["guess"])
    return drawn(visitor, name, left[1:])


def drawn(visitor: Visitor, name: str | None, left: list[Row]) -> list[Any]:
    """Return the part as it stands with these rows to propose; hidden without any, or where none can be added."""
    run = visitors.find(visitor, name) if name else None
    known = adding.offered(run.result()) if run is not None and run.result() else None
    if not left or known is None:
        return [left, gr.update(visible=False), "", gr.skip()]
    row = left[0]
    words = " · ".join(row["value"].values())
    state = {"n": len(left), "guess": row["guess"], "share": row["sure"]}
    small = say("{n} to go; it says {guess}, {share:.0%} sure", **state)
    inside = f'<p class="words">{markup.text(words, 2000)}</p><p class="quiet small">{markup.text(small)}</p>'
    return [left, gr.update(visible=True), inside, gr.update(choices=known[1], value=row["guess"])]
