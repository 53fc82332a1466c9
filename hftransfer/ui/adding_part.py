"""The part of Try that keeps a row as it should have been answered, and trains again with what was kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import gradio as gr

from hftransfer.errors import UserError
from hftransfer.runs import Run
from hftransfer.ui import adding, markup, train_step, train_view, visitors
from hftransfer.ui.page import Page, html
from hftransfer.ui.saying import say
from hftransfer.ui.visitors import Visitor

OURS = ("example.png", "example.wav")  # files that stand for test rows
Input = Callable[..., dict[str, Any]]


def build(page: Page) -> Callable[[Sequence[Any], Input], None]:
    """Lay out the part; the function it returns wires it: `question` are whom, what is asked with, and its widgets."""
    with gr.Column(visible=False, elem_classes="card-block", elem_id="should") as box:
        html(markup.title("Was that right?", "what you add is learned from, never tested on"))
        with gr.Row(elem_classes="inline"):
            said = gr.Dropdown([], value=None, label="This should have been", allow_custom_value=True, scale=4,
                               min_width=180, elem_id="should-be")  # fmt: skip
            keep = gr.Button("Add it to the rows", scale=0, min_width=150, elem_id="add-row")
        tally = html(elem_id="added-tally")
        with gr.Row(elem_classes="inline"):
            form = gr.Dropdown([*adding.FORMS], value="CSV", label="All rows as they are now, as", min_width=160,
                               elem_id="revision-form")  # fmt: skip
            save = gr.DownloadButton("Write the file", elem_classes="narrow", elem_id="revision")
        with gr.Row(elem_classes="inline"):
            repo = gr.Textbox(label="Or as a data set on the Hub", placeholder="owner/name", min_width=160,
                              elem_id="revision-repo")  # fmt: skip
            push = gr.Button("Push it", elem_classes="narrow", elem_id="revision-push")
        sent = html(elem_id="revision-sent")
        with gr.Row(elem_classes="foot"):
            back = gr.Button("Take the last one back", size="sm", elem_classes="narrow", visible=False)
            again = gr.Button("Train again with these rows", elem_classes="narrow", elem_id="train-added",
                              visible=False)  # fmt: skip

    def wire(question: Sequence[Any], input_of: Input) -> None:
        shown = [box, said, tally, back, again]
        tick, inputs, parts = page.go["refresh"]
        page.on(gr.on, lambda visitor, name: opened(visitor, name), [page.run], shown,
                triggers=[page.go["viewed"].change])  # fmt: skip
        page.on(keep.click, lambda visitor, *given: kept(page, visitor, input_of, *given), [*question, said], shown)
        page.on(back.click, lambda visitor, name: taken_back(visitor, name), [page.run], shown)
        page.on_download(save, partial(adding.exported, page), [page.run, form])
        page.on(push.click, partial(send, page), [page.run, repo], [sent], meanwhile=(sent, "Pushing the rows …"))
        begun = page.on(
            again.click, lambda visitor, name: begin(page, visitor, name), [page.run], [page.run, page.go["timer"]]
        )
        page.on(begun.success, tick, inputs, parts)
        begun.success(None, js="() => hftransfer.go('train')")

    return wire


def opened(visitor: Visitor, name: str | None, words: str = "") -> list[Any]:
    """Return the part as it stands for a run; hidden where its rows cannot be added one by one."""
    run = visitors.find(visitor, name) if name else None
    result = run.result() if run is not None else {}
    known = adding.offered(result) if result else None
    if run is None or known is None:
        return [gr.update(visible=False), *(gr.skip() for _ in range(4))]
    count = len(adding.rows_of(adding.place_of(visitor, run)))
    told = words or (say("Rows you added so far: {n}.", n=count) if count else "")
    return [
        gr.update(visible=True), gr.update(choices=known[1], value=None),
        f'<p class="quiet small" aria-live="polite">{markup.text(told)}</p>' if told else "",
        gr.update(visible=count > 0), gr.update(visible=count > 0),
    ]  # fmt: skip


def kept(
    page: Page, visitor: Visitor, input_of: Input, chosen: str, typed: str, name: str | None, asks: Any, words: str,
    second: str, picture: str | None, recording: str | None, said: str | None,
) -> list[Any]:  # fmt: skip
    """Keep what stands in the widgets as a row, with what it should have been."""
    run = visitors.find(visitor, name or "")
    value = input_of(asks, words, second, {"picture": picture, "recording": recording})
    require_new(page, visitor, run, value)
    count = adding.add(visitor, page.settings, run, value, said or "")
    told = say("Added as {label}. Rows you added so far: {n}.", label=markup.cut(said), n=count)
    return opened(visitor, name, told)


def require_new(page: Page, visitor: Visitor, run: Run, value: Mapping[str, Any]) -> None:
    """Raise UserError for one of the test rows that the page offers: no score would mean anything after it."""
    files = [str(part).replace("\\", "/").rpartition("/")[2] for part in value.values()]
    texts = [" ".join(str(part).split()) for part in value.values()]
    rows = page.workers.call(visitor, "examples", run=run.name, n=12)
    shown = [[" ".join(str(entry["value"]).split()) for entry in row["input"].values()] for row in rows]
    if any(name in OURS for name in files) or texts in shown:
        raise UserError("a row of your own is needed", "this is a test row", "Training on it would spoil the scores.")


def taken_back(visitor: Visitor, name: str | None) -> list[Any]:
    """Forget the row that was added last."""
    left = adding.take_back(visitor, visitors.find(visitor, name or ""))
    return opened(visitor, name, say("Taken back. Rows you added so far: {n}.", n=left))


def send(page: Page, visitor: Visitor, name: str | None, repo: str) -> str:
    """Push the rows as they are now, and say where they are."""
    try:
        found = adding.pushed(page, visitor, name, repo)
    except UserError as error:
        return markup.note(str(error), "bad")
    url = str(found["url"])
    words = say("{n:,} rows are at {url}: private where it is new.", n=found["rows"], url=url)
    if not url.startswith(("http://", "https://")):
        return markup.note(words, "good")
    link = f'<a href="{markup.text(url)}" target="_blank" rel="noopener">{markup.text(words)}</a>'
    return f'<div class="note good" role="status"><p>{link}</p></div>'


def begin(page: Page, visitor: Visitor, name: str | None) -> list[Any]:
    """Train again with the rows that were added, on the same test rows; the new run says which one it follows."""
    run = visitors.find(visitor, name or "")
    count = len(adding.rows_of(adding.place_of(visitor, run)))
    title = say("{run}, rows added: {n}", run=train_view.called(run), n=count)
    return train_step.follow(page, visitor, run, adding.tree_of(visitor, run), title)
