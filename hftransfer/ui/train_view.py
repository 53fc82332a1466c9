"""What the Train step shows of a run: head, figures, curves, timeline, log."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from hftransfer import catalog, follow
from hftransfer.launchers import HERE, launcher, of
from hftransfer.launchers._elsewhere import Elsewhere
from hftransfer.launchers._estimate import foreseen
from hftransfer.runs import Run, Status, verdict_of
from hftransfer.ui import charts, going, headline, markup, monitor, teaching, visitors, watched
from hftransfer.ui.charts import Line
from hftransfer.ui.markup import Card
from hftransfer.ui.monitor import View
from hftransfer.ui.page import Page
from hftransfer.ui.saying import begun, retold, say
from hftransfer.ui.visitors import Visitor

SHOWN_RUNS = 100
LOG_LINES = 60
MOST_CUT_OFF = 6  # runs that are offered to go on with
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
         "killed": "ended without a word", "queued": "waiting", "damaged": "damaged"}  # fmt: skip
GAP = '<div style="height:12px"></div>'


def state_of(state: str | None) -> str:
    """Return a state in words."""
    return retold(NAMES.get(state or "", ""))


def about(source: str | None, model: str | None, method: str | None) -> str:
    """Return what Start would train."""
    if not source:
        return markup.empty("Nothing to train on yet", "", "data", "Choose data first")
    if not model:
        return markup.empty("No model yet", "", "model", "Choose a model first")
    pairs = [("Data", short(source)), ("Model", short(model)), ("Method", method or catalog.USUAL)]
    return markup.title("What will be trained") + markup.facts(pairs)


def ready_of(
    page: Page, visitor: Visitor, task: str, source: str, model: str, method: str, known: Any = None
) -> str:  # fmt: skip
    """Return what Train would start beside its button, and what that takes: as measured, or as earlier runs took.

    `known` is {tree, answer} of a measured estimate; one of another source, model or method says nothing. Empty
    without data.
    """
    if not source or not model:
        return ""
    time = say("Its time is measured as it starts, and shown.")
    way = method or catalog.USUAL
    if known and _is_of(known["tree"], source, model, way):
        found = {
            "time": markup.roughly(known["answer"]["seconds"]),
            "memory": markup.size(known["answer"]["memory_mb"]),
        }
        time = say("Measured: about {time}, and {memory} of memory.", **found)
    elif costs := costs_of(page, visitor, f"{task}-{short(model).lower()}"):
        took = markup.roughly(median(float(cost["total_seconds"]) for cost in costs))
        memory = markup.size(max(float(cost.get("peak_memory_mb") or 0) for cost in costs))
        time = say("Runs like it took about {time}, and up to {memory} of memory.", time=took, memory=memory)
    words = say("Train starts from {model}, by {method}. {time}", model=short(model), method=way, time=time)
    return f'<p class="quiet small">{markup.text(words)}</p>'


def _is_of(tree: Mapping[str, Any], source: str, model: str, method: str) -> bool:
    """Tell whether a configuration is of a source, a model and a method."""
    named = tree.get("method", {}).get("name") or catalog.USUAL
    return (tree.get("data", {}).get("source"), tree.get("model"), named) == (source, model, method)


def called(run: Run) -> str:
    """Return what a run is called on the page: the name that people gave it, else its time, task and model."""
    given, _ = run.title()
    made = re.fullmatch(r"(\d{8}-\d{6})-(.+?)(-\d+)?", run.name)
    if given or made is None:
        return given or run.name
    what = made[2]
    task = next((task for task in catalog.tasks() if what.startswith(f"{task}-")), "")
    parts = [retold(task.replace("-", " ").capitalize()), what.removeprefix(f"{task}-")]
    when = datetime.strptime(made[1], "%Y%m%d-%H%M%S")
    date = say("{day} {month} {time}", day=when.day, month=retold(f"{when:%b}"), time=f"{when:%H:%M}")
    return f"{' · '.join(filter(None, parts))} · {date}{made[3] or ''}"


def cut_off_of(runs: Sequence[Run]) -> str:
    """Return the runs that a restart cut off, each as a button that goes on with it."""
    cards = [Card(run.name, called(run), say("Go on from its last checkpoint")) for run in runs[:MOST_CUT_OFF]]
    return (
        markup.title("Cut off on the way") + markup.cards(cards, None, "Runs to go on with", wide=True)
        if cards
        else ""
    )


def short(place: str) -> str:
    """Return the last part of a source or model's name."""
    return teaching.called(place.removeprefix("sample:"))


