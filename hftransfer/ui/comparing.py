"""Several runs as the Result step shows them: all in a list, and some side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hftransfer import follow
from hftransfer.runs import Run
from hftransfer.ui import charts, markup, monitor, train_step, train_view
from hftransfer.ui.charts import Line
from hftransfer.ui.page import Page
from hftransfer.ui.saying import retold, say
from hftransfer.ui.visitors import Visitor
from hftransfer.yaml_core import read_yaml, written


def history_of(page: Page, visitor: Visitor) -> str:
    """Return every run with its state, its first score and its cost."""
    rows = []
    for run, state, _ in train_step.entries_of(page, visitor):
        result = page.monitor.result(run.folder)
        name, score = next(iter(result["test"]["metrics"].items()), ("", None)) if result else ("", None)
        took = markup.roughly(result["cost"]["total_seconds"]) if result else ""
        measured = f"{markup.text(name)} {markup.score(score)}" if score else ""
        words, note = markup.text(train_view.called(run)), run.title()[1]
        words = f'<span title="{markup.text(run.name)}">{words}</span>'
        noted = f'{words}<br><span class="quiet small">{markup.text(note)}</span>' if note else words
        rows.append([noted, markup.text(train_view.state_of(state)), measured, took])
    return (
        markup.table([say("run"), say("state"), say("score"), say("took")], rows)
        if rows
        else markup.note("There is no run yet.")
    )


def names_of(folders: Sequence[Path]) -> dict[str, str]:
    """Return what each run is called, by its folder's name: names that two would share stay those of the folders."""
    found = {folder.name: train_view.called(Run(folder)) for folder in folders}
    many = Counter(found.values())
    return {name: called if many[called] == 1 else name for name, called in found.items()}


def comparison_of(found: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Return which run is worth its time, in words and as a table, paired on the same test rows; `names` by folder."""
    longest_first = sorted(names, key=len, reverse=True)

    def told(words: str, longest: int = markup.LONGEST) -> str:
        shown = retold(words)
        for name in longest_first:
            shown = shown.replace(name, markup.cut(names[name]))
        return markup.text(shown, longest)

    header, *rows = found["table"]
    cells = [[told(cell) for cell in row] for row in rows]
    words = f"<p><b>{told(found['verdict'], 2000)}</b></p>"
    notes = "".join(f"<p>{told(one, 2000)}</p>" for one in found["notes"])
    return words + markup.table([*map(retold, header)], cells) + notes


def comparison(page: Page, folders: Sequence[Path]) -> str:
    """Return several runs side by side: scores, curves, and the settings in which they differ."""
    called = names_of(folders)
    names = [called[folder.name] for folder in folders]
    results = [page.monitor.result(folder) for folder in folders]
    measured = list(dict.fromkeys(m for r in results if r for m in r["test"]["metrics"]))
    scores = [
        [markup.text(m.replace("_", " ")), *(markup.score(r["test"]["metrics"].get(m)) if r else "" for r in results)]
        for m in measured[:6]
    ]
    costs = [r["cost"] if r else None for r in results]
    took = [markup.text(follow.duration(one["train_seconds"])) if one else "" for one in costs]
    peak = [markup.size(one["peak_memory_mb"]) if one else "" for one in costs]
    cost = [[say("training"), *took], [say("peak memory"), *peak]]
    parts = [markup.table(["", *names], [*scores, *cost])]
    prints = {r["data"].get("split_fingerprints", {}).get("test", r["data"]["fingerprint"]) for r in results if r}
    if len(prints) > 1:
        parts.append(markup.note("They were measured on different test rows: their scores do not compare.", "warn"))
    views = [page.monitor.view(folder) for folder in folders]
    losses = [Line(name, view.losses) for name, view in zip(names, views, strict=True)]
    curves = [monitor.curves(view) for view in views]
    metric = monitor.main_curve([name for curve in curves for name in curve])
    lines = (
        [
            Line(n, c[metric], "line" if len(c[metric]) > 1 else "dots")
            for n, c in zip(names, curves, strict=True)
            if metric in c
        ]
        if metric
        else []
    )
    validation = say("Validation {metric}", metric=(metric or "").replace("_", " "))
    drawn = [charts.chart(losses, say("Training loss")), charts.chart(lines, validation)]
    titles = [say("Training loss"), validation]
    figures = "".join(f"<div>{markup.title(t)}{d}</div>" for t, d in zip(titles, drawn, strict=True) if d)
    parts.append(f'<div class="charts">{figures}</div>')
    rows = differences([_tree(folder) for folder in folders])
    if rows:
        table = markup.table([say("setting"), *names], [[markup.text(v) for v in row] for row in rows])
        parts.append(markup.title("Settings that differ") + table)
    else:
        parts.append(markup.note("Their settings are the same."))
    return '<div style="display:grid;gap:24px">' + "".join(parts) + "</div>"


def differences(trees: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return (path, value of each) of the settings in which configurations differ; empty where one has the default."""
    flat = [dict(_flat(tree)) for tree in trees]
    paths = list(dict.fromkeys(path for one in flat for path in one))
    rows = [[path, *(written(one[path]) if path in one else "" for one in flat)] for path in paths]
    return [row for row in rows if len(set(row[1:])) > 1 and row[0] != "output"]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Any:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _tree(folder: Path) -> dict[str, Any]:
    found = read_yaml((folder / "config.yaml").read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else {}
