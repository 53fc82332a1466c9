"""The part of Result on all runs: names, favourites, one deleted and had back, a report, lines of code."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import quote

import gradio as gr

from hftransfer.ui import comparing, deleting, markup, reporting, snippets, train_step, visitors
from hftransfer.ui.page import Page, html
from hftransfer.ui.saying import say
from hftransfer.ui.visitors import Visitor


def build(page: Page) -> Callable[[], None]:
    """Lay out the part; the function it returns wires it, once every step is laid out."""
    with gr.Accordion("All runs", open=False, elem_classes="fold"):
        history = html(elem_id="history")
        with gr.Row(elem_classes="inline"):
            title = gr.Textbox(label="Name of the run above", placeholder="what you call it", scale=2, min_width=160,
                               elem_id="title")  # fmt: skip
            remark = gr.Textbox(label="Note", placeholder="what you tried, what you saw", scale=4, min_width=200,
                                elem_id="remark")  # fmt: skip
            liked = gr.Checkbox(label="Favourite", info="Stands first", scale=0, min_width=120, elem_id="liked")
            keep = gr.Button("Keep", scale=0, min_width=90, elem_id="keep-title")
        with gr.Row(elem_classes="inline"):
            delete = gr.Button("Delete the run above", size="sm", elem_classes="narrow", elem_id="delete")
            undo = gr.Button("Bring the deleted run back", size="sm", elem_classes="narrow", visible=False,
                             elem_id="undo")  # fmt: skip
        html(markup.small("A deleted run can be had back until another one is deleted, or its room is needed."))
    with gr.Accordion("Use it in code, or keep its report", open=False, elem_classes="fold"):
        code = html(elem_id="snippets")
        link = html(elem_id="run-link")
        report = gr.DownloadButton("Report as HTML, to print or save as PDF", elem_classes="narrow", elem_id="report")

    def wire() -> None:
        tick, told, shown = page.go["refresh"]
        parts = [history, title, remark, liked, undo, code, link]
        page.on(gr.on, partial(opened, page), [page.run], parts, triggers=[page.go["viewed"].change])
        kept = page.on(keep.click, partial(entitle, page), [page.run, title, remark, liked], [history])
        page.on(kept.success, tick, told, shown)
        gone = page.on(delete.click, partial(remove, page), [page.run], [page.run, undo])
        page.on(gone.success, tick, told, shown)
        back = page.on(undo.click, partial(restore, page), [], [page.run, undo])
        page.on(back.success, tick, told, shown)
        page.on_download(report, partial(reporting.write, page), [page.run])

    return wire


def opened(page: Page, visitor: Visitor, name: str | None) -> list[Any]:
    """Return the part as it stands with a run in view."""
    run = visitors.find(visitor, name) if name else None
    noted = run.noted() if run is not None else {}
    done = run is not None and bool(page.monitor.result(run.folder))
    return [
        comparing.history_of(page, visitor), str(noted.get("name") or ""), str(noted.get("note") or ""),
        bool(noted.get("favourite")), gr.update(visible=deleting.last(visitor) is not None),
        snippets.shown(run, page) if run is not None and done else "",
        link_of(page, run.name) if run is not None else "",
    ]  # fmt: skip


def link_of(page: Page, name: str) -> str:
    """Return a link that opens the page at a run, with who may follow it."""
    words = say("It opens on this machine.")
    if page.settings.space:
        words = say("It opens for you, wherever you are signed in; nobody else sees your runs.")
    place = f"?run={quote(name)}#result"
    return (
        f'<p><a class="run-link" href="{place}" target="_blank" rel="noopener">{say("Link to this run")}</a> '
        f'<button type="button" class="copy" data-copies=".run-link">{say("Copy the link")}</button></p>'
        f"{markup.small(words)}"
    )


def entitle(page: Page, visitor: Visitor, name: str | None, title: str, note: str, liked: bool) -> str:
    """Keep what somebody calls a run, a note, and whether it stands first."""
    if name:
        page.queue.entitle(visitor, name, title or "", note or "", favourite=bool(liked))
    return comparing.history_of(page, visitor)


def remove(page: Page, visitor: Visitor, name: str | None) -> list[Any]:
    """Delete a run; it can be had back."""
    if not name:
        return [gr.skip(), gr.skip()]
    deleting.remove(page.queue, visitor, name)
    entries = train_step.entries_of(page, visitor)
    left = entries[0][0].name if entries else None
    choices = train_step.choices_of(entries)
    return [gr.update(choices=choices, value=left, visible=bool(entries)), gr.update(visible=True)]


def restore(page: Page, visitor: Visitor) -> list[Any]:
    """Bring back the run that was deleted last."""
    name = deleting.restore(visitor)
    choices = train_step.choices_of(train_step.entries_of(page, visitor))
    return [gr.update(choices=choices, value=name, visible=True), gr.update(visible=False)]