def head_of(page: Page, view: View, state: str | None) -> str:
    """Return a run's name, its state in words, and its progress."""
    status = view.status()
    folder, name = markup.text(view.folder.name), markup.text(called(view.run))
    probed = " data-probed" if view.probed else ""
    head = (
        f'<div class="run-head" data-state="{state}"{probed}><h3 title="{folder}">{name}</h3>'
        f'<span class="state {state}">{state_of(state)}</span></div>'
    )
    if state == "queued":
        place = page.queue.place(view.run)
        others = say("It is next.") if place == 1 else say("It is number {place} in the queue.", place=place)
        told = say("{place} It starts by itself when there is room.", place=others)
        return _headed(head + GAP + markup.note(told))
    if state == "running":
        return _headed(head + progress(status) + elsewhere(view))
    if state in ("failed", "killed"):
        outcome = page.monitor.outcome(view)
        more = say("The log below has more.") + " " if not outcome.user_error else ""
        going = _resuming(view) or say("Resume starts it again.")
        return _headed(head + GAP + markup.note([outcome.message, more + going], "bad"))
    if state == "stopped":
        going = _resuming(view) or say("There is no checkpoint yet: Resume starts it again.")
        return _headed(head + GAP + markup.note(f"{retold(status.message or 'Stopped')}. {going}", "warn"))
    if state == "damaged":
        return _headed(head + GAP + markup.note(status.message or "A file of it cannot be read.", "bad"))
    if state == "created":
        return _headed(head + GAP + markup.note("It has not started. Resume starts it.", "warn"))
    result = page.monitor.result(view.folder)
    return _headed(head + (GAP + came_of(result) if result else ""))


def came_of(result: Mapping[str, Any]) -> str:
    """Return what came of a run that is done: its main score, and that it is of no use where it is."""
    verdict = verdict_of(result)
    return headline.of(result) + (markup.note(list(verdict.sentences), "bad") if verdict.useless else "")


def _resuming(view: View) -> str:
    step = view.last_checkpoint
    return say("Resume goes on from step {step}.", step=step) if step else ""


def elsewhere(view: View) -> str:
    """Return where a run works that does not work here, and what that place last said of it."""
    name = view.run.launch().get("launcher", HERE)
    place = launcher(name)
    if not isinstance(place, Elsewhere):
        return ""
    words = say("On {place}: {words}", place=name, words=place.standing(view.run).words)
    return f'<div class="quiet small">{markup.text(words, 240)}</div>'


def _headed(inside: str) -> str:
    return f'<div id="run-head">{inside}</div>'


def going_of(view: View) -> str:
    """Return how a run goes, in a sentence."""
    told = going.said(view)
    return f"<p>{markup.text(told)}</p>" if told else ""


def body_of(page: Page, visitor: Visitor, view: View, state: str | None, others: Sequence[Run]) -> str:
    """Return how a run goes: figures, curves, some rows; and the other runs that wait for somebody to go on."""
    parts = {
        "figures": figures_of(page, visitor, view, state),
        "curves": curves_of(view),
        "watched": watched.shown(view, watched.INPUTS.of(page, visitor, view)),
        "cut-off": cut_off_of(others),
    }
    return "".join(f'<div id="{name}">{inside}</div>' for name, inside in parts.items())


