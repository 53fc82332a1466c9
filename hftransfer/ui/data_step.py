"""Step 1, Data: choose a sample, a file, a data set of the Hub or a folder, and see its rows as the model will."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from hftransfer import catalog, samples
from hftransfer.errors import UserError
from hftransfer.runs import is_hub_id
from hftransfer.ui import markup, rows_shown, search, task_guess, teaching, teaching_part, uploads, visitors
from hftransfer.ui.fetching import fetch, fetching, presence
from hftransfer.ui.line import LINE
from hftransfer.ui.markup import Card
from hftransfer.ui.page import ROLES, Page, html, role_names, role_update
from hftransfer.ui.saying import retold, say
from hftransfer.ui.visitors import Visitor

FIRST = "text-classification"  # the task that a page begins with
UPLOAD, SAMPLE, EXAMPLES, HUB, PATH = ORIGINS = (
    "Upload", "A sample", "Examples you give", "Hugging Face Hub", "A path"
)  # fmt: skip
TASK, ROWS = "task", "rows"  # what is asked for that a later question makes out of date
READING = "Reading the first rows …"
ANEW = [""] * ROLES  # another source has other columns
SEEN = 4 + ROLES  # widgets that show rows, below the box that holds them


def nothing() -> str:
    """Return what stands where rows will."""
    words = say("Bring a table (CSV, Excel, JSONL, Parquet), or a zip of folders; or choose a sample to look around.")
    return markup.empty("No data yet", words)


def build(page: Page) -> Callable[[], None]:
    """Lay out the step; the function it returns wires it, once every step is laid out."""
    origins = ORIGINS if not page.settings.space else ORIGINS[:4]
    with gr.Column(elem_id="panel-data", elem_classes="step"):
        html(
            markup.lead(
                "What should the model learn from?",
                "Drop a file, and its task is guessed; or look around with a sample.",
            )
        )
        origin = gr.Radio(
            list(origins), value=origins[0], label="Rows from", elem_classes="segmented", elem_id="origin"
        )
        with gr.Column(elem_id="from-upload") as from_upload:
            file, mine = _upload()
            delete = gr.Button("Delete the chosen file", size="sm", elem_classes="narrow", elem_id="delete-upload",
                               visible=False)  # fmt: skip
        from_examples, teach = teaching_part.build(page)
        guessed = html(elem_id="task-said")
        task = gr.Radio(
            [(task_guess.label(name), name) for name in catalog.tasks()], value=FIRST, label="Task",
            elem_classes="segmented", elem_id="task",
        )  # fmt: skip
        with gr.Column(visible=False, elem_id="from-sample") as from_sample:
            sample_cards = html(_samples(FIRST, None), js_on_load=markup.CARDS)
        with gr.Column(visible=False) as from_hub:
            with gr.Row(elem_classes="inline"):
                words = gr.Textbox(label="Search data sets", placeholder="reviews, flowers, news, or owner/name",
                                   scale=4, elem_id="data-search")  # fmt: skip
                gated = gr.Checkbox(label="Fits the task", value=True, scale=1, min_width=120)
            found = html(js_on_load=markup.CARDS)
        with gr.Column(visible=False) as from_path:
            source = gr.Textbox(label="Folder or file on this machine, sample or Hub id",
                                placeholder="./my_photos or reviews.csv", elem_id="source")  # fmt: skip
        said = html(nothing(), elem_id="data-said")
        with gr.Column(visible=False, elem_classes="card-block") as seen:
            summary = html(elem_id="data-summary")
            with gr.Row():
                for place in range(ROLES):
                    page.roles.append(
                        gr.Dropdown(
                            [],
                            label=f"Role {place + 1}",
                            visible=False,
                            allow_custom_value=True,
                            min_width=180,
                            elem_id=f"role-{place}",
                        )
                    )
            reasons = html()
            with gr.Row():
                balance = html(min_height=0)
            rows = html(elem_id="data-rows")
        splits, again = _rows_and_splits()
        later = gr.Button("Look at the rows", elem_id="look-now")
        with gr.Row(elem_classes=["foot", "bar"]):
            ready = html(elem_id="ready")
            page.go["measure"] = gr.Button("Measure time and memory", elem_id="measure-now")
            gr.Button("Choose a model and a method").click(None, js="() => hftransfer.go('model')")
            page.go["train"] = gr.Button("Train", variant="primary", elem_id="train-now")

    page.widgets |= {"task": task, "data.source": source, **splits}
    page.go |= {"origin": origin, "data_said": said, "ready": ready, "mine": (_mine, [source], [mine])}

    def wire() -> None:
        shown = [said, seen, summary, *page.roles, reasons, balance, rows]

        parts = [from_upload, from_sample, from_examples, from_hub, from_path]
        page.on(origin.change, change_origin, [origin], [*parts, mine])
        page.on(source.change, offer_deletion, [source], [delete])

        page.on(task.change, change_task, [task, source], [sample_cards, *page.roles])

        def look_at(event: Any) -> None:
            page.on(event, partial(look, page), page.inputs, shown, turn=ROWS, meanwhile=(said, READING),
                    trigger_mode="always_last")  # fmt: skip

        def then_look(event: Any) -> None:
            look_at(event.success)

        page.go["look"] = (partial(look, page), shown)
        page.go["then_look"] = then_look
        teach(source, task)
        of_sample = [source, task, splits["data.group"], *page.roles]
        then_look(page.on(sample_cards.click, pick_sample, [], of_sample, picks=True, outdates=TASK,
                          meanwhile=(said, waiting)))  # fmt: skip

        def guess_at(event: Any) -> None:
            then_look(page.on(event, partial(task_guess.guess, page), page.inputs, [task, guessed], turn=TASK,
                              meanwhile=(said, READING)))  # fmt: skip

        arrived = page.on(file.upload, partial(taken, page), [file], [source, file, mine, *page.roles], outdates=TASK,
                          meanwhile=(said, "Checking the file …"))  # fmt: skip
        page.on(arrived.failure, lambda visitor: None, [], [file])  # the box is there for another one
        guess_at(arrived.success)
        sure = "(place) => hftransfer.sure(place.split('/').pop()) ? place : null"
        then_look(page.on(delete.click, remove, [source], [source, mine], js=sure))
        for cards in (mine, found):
            picked = page.on(
                cards.click, lambda visitor, picked: [picked, *ANEW], [], [source, *page.roles], picks=True,
                outdates=TASK, meanwhile=(said, READING),
            )  # fmt: skip
            (guess_at if cards is mine else look_at)(picked.success)
        guess_at(source.submit)
        for event in (again.click, later.click, *(role.input for role in page.roles)):
            look_at(event)
        then_look(page.on(task.input, lambda visitor: "", [], [guessed], outdates=TASK))

        page.on(words.submit, searched, [words, gated, task, source], [found], turn="data sets",
                meanwhile=(found, "Asking the Hub …"))  # fmt: skip

    return wire


def _upload() -> tuple[Any, Any]:
    """Lay out where a file is brought, by itself or out of a folder; return its widget, and the files there are."""
    file = gr.File(
        label="A table, or a zip of folders of pictures or recordings",
        file_types=list(uploads.KINDS), height=150, elem_id="upload",
    )  # fmt: skip
    gr.Button("Choose a folder", size="sm", elem_classes="narrow", elem_id="choose-folder").click(
        None, js="() => hftransferBring()"
    )
    html(markup.small("Drop a folder or several files too, or paste a table: they arrive as one file."))
    mine = html(js_on_load=markup.CARDS)
    return file, mine


def _rows_and_splits() -> tuple[dict[str, Any], Any]:
    """Lay out how many rows are taken and how they are split; return widgets by what they set, and a button."""
    with gr.Accordion("Rows and splits", open=False, elem_classes="fold"):
        with gr.Row():
            max_rows = gr.Textbox(
                label="Use at most", info="Rows of the whole source, drawn with the seed", placeholder="all",
                min_width=150, elem_id="max-rows",
            )  # fmt: skip
            test_size = gr.Textbox(
                label="Test",
                info="Share or number, where there is no test split",
                placeholder="0.2",
                min_width=150,
            )
            validation_size = gr.Textbox(
                label="Validation", info="Share or number, where there is none", placeholder="0.1", min_width=150
            )
        with gr.Row():
            group = gr.Textbox(label="Keep together", info="A column whose equal values stay in one split",
                               min_width=150)  # fmt: skip
            name = gr.Textbox(label="Configuration", info="Of a Hub data set with several", min_width=150)
            revision = gr.Textbox(label="Revision", info="Branch, tag or commit of a Hub data set", min_width=150)
        again = gr.Button("Look again", size="sm", elem_classes="narrow")
    return {
        "data.max_rows": max_rows, "data.test_size": test_size, "data.validation_size": validation_size,
        "data.group": group, "data.name": name, "data.revision": revision,
    }, again  # fmt: skip


def change_origin(visitor: Visitor, chosen: str) -> list[Any]:
    """Show the part of the place that rows come from."""
    return [*(gr.update(visible=chosen == o) for o in ORIGINS), _mine(visitor, None)]


def offer_deletion(visitor: Visitor, place: str | None) -> Any:
    """Offer to delete a source where it is a file of the visitor's own."""
    return gr.update(visible=_is_upload(visitor, place))


