"""Step 3, Train: start returns at once; a timer reads the run's folder and redraws what changed, whoever looks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from hftransfer import follow
from hftransfer.errors import UserError
from hftransfer.launchers.local import LAUNCHER
from hftransfer.runs import Run, Status, read_json, write_text
from hftransfer.ui import charts, markup, monitor, publish_step, visitors
from hftransfer.ui.charts import Line
from hftransfer.ui.markup import Card
from hftransfer.ui.monitor import View
from hftransfer.ui.page import Page, html
from hftransfer.ui.visitors import Visitor

FAST, SLOW = 1.0, 5.0  # seconds between two looks: while something moves, and while nothing does
SHOWN_RUNS = 100
LOG_LINES = 60
MOST_CUT_OFF = 6  # runs that are offered to go on with
ESTIMATE = "estimate.json"  # in the run's folder: what was predicted before it started
WAITS = {
    "start": "starting a process of its own",
    "imports": "Python loads torch and transformers, a few seconds",
    "data": "rows are read, checked and split",
    "model": "weights are loaded, rows become what the model reads",
    "tuning": "a few real steps with each setting tell which is fastest here",
    "training": "",
    "evaluation": "the test rows are answered, once",
    "saving": "the model is written whole",
}
NAMES = {"created": "not started", "running": "running", "done": "done", "failed": "failed", "stopped": "stopped",
         "killed": "ended without a word", "queued": "waiting"}  # fmt: skip
GAP = '<div style="height:12px"></div>'
STOP = {"running": "Stop, keep a checkpoint", "queued": "Take it out of the queue"}
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
        with gr.Column(elem_classes="card-block"):
            summary = html(elem_id="train-summary")
            said = html(elem_id="train-said")
            with gr.Row(elem_classes="foot"):
                start = gr.Button("Start training", variant="primary", elem_id="start")
        with gr.Column(elem_classes="card-block", visible=False, elem_id="live") as live:
            head = html(elem_id="run-head")
            with gr.Row():
                stop = gr.Button("Stop, keep a checkpoint", elem_classes="narrow", elem_id="stop", visible=False)
                resume = gr.Button("Resume", variant="primary", elem_classes="narrow", elem_id="resume", visible=False)
                onward = gr.Button("See the result", variant="primary", elem_classes="narrow", visible=False)
            figures = html(elem_id="figures")
            curves = html(elem_id="curves")
        with gr.Accordion("What happened", open=False, elem_classes="fold", visible=False) as told_fold:
            told = html(elem_id="told")
        with gr.Accordion("Log", open=False, elem_classes="fold", visible=False) as log_fold:
            log = html(elem_id="log", js_on_load=STICK)
        cut_off = html(js_on_load=markup.CARDS, elem_id="cut-off")
        nothing = html(markup.empty("No run yet", "Start one above; it will show here, live."), elem_id="no-run")
    texts = html(elem_id="nav-holder")
    seen = gr.State({})
    # [run, stamp of its result]: the later steps are drawn anew when it changes, not at the drop-down's own event,
    # which comes again and again while others write to the page
    viewed = gr.State(None)
    timer = gr.Timer(FAST)
    page.go |= {"viewed": viewed, "timer": timer, "seen": seen}

    def wire() -> None:
        widgets = page.widgets
        shown = [page.run, live, head, stop, resume, onward, figures, curves, told_fold, told, log_fold, log, nothing,
                 texts, summary, viewed, page.go["publishing"], cut_off, timer, seen]  # fmt: skip
        told_inputs = [page.run, widgets["data.source"], widgets["model"], widgets["method.name"], viewed, seen]

        def tick(
            visitor: Visitor,
            name: str | None,
            source: str,
            model: str,
            method: str,
            known: Any,
            before: Mapping[str, Any],
        ) -> list[Any]:
            screen = _Screen(before)
            entries = entries_of(page, visitor)
            run, state = next(((run, state) for run, state, _ in entries if run.name == name), (None, None))
            moving = any(state in ("running", "queued") for _, state, _ in entries)
            view = page.monitor.view(run.folder) if run else None
            now = [run.name, _stamp(view) if state == "done" else None] if run and view else None
            return [
                screen.drop("run", choices_of(entries)),
                screen.seen("live", view is not None),
                screen("head", head_of(page, view, state) if view else ""),
                screen.button("stop", state in ("running", "queued"), STOP.get(state or "", "")),
                screen.seen("resume", state in ("stopped", "killed", "failed", "created")),
                screen.seen("onward", state == "done"),
                screen("figures", figures_of(page, view, state) if view else ""),
                screen("curves", curves_of(view) if view else ""),
                screen.seen("told_fold", view is not None),
                screen("told", timeline(view) if view else ""),
                screen.seen("log_fold", view is not None),
                screen("log", log_of(view) if view else ""),
                screen.seen("nothing", view is None),
                screen("texts", navigation(source, model, method, view, state)),
                screen("summary", about(source, model, method)),
                gr.skip() if now == known else now,
                screen("publishing", publish_step.progress_of(view) if view else ""),
                screen(
                    "cut_off", cut_off_of([r for r, s, _ in entries if s in ("killed", "created") and r.name != name])
                ),
                screen.timer(FAST if moving or publish_step.goes_on(view) else SLOW),
                screen.now,
            ]

        page.go["refresh"] = (tick, told_inputs, shown)
        page.on(timer.tick, tick, told_inputs, shown)
        page.on(page.run.input, tick, told_inputs, shown)

        def begin(visitor: Visitor, known: Any, count: Any, *values: Any) -> list[Any]:
            tree = page.tree(values)
            try:
                visitors.require(visitor)
                run = page.queue.submit(visitor, tree, int(count or 1))
            except UserError as error:
                return [markup.note(str(error), "bad"), gr.skip(), gr.skip()]
            if known and known["tree"] == tree:
                write_text(run.folder / ESTIMATE, json.dumps(known["answer"]))
            return ["", gr.update(choices=choices_of(entries_of(page, visitor)), value=run.name), gr.Timer(FAST)]

        begun = page.on(
            start.click, begin, [page.estimate, page.go["processes"], *page.inputs], [said, page.run, timer]
        )
        page.on(begun.success, tick, told_inputs, shown)

        def end(visitor: Visitor, name: str) -> None:
            page.queue.stop(visitor, name)

        def take_up(visitor: Visitor, picked: str) -> list[Any]:
            run = page.queue.resume(visitor, picked)
            return [gr.update(choices=choices_of(entries_of(page, visitor)), value=run.name), gr.Timer(FAST)]

        def go_on(visitor: Visitor, name: str) -> Any:
            page.queue.resume(visitor, name)
            return gr.Timer(FAST)

        page.on(
            stop.click,
            lambda visitor: [markup.note("Stopping after this step; a checkpoint is saved first.")],
            [],
            [said],
        )
        page.on(page.on(stop.click, end, [page.run]).then, lambda visitor: "", [], [said])
        page.on(page.on(resume.click, go_on, [page.run], [timer]).success, tick, told_inputs, shown)
        picked = page.on(cut_off.click, take_up, [], [page.run, timer], picks=True)
        page.on(picked.success, tick, told_inputs, shown)
        onward.click(None, js="() => hftransfer.go('result')")

    return wire


class _Screen:
    """What one browser shows: parts are sent only when they differ from what was sent before."""

    def __init__(self, before: Mapping[str, Any]) -> None:
        self.before, self.now = before, dict(before)

    def _same(self, name: str, value: Any) -> bool:
        self.now[name] = hash(value) if isinstance(value, str) else value
        return name in self.before and self.before[name] == self.now[name]

    def __call__(self, name: str, html: str) -> Any:
        return gr.skip() if self._same(name, html) else html

    def seen(self, name: str, visible: bool) -> Any:
        return gr.skip() if self._same(name, visible) else gr.update(visible=visible)

    def button(self, name: str, visible: bool, words: str) -> Any:
        return gr.skip() if self._same(name, (visible, words)) else gr.update(visible=visible, value=words)

    def drop(self, name: str, choices: list[tuple[str, str]]) -> Any:
        same = self._same(name, str(choices))
        return gr.skip() if same else gr.update(choices=choices, visible=bool(choices))

    def timer(self, seconds: float) -> Any:
        return gr.skip() if self._same("timer", seconds) else gr.Timer(seconds)


# --- the runs ---

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
    """Return the runs as choices of a drop-down."""
    return [(f"{run.name}  ·  {NAMES[state]}", run.name) for run, state, _ in entries]


def _stamp(view: View) -> int | None:
    try:
        return int(view.run.result_path.stat().st_mtime_ns)
    except FileNotFoundError:
        return None


# --- what it shows ---


def about(source: str | None, model: str | None, method: str | None) -> str:
    """Return what Start would train."""
    if not source:
        return markup.empty("Nothing to train on yet", "", "data", "Choose data first")
    if not model:
        return markup.empty("No model yet", "", "model", "Choose a model first")
    pairs = [("Data", short(source)), ("Model", short(model)), ("Method", method or "full")]
    return markup.title("What will be trained") + markup.facts(pairs)


def cut_off_of(runs: Sequence[Run]) -> str:
    """Return the runs that a restart cut off, each as a button that goes on with it."""
    cards = [Card(run.name, run.name, "Go on from its last checkpoint") for run in runs[:MOST_CUT_OFF]]
    return (
        markup.title("Cut off on the way") + markup.cards(cards, None, "Runs to go on with", wide=True)
        if cards
        else ""
    )


def short(place: str) -> str:
    """Return the last part of a source or model's name."""
    return place.removeprefix("sample:").rstrip("/").rsplit("/", 1)[-1]


