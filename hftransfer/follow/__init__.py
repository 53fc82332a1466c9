"""The events of a run as a person reads them: a bar on a terminal, plain lines in a pipe, or the events themselves."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TextIO

from tqdm import tqdm

from hftransfer.audit import cleanliness_report, forgetting_report
from hftransfer.errors import brief
from hftransfer.evaluation import telling
from hftransfer.events import Event
from hftransfer.follow.figures import duration, interval, megabytes, number, settled, table
from hftransfer.follow.questions import checked, columns, curve, guesses, ranked, said
from hftransfer.launchers.local import relative, shown
from hftransfer.runs import Run, verdict_of
from hftransfer.safety import terminal

if TYPE_CHECKING:
    from hftransfer.hub.reproduction import Comparison

Style = Literal["bar", "plain", "json"]

PHASES = {
    "start": "starting",
    "hub": "asking the Hub for access",
    "imports": "loading libraries",
    "data": "reading data",
    "model": "loading the model",
    "labels": "looking for wrong labels",
    "copies": "looking for likely copies",
    "features": "computing features, fitting probes",
    "tuning": "measuring settings",
    "trials": "measuring the learning rate",
    "training": "training",
    "asking": "asking the pretrained model",
    "fusing": "trying mixtures",
    "folds": "training and testing folds",
    "evaluation": "evaluating",
    "intervals": "measuring scores and intervals",
    "saving": "saving",
}
EVERY = 5.0  # seconds between two progress lines in a pipe
SHOWN_SCORES = 3  # of an evaluation during training: the loss, and the first of the metrics


def style_for(stream: TextIO, as_json: bool) -> Style:
    """Choose how to show events: a bar only where somebody looks at it."""
    return "json" if as_json else "bar" if stream.isatty() else "plain"


def show(events: Iterable[Event], style: Style, out: TextIO | None = None, verbose: bool = False) -> None:
    """Write events to `out` (standard output) as they come, until there are no more; `verbose`: with names of rows."""
    out = out or sys.stdout
    screen = Screen(style, out, verbose)
    try:
        for event in events:
            screen.show(event)
    finally:
        screen.close_bar()


class Screen:
    """What a person sees of a run: one event after the other."""

    def __init__(self, style: Style, out: TextIO, verbose: bool = False) -> None:
        self.style, self.out, self.verbose = style, terminal.raw(out), verbose
        self.said = terminal.words(out)
        self.bar: tqdm[Any] | None = None
        self.began: float | None = None
        self.due = 0.0  # time of the next progress line in a pipe

    def show(self, event: Event) -> None:
        """Show one event."""
        if self.style == "json":
            print(json.dumps(event), file=self.out, flush=True)
            return
        kind, at = event["type"], float(event.get("time", 0))
        if self.began is None:
            self.began = at
        if kind in ("step", "log"):
            self._progress(event, at)
            return
        if kind in ("phase", "done", "failed", "stopped"):
            self.close_bar()
            self.due = 0.0
        for line in lines_of(event, self.verbose):
            self._line(line if kind in ("checked", "ranked", "curve") else f"{at - self.began:7.1f} s  {line}")

    def close_bar(self) -> None:
        """Let go of the line that the bar is on."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def _progress(self, event: Event, at: float) -> None:
        step, total = event.get("step", 0), event.get("max_steps", 0)
        if self.style == "bar":
            if self.bar is None:
                self.bar = _bar(step, total, self.out)
            self.bar.update(step - self.bar.n)
            if event["type"] == "log":
                self.bar.set_postfix_str(_figures(event))
        elif event["type"] == "log" and (at >= self.due or step == total):
            self.due = at + EVERY
            share = f" ({step / total:.0%})" if total else ""
            self._line(f"{at - (self.began or at):7.1f} s  step {step}/{total}{share}  {_figures(event)}")

    def _line(self, text: str) -> None:
        text = self.said(terminal.clean(text))
        if self.bar is None:
            print(text, file=self.out, flush=True)
        else:
            self.bar.write(text, file=self.out)


def _bar(step: int, total: int, out: TextIO) -> tqdm[Any]:
    layout = "{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
    return tqdm(total=total or None, initial=step, desc="  training", bar_format=layout, file=out, dynamic_ncols=True)


def _figures(event: Event) -> str:
    loss, rate, left = (event.get(name) for name in ("loss", "examples_per_second", "eta_seconds"))
    parts = ["" if loss is None else f"loss {loss:.4f}", "" if rate is None else f"{rate:.1f} examples/s"]
    return ", ".join(part for part in (*parts, "" if left is None else f"{duration(left)} left") if part)


