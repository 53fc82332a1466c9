"""Step 5, Try: ask the model, see what mattered, compare it with another one; any published model can be asked too."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from hftransfer import catalog
from hftransfer.errors import UserError
from hftransfer.safety.pictures import DICOM
from hftransfer.ui import (
    adding_part,
    chatting,
    doubtful,
    markup,
    received,
    rules,
    task_guess,
    train_view,
    uploads,
    visitors,
)
from hftransfer.ui.answers_shown import answer_of, answers_of, examples_of, explanation, table_of
from hftransfer.ui.page import Page, html
from hftransfer.ui.saying import retold, say
from hftransfer.ui.visitors import Visitor

RUN, OTHER = "The run above", "A model by its name"
Asks = list[tuple[str, str]]  # what a model is asked with: (role, widget)
EXAMPLES = 12
TYPED = ("textbox", "chat")  # widgets that are boxes of text


def build(page: Page) -> Callable[[], None]:
    """Lay out the step; the function it returns wires it, once every step is laid out."""
    with gr.Column(elem_id="panel-try", elem_classes="step"):
        html(markup.lead("Try it", "What it answers, how sure it is, and what it looked at."))
        origin = gr.Radio([RUN, OTHER], value=RUN, label="Ask", elem_classes="segmented", elem_id="ask-whom")
        with gr.Row(visible=False) as naming:
            name = gr.Textbox(
                label="Model", placeholder="owner/name on the Hub, a sample, or a run", elem_id="try-model"
            )
        about = html(elem_id="try-about")
        kind = gr.State([])  # what the model is asked with: (role, widget) each; nothing yet
        with gr.Column(elem_classes="card-block"):
            with gr.Column(visible=False) as for_text:
                talk = chatting.build()
                text = gr.Textbox(label="Text", lines=3, max_lines=12, elem_id="try-text")
                pair = gr.Textbox(label="Second text", lines=2, visible=False, elem_id="try-second")
            with gr.Column(visible=False) as for_image:
                image = gr.Image(
                    label="Picture", type="filepath", sources=["upload", "webcam", "clipboard"], height=300,
                    buttons=["fullscreen"], elem_id="try-image",
                )  # fmt: skip
            with gr.Column(visible=False) as for_sound:
                sound = gr.Audio(
                    label="Recording",
                    type="filepath",
                    sources=["microphone", "upload"],
                    buttons=["download"],
                    elem_id="try-recording",
                )
            nothing = html(markup.empty("No model to ask yet", "Train one, or name a published one above."))
            against = gr.Dropdown(
                [], value=None, label="Beside", info="Another run or model answers the same", visible=False,
                allow_custom_value=True, elem_id="against",
            )  # fmt: skip
            with gr.Row(elem_classes="foot"):
                why = gr.Button("What mattered?", visible=False, elem_id="why")
                ask = gr.Button("Ask", variant="primary", visible=False, elem_id="ask")
        answer = html(elem_id="answer")
        mattered = html(elem_id="mattered")
        should = adding_part.build(page)
        with gr.Accordion("Examples of the test rows", open=False, elem_classes="fold", visible=False) as fold:
            examples = html(js_on_load=markup.CARDS, elem_id="examples")
        with gr.Accordion("Many at once", open=False, elem_classes="fold", visible=False) as many:
            table = gr.File(label="A table of inputs, a text file with one a line, or a DICOM file",
                            file_types=[*uploads.ASKED, *DICOM],
                            height=140, elem_id="try-table")  # fmt: skip
            answers = html()
            download = gr.DownloadButton("Download the answers", visible=False, size="sm", elem_classes="narrow")
            unsure, label_them = doubtful.build(page)
        with gr.Row(elem_classes="foot"):
            gr.Button("Publish it").click(None, js="() => hftransfer.go('publish')")

    def wire() -> None:
        whom = [origin, name, page.run]
        ready = [
            about,
            kind,
            for_text,
            pair,
            for_image,
            for_sound,
            nothing,
            against,
            why,
            ask,
            fold,
            many,
            answer,
            mattered,
            examples,
            text,
            talk.place,
            talk.shown,
            talk.turns,
            image,
            sound,
        ]

        page.on(origin.change, lambda visitor, chosen: gr.update(visible=chosen == OTHER), [origin], [naming])
        page.on(
            gr.on, partial(choose, page), whom, ready, turn="whom", meanwhile=(about, named),
            triggers=[origin.change, name.submit, page.go["viewed"].change],
        )  # fmt: skip

        question = [*whom, kind, text, pair, image, sound]
        asking: dict[str, Any] = {"turn": "answer", "meanwhile": (answer, ASKING), "trigger_mode": "always_last"}
        picked = page.on(examples.click, partial(pick, page), [page.run], [text, pair, image, sound], picks=True)
        events = (ask.click, text.submit, picked.success)
        for event in events:
            page.on(event, partial(asked, page), [*question, against], [answer, mattered], **asking)
        should([*whom, kind, text, pair, image, sound], _input)
        chatting.wire(page, talk, lambda *given: _where(page, *given), events, [*whom, kind, text], text)

        page.on(why.click, partial(explained, page), question, [mattered], turn="answer",
                meanwhile=(mattered, "Hiding one part after the other …"))  # fmt: skip

        page.on(fold.expand, partial(show_examples, page), [page.run], [examples], turn="examples",
                meanwhile=(examples, "Fetching rows …"))  # fmt: skip

        page.on(table.upload, partial(batch, page), [table, *whom, kind], [answers, download, table, unsure],
                meanwhile=(answers, "Answering every row …"))  # fmt: skip
        label_them()

    return wire


def choose(page: Page, visitor: Visitor, chosen: str, typed: str, run: str | None) -> list[Any]:
    """Show the widgets that a model is asked with."""
    known = _known(page, visitor, chosen, typed, run)
    done = [r for r in page.queue.runs(visitor) if r.name != run and page.monitor.result(r.folder)]
    runs = [(train_view.called(r), r.name) for r in done]
    asks = known.get("asks", [])
    there, talks = bool(asks), chatting.is_chat(asks)
    texts = [role for role, widget in asks if widget in TYPED]
    heard, labels = any(widget == "recording" for _, widget in asks), labels_of(known.get("task"), asks)
    return [
        known["about"], asks, gr.update(visible=bool(texts)),
        gr.update(visible=len(texts) > 1, **_label(labels, "second")),
        gr.update(visible=any(widget == "picture" for _, widget in asks)), gr.update(visible=heard),
        gr.update(visible=not there),
        gr.update(visible=there and not talks, choices=[(say("nothing"), ""), *runs], value=""),
        gr.update(visible=there and not talks and not heard), gr.update(visible=there),
        gr.update(visible=chosen == RUN and there), gr.update(visible=there and len(texts) == len(asks)),
        _unasked(asks, chosen) if there and not talks else "", "", "", gr.update(**_label(labels, "text")),
        gr.update(visible=talks), chatting.none(), [],
        gr.update(**_label(labels, "picture")), gr.update(**_label(labels, "recording")),
    ]  # fmt: skip


def named(visitor: Visitor, chosen: str, typed: str, run: str | None) -> Any:
    """Say that a model is looked at, where one was named."""
    return markup.looking("Looking at the model …") if chosen == OTHER and (typed or "").strip() else gr.skip()


def asked(
    page: Page,
    visitor: Visitor, chosen: str, typed: str, run: str | None, asks: Asks, words: str, second: str,
    picture: str | None, recording: str | None, beside: str | None,
) -> list[Any]:  # fmt: skip
    """Answer what stands in the widgets, by another model beside it if one is named."""
    if chatting.is_chat(asks):
        return ["", ""]
    where = _where(page, visitor, chosen, typed, run)
    value = _input(asks, words, second, {"picture": picture, "recording": recording})
    try:
        found = page.workers.call(visitor, "predict", where=where, inputs=[value], top_k=None)[0]
        parts = [(_called(page, visitor, run if chosen == RUN else typed), answer_of(found))]
        if beside:
            place = rules.place(visitor, beside, page.settings)
            other = page.workers.call(visitor, "predict", where=place, inputs=[value], top_k=None)[0]
            parts.append((_called(page, visitor, beside), answer_of(other)))
    except UserError as error:
        return [markup.note(str(error), "bad"), ""]
    if len(parts) == 1:
        return [f'<div class="card-block" style="padding:20px 22px">{parts[0][1]}</div>', ""]
    cells = "".join(f'<div class="card-block" style="padding:20px 22px">{markup.title(t)}{a}</div>' for t, a in parts)
    return [f'<div class="charts">{cells}</div>', ""]


def explained(
    page: Page,
    visitor: Visitor, chosen: str, typed: str, run: str | None, asks: Asks, words: str, second: str,
    picture: str | None, recording: str | None,
) -> str:  # fmt: skip
    """Show what mattered for the answer."""
    where = _where(page, visitor, chosen, typed, run)
    value = _input(asks, words, second, {"picture": picture, "recording": recording})
    try:
        return explanation(page.workers.call(visitor, "explain", where=where, input=value))
    except UserError as error:
        return markup.note(str(error), "bad")


def show_examples(page: Page, visitor: Visitor, run: str | None) -> str:
    """Show test rows to try."""
    if not run:
        return ""
    try:
        rows = page.workers.call(visitor, "examples", run=visitors.find(visitor, run).name, n=EXAMPLES)
    except UserError as error:
        return markup.note(str(error))
    return examples_of(rows)


def pick(page: Page, visitor: Visitor, picked: str, run: str | None) -> list[Any]:
    """Put an example into the widgets."""
    rows = page.workers.call(visitor, "examples", run=visitors.find(visitor, str(run)).name, n=EXAMPLES)
    row: dict[str, Any] = next((r["input"] for r in rows if str(r["row_id"]) == picked), {})
    pictures = [entry["value"] for entry in row.values() if entry["form"] == "picture"]
    sounds = [entry["sound"] for entry in row.values() if "sound" in entry]
    written = [entry for entry in row.values() if entry["form"] != "picture" and "sound" not in entry]
    texts = [str(entry["value"] or "") for entry in written]
    words, second, *_ = [*texts, "", ""]
    files = [
        _file_of(found[0], name) if found else None
        for found, name in ((pictures, "example.png"), (sounds, "example.wav"))
    ]
    return [*([words, second] if texts else [gr.skip()] * 2), *files]  # labels beside a picture stay


def batch(
    page: Page, visitor: Visitor, path: str | None, chosen: str, typed: str, run: str | None, asks: Asks
) -> list[Any]:
    """Answer every row of a table."""
    if path is None:
        return [gr.skip() for _ in range(4)]
    where = _where(page, visitor, chosen, typed, run)
    try:
        one = {"image" if Path(path).suffix.lower() in DICOM else "table": path}
        found = page.workers.call(visitor, "predict", where=where, inputs=[one], top_k=None)
    except UserError as error:
        return [markup.note(str(error), "bad"), gr.update(visible=False), None, []]
    rows = doubtful.proposed(found, [role for role, _ in asks]) if chosen == RUN else []
    return [answers_of(found), gr.update(visible=True, value=table_of(found)), None, rows]


# --- whom and what ---


def _known(page: Page, visitor: Visitor, chosen: str, typed: str, run: str | None) -> dict[str, Any]:
    """Return what there is to say of the model, and what it is asked with; nothing when there is no model."""
    if chosen == RUN:
        result = page.monitor.result(visitors.find(visitor, run).folder) if run else {}
        if not result:
            return {"about": ""}
        asks = _asks(result["task"], [one["role"] for one in result.get("columns") or ()])
        return {"about": "", "asks": asks, "task": result["task"]}
    if not (typed or "").strip():
        return {"about": ""}
    try:
        found = page.workers.call(
            visitor, "model", model=rules.place(visitor, typed.strip(), page.settings), revision=None, task=None
        )
    except UserError as error:
        return {"about": markup.note(str(error), "bad")}
    task = found.get("task")
    if task not in catalog.tasks():
        return {"about": markup.note("It is no model that can be asked here. Train it for a task first.", "warn")}
    labels = [str(label) for label in found.get("labels") or []]
    some = ", ".join(labels[:12]) + (say(" and {n} more", n=len(labels) - 12) if len(labels) > 12 else "")
    count = markup.short_count(found.get("parameters"))
    words = [say("{task}, {n} parameters.", task=task_guess.label(task), n=count)]
    words += [say("It answers with: {labels}.", labels=some)] if some else []
    return {"about": markup.note(" ".join(words)), "asks": _asks(task, ()), "task": task}


def _asks(task: str, found: Sequence[str]) -> Asks:
    """Return what a model is asked with, a (role, widget) each: required, of a column, or given with the question."""
    known = catalog.task(task).shown
    roles = [role for role in known if role.required or role.asks or (role.name in found and not role.teaches)]
    return [(role.name, role.takes.widget) for role in roles if role.takes is not None]


ASKING = "Asking …"
GIVEN = {"picture": "take, paste or drop a picture", "recording": "record a sound or drop a file"}


def _unasked(asks: Asks, chosen: str) -> str:
    """Return what stands where the answer will, and how to get one."""
    each = dict.fromkeys(retold(GIVEN.get(widget, "")) or say("write a text") for _, widget in asks)
    steps = say(", ").join(each)
    words = say("{steps}, or pick an example of the test rows.", steps=steps)
    if chosen != RUN:
        words = say("{steps}.", steps=steps)
    return markup.empty("Nothing asked yet", words[0].upper() + words[1:])


def labels_of(task: str | None, asks: Asks) -> dict[str, str]:
    """Return what is given with each widget, in words; `second` is the second box of text, `text` the first."""
    roles = {role.name: role for role in catalog.task(task).shown} if task else {}
    found: dict[str, str] = {}
    for role, widget in asks:
        place = widget if widget not in TYPED else "second" if "text" in found else "text"
        found[place] = retold(roles[role].asked[:1].upper() + roles[role].asked[1:])
    return found


def _label(labels: Mapping[str, str], place: str) -> dict[str, Any]:
    return {"label": labels[place]} if place in labels else {}


def _where(page: Page, visitor: Visitor, chosen: str, typed: str, run: str | None) -> str:
    wanted = run if chosen == RUN else (typed or "").strip()
    if not wanted:
        raise UserError("a model is needed", "none is named", "Pick a run, or name a model.")
    return rules.place(visitor, wanted, page.settings)


def _called(page: Page, visitor: Visitor, name: str | None) -> str:
    """Return what a model is called over its answer: a run as people call it, any other by its name."""
    words = (name or "").strip()
    return next((train_view.called(run) for run in page.queue.runs(visitor) if run.name == words), words)


FILES = {
    "picture": ("a picture is needed", "Take, paste or drop one."),
    "recording": ("a recording is needed", "Record or drop one."),
}


def _input(asks: Asks, words: str, second: str, files: Mapping[str, str | None]) -> dict[str, Any]:
    """Return an input by role, of what stands in the widgets; `files` are those of widgets that give one."""
    texts = iter((words, second))
    value: dict[str, Any] = {}
    for role, widget in asks:
        if widget in FILES:
            if not files[widget]:
                raise UserError(FILES[widget][0], "there is none yet", FILES[widget][1])
            value[role] = files[widget]
            continue
        text = next(texts, "")
        if (text or "").strip():
            value[role] = text
        elif not value:
            raise UserError("a text is needed", "there is none yet", "Write one, or pick an example.")
    return value


def _file_of(url: str, name: str) -> str:
    """Write what came as a data: URL to a file, for its widget."""
    data = base64.b64decode(url.partition(",")[2])
    path = received.place(name)
    path.write_bytes(data)
    return str(path)
