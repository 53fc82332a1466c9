"""Step 3, Train: start returns at once; a timer reads the run's folder and redraws what changed, whoever looks."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from hftransfer import samples
from hftransfer.errors import UserError
from hftransfer.launchers.base import Launcher
from hftransfer.runs import Run, Status
from hftransfer.ui import markup, places, publish_step, saying, visitors, watched
from hftransfer.ui.fetching import fetch, fetching
from hftransfer.ui.monitor import View
from hftransfer.ui.page import Page, html
from hftransfer.ui.queueing import TITLE
from hftransfer.ui.saying import say
from hftransfer.ui.train_view import (
    SHOWN_RUNS,
    about,
    body_of,
    called,
    going_of,
    head_of,
    log_of,
    ready_of,
    short,
    state_of,
    timeline,
)
from hftransfer.ui.visitors import Visitor

STAR = "★ "
STOPPING = "Stopping after this step; a checkpoint is saved first."
KEPT = ("task", "model", "revision", "data", "seed", "evaluation")  # of a configuration whose probe is taken
FAST, SLOW = 1.0, 5.0  # seconds between two looks: while something moves, and while nothing does
STICK = """
let stuck = true;
element.addEventListener('scroll', (event) => {
  const box = event.target;
  stuck = box.scrollHeight - box.scrollTop - box.clientHeight < 24;
}, true);
watch('value', () => {
  const box = element.querySelector('pre');
  if (box && stuck) box.scrollTop = box.scrollHeight;
});
"""


def build(page: Page) -> Callable[[], None]:
    """Lay out the step; the function it returns wires it, once every step is laid out. The page's timer is here."""
    with gr.Column(elem_id="panel-train", elem_classes="step"):
        html(
            markup.lead("Train", "It runs in a process of its own: close the tab, it goes on; come back, it is here.")
        )
        with gr.Column(elem_classes="card-block", elem_id="to-train"):
            summary = html(about(None, None, None), elem_id="train-summary")
            wire_places = places.build(page)
            said = html(elem_id="train-said")
            with gr.Row(elem_classes="foot"):
                start = gr.Button("Start training", variant="primary", elem_id="start")
        # what is there to be seen follows from the run's state by styles alone (page.css): each output of a handler
        # that is not sent still costs Gradio most of a millisecond, at every look of every visitor
        with gr.Column(elem_classes="card-block", elem_id="live"):
            head = html(elem_id="run-part")
            how = html(elem_id="going")  # page.js makes it a live region: one sentence, new at each evaluation
            with gr.Row(elem_id="run-buttons"):
                stop = gr.Button("Stop, keep a checkpoint", elem_classes="narrow", elem_id="stop")
                first = gr.Button("Take the first model now", elem_classes="narrow", elem_id="take-probe")
                resume = gr.Button("Resume", variant="primary", elem_classes="narrow", elem_id="resume")
                onto = gr.Dropdown(
                    [(say("where it was"), "")]
                    + [(say("on: {place}", place=places.called(n)), n) for n in places.offered(page.settings)],
                    value="",
                    show_label=False,
                    label="Go on where",
                    elem_id="resume-on",
                )
                onward = gr.Button("See the result", variant="primary", elem_classes="narrow", elem_id="onward")
            body = html(js_on_load=markup.CARDS)
        with gr.Accordion("What happened", open=False, elem_classes=["fold", "of-run"]):
            told = html(elem_id="told")
        with gr.Accordion("Log", open=False, elem_classes=["fold", "of-run"]):
            log = html(elem_id="log", js_on_load=STICK)
        html(markup.empty("No run yet", "Start one above; it will show here, live."), elem_id="no-run")
    seen = gr.State({})
    # [run, stamp of its result]: the later steps are drawn anew when it changes, not at the drop-down's own event,
    # which comes again and again while others write to the page
    viewed = gr.State(None)
    timer = gr.Timer(FAST)
    page.go |= {"viewed": viewed, "timer": timer, "seen": seen}

    def wire() -> None:
        wire_places()
        widgets = page.widgets
        chosen = [widgets["data.source"], widgets["model"], widgets["method.name"]]
        shown = [page.run, head, how, body, told, log, page.go["publishing"], viewed, timer, seen]
        told_inputs = [page.run, *chosen, viewed, seen]

        page.on(gr.on, chose, chosen, [summary], triggers=[widget.change for widget in chosen])
        page.on(gr.on, partial(ready_of, page), [widgets["task"], *chosen, page.estimate], [page.go["ready"]],
                triggers=[widget.change for widget in chosen])  # fmt: skip
        refresh = (partial(tick, page), told_inputs, shown)
        page.go["refresh"] = refresh
        page.on(timer.tick, *refresh)
        page.on(page.run.input, *refresh)

        begin = partial(started, page)
        where = places.inputs(page)

        told_to = [page.estimate, page.go["processes"], *where, *page.inputs]
        page.go["train"].click(None, js="() => hftransfer.go('train')")
        for button in (start, page.go["train"]):
            button.click(None, page.inputs, js="(...form) => hftransfer.saidOf('train', form)")
            begun = page.on(button.click, begin, told_to, [said, page.run, timer, page.estimate])
            page.on(begun.success, *refresh)

        # what Start said goes once the form is another one: a browser knows the order of what happens in it, and an
        # answer that crosses the network late would take away what was said since
        gr.on([widget.change for widget in page.inputs], None, page.inputs, [said],
              js="(...form) => hftransfer.stale('train', form) ? '' : undefined")  # fmt: skip
        page.on(stop.click, partial(end, page), [page.run], [said],
                meanwhile=(said, lambda visitor, name: markup.note(STOPPING)))  # fmt: skip
        page.on(page.on(resume.click, partial(go_on, page), [page.run, onto, *where], [timer]).success, *refresh)
        taken = page.on(first.click, partial(first_model, page), [page.run], [page.run, timer])
        page.on(taken.success, *refresh)
        picked = page.on(body.click, partial(take_up, page), [], [page.run, timer], picks=True)
        page.on(picked.success, *refresh)
        onward.click(None, js="() => hftransfer.go('result')")

    return wire


