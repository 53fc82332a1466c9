"""The part of Data where examples are given: what each of them is, a text, picture or recording, and a first model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr

from hftransfer import catalog
from hftransfer.errors import UserError
from hftransfer.ui import markup, proposing, received, task_guess, teaching, visitors
from hftransfer.ui.markup import Card
from hftransfer.ui.page import Page, html
from hftransfer.ui.saying import retold, say
from hftransfer.ui.visitors import Visitor

LIVE = {"camera": "picture", "microphone": "recording"}  # what is given as it is seen or heard, by its widget
KINDS = {
    "textbox": "Texts", "picture": "Pictures", "camera": "Camera, live", "recording": "Recordings",
    "microphone": "Microphone, live",
}  # fmt: skip
FIRST = {
    "camera": "Name a class, then keep what the camera sees: some pictures of each of two classes.",
    "microphone": "Name a class, then keep what the microphone hears: some seconds of each of two classes.",
}
LOADING = "Loading the model that looks at them …"
SURE = """(sure, ...others) => {
  const counted = document.querySelector("#teach-said [data-counted]")?.dataset.counted;
  return [counted && hftransfer.sure(counted) ? "yes" : "", ...others];
}"""
EVERY = 1.0  # seconds between two looks through the camera, and of what is heard at once
LONGEST = 300.0  # seconds of one stream
SHOWN = 8  # examples of a class that are shown, the last ones
PICTURES: dict[str, Any] = {"type": "filepath", "height": 240, "buttons": [], "visible": False}
SOUNDS: dict[str, Any] = {"type": "filepath", "buttons": [], "visible": False}


def build(page: Page) -> tuple[Any, Callable[[Any, Any], None]]:
    """Lay out the part, hidden; return it, and what wires it to the source and the task of the form."""
    known = teaching.lessons()
    kinds = [(name, kind) for kind, name in KINDS.items() if lesson_of(kind) in known]
    with gr.Column(visible=False, elem_id="from-examples") as place:
        kind = gr.Radio(kinds, value=kinds[0][1], label="Examples are", elem_classes="segmented", elem_id="teach-kind")
        learns = gr.Radio(tasks_of(kinds[0][1]), value=tasks_of(kinds[0][1])[0][1], label="What is learned",
                          elem_classes="segmented", elem_id="teach-task")  # fmt: skip
        with gr.Row(elem_classes="inline"):
            label = gr.Dropdown([], value=None, label="Class", allow_custom_value=True, min_width=150, scale=1,
                                elem_id="teach-class", info="Type a new one, or choose")  # fmt: skip
            text = gr.Textbox(label="Example", placeholder="one text, then Enter", scale=3, min_width=200,
                              elem_id="teach-text")  # fmt: skip
        picture = gr.Image(label="Example", sources=["webcam", "upload", "clipboard"], elem_id="teach-picture",
                           **PICTURES)  # fmt: skip
        camera = gr.Image(label="Camera", sources=["webcam"], streaming=True, elem_id="teach-camera", **PICTURES)
        recording = gr.Audio(label="Example", sources=["microphone", "upload"], elem_id="teach-recording", **SOUNDS)
        microphone = gr.Audio(label="Microphone", sources=["microphone"], streaming=True, elem_id="teach-microphone",
                              **SOUNDS)  # fmt: skip
        with gr.Row(elem_classes="inline"):
            written = gr.Textbox(label="Truth", scale=3, min_width=200, visible=False, elem_id="teach-truth")
            add = gr.Button("Add", scale=0, min_width=90, elem_id="teach-add")
        hold = gr.Checkbox(label="Keep what it sees or hears as examples of the class", value=False, visible=False,
                           elem_id="teach-hold")  # fmt: skip
        said = html(elem_id="teach-said")
        with gr.Row(elem_classes="inline") as ask:
            probe = gr.Textbox(label="Try it while you add", placeholder="a text of no class yet", scale=4,
                               min_width=200, elem_id="teach-try")  # fmt: skip
        shot = gr.Image(label="Try it while you add", sources=["webcam", "upload"], elem_id="teach-try-picture",
                        **PICTURES)  # fmt: skip
        heard = gr.Audio(label="Try it while you add", sources=["microphone", "upload"], elem_id="teach-try-recording",
                         **SOUNDS)  # fmt: skip
        answer = html(elem_id="teach-answer")
        with gr.Row(elem_classes="foot", visible=False) as foot:
            back = gr.Button("Take the last one back", size="sm", elem_classes="narrow")
            anew = gr.Button("Begin new ones", size="sm", elem_classes="narrow", elem_id="teach-anew")
            delete = gr.Button("Delete these", size="sm", elem_classes="narrow", elem_id="teach-delete")
            use = gr.Button("Use these examples", elem_classes="narrow", elem_id="teach-use")
        before = html(js_on_load=markup.CARDS, elem_id="teach-before")
        sure = gr.Textbox(visible="hidden", label="Sure", elem_classes="settled")
    lesson, others = gr.State(None), gr.State({})

    def wire(source: Any, task: Any) -> None:
        # what is kept is shown at once; learning follows, and writes to nothing that somebody may be typing into
        given = [label, written, text, picture, recording]
        shown, learned = [lesson, *given, said], [lesson, kind, probe, shot, heard]
        forms = [source, task, page.go["data_said"]]
        parts = [learns, *given, add, camera, microphone, hold, ask, shot, heard]
        chosen, drawn = [kind, learns, lesson, others], [lesson, others, *parts, said, answer]
        page.on(kind.input, lambda visitor, *told: chosen_kind(visitor, told[0], "", *told[1:]),
                [kind, lesson, others], drawn)  # fmt: skip
        page.on(learns.input, chosen_kind, chosen, drawn)
        page.on(page.go["origin"].change, listed, [], [before])
        picked = page.on(before.click, resumed, [lesson, others], [kind, learns, lesson, others], picks=True)
        begun = page.on(anew.click, left, [lesson, others], [lesson, others])
        gone = page.on(delete.click, deleted, [sure, lesson, others, source], [lesson, others, source], js=SURE)
        page.go["then_look"](gone)
        for event in (picked, begun, gone):
            page.on(event.success, chosen_kind, chosen, drawn)
            page.on(event.success, listed, [], [before])
        for name, stream in (("camera", camera), ("microphone", microphone)):
            page.on(stream.stream, partial(watched, page, name), [lesson, label, hold, source, stream],
                    [lesson, label, said, answer, *forms], stream_every=EVERY, time_limit=LONGEST)  # fmt: skip
        # what is added while the model still looks at the one before is learned from behind it, all at once
        asks: dict[str, Any] = {"turn": "taught", "trigger_mode": "always_last"}
        for event in (add.click, text.submit, written.submit):
            kept = page.on(event, partial(added, page), [lesson, kind, *given], shown)
            page.on(
                kept.success, partial(answered, page), learned, [said, answer], meanwhile=(answer, loading), **asks
            )
            page.on(kept.success, offered, [lesson, source], forms)
        gone = page.on(back.click, taken_back, [lesson], [lesson, said])
        for event in (gone.success, probe.change, shot.change, heard.change):
            page.on(event, partial(answered, page), learned, [said, answer], **asks)
        page.on(lesson.change, lambda visitor, found: gr.update(visible=_any(found)), [lesson], [foot])
        used = page.on(use.click, taken, [lesson], [source, task])
        page.go["then_look"](used)

    return place, wire


def lesson_of(kind: str) -> str:
    """Return the widget whose lesson a kind of examples makes: a camera's are pictures."""
    return LIVE.get(kind, kind)