def remove(visitor: Visitor, place: str | None) -> list[Any]:
    """Delete a file that was uploaded."""
    if not place:
        return [gr.skip(), gr.skip()]
    uploads.remove(visitor, place)
    return ["", _mine(visitor, None)]


def change_task(visitor: Visitor, chosen: str, place: str) -> list[Any]:
    """Show the samples and the roles of a task; with rows, their look says which columns play them."""
    roles = (gr.skip() if place else role_update(chosen, i) for i in range(ROLES))
    return [_samples(chosen, place), *roles]


def pick_sample(visitor: Visitor, picked: str) -> Any:
    """Take a sample for the source; it is fetched where it is not here."""
    if not samples.SAMPLES[picked].present:
        visitors.require(visitor)
        fetch(picked, visitor)
    one = samples.SAMPLES[picked]
    return [f"{samples.PREFIX}{picked}", one.task, one.group, *ANEW]


def waiting(visitor: Visitor, picked: str) -> str:
    """Say what is waited for: a sample that is fetched, or its rows."""
    one = samples.SAMPLES.get(picked)
    if one is not None and not one.present:
        return markup.looking(fetching(picked))
    return markup.looking()


def taken(page: Page, visitor: Visitor, path: str | None) -> Any:
    """Take in a file that arrived; the roles of its columns are found anew."""
    if path is None:
        return [gr.skip() for _ in range(3 + ROLES)]
    visitors.require(visitor)
    place = str(uploads.accept(visitor, path, page.settings))
    return [place, None, _mine(visitor, place), *ANEW]