def progress(status: Status) -> str:
    """Return the bar of a running run, or its phase while there is nothing to count."""
    phase = status.phase or "start"
    name = follow.PHASES.get(phase, phase)
    if phase == "training" and status.max_steps:
        share = min(status.step / status.max_steps, 1)
        words = say("step {step:,} of {steps:,}", step=status.step, steps=status.max_steps)
        bar = (
            f'<div class="progress" role="progressbar" aria-label="{say("training")}" aria-valuemin="0"'
            ' aria-valuemax="100"'
            f' aria-valuenow="{100 * share:.0f}"><i style="width:{100 * share:.1f}%"></i></div>'
        )
        return f'{bar}<div class="quiet small">{share:.0%}, {words}</div>'
    waits, name = retold(WAITS.get(phase, "")), retold(name.capitalize())
    words = say("{phase}: {what}", phase=name, what=waits) if waits else name
    bar = f'<div class="progress waiting" role="progressbar" aria-label="{say("working")}"><i></i></div>'
    return f'{bar}<div class="quiet small">{markup.text(words)}</div>'


def earlier(page: Page, visitor: Visitor, view: View) -> list[float]:
    """Return the seconds that the visitor's finished runs of the same task, model and method took."""
    return took_of(page, visitor, re.sub(r"^\d{8}-\d{6}-|-\d+$", "", view.folder.name))


def took_of(page: Page, visitor: Visitor, alike: str) -> list[float]:
    """Return the seconds that finished runs took whose names hold these words."""
    return [float(cost["total_seconds"]) for cost in costs_of(page, visitor, alike)]


def costs_of(page: Page, visitor: Visitor, alike: str) -> list[Mapping[str, Any]]:
    """Return what finished runs cost whose names hold these words."""
    runs = [run for run in page.queue.runs(visitor)[:SHOWN_RUNS] if alike in run.name]
    return [found["cost"] for run in runs if (found := page.monitor.result(run.folder))]


def figures_of(page: Page, visitor: Visitor, view: View, state: str | None, now: float | None = None) -> str:
    """Return the figures of a run: loss, learning rate, speed, memory, time left and gone."""
    now = time.time() if now is None else now
    log, running = view.log, state == "running"
    left = going.left(view, estimate_of(view.folder), earlier(page, visitor, view), now) if running else ""
    left, _, why = left.partition(": ")
    rate = log.get("examples_per_second")
    memory = page.monitor.memory_mb(view) if running else None
    ends = now if running else float(view.marks[-1]["time"]) if view.marks else now
    gone = ends - view.began
    pairs = [
        ("Left", f"{left}|{why}" if why else left),
        (say("Running for") if running else say("Took"), markup.roughly(gone) if view.began and gone > 0 else ""),
        ("Loss", markup.significant(log.get("loss"))),
        ("Learning rate", markup.significant(log.get("learning_rate"), 3)),
        ("Speed", f"{rate:.1f}| {say('examples/s')}" if rate else ""),
        ("Memory", markup.size(memory)),
        *(use_of(view.machine) if running else ()),
        ("Epoch", f"{log['epoch']:.2f}" if log.get("epoch") is not None else ""),
    ]  # fmt: skip
    return markup.facts(pairs)