def tick(
    page: Page,
    visitor: Visitor,
    name: str | None,
    source: str,
    model: str,
    method: str,
    known: Any,
    before: Mapping[str, Any],
) -> list[Any]:
    """Look at the runs: return what changed since the last look of this browser."""
    screen = _Screen(before)
    entries = entries_of(page, visitor)
    run, state = next(((run, state) for run, state, _ in entries if run.name == name), (None, None))
    view = page.monitor.view(run.folder) if run else None
    now = [run.name, _stamp(view) if state == "done" else None] if run and view else None
    moving = any(state in ("running", "queued") for _, state, _ in entries) or publish_step.goes_on(view)
    others = [r for r, s, _ in entries if s in ("killed", "created") and r.name != name]
    pause = page.monitor.pause(screen.who, FAST if moving else SLOW)
    # most looks of most pages are at what nothing works on any more: they draw nothing anew
    still = None if moving else _still(page, visitor, entries, view, (name, source, model, method))
    if screen.stands(still):
        return [*[gr.skip()] * 7, gr.skip() if now == known else now, screen.timer(pause), screen.now]
    return [
        screen.drop("run", choices_of(entries)),
        screen(
            "head",
            navigation(source, model, method, view, state) + (head_of(page, view, state) if view else ""),
        ),
        screen("going", going_of(view) if view else ""),
        screen("body", body_of(page, visitor, view, state, others) if view else ""),
        screen("told", timeline(view) if view else ""),
        screen("log", log_of(view) if view else ""),
        screen("publishing", publish_step.progress_of(view) if view else ""),
        gr.skip() if now == known else now,
        screen.timer(pause),
        screen.now,
    ]


def _still(
    page: Page, visitor: Visitor, entries: Sequence[Entry], view: View | None, chosen: tuple[Any, ...]
) -> list[Any]:
    """Return what all that a page shows is made of while nothing goes on: equal ones look the same."""
    seen = None
    if view is not None:
        files = [_changed(path) for path in (view.run.result_path, view.run.log_path, view.run.launch_path)]
        seen = [view.offset, len(watched.INPUTS.of(page, visitor, view)), *files]
    return [saying.tag(), *chosen, seen, [(run.name, state, _changed(run.title_path)) for run, state, _ in entries]]


