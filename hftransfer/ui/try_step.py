"""Step 5, Try: ask the model, see what mattered, compare it with another one; any published model can be asked too."""

from __future__ import annotations

import base64
import csv
import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from hftransfer import catalog
from hftransfer.errors import UserError
from hftransfer.ui import markup, rules, uploads, visitors
from hftransfer.ui.data_step import looking
from hftransfer.ui.markup import Card
from hftransfer.ui.page import Page, html
from hftransfer.ui.visitors import Visitor

RUN, OTHER = "The run above", "A model by its name"
TOP = 5
EXAMPLES = 12
SHOWN_ROWS = 50
NOTHING = markup.empty("Nothing asked yet", "Write a text or take a picture, or pick an example of the test rows.")
NO_MODEL = markup.empty("No model to ask yet", "Train one, or name a published one above.")


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
        kind = gr.State("")  # the widget that the model's task takes: text, image, or none yet
        with gr.Column(elem_classes="card-block"):
            with gr.Column(visible=False) as for_text:
                text = gr.Textbox(label="Text", lines=3, max_lines=12, elem_id="try-text")
                pair = gr.Textbox(label="Second text", lines=2, visible=False)
            with gr.Column(visible=False) as for_image:
                image = gr.Image(
                    label="Picture", type="filepath", sources=["upload", "webcam", "clipboard"], height=300,
                    elem_id="try-image",
                )  # fmt: skip
            nothing = html(NO_MODEL)
            against = gr.Dropdown(
                [], value=None, label="Beside", info="Another run or model answers the same", visible=False,
                allow_custom_value=True, elem_id="against",
            )  # fmt: skip
            with gr.Row(elem_classes="foot"):
                why = gr.Button("What mattered?", visible=False, elem_id="why")
                ask = gr.Button("Ask", variant="primary", visible=False, elem_id="ask")
        answer = html(NOTHING, elem_id="answer")
        mattered = html(elem_id="mattered")
        with gr.Accordion("Examples of the test rows", open=False, elem_classes="fold", visible=False) as fold:
            examples = html(js_on_load=markup.CARDS, elem_id="examples")
        with gr.Accordion("Many at once", open=False, elem_classes="fold", visible=False) as many:
            table = gr.File(label="A table of inputs: CSV, TSV, JSONL or Parquet", file_types=[*uploads.KINDS[:-1]],
                            height=140, elem_id="try-table")  # fmt: skip
            answers = html()
            download = gr.DownloadButton("Download the answers", visible=False, size="sm", elem_classes="narrow")
        with gr.Row(elem_classes="foot"):
            gr.Button("Publish it", variant="primary").click(None, js="() => hftransfer.go('publish')")

    def wire() -> None:
        whom = [origin, name, page.run]
        ready = [
            about,
            kind,
            for_text,
            pair,
            for_image,
            nothing,
            against,
            why,
            ask,
            fold,
            many,
            answer,
            mattered,
            examples,
        ]

        def choose(visitor: Visitor, chosen: str, typed: str, run: str | None) -> list[Any]:
            known = _known(page, visitor, chosen, typed, run)
            runs = [r.name for r in page.queue.runs(visitor) if r.name != run and page.monitor.result(r.folder)]
            widget = known.get("widget", "")
            there = bool(widget)
            return [
                known["about"], widget, gr.update(visible=widget == "text"),
                gr.update(visible=known.get("pair", False)),
                gr.update(visible=widget == "image"), gr.update(visible=not there),
                gr.update(visible=there, choices=[("nothing", ""), *((r, r) for r in runs)], value=""),
                gr.update(visible=there), gr.update(visible=there), gr.update(visible=chosen == RUN and there),
                gr.update(visible=there and widget == "text"), NOTHING if there else "", "", "",
            ]  # fmt: skip

        page.on(origin.change, lambda visitor, chosen: gr.update(visible=chosen == OTHER), [origin], [naming])
        page.on(name.submit, lambda visitor: looking("Looking at the model …"), [], [about])
        page.on(
            gr.on, choose, whom, ready,
            triggers=[origin.change, name.submit, page.go["viewed"].change],
        )  # fmt: skip

        def asked(
            visitor: Visitor, chosen: str, typed: str, run: str | None, widget: str, words: str, second: str,
            picture: str | None, beside: str | None,
        ) -> list[Any]:  # fmt: skip
            where = _where(page, visitor, chosen, typed, run)
            value = _input(page, visitor, widget, words, second, picture)
            try:
                found = page.workers.call(visitor, "predict", where=where, inputs=[value], top_k=None)[0]
                parts = [(_title(chosen, typed, run), answer_of(found))]
                if beside:
                    place = rules.place(visitor, beside, page.settings)
                    other = page.workers.call(visitor, "predict", where=place, inputs=[value], top_k=None)[0]
                    parts.append((beside, answer_of(other)))
            except UserError as error:
                return [markup.note(str(error), "bad"), ""]
            if len(parts) == 1:
                return [f'<div class="card-block" style="padding:20px 22px">{parts[0][1]}</div>', ""]
            cells = "".join(
                f'<div class="card-block" style="padding:20px 22px">{markup.title(t)}{a}</div>' for t, a in parts
            )
            return [f'<div class="charts">{cells}</div>', ""]

        question = [*whom, kind, text, pair, image]
        for event in (ask.click, text.submit):
            page.on(event, lambda visitor: looking("Asking …"), [], [answer])
            page.on(event, asked, [*question, against], [answer, mattered])

        def explained(
            visitor: Visitor, chosen: str, typed: str, run: str | None, widget: str, words: str, second: str,
            picture: str | None,
        ) -> str:  # fmt: skip
            where = _where(page, visitor, chosen, typed, run)
            value = _input(page, visitor, widget, words, second, picture)
            try:
                return explanation(page.workers.call(visitor, "explain", where=where, input=value))
            except UserError as error:
                return markup.note(str(error), "bad")

        page.on(why.click, lambda visitor: looking("Hiding one part after the other …"), [], [mattered])
        page.on(why.click, explained, question, [mattered])

        def show_examples(visitor: Visitor, run: str | None) -> str:
            if not run:
                return ""
            try:
                rows = page.workers.call(visitor, "examples", run=visitors.find(visitor, run).name, n=EXAMPLES)
            except UserError as error:
                return markup.note(str(error))
            return examples_of(rows)

        page.on(fold.expand, lambda visitor: looking("Fetching rows …"), [], [examples])
        page.on(fold.expand, show_examples, [page.run], [examples])

        def pick(visitor: Visitor, picked: str, run: str | None) -> list[Any]:
            rows = page.workers.call(visitor, "examples", run=visitors.find(visitor, str(run)).name, n=EXAMPLES)
            row: dict[str, Any] = next((r["input"] for r in rows if str(r["row_id"]) == picked), {})
            values = {role: entry["value"] for role, entry in row.items()}
            picture = _file_of(values["image"]) if "image" in values else None
            words = values.get("text", values.get("words", ""))
            return [words if isinstance(words, str) else " ".join(words), values.get("text_pair") or "", picture]

        picked = page.on(examples.click, pick, [page.run], [text, pair, image], picks=True)
        page.on(picked.success, asked, [*question, against], [answer, mattered])

        def batch(visitor: Visitor, path: str | None, chosen: str, typed: str, run: str | None) -> list[Any]:
            if path is None:
                return [gr.skip(), gr.skip(), gr.skip()]
            where = _where(page, visitor, chosen, typed, run)
            try:
                found = page.workers.call(visitor, "predict", where=where, inputs=[{"table": path}], top_k=None)
            except UserError as error:
                return [markup.note(str(error), "bad"), gr.update(visible=False), None]
            return [answers_of(found), gr.update(visible=True, value=_csv_of(found)), None]

        page.on(table.upload, lambda visitor: looking("Answering every row …"), [], [answers])
        page.on(table.upload, batch, [table, *whom], [answers, download, table])

    return wire