def lines_of(event: Event, verbose: bool = False) -> list[str]:
    """Return what an event says, in lines; nothing for those that only machines read."""
    kind = event["type"]
    if kind == "phase":
        detail = event.get("detail")
        return [f"{PHASES.get(event['name'], event['name'])}{f': {detail}' if detail else ''}"]
    if kind == "created":
        return [f"{event['task']}: {event['model']}, method {event['method']}"]
    if kind == "launched":
        return [f"$ {shown(event['command'])}"]
    if kind == "data":
        return guesses(event)
    if kind == "columns":
        return columns(event["choices"])
    if kind == "checked":
        return checked(event, verbose)
    if kind == "ranked":
        return ranked(event)
    if kind == "curve":
        return curve(event)
    if kind == "features":
        origin = f"from disk (computed in {duration(event['seconds'])})" if event["cached"] else "computed"
        return [f"features of {event['rows']:,} rows {origin}"]
    if kind == "probe":
        losses = ", ".join(f"{pooling} {loss:.4f}" for pooling, loss in event["losses"].items())
        return [f"pooling {event['pooling']}, penalty {event['strength']:.2g}; validation loss: {losses}"]
    if kind in ("notice", "warning"):
        return [("warning: " if kind == "warning" else "") + said(event["message"], verbose)]
    if kind == "evaluation":
        return [f"step {event['step']}, validation: {_scores(event['metrics'])}"]
    if kind == "checkpoint":
        return [f"checkpoint at step {event['step']}"]
    if kind == "publishing":
        return _publishing(event)
    if kind == "published":
        proof = "verified from a fresh process" if event["verified"] else "not verified"
        sent = f"{event['uploaded_files']} files sent ({megabytes(event['uploaded_bytes'])})"
        same = f", {event['unchanged_files']} were there already" if event["unchanged_files"] else ""
        return [f"published: {event['url']} ({proof}; {sent}{same})"]
    if kind == "unpublished":
        return [f"not published: {event['message']}"]
    if kind == "checkpoint_pushed":
        return [
            f"checkpoint of step {event['step']} pushed ({megabytes(event['bytes'])} in {duration(event['seconds'])})"
        ]
    if kind == "checkpoint_not_pushed":
        return [f"warning: {event['name']} could not be pushed: {event['message']}"]
    if kind == "chosen":
        return [
            f"{one['name']} = {settled(one['value'])}: {one['origin']}, {one['reason']}" for one in event["settings"]
        ]
    if kind == "tried":
        found = f"{event['judged_by']} {event['loss']:.4f}" if "loss" in event else "it diverged"
        return [f"tried {event['name']}, learning rate {event['learning_rate']:g}: {found}"]
    if kind == "fold":
        repeated = f" of repeat {event['repeat']}" if event["repeats"] > 1 else ""
        return [f"fold {event['fold']} of {event['folds']}{repeated}: {_scores(event['metrics'])}"]
    if kind == "fused":
        return [f"chosen on validation rows: {_chosen(event['chosen'])} ({event['metric']} {event['value']:.4f})"]
    if kind == "done":
        return [f"done in {duration(event['seconds'])}"]
    if kind == "stopped":
        return [f"stopped: {event['message']}"]
    return []  # `failed` is told by whoever waits for the run, with the log


def _publishing(event: Event) -> list[str]:
    stage, repo = event["stage"], event["repo"]
    if stage == "uploading":
        file = event.get("file")
        return [f"uploading {file} ({megabytes(event['done'])} of {megabytes(event['total'])} done)"] if file else []
    if stage == "waiting":
        return [event["message"]]
    return [
        {
            "checking": f"publishing {repo}",
            "exporting": "exporting to ONNX",
            "verifying": f"verifying {repo} from outside",
        }[stage]
    ]


def _scores(metrics: Mapping[str, Any]) -> str:
    chosen = list(metrics.items())[:SHOWN_SCORES]
    return ", ".join(f"{name} {value:.4f}" for name, value in chosen)


# --- the result ---