def use_of(machine: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return how busy a machine far away is, as pairs: its processors, and each GPU."""
    pairs = []
    if machine.get("cpu_percent") is not None:
        pairs.append((say("Processors"), f"{machine['cpu_percent']:.0f} %|{markup.size(machine.get('memory_mb'))}"))
    for number, gpu in enumerate(machine.get("gpus", ())):
        name = "GPU" if len(machine["gpus"]) == 1 else f"GPU {number}"
        pairs.append((name, f"{gpu.get('percent') or 0:.0f} %|{markup.size(gpu.get('memory_mb'))}"))
    return pairs


def curves_of(view: View) -> str:
    """Return the curves: training and validation loss, the main validation metric, and the learning rate."""
    validation = monitor.curves(view)
    span = (0.0, float(view.step.get("max_steps") or 1)) if view.step else None
    losses = [Line(say("training loss"), view.losses)]
    if validation.get("loss"):
        losses.append(
            Line(say("validation loss"), validation["loss"], "dots" if len(validation["loss"]) < 2 else "line", 2)
        )
    parts = [charts.chart(losses, say("Loss"), x=span)]
    name = monitor.main_curve(validation)
    if name:
        metric = Line(
            say("validation {metric}", metric=name.replace("_", " ")),
            validation[name],
            "dots" if len(validation[name]) < 2 else "line",
            2,
        )
        lines = [metric]
        level = view.trivial.get("metrics", {}).get(name)
        if isinstance(level, int | float):
            ends = span or (0.0, validation[name][-1][0])
            lines.append(Line(retold(str(view.trivial["name"])), [(ends[0], level), (ends[1], level)], "dashed", 0))
        probe = view.probed.get("metrics", {}).get(name)
        if isinstance(probe, int | float):
            ends = span or (0.0, validation[name][-1][0])
            lines.append(Line(say("probe"), [(ends[0], probe), (ends[1], probe)], "dashed", 3))
        parts.append(charts.chart(lines, name, x=span))
    if view.rates and any(rate for _, rate in view.rates):
        parts.append(charts.chart([Line(say("learning rate"), view.rates, color=0)], say("Learning rate"), x=span))
    return f'<div class="charts">{"".join(parts)}</div>' if any(parts) else ""


def timeline(view: View) -> str:
    """Return what happened, a line each, newest last."""
    start = view.began or float(view.created.get("time", 0))
    items = []
    for event in view.said:
        lines = _own(event) or follow.lines_of(event)
        after = max(float(event.get("time", start)) - start, 0)
        css = "warning" if event["type"] == "warning" else ""
        items += [
            f'<li class="{css}"><time>{follow.duration(after)}</time>'
            f"<span>{markup.text(begun(line.removeprefix('warning: ')))}</span></li>"
            for line in lines
        ]
    return f'<ol class="timeline">{"".join(items)}</ol>'


def _own(event: Mapping[str, Any]) -> list[str]:
    """Return what an event says where it is more than one sentence from below; nothing for the others."""
    kind = event["type"]
    if kind == "columns":
        return [
            say("{role} is {column}: {why}", role=retold(one["role"].replace("_", " ")), column=one["column"],
                why=retold(one["reason"]))
            for one in event["choices"]
        ]  # fmt: skip
    if kind == "phase" and event.get("detail"):
        return [say("{phase}: {what}", phase=begun(follow.PHASES.get(event["name"], "")), what=event["detail"])]
    if kind == "tuned":
        precision = "bfloat16" if event.get("bf16") else "float32"
        found = {name: event.get(name) for name in ("attention", "threads")}
        return [
            say("Fastest here: {attention} attention, {precision}, {threads} threads", precision=precision, **found)
        ]
    if kind == "chosen":
        return [_chosen(one) for one in event["settings"]]
    if kind == "tried":
        told = f"{event['judged_by']} {event['loss']:.4f}" if "loss" in event else say("it diverged")
        rate = f"{event['learning_rate']:g}"
        return [say("Tried {name}, learning rate {rate}: {told}", name=retold(event["name"]), rate=rate, told=told)]
    if kind == "checkpoint":
        return [say("Checkpoint at step {step}", step=event["step"])]
    if kind == "checkpoint_pushed":
        return [say("Checkpoint of step {step} pushed", step=event["step"])]
    if kind == "checkpoint_not_pushed":
        message = retold(event.get("message", ""))
        return [say("{name} could not be pushed: {message}", name=retold(event["name"]), message=message)]
    if kind == "done":
        return [say("Done in {time}", time=markup.roughly(event["seconds"]))]
    if kind == "stopped":
        return [say("Stopped: {message}", message=retold(event["message"]))]
    if kind == "failed":
        return [say("Failed: {message}", message=retold(event.get("message") or ""))]
    return []


def _chosen(one: Mapping[str, Any]) -> str:
    name, value, origin, why = (
        retold(words) for words in (one["name"], follow.settled(one["value"]), one["origin"], one["reason"])
    )
    return say("{name} = {value}: {origin}, {why}", name=name, value=value, origin=origin, why=why)


def log_of(view: View) -> str:
    """Return the end of what the run's processes printed."""
    lines = of(view.run).log_tail(view.run, LOG_LINES)
    text = visitors.redacted("\n".join(lines)) if lines else say("Nothing was printed yet.")
    return f'<pre class="log" tabindex="0" aria-label="{say("Log")}">{markup.text(text, 20_000)}</pre>'


def estimate_of(folder: Path) -> dict[str, Any]:
    """Return what was predicted before the run started."""
    return foreseen(Run(folder))