# --- whom and what ---


def _known(page: Page, visitor: Visitor, chosen: str, typed: str, run: str | None) -> dict[str, Any]:
    """Return what there is to say of the model, and which widget it takes; no widget when there is no model."""
    if chosen == RUN:
        result = page.monitor.result(visitors.find(visitor, run).folder) if run else {}
        if not result:
            return {"about": ""}
        task = result["task"]
        columns = visitors.find(visitor, str(run)).config().data.columns
        return {"about": "", "widget": catalog.task(task).input_widget, "pair": "text_pair" in columns}
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
        return {
            "about": markup.note("It is not a classifier that can be asked here. Train it for a task first.", "warn")
        }
    labels = [str(label) for label in found.get("labels") or []]
    some = ", ".join(labels[:12]) + (f" and {len(labels) - 12} more" if len(labels) > 12 else "")
    words = [f"{task.replace('-', ' ').capitalize()}, {markup.short_count(found.get('parameters'))} parameters."]
    words += [f"It answers with: {some}."] if some else []
    return {"about": markup.note(" ".join(words)), "widget": catalog.task(task).input_widget, "pair": False}


def _where(page: Page, visitor: Visitor, chosen: str, typed: str, run: str | None) -> str:
    wanted = run if chosen == RUN else (typed or "").strip()
    if not wanted:
        raise UserError("a model is needed", "none is named", "Pick a run, or name a model.")
    return rules.place(visitor, wanted, page.settings)


def _title(chosen: str, typed: str, run: str | None) -> str:
    return str(run) if chosen == RUN else typed.strip()


def _input(page: Page, visitor: Visitor, widget: str, words: str, second: str, picture: str | None) -> Any:
    if widget == "image":
        if not picture:
            raise UserError("a picture is needed", "there is none yet", "Take, paste or drop one.")
        return {"image": picture}
    if not (words or "").strip():
        raise UserError("a text is needed", "there is none yet", "Write one, or pick an example.")
    return {"text": words, "text_pair": second} if (second or "").strip() else words