def look(page: Page, visitor: Visitor, *values: Any) -> Any:
    """Show the rows of the form's source as the model will see them, or say why not."""
    tree = page.tree(values)
    if "source" not in tree.get("data", {}):
        return [nothing(), gr.update(visible=False), *(gr.skip() for _ in range(SEEN))]
    try:
        answer = page.workers.call(visitor, "preview", tree=tree)
    except UserError as error:
        folder = str(visitor.uploads.absolute() / "_")[:-1]
        why = str(error).replace(folder, "")  # people know their file by its name
        return [markup.note(why, "bad"), gr.update(visible=False), *(gr.skip() for _ in range(SEEN))]
    return ["", gr.update(visible=True), *_seen(answer, tree)]


def searched(visitor: Visitor, text: str, fits: bool, chosen: str, place: str) -> str:
    """Search data sets of the Hub."""
    with LINE.turn(visitor):
        results = search.datasets(text, chosen if fits else None, visitor.token)
    return search.shown(results, place, say("Data sets on the Hub"))


def origin_of(visitor: Visitor, tree: Mapping[str, Any]) -> str:
    """Return where a configuration's rows come from, as the choice above the cards."""
    source = str(tree.get("data", {}).get("source") or "")
    if not source:
        return UPLOAD
    if source.startswith(samples.PREFIX):
        return SAMPLE
    if visitor.owns(source) and Path(source).is_relative_to(visitor.uploads.absolute()):
        return EXAMPLES if teaching.is_source(source) else UPLOAD
    return HUB if visitor.local is False or is_hub_id(source) else PATH


def _samples(task: str, source: str | None) -> str:
    found = [
        Card(one.name, one.name, retold(one.about), (
            (f"{one.size / 1e6:.1f} MB", ""), (one.licence.split(",")[0], ""), presence(one.present),
        ))
        for one in samples.data_sets() if one.task == task
    ]  # fmt: skip
    chosen = source.removeprefix(samples.PREFIX) if source else None
    return markup.cards(found, chosen, "Sample data sets", wide=True)