def tasks_of(kind: str) -> list[tuple[str, str]]:
    """Return what can be learned from examples of a kind, as a choice; what is live says no more than its class."""
    found = teaching.lessons()[lesson_of(kind)]
    return [(task_guess.label(name), name) for name in found if kind not in LIVE or teaching.has_classes(name)]


def chosen_kind(visitor: Visitor, kind: str, task: str, lesson: Any, others: dict[str, Any]) -> list[Any]:
    """Show what examples of a kind are given with; the lesson of a task goes on where it was left.

    The task is the one named where it is one of that kind, else one that has a lesson, else the first.
    """
    tasks, kept = tasks_of(kind), {**others, lesson["task"]: lesson} if _any(lesson) else others
    names = [name for _, name in tasks]
    task = next((name for name in ([task] if task in names else names) if name == task or name in kept), names[0])
    found = kept.get(task) or teaching.fresh(task)
    classes, widget = teaching.has_classes(task), lesson_of(kind)
    truth = retold(catalog.task(task).truth.about.capitalize())
    live, alone = kind in LIVE, kind not in LIVE and classes
    parts = [
        gr.update(visible=len(tasks) > 1, choices=tasks, value=task),
        gr.update(visible=classes, choices=teaching.classes(found) if classes else []),
        gr.update(visible=not classes, label=truth),
    ]
    given = [widget == "textbox", kind == "picture", kind == "recording", not live, kind == "camera"]
    tried = [alone and widget == one for one in ("textbox", "picture", "recording")]
    shown = [*given, kind == "microphone", live, *tried]
    said = _told(found, None) if _any(found) else ""
    return [found, kept, *parts, *(gr.update(visible=one) for one in shown), said, ""]