def _file_of(picture: str) -> str:
    """Write a picture that came as a data: URL to a file, for the picture's widget."""
    data = base64.b64decode(picture.partition(",")[2])
    with tempfile.NamedTemporaryFile(prefix="example-", suffix=".png", delete=False) as file:
        file.write(data)
    return file.name


# --- answers ---


def answer_of(found: Mapping[str, Any]) -> str:
    """Return one answer of the Predictor: the label with its probabilities, the labels, a number, or tagged words."""
    if "tags" in found:
        return tagged(found["words"], found["tags"], found.get("scores") or [])
    if "scores" not in found:
        return f'<p class="answer">{markup.significant(found.get("score"), 5)}</p>'
    scores = list(found["scores"].items())
    if "labels" in found:
        names = ", ".join(map(str, found["labels"])) or "none of them"
        return f'<p class="answer">{markup.text(names)}</p>{markup.shares(scores[:TOP])}'
    small = f"<small>{found['score']:.1%} sure</small>"
    return f'<p class="answer">{markup.text(found["label"])}{small}</p>{markup.shares(scores[:TOP])}'


def tagged(words: Sequence[str], tags: Sequence[str], scores: Sequence[Any]) -> str:
    """Return words with their tags below."""
    sure = [f" {score:.2f}" if isinstance(score, int | float) else "" for score in scores] or [""] * len(words)
    cells = "".join(
        f'<ruby class="{"out" if tag == "O" else "tag"}">{markup.text(word)}<rt>{markup.text(tag)}{s}</rt></ruby> '
        for word, tag, s in zip(words, tags, sure, strict=False)
    )
    return f'<p class="words tagged">{cells}</p>'


def explanation(found: Mapping[str, Any]) -> str:
    """Return what mattered: words tinted by their weight, or the picture with the parts that spoke for the answer."""
    head = markup.title("What mattered", "blue spoke for the answer, amber against it")
    if found.get("kind") == "tokens":
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
        picture = markup.picture(found["image"], "the picture that was asked")
        inside = f'<div class="heat" style="--columns:{columns}">{picture}<div>{cells}</div></div>'
    return f'<div class="card-block" style="padding:20px 22px">{head}{inside}</div>'


def _tint(weight: float, largest: float) -> str:
    css = "for" if weight >= 0 else "against"
    return f'class="{css}" style="--weight:{abs(weight) / largest:.2f}" title="{weight:+.3f}"'


def examples_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return examples to click: texts as cards, pictures as pictures."""
    if not rows:
        return markup.note("This run kept no examples.")
    if all("image" not in row["input"] for row in rows):
        cards = [Card(str(row["row_id"]), " · ".join(_words(e) for e in row["input"].values())) for row in rows]
        return markup.cards(cards, None, "Examples", wide=True)
    figures = "".join(
        f'<button type="button" data-pick="{markup.text(row["row_id"])}">'
        f"{markup.picture(row['input']['image']['value'], 'example')}</button>"
        for row in rows
    )
    return f'<div class="pictures picks" role="group" aria-label="Examples">{figures}</div>'


def _words(entry: Mapping[str, Any]) -> str:
    value = entry.get("value")
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 160 else text[:159] + "…"


def answers_of(found: Sequence[Mapping[str, Any]]) -> str:
    """Return the answers to a table's rows; the first of them, when they are many."""
    rows = [
        [markup.text(_words({"value": _shown(one["input"])})), markup.text(_short(one))] for one in found[:SHOWN_ROWS]
    ]
    more = (
        f"The first {SHOWN_ROWS} of {len(found):,}; all of them are in the download."
        if len(found) > SHOWN_ROWS
        else ""
    )
    return markup.table(["input", "answer"], rows) + markup.note(more)


def _shown(value: Any) -> Any:
    return " · ".join(map(str, value.values())) if isinstance(value, dict) else value


def _short(one: Mapping[str, Any]) -> str:
    if "tags" in one:
        return " ".join(f"{w}/{t}" for w, t in zip(one["words"], one["tags"], strict=False))
    if "labels" in one:
        return ", ".join(one["labels"])
    return f"{one['label']} {one['score']:.3f}" if "label" in one else f"{one['score']:.5g}"


def _csv_of(found: Sequence[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["input", "answer"])
    for one in found:
        row = [_shown(one["input"]), _short(one)]
        # a spreadsheet would run what starts like a formula
        writer.writerow([f"'{v}" if str(v)[:1] in ("=", "+", "-", "@") else v for v in map(str, row)])
    path = Path(tempfile.mkdtemp(prefix="hftransfer-answers-")) / "answers.csv"
    path.write_text(out.getvalue(), encoding="utf-8")
    return str(path)