def head_of(page: Page, view: View, state: str | None) -> str:
    """Return a run's name, its state in words, and its progress."""
    status = view.status()
    head = (
        f'<div class="run-head"><h3>{markup.text(view.folder.name)}</h3>'
        f'<span class="state {state}" role="status">{NAMES.get(state or "", "")}</span></div>'
    )
    if state == "queued":
        place = page.queue.place(view.run)
        others = "It is next." if place == 1 else f"It is number {place} in the queue."
        return head + GAP + markup.note(f"{others} It starts by itself when there is room.")
    if state == "running":
        return head + progress(status)
    if state in ("failed", "killed"):
        outcome = page.monitor.outcome(view)
        tone = "The log below has more. " if not outcome.user_error else ""
        step = view.last_checkpoint
        going = f"Resume goes on from step {step}." if step else "Resume starts it again."
        return head + GAP + markup.note([outcome.message, tone + going], "bad")
    if state == "stopped":
        step = view.last_checkpoint
        going = f"Resume goes on from step {step}." if step else "There is no checkpoint yet: Resume starts it again."
        return head + GAP + markup.note(f"{status.message or 'Stopped'}. {going}", "warn")
    if state == "created":
        return head + GAP + markup.note("It has not started. Resume starts it.", "warn")
    return head


