"""The part of Data where examples are given one by one: a class and a text or a picture, and a live first model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr

from hftransfer.errors import UserError
from hftransfer.ui import markup, proposing, teaching, visitors
from hftransfer.ui.page import Page, html
from hftransfer.ui.saying import say
from hftransfer.ui.visitors import Visitor

KINDS = {"textbox": "Texts", "picture": "Pictures"}
SHOWN = 8  # examples of a class that are shown, the last ones


def build(page: Page) -> tuple[Any, Callable[[Any, Any], None]]:
    """Lay out the part, hidden; return it, and what wires it to the source and the task of the form."""
    known = teaching.lessons()
    kinds = [(name, widget) for widget, name in KINDS.items() if widget in known]
    with gr.Column(visible=False, elem_id="from-examples") as place:
        kind = gr.Radio(kinds, value=kinds[0][1], label="Examples are", elem_classes="segmented", elem_id="teach-kind")
        with gr.Row(elem_classes="inline"):
            label = gr.Dropdown([], value=None, label="Class", allow_custom_value=True, min_width=150, scale=1,
                                elem_id="teach-class", info="Type a new one, or choose")  # fmt: skip
            text = gr.Textbox(label="Example", placeholder="one text, then Enter", scale=3, min_width=200,
                              elem_id="teach-text")  # fmt: skip
            add = gr.Button("Add", scale=0, min_width=90, elem_id="teach-add")
        picture = gr.Image(label="Example", type="filepath", sources=["webcam", "upload", "clipboard"], height=240,
                           buttons=[], visible=False, elem_id="teach-picture")  # fmt: skip
        said = html(elem_id="teach-said")
        with gr.Row(elem_classes="inline"):
            probe = gr.Textbox(label="Try it while you add", placeholder="a text of no class yet", scale=4,
                               min_width=200, elem_id="teach-try")  # fmt: skip
        shot = gr.Image(label="Try it while you add", type="filepath", sources=["webcam", "upload"], height=240,
                        buttons=[], visible=False, elem_id="teach-try-picture")  # fmt: skip
        answer = html(elem_id="teach-answer")
        with gr.Row(elem_classes="foot"):
            back = gr.Button("Take the last one back", size="sm", elem_classes="narrow")
            use = gr.Button("Use these examples", elem_classes="narrow", elem_id="teach-use")
    lesson = gr.State(None)

    def wire(source: Any, task: Any) -> None:
        # what is kept is shown at once; learning follows, and writes to nothing that somebody may be typing into
        shown, learned = [lesson, label, text, picture, said], [lesson, kind, probe, shot]
        page.on(kind.change, chosen_kind, [kind], [lesson, text, picture, probe, shot, said, answer])
        for event in (add.click, text.submit):
            kept = page.on(event, partial(added, page), [lesson, kind, label, text, picture], shown)
            page.on(kept.success, partial(answered, page), learned, [said, answer])
        gone = page.on(back.click, taken_back, [lesson, kind], [lesson, said])
        page.on(gone.success, partial(answered, page), learned, [said, answer])
        for event in (probe.change, shot.change):
            page.on(event, partial(answered, page), learned, [said, answer], trigger_mode="always_last")
        used = page.on(use.click, taken, [lesson], [source, task])
        page.go["then_look"](used)

    return place, wire


def chosen_kind(visitor: Visitor, widget: str) -> list[Any]:
    """Begin a lesson of texts or of pictures."""
    texts = widget == "textbox"
    return [
        None, gr.update(visible=texts), gr.update(visible=not texts), gr.update(visible=texts),
        gr.update(visible=not texts), "", "",
    ]  # fmt: skip


def added(
    page: Page, visitor: Visitor, lesson: Any, widget: str, label: str | None, text: str | None, picture: str | None
) -> list[Any]:
    """Keep one more example."""
    try:
        value = text if widget == "textbox" else picture
        found = teaching.add(visitor, page.settings, lesson or teaching.fresh(widget), label or "", value)
    except UserError as error:
        return [*(gr.skip() for _ in range(4)), markup.note(str(error), "warn")]
    names = list(dict.fromkeys(row["label"] for row in found["rows"]))
    return [found, gr.update(choices=names), "", None, _classes(found)]


def taken_back(visitor: Visitor, lesson: Any, widget: str) -> list[Any]:
    """Forget the last example."""
    found = teaching.drop_last(visitor, lesson or teaching.fresh(widget))
    return [found, _classes(found)]


def answered(page: Page, visitor: Visitor, lesson: Any, widget: str, probe: str | None, shot: str | None) -> list[str]:
    """Answer what stands in the box to try."""
    if not lesson or not lesson["rows"]:
        return ["", ""]
    said, answer = _learned(page, visitor, lesson, probe if widget == "textbox" else shot)
    return [said + _classes(lesson), answer]


def taken(visitor: Visitor, lesson: Any) -> list[Any]:
    """Return the source and the task that the examples are, for the form."""
    if not lesson or not lesson["rows"]:
        raise UserError("examples are needed", "there are none yet", "Give some of two classes.")
    visitors.require(visitor)
    return [teaching.source_of(visitor, lesson), lesson["task"]]


def _learned(page: Page, visitor: Visitor, lesson: Any, asked: str | None) -> tuple[str, str]:
    """Return how far the lesson is, and what is answered to `asked`, as HTML."""
    model = proposing.usual(lesson["task"])
    try:
        found = page.workers.call(visitor, "taught", **teaching.asked(visitor, lesson, model, asked))
    except UserError as error:
        return markup.note(str(error), "bad"), ""
    drawn = markup.shares(found["answer"]) if found["answer"] else ""
    return f'<p aria-live="polite">{markup.text(teaching.told(found))}</p>', drawn


def _classes(lesson: Any) -> str:
    """Return the examples by class; of pictures how many there are."""
    names = list(dict.fromkeys(row["label"] for row in lesson["rows"]))
    texts = {name: [row["value"] for row in lesson["rows"] if row["label"] == name][-SHOWN:] for name in names}
    cells = [[f"<b>{markup.text(name)}</b>", markup.text(" · ".join(texts[name]), 400)] for name in names]
    return markup.table([say("class"), say("its last examples")], cells) if cells else ""
