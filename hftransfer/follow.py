"""The events of a run as a person reads them: a bar on a terminal, plain lines in a pipe, or the events themselves."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TextIO

from tqdm import tqdm

from hftransfer import cleanness
from hftransfer.events import Event
from hftransfer.launchers.local import relative, shown
from hftransfer.runs import Run

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
    "training": "training",
    "asking": "asking the pretrained model",
    "fusing": "trying mixtures",
    "evaluation": "evaluating",
    "saving": "saving",
}
RANKED = {"knn": "kNN", "probe": "probe"}  # as a table's head has them
EVERY = 5.0  # seconds between two progress lines in a pipe
SHOWN_SCORES = 3  # of an evaluation during training: the loss, and the first of the metrics


def style_for(stream: TextIO, as_json: bool) -> Style:
    """Choose how to show events: a bar only where somebody looks at it."""
    return "json" if as_json else "bar" if stream.isatty() else "plain"


def show(events: Iterable[Event], style: Style, out: TextIO | None = None) -> None:
    """Write events to `out` (standard output) as they come, until there are no more."""
    out = out or sys.stdout
    screen = Screen(style, out)
    try:
        for event in events:
            screen.show(event)
    finally:
        screen.close_bar()


class Screen:
    """What a person sees of a run: one event after the other."""

    def __init__(self, style: Style, out: TextIO) -> None:
        self.style, self.out = style, out
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
        for line in lines_of(event):
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


def lines_of(event: Event) -> list[str]:
    """Return what an event says, in lines; nothing for those that only machines read."""
    kind = event["type"]
    if kind == "phase":
        detail = event.get("detail")
        return [f"{PHASES.get(event['name'], event['name'])}{f': {detail}' if detail else ''}"]
    if kind == "created":
        return [f"{event['task']}: {event['model']}, method {event['method']}"]
    if kind == "launched":
        return [f"$ {shown(event['command'])}"]
    if kind == "columns":
        return _columns(event["choices"])
    if kind == "checked":
        return _checked(event)
    if kind == "ranked":
        return _ranked(event)
    if kind == "curve":
        return _curve(event)
    if kind == "features":
        origin = f"from disk (computed in {duration(event['seconds'])})" if event["cached"] else "computed"
        return [f"features of {event['rows']:,} rows {origin}"]
    if kind == "probe":
        losses = ", ".join(f"{pooling} {loss:.4f}" for pooling, loss in event["losses"].items())
        return [f"pooling {event['pooling']}, penalty {event['strength']:.2g}; validation loss: {losses}"]
    if kind in ("notice", "warning"):
        return [("warning: " if kind == "warning" else "") + event["message"]]
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
    return [{"checking": f"publishing {repo}", "verifying": f"verifying {repo} from outside"}[stage]]


def megabytes(size: float) -> str:
    """Return bytes as 0.0 MB."""
    return f"{size / 1e6:,.1f} MB"


def _columns(choices: Iterable[Mapping[str, str]]) -> list[str]:
    return [f"{choice['role']} <- `{choice['column']}`: {choice['reason']}" for choice in choices]


def _checked(event: Event) -> list[str]:
    labels, parameters, data = event["labels"], event["parameters"], event["data"]
    counts = ", ".join(f"{name} {count}" for name, count in zip(labels["names"], labels["counts"], strict=True))
    splits = ", ".join(f"{name} {rows}" for name, rows in data["splits"].items())
    return [
        *_columns(event["columns"]),
        f"labels: {labels['kind']}{f' ({counts})' if counts else ''}",
        f"rows: {splits}",
        f"training: {parameters['trainable']:,} of {parameters['total']:,} parameters, {event['updates']:,} updates",
        f"one batch forward and backward: {event['first_step_seconds']:.2f} s, "
        f"peak memory {event['peak_memory_mb']:,.0f} MB",
        *(f"{name}: {told}" for name, told in cleanness.facts(data)),
        *(f"warning: {warning}" for warning in data["warnings"]),
        *_access(event.get("hub") or {}),
        "nothing stands in the way of training",
    ]


def _ranked(event: Event) -> list[str]:
    failed = [f"failed: {model}: {one['message']}" for model, one in event["failed"].items()]
    if not event["models"]:
        return [*failed, event["verdict"]]
    metric, n = event["models"][0]["metric"], event["models"][0]["rows"]
    by, (beside,) = event["by"], [name for name in RANKED if name != event["by"]]
    figures = (f"{RANKED[by]}'s {metric}", "interval", "behind", "interval", RANKED[beside], "LogME")
    rows = [("model", *figures, "parameters", "seconds")]
    for place, one in enumerate(event["models"]):
        behind = (number(one[by]["behind"]["value"]), interval(one[by]["behind"])) if place else ("", "")
        others = (
            number(one[beside]["value"]),
            number(one["logme"]),
            f"{one['parameters']:,}",
            f"{one['seconds']:.1f}",
        )
        rows.append((one["model"], number(one[by]["value"]), interval(one[by]), *behind, *others))
    return [
        *table(rows),
        *failed,
        f"{n:,} training rows, answered out of fold; {duration(event['seconds'])} in all",
        event["verdict"],
    ]


def _curve(event: Event) -> list[str]:
    rows = [("training rows", event["metric"], "interval")]
    rows += [(f"{point['rows']:,}", number(point["value"]), interval(point)) for point in event["points"]]
    law = event["law"]
    return [
        *table(rows),
        f"error = {law['floor']:.3f} + {law['size']:.3g} x rows^-{law['exponent']:.2f}; "
        f"{duration(event['seconds'])} in all",
        event["verdict"],
        f"folder: {relative(event['folder'])} (curve.json, .png)",
    ]


def _access(hub: Mapping[str, Any]) -> list[str]:
    if not hub.get("repo"):
        return []
    return [f"hub: {hub['user']} may write to {hub['repo']} ({'it exists' if hub['exists'] else 'new'})"]


def _scores(metrics: Mapping[str, Any]) -> str:
    chosen = list(metrics.items())[:SHOWN_SCORES]
    return ", ".join(f"{name} {value:.4f}" for name, value in chosen)


def duration(seconds: float) -> str:
    """Return seconds as 9.5 s, 3 min 20 s or 2 h 05 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