def listed(visitor: Visitor) -> str:
    """Return the lessons of before, as cards."""
    found = [
        Card(one["folder"], teaching.counted(one), "", ((task_guess.label(one["task"]), ""),))
        for one in teaching.earlier(visitor)
    ]
    return markup.title("Examples you gave before") + markup.cards(found, None, "Your examples") if found else ""


def resumed(visitor: Visitor, picked: str, lesson: Any, others: dict[str, Any]) -> list[Any]:
    """Go on with a lesson of before."""
    found = next((one for one in teaching.earlier(visitor) if one["folder"] == picked), None)
    if found is None:
        raise UserError("examples of yours are needed", "these are gone", "Give new ones.")
    widget = next(name for name, tasks in teaching.lessons().items() if found["task"] in tasks)
    kept = {**others, lesson["task"]: lesson} if _any(lesson) else others
    return [widget, gr.update(choices=tasks_of(widget), value=found["task"]), found, kept]


def left(visitor: Visitor, lesson: Any, others: dict[str, Any]) -> list[Any]:
    """Leave a lesson where it lies, for a new one of its kind."""
    return [None, {task: one for task, one in others.items() if not lesson or task != lesson["task"]}]


def deleted(visitor: Visitor, sure: str, lesson: Any, others: dict[str, Any], source: str | None) -> list[Any]:
    """Delete a lesson, where somebody said that they are sure; what is gone is no source of rows any more."""
    if sure != "yes" or not lesson:
        return [gr.skip() for _ in range(3)]
    teaching.remove(visitor, lesson)
    own = source == teaching.source_of(visitor, lesson)
    return [*left(visitor, lesson, others), "" if own else gr.skip()]


def watched(
    page: Page, kind: str, visitor: Visitor, lesson: Any, label: str | None, keep: bool, source: str | None,
    given: str | None,
) -> list[Any]:  # fmt: skip
    """Answer what a camera sees or a microphone hears, and keep it as an example of a class while that is wanted."""
    still = [gr.skip() for _ in range(3)]  # of the form
    if not given:
        return [*(gr.skip() for _ in range(4)), *still]
    found, names = lesson or teaching.fresh(tasks_of(kind)[0][1]), gr.skip()
    try:
        if keep:
            found = teaching.add(visitor, page.settings, found, label or "", given)
            if not lesson or teaching.classes(found) != teaching.classes(lesson):
                names = gr.update(choices=teaching.classes(found))  # not each time: somebody may be typing there
        if not found["rows"]:
            return [gr.skip(), gr.skip(), markup.note(FIRST[kind]), "", *still]
        said, answer = _learned(page, visitor, found, given)
    except UserError as error:
        return [gr.skip(), gr.skip(), markup.note(str(error), "warn"), gr.skip(), *still]
    finally:
        received.forget(given)
    return [found, names, said, answer, *(offered(visitor, found, source) if keep else still)]


def added(
    page: Page, visitor: Visitor, lesson: Any, kind: str, label: str | None, truth: str | None, text: str | None,
    picture: str | None, recording: str | None,
) -> list[Any]:  # fmt: skip
    """Keep one more example, and empty what it was given with; its class stays for the next one."""
    value = {"textbox": text, "picture": picture, "recording": recording}[lesson_of(kind)]
    begun = lesson or teaching.fresh(tasks_of(kind)[0][1])
    classes = teaching.has_classes(begun["task"])
    try:
        found = teaching.add(visitor, page.settings, begun, (label if classes else truth) or "", value)
    except UserError as error:
        return [*(gr.skip() for _ in range(6)), markup.note(str(error), "warn")]
    names = gr.update(choices=teaching.classes(found)) if classes else gr.skip()
    return [found, names, "", "", None, None, _told(found, None)]