def _mine(visitor: Visitor, chosen: str | None) -> str:
    if visitor.anonymous:
        return markup.note("Sign in to upload files of your own.")
    files = uploads.listing(visitor)
    cards = [Card(str(p), p.name, "", ((markup.size(_size_mb(p)), ""),)) for p in files[:24]]
    return markup.cards(cards, chosen, "Your files") if cards else ""


def _is_upload(visitor: Visitor, place: str | None) -> bool:
    """Tell whether a source is a file that this visitor uploaded."""
    return bool(place) and not visitor.anonymous and Path(str(place)) in uploads.listing(visitor)


def _size_mb(path: Path) -> float:
    return path.stat().st_size / 1e6 if path.is_file() else 0.0


def _seen(answer: dict[str, Any], tree: dict[str, Any]) -> list[Any]:
    task = tree["task"]
    columns = [column["name"] for column in answer["columns"]]
    guessed = {choice["role"]: choice["column"] for choice in answer["choices"]}
    explicit = tree["data"].get("columns", {})
    names = [*role_names(task), *[""] * ROLES][:ROLES]
    roles = [
        role_update(
            task,
            place,
            explicit.get(name),
            columns,
            None if name in explicit else guessed.get(name),
            answer.get("parts", ()),
        )
        for place, name in enumerate(names)
    ]
    splits = answer.get("splits", {})
    total = sum(splits.values())
    pairs = [("Rows", f"{markup.count(total)}")] + [
        (retold(n.capitalize()), markup.count(k)) for n, k in splits.items()
    ]
    pairs += [("Labels", str(len(answer["balance"])) if answer.get("balance") else "")]
    source = markup.title(teaching.called(tree["data"]["source"]), task_guess.label(task))
    head = source + markup.facts(pairs)
    problem = unclear(answer.get("unclear")) or markup.note(answer.get("problem") or "", "bad")
    warnings = problem + markup.warnings(answer.get("warnings", []))
    guesses = markup.note([say("Guessed: {what}", what=retold(guess)) for guess in answer.get("guesses", ())])
    reasons = "".join(f"<li>{markup.text(_reason(c))}</li>" for c in answer["choices"])
    balance = [(str(b["label"]), b["count"]) for b in answer.get("balance", [])]
    return [
        head
        + rows_shown.tells_of(answer)
        + (f"<div style='margin-top:16px'>{guesses}{warnings}</div>" if guesses or warnings else ""),
        *roles,
        f'<ul class="quiet small" style="margin:0;padding-left:18px">{reasons}</ul>' if reasons else "",
        markup.title("Balance", "rows of each label") + markup.bars(balance) if balance else "",
        _drawn(answer.get("drawn", ()))
        + markup.title("Some of the rows")
        + rows_shown.table_of(columns, answer.get("rows", [])),
    ]


def _drawn(pictures: Sequence[str]) -> str:
    """Return pictures in which is drawn what was read for them, under a heading; empty where there are none."""
    if not pictures:
        return ""
    shown = "".join(
        f"<figure>{markup.picture(one, say('a picture with what was read drawn in'))}</figure>" for one in pictures
    )
    style = "grid-template-columns: repeat(auto-fill, minmax(min(100%, 200px), 1fr)); margin-bottom: 24px"
    return (
        markup.title("As it will be learnt", "what was read, drawn into its picture")
        + f'<div class="pictures" style="{style}">{shown}</div>'
    )


def _reason(choice: Mapping[str, Any]) -> str:
    role, why = retold(choice["role"].replace("_", " ")), retold(choice["reason"])
    if choice["role"] == choice["column"]:
        return say("{role}: {why}", role=role, why=why)
    return say("{role} is {column}: {why}", role=role, column=choice["column"], why=why)


def unclear(found: Mapping[str, Any] | None) -> str:
    """Return which column must be chosen, as a question; empty where the columns are clear."""
    if not found:
        return ""
    role, offered = retold(found["role"].replace("_", " ")), ", ".join(str(one) for one in found["offered"][:4])
    if offered:
        words = say("Which column is the {role}? {offered} would fit: choose it below.", role=role, offered=offered)
    else:
        words = say("Which column is the {role}? Nothing looks like one: choose it below.", role=role)
    return markup.note(words, "warn")