def chose(visitor: Visitor, source: str, model: str, method: str) -> str:
    """Show what Start would train."""
    return about(source, model, method)


def end(page: Page, visitor: Visitor, name: str) -> str:
    """Stop a run with a checkpoint; nothing more is to be said of it here."""
    page.queue.stop(visitor, name)
    return ""


def take_up(page: Page, visitor: Visitor, picked: str) -> list[Any]:
    """Go on with a run that was cut off, where it was."""
    run = page.queue.resume(visitor, picked, resumed_at(page, visitor, picked))
    return [gr.update(choices=choices_of(entries_of(page, visitor)), value=run.name), gr.Timer(FAST)]


def resumed_at(page: Page, visitor: Visitor, name: str, at: str = "", options: Sequence[Any] = ()) -> Launcher | None:
    """Return where a run goes on: where it was, or at another place."""
    run = visitors.find(visitor, name)
    place = places.chosen(page, visitor, at, options) if at else places.of_run(run, visitor)
    return None if place is None else places.told_time(place, run)


def go_on(page: Page, visitor: Visitor, name: str, at: str, *options: Any) -> Any:
    """Go on with a run."""
    page.queue.resume(visitor, name, resumed_at(page, visitor, name, at, options[1:]))
    return gr.Timer(FAST)


def started(page: Page, visitor: Visitor, known: Any, count: Any, *values: Any) -> Iterator[list[Any]]:
    """Queue a run as the form says; yield (what to say, the run in view, the timer, the estimate that is known).

    A sample model is fetched first; what costs money is estimated first, and started by a second press.
    """
    number = len(places.inputs(page))
    options, tree = values[:number], page.tree(values[number:])
    if unready := missing(tree):
        yield [markup.note(unready, "bad"), gr.skip(), gr.skip(), gr.skip()]
        return
    try:
        visitors.require(visitor)
        if (one := to_fetch(tree)) is not None:
            yield [markup.looking(fetching(one.name)), gr.skip(), gr.skip(), gr.skip()]
            fetch(one.name, visitor)
        yield submitted(page, visitor, tree, known if known and known["tree"] == tree else None, count, options)
    except UserError as error:
        yield [markup.note(str(error), "bad"), gr.skip(), gr.skip(), gr.skip()]


def to_fetch(tree: Mapping[str, Any]) -> Any:
    """Return the sample that a configuration's model is and that is not here yet; None for any other model."""
    name = str(tree["model"])
    one = samples.SAMPLES.get(name.removeprefix(samples.PREFIX)) if name.startswith(samples.PREFIX) else None
    return None if one is None or one.present else one


def submitted(
    page: Page, visitor: Visitor, tree: Mapping[str, Any], known: Any, count: Any, options: Sequence[Any]
) -> list[Any]:
    """Queue a run at the place that `options` name; see `started`."""
    place, words = places.chosen(page, visitor, options[0], options[1:]), ""
    if place is not None and place.estimates and known is None:  # nothing is paid for unseen
        known = places.estimated(page, visitor, tree)
        words = place.foreseen(known["answer"]["seconds"])[1]
        foreseen = f"{words[:1].upper()}{words[1:]}"
        again = say("{foreseen}, by a check on this machine. Start again to start it.", foreseen=foreseen)
        return [markup.note(again), gr.skip(), gr.skip(), known]
    if place is not None and known is not None:
        place, words = place.foreseen(known["answer"]["seconds"])
    number = int(count or 1) if place is None else place.usual_processes
    told = None if known is None else {**known["answer"], "words": words}
    run = page.queue.submit(visitor, tree, number, place, told)
    choices = choices_of(entries_of(page, visitor))
    return ["", gr.update(choices=choices, value=run.name), gr.Timer(FAST), gr.skip()]


def first_model(page: Page, visitor: Visitor, name: str) -> list[Any]:
    """End a run whose probe is ready, and start one that is that probe alone: its features are there already."""
    run = visitors.find(visitor, name)
    if not page.monitor.view(run.folder).probed:
        raise UserError("a run with a first model is needed", f"{run.name} has none yet", "Wait for it.")
    tree = run.config().to_dict()
    data: dict[str, Any] = {key: tree[key] for key in KEPT if key in tree}
    page.queue.stop(visitor, name)
    title = say("{run}, the first model", run=called(run))
    return follow(page, visitor, run, {**data, "method": {"name": "probe"}}, title)