def progress(status: Status) -> str:
    """Return the bar of a running run, or its phase while there is nothing to count."""
    phase = status.phase or "start"
    name = follow.PHASES.get(phase, phase)
    if phase == "training" and status.max_steps:
        share = min(status.step / status.max_steps, 1)
        words = f"step {status.step:,} of {status.max_steps:,}"
        bar = (
            f'<div class="progress" role="progressbar" aria-label="training" aria-valuemin="0" aria-valuemax="100"'
            f' aria-valuenow="{100 * share:.0f}"><i style="width:{100 * share:.1f}%"></i></div>'
        )
        return f'{bar}<div class="quiet small">{share:.0%}, {words}</div>'
    waits = WAITS.get(phase, "")
    words = f"{name.capitalize()}{': ' + waits if waits else ''}"
    bar = '<div class="progress waiting" role="progressbar" aria-label="working"><i></i></div>'
    return f'{bar}<div class="quiet small">{markup.text(words)}</div>'


def figures_of(page: Page, view: View, state: str | None, now: float | None = None) -> str:
    """Return the figures of a run: loss, learning rate, speed, memory, time left and gone."""
    now = time.time() if now is None else now
    log, running = view.log, state == "running"
    left = log.get("eta_seconds")
    if left is not None and running:
        left = max(left - (now - float(log.get("time", now))), 0)
    rate = log.get("examples_per_second")
    memory = page.monitor.memory_mb(view) if running else None
    ends = now if running else float(view.marks[-1]["time"]) if view.marks else now
    gone = ends - view.began
    training = view.status().phase == "training"
    pairs = [
        ("Left", f"about {markup.roughly(left)}" if running and training and left is not None else ""),
        ("Running for" if running else "Took", markup.roughly(gone) if view.began and gone > 0 else ""),
        ("Loss", markup.significant(log.get("loss"))),
        ("Learning rate", markup.significant(log.get("learning_rate"), 3)),
        ("Speed", f"{rate:.1f}| examples/s" if rate else ""),
        ("Memory", markup.size(memory)),
        ("Epoch", f"{log['epoch']:.2f}" if log.get("epoch") is not None else ""),
    ]  # fmt: skip
    return markup.facts(pairs)


