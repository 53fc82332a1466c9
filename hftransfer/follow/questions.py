"""What was asked before training, as lines: what a check found, which model leads, what more rows bring."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hftransfer.audit import cleanliness_report
from hftransfer.errors import brief
from hftransfer.events import Event
from hftransfer.follow.figures import duration, interval, number, table
from hftransfer.launchers.local import relative

RANKED = {"knn": "kNN", "probe": "probe"}  # as a table's head has them


def columns(choices: Iterable[Mapping[str, str]]) -> list[str]:
    """Return what each column was taken for, a line each."""
    return [f"{choice['role']} <- `{choice['column']}`: {choice['reason']}" for choice in choices]


def guesses(data: Mapping[str, Any]) -> list[str]:
    """Return what a reader guessed of the files, a line each."""
    return [f"guessed: {guess}" for guess in data.get("guesses", ())]  # older runs noted none


def said(warning: str, verbose: bool) -> str:
    """Return a warning, without the names of rows unless asked for."""
    return warning if verbose else brief(warning)


def checked(event: Event, verbose: bool) -> list[str]:
    """Return what a check found, in lines."""
    labels, parameters, data = event["labels"], event["parameters"], event["data"]
    counts = ", ".join(f"{name} {count}" for name, count in zip(labels["names"], labels["counts"], strict=True))
    splits = ", ".join(f"{name} {rows}" for name, rows in data["splits"].items())
    steps = event.get("work", event["updates"]) * event.get("steps_an_update", 1)
    took = steps * event.get("step_seconds", 0)
    return [
        *guesses(data),
        *columns(event["columns"]),
        f"{'labels' if labels['names'] else 'answers'}: {labels['kind']}{f' ({counts})' if counts else ''}",
        f"rows: {splits}",
        f"training: {parameters['trainable']:,} of {parameters['total']:,} parameters, {event['updates']:,} updates"
        + (f" of about {duration(took)} in all on this machine" if took else ""),
        f"one batch forward and backward: {event['first_step_seconds']:.2f} s, "
        f"peak memory {event['peak_memory_mb']:,.0f} MB",
        *(f"{name}: {told}" for name, told in cleanliness_report.facts(data)),
        *(event.get("resolution") or {}).get("sentences", ()),
        *(f"warning: {said(warning, verbose)}" for warning in data["warnings"]),
        *_access(event.get("hub") or {}),
        "nothing stands in the way of training",
    ]


def ranked(event: Event) -> list[str]:
    """Return models in order, as a table."""
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


def curve(event: Event) -> list[str]:
    """Return the scores of more and more rows, as a table, and what follows."""
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