def follow(page: Page, visitor: Visitor, run: Run, tree: Mapping[str, Any], title: str) -> list[Any]:
    """Queue a run that follows another one, and is called so; return (the run in view, the timer)."""
    visitors.require(visitor)
    new = page.queue.submit(visitor, tree, 1)
    page.queue.entitle(visitor, new, title[:TITLE], "", follows=run.name)
    return [gr.update(choices=choices_of(entries_of(page, visitor)), value=new.name), gr.Timer(FAST)]


def missing(tree: Mapping[str, Any]) -> str:
    """Return what must be chosen before anything can be trained, in words; empty where nothing is missing."""
    if not tree.get("data", {}).get("source"):
        return say("Choose data in step 1 first: a sample, a file of yours, or a data set of the Hub.")
    return "" if tree.get("model") else say("Choose a model in step 2 first.")


class _Screen:
    """What one browser shows: parts are sent only when they differ from what was sent before."""

    def __init__(self, before: Mapping[str, Any]) -> None:
        self.before, self.now = before, dict(before)
        self.who: str = self.now.setdefault("who", secrets.token_hex(8))

    def _same(self, name: str, value: Any) -> bool:
        self.now[name] = hash(value) if isinstance(value, str) else value
        return name in self.before and self.before[name] == self.now[name]

    def __call__(self, name: str, html: str) -> Any:
        return gr.skip() if self._same(name, html) else html

    def stands(self, still: Sequence[Any] | None) -> bool:
        """Tell whether a page that nothing moves on was drawn of the same; None of one on which something does."""
        made = None if still is None else hash(repr(still))
        before, self.now["still"] = self.before.get("still"), made
        return made is not None and before == made

    def drop(self, name: str, choices: list[tuple[str, str]]) -> Any:
        same = self._same(name, str(choices))
        return gr.skip() if same else gr.update(choices=choices, visible=bool(choices))

    def timer(self, seconds: float) -> Any:
        return gr.skip() if self._same("timer", seconds) else gr.Timer(seconds)


Entry = tuple[Run, str, Status]  # the run, its state (one that waits is "queued"), what its files say


def entries_of(page: Page, visitor: Visitor) -> list[Entry]:
    """Return the visitor's runs, newest first, each with its state."""
    found = []
    for run in page.queue.runs(visitor)[:SHOWN_RUNS]:
        status = page.monitor.view(run.folder).status()
        state: str = status.state
        if not status.finished and state != "running" and page.queue.place(run) is not None:
            state = "queued"
        elif status.finished and state != "done" and page.queue.place(run) is not None:
            state = "queued"  # it was resumed and waits for its turn
        found.append((run, state, status))
    return found


def choices_of(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """Return the runs as choices of a drop-down, favourites first."""
    starred = [(bool(run.noted().get("favourite")), run, state) for run, state, _ in entries]
    ordered = sorted(starred, key=lambda one: not one[0])
    return [(f"{STAR if liked else ''}{called(run)}  ·  {state_of(state)}", run.name) for liked, run, state in ordered]


def _stamp(view: View) -> int | None:
    return _changed(view.run.result_path)


def _changed(path: Path) -> int | None:
    try:
        return int(path.stat().st_mtime_ns)
    except (FileNotFoundError, NotADirectoryError):
        return None


def navigation(source: str, model: str, method: str, view: View | None, state: str | None) -> str:
    """Return the small words below the names of the steps, for the page's script to set."""
    words = {"data": short(source or ""), "model": short(model or "")}
    if view is not None and state:
        status = view.status()
        share = f"{status.step / status.max_steps:.0%}" if status.max_steps and status.phase == "training" else ""
        words["train"] = share or state_of(state) if state == "running" else state_of(state)
        words["result"] = say("ready") if state == "done" else ""
        last = view.publishing[-1]["type"] if view.publishing else ""
        words["publish"] = {
            "published": say("published"), "publishing": say("publishing"), "unpublished": say("failed"),
        }.get(last, "")  # fmt: skip
    data = " ".join(f'data-{step}="{markup.text(word, 40)}"' for step, word in words.items())
    return f'<div id="nav-texts" hidden {data}></div>'