def curves_of(view: View) -> str:
    """Return the curves: training and validation loss, the main validation metric, and the learning rate."""
    validation = monitor.curves(view)
    span = (0.0, float(view.step.get("max_steps") or 1)) if view.step else None
    losses = [Line("training loss", view.losses)]
    if validation.get("loss"):
        losses.append(
            Line("validation loss", validation["loss"], "dots" if len(validation["loss"]) < 2 else "line", 2)
        )
    parts = [charts.chart(losses, "Loss", x=span)]
    name = monitor.main_curve(validation)
    if name:
        metric = Line(
            f"validation {name.replace('_', ' ')}",
            validation[name],
            "dots" if len(validation[name]) < 2 else "line",
            2,
        )
        parts.append(charts.chart([metric], name, x=span))
    if view.rates and any(rate for _, rate in view.rates):
        parts.append(charts.chart([Line("learning rate", view.rates, color=0)], "Learning rate", x=span))
    return f'<div class="charts">{"".join(parts)}</div>' if any(parts) else ""


def timeline(view: View) -> str:
    """Return what happened, a line each, newest last."""
    start = view.began or float(view.created.get("time", 0))
    items = []
    for event in view.said:
        lines = follow.lines_of(event) or _more(event)
        after = max(float(event.get("time", start)) - start, 0)
        css = "warning" if event["type"] == "warning" else ""
        items += [
            f'<li class="{css}"><time>{follow.duration(after)}</time>'
            f"<span>{markup.text(line[:1].upper() + line[1:])}</span></li>"
            for line in (line.removeprefix("warning: ") for line in lines)
        ]
    return f'<ol class="timeline">{"".join(items)}</ol>'


def _more(event: Mapping[str, Any]) -> list[str]:
    kind = event["type"]
    if kind == "tuned":
        precision = "bfloat16" if event.get("bf16") else "float32"
        return [f"Fastest here: {event.get('attention')} attention, {precision}, {event.get('threads')} threads"]
    if kind == "failed":
        return [f"Failed: {event.get('message')}"]
    if kind == "checkpoint_pushed":
        return [f"Checkpoint pushed to {event.get('repo', 'the Hub')}"]
    if kind == "checkpoint_not_pushed":
        return [f"A checkpoint was not pushed: {event.get('message', '')}"]
    return []


def log_of(view: View) -> str:
    """Return the end of what the run's processes printed."""
    lines = LAUNCHER.log_tail(view.run, LOG_LINES)
    text = visitors.redacted("\n".join(lines)) if lines else "Nothing was printed yet."
    return f'<pre class="log" tabindex="0" aria-label="Log">{markup.text(text, 20_000)}</pre>'


def navigation(source: str, model: str, method: str, view: View | None, state: str | None) -> str:
    """Return the small words below the names of the steps, for the page's script to set."""
    words = {"data": short(source or ""), "model": short(model or "")}
    if view is not None and state:
        status = view.status()
        share = f"{status.step / status.max_steps:.0%}" if status.max_steps and status.phase == "training" else ""
        words["train"] = share or NAMES[state] if state == "running" else NAMES[state]
        words["result"] = "ready" if state == "done" else ""
        last = view.publishing[-1]["type"] if view.publishing else ""
        words["publish"] = {"published": "published", "publishing": "publishing", "unpublished": "failed"}.get(
            last, ""
        )
    data = " ".join(f'data-{step}="{markup.text(word, 40)}"' for step, word in words.items())
    return f'<div id="nav-texts" hidden {data}></div>'


def estimate_of(folder: Path) -> dict[str, Any]:
    """Return what was predicted before the run started."""
    return read_json(folder / ESTIMATE)