def taken_back(visitor: Visitor, lesson: Any) -> list[Any]:
    """Forget the last example."""
    if not lesson:
        return [gr.skip(), gr.skip()]
    found = teaching.drop_last(visitor, lesson)
    return [found, _told(found, None)]


def loading(visitor: Visitor, lesson: Any, *given: Any) -> Any:
    """Say that a model is loaded, where a second class makes the first one that learns: that takes a while once."""
    rows = (lesson or {}).get("rows", ())
    begins = rows and teaching.has_classes(lesson["task"]) and len(teaching.classes(lesson)) == 2
    newest = [row["label"] for row in rows].count(rows[-1]["label"]) if begins else 0
    return markup.looking(LOADING) if newest == 1 else gr.skip()


def answered(
    page: Page, visitor: Visitor, lesson: Any, kind: str, probe: str | None, shot: str | None, heard: str | None
) -> list[str]:  # fmt: skip
    """Answer what stands in the box to try."""
    if not _any(lesson):
        return ["", ""]
    asked = {"textbox": probe, "picture": shot, "recording": heard}.get(kind)  # what is live asks by itself
    return [*_learned(page, visitor, lesson, asked)]


def taken(visitor: Visitor, lesson: Any) -> list[Any]:
    """Return the source and the task that the examples are, for the form."""
    if not _any(lesson):
        raise UserError("examples are needed", "there are none yet", "Give some of two classes.")
    visitors.require(visitor)
    return [teaching.source_of(visitor, lesson), lesson["task"]]


def offered(visitor: Visitor, lesson: Any, source: str | None) -> list[Any]:
    """Return the source, the task and what is said of the rows, as soon as a lesson can be trained on.

    Train is the bright button: it is for the examples that somebody gives there, used or not.
    """
    if not _any(lesson) or (teaching.has_classes(lesson["task"]) and len(teaching.classes(lesson)) < 2):
        return [gr.skip() for _ in range(3)]
    place = teaching.source_of(visitor, lesson)
    return [gr.skip() for _ in range(3)] if source == place else [place, lesson["task"], ""]


def _any(lesson: Any) -> bool:
    return bool(lesson) and bool(lesson["rows"])


def _learned(page: Page, visitor: Visitor, lesson: Any, asked: str | None) -> tuple[str, str]:
    """Return how far the lesson is, and what is answered to `asked`, as HTML."""
    if not teaching.has_classes(lesson["task"]):
        return _told(lesson, None), ""
    model = proposing.usual(lesson["task"])
    try:
        found = page.workers.call(visitor, "taught", **teaching.asked(visitor, lesson, model, asked))
    except UserError as error:
        return _told(lesson, None) + markup.note(str(error), "bad"), ""
    return _told(lesson, found["right"]), markup.shares(found["answer"]) if found["answer"] else ""


def _told(lesson: Any, right: float | None) -> str:
    """Return how far a lesson is, and its last examples where they can be read: a file's name says nothing."""
    counted = markup.text(teaching.counted(lesson))
    words = f'<p aria-live="polite" data-counted="{counted}">{markup.text(teaching.told(lesson, right), 1000)}</p>'
    task, rows = catalog.task(lesson["task"]), lesson["rows"]
    given = [role for role in task.shown if role.required and role.takes is not None and not role.takes.lazy]
    if teaching.has_classes(lesson["task"]):
        names = teaching.classes(lesson) if given else []
        texts = {name: [row["value"] for row in rows if row["label"] == name][-SHOWN:] for name in names}
        cells = [[f"<b>{markup.text(name)}</b>", markup.text(" · ".join(texts[name]), 400)] for name in names]
        head = [say("class"), say("its last examples")]
    else:
        cells = [[*(markup.text(row["value"]) for _ in given), markup.text(row["label"])] for row in rows[-SHOWN:]]
        head = [retold(role.about.capitalize()) for role in (*given, task.truth)]
    return words + (markup.table(head, cells) if cells else "")