def result_text(result: Mapping[str, Any]) -> str:
    """Return result.json as aligned text: test scores with their intervals beside the baseline's, and the cost."""
    test, baseline = result["test"], result["baseline"]
    of = f" in {test['groups']} groups" if test.get("groups") else ""
    rows = [(f"test, n = {test['n']}{of}", "score", f"{test.get('confidence', 0.95):.0%} interval", baseline["name"])]
    for name, score in test["metrics"].items():
        trivial = baseline["metrics"].get(name, {})
        rows.append((name, number(score["value"]), interval(score), number(trivial.get("value"))))
    remarks = [*test.get("notes", ()), *result["data"].get("warnings", ())]
    verdict = verdict_of(result)
    return "\n".join(
        [
            f"{result['task']}: {result['model']}, method {result['method']}, seed {result['seed']}",
            "",
            *table(rows),
            "",
            *verdict.sentences,
            *(f"  try: {one}" for one in verdict.advice),
            *([""] if verdict.sentences else []),
            *_told_apart(result),
            *forgetting_report.facts(result),
            *_cost(result["cost"]),
            *(f"{name}: {told}" for name, told in cleanliness_report.facts(result["data"])),
            *(f"warning: {brief(remark)}" for remark in remarks if remark),
        ]
    )


def _told_apart(result: Mapping[str, Any]) -> list[str]:
    """Return what is said beside the scores, and the tables by label, slice and fold."""
    said = telling.sentences(result)
    drawn = [[f"{one.title}:", *table([one.header, *one.rows]), ""] for one in telling.tables(result)]
    return [*said, *([""] if said else []), *(line for lines in drawn for line in lines)]


def reproduction_text(repo: str, found: Comparison) -> str:
    """Return what came of training a published model again: each figure beside the published one, and the verdict."""
    rows = [("test", "published", "95% interval", "here", "")]
    for line in found.lines:
        ends = {"low": line.low, "high": line.high}
        rows.append((line.name, number(line.published), interval(ends), number(line.here), line.verdict))
    versions = [
        f"{name} {here or 'none'} (published with {then or 'none'})" for name, (then, here) in found.versions.items()
    ]
    verdict = "the figures agree" if found.agrees else "the figures do NOT agree"
    return "\n".join(
        [
            *table(rows), "", f"data: {found.data}",
            f"versions that differ: {', '.join(versions)}" if versions else "versions: the same",
            f"{repo}: {verdict}",
        ]
    )  # fmt: skip


def exported_text(found: Mapping[str, Any]) -> str:
    """Return what an export came to: its files, how near it answers, and what 8 bits a weight cost."""
    files = [f"{name}: {megabytes(size)}" for name, size in found["files"].items()]
    near = f"outputs on {found['rows']} test rows differ by at most {found['largest_difference']:.1g} from PyTorch's"
    return "\n".join([*files, near, *([small] if (small := quantized(found)) else [])])


def quantized(found: Mapping[str, Any]) -> str:
    """Return the score of a model of 8 bits a weight beside the whole one's, in a sentence; empty where unmeasured."""
    score = found["quantized"]
    if score is None or "value" not in score:
        return ""
    beside = f"{number(score['whole'])} of the whole model" if score["whole"] is not None else "nothing"
    return (
        f"with 8 bits a weight: {score['metric']} {number(score['value'])} ({interval(score)}) on {score['n']} test "
        f"rows, beside {beside}; {score['differing']} rows count differently"
    )


def _chosen(made_of: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {', '.join(value) if isinstance(value, list) else f'{value:g}'}" for name, value in made_of.items()
    )


def comparison_text(found: Mapping[str, Any]) -> str:
    """Return a comparison as aligned text: the table, the verdict, and what has to be known to read them."""
    from hftransfer.comparison import writing

    rows = writing.table(found)
    baseline = found["baseline"]
    trivial = [] if baseline is None else [f"{baseline['name']}: {number(baseline['value'])}"]
    said = [line for sentence in found["sentences"] for line in sentence.replace("; ", ";\n").splitlines()]
    notes = [f"note: {note}" for note in (*found["notes"], *writing.left_out(found))]
    return "\n".join([*table(rows), *trivial, "", *said, "", *notes])


def next_steps(run: Run, example: str) -> str:
    """Return what to do with a finished run."""
    place = shlex.quote(relative(run.folder))
    return f"folder: {place}\npredict: hftransfer predict {place} {shlex.quote(example)}"


def _cost(cost: Mapping[str, Any]) -> list[str]:
    trained, total = cost["trainable_parameters"], cost["total_parameters"]
    return [
        f"training {duration(cost['train_seconds'])}, in all {duration(cost['total_seconds'])}, "
        f"{cost['examples_per_second']:.1f} examples/s, peak memory {cost['peak_memory_mb']:,.0f} MB",
        f"trained {trained:,} of {total:,} parameters ({trained / total:.2%})",
    ]