# --- the result ---


def result_text(result: Mapping[str, Any]) -> str:
    """Return result.json as aligned text: test scores with their intervals beside the baseline's, and the cost."""
    test, baseline = result["test"], result["baseline"]
    rows = [(f"test, n = {test['n']}", "score", f"{test.get('confidence', 0.95):.0%} interval", baseline["name"])]
    for name, score in test["metrics"].items():
        trivial = baseline["metrics"].get(name, {})
        rows.append((name, number(score["value"]), interval(score), number(trivial.get("value"))))
    remarks = [baseline.get("below"), *test.get("notes", ()), *result["data"].get("warnings", ())]
    return "\n".join(
        [
            f"{result['task']}: {result['model']}, method {result['method']}, seed {result['seed']}",
            "",
            *table(rows),
            "",
            *_cost(result["cost"]),
            *(f"{name}: {told}" for name, told in cleanness.facts(result["data"])),
            *(f"warning: {remark}" for remark in remarks if remark),
        ]
    )


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


def _chosen(made_of: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {', '.join(value) if isinstance(value, list) else f'{value:g}'}" for name, value in made_of.items()
    )


def comparison_text(found: Mapping[str, Any]) -> str:
    """Return a comparison as aligned text: the table, the verdict, and what has to be known to read them."""
    from hftransfer import comparison

    rows = comparison.table(found)
    baseline = found["baseline"]
    trivial = [] if baseline is None else [f"{baseline['name']}: {number(baseline['value'])}"]
    said = [line for sentence in found["sentences"] for line in sentence.replace("; ", ";\n").splitlines()]
    notes = [f"note: {note}" for note in (*found["notes"], *comparison.left_out(found))]
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


def interval(score: Mapping[str, Any]) -> str:
    """Return the interval of a score as text, empty where it has none."""
    ends = (score.get("low"), score.get("high"))
    return "" if None in ends else " to ".join(map(number, ends))


def number(value: float | None) -> str:
    """Return a score as text, empty where there is none."""
    return "" if value is None else f"{value:.3f}"


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines with aligned columns."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
