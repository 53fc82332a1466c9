"""Step 4, Result: scores with their intervals beside the baseline, where it errs, its cost, several side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from hftransfer import follow
from hftransfer.config import read_yaml
from hftransfer.errors import UserError
from hftransfer.ui import charts, form, markup, monitor, rows_found, train_step, visitors
from hftransfer.ui.charts import Line
from hftransfer.ui.data_step import cell, looking
from hftransfer.ui.page import Page, html
from hftransfer.ui.visitors import Visitor

ERRORS = 12
MOST_COMPARED = 6
NOTHING = markup.empty("No result yet", "It stands here when a run is done.", "train", "Go to training")


def build(page: Page) -> Callable[[], None]:
    """Lay out the step; the function it returns wires it, once every step is laid out."""
    with gr.Column(elem_id="panel-result", elem_classes="step"):
        html(
            markup.lead(
                "How good is it?", "Measured once, on rows that it never saw, beside an answer that does not look."
            )
        )
        nothing = html(NOTHING)
        with gr.Column(visible=False) as there:
            scores = html(elem_classes="card-block", elem_id="scores")
            where = html(elem_classes="card-block", elem_id="where")
            with gr.Column(elem_classes="card-block"):
                html(markup.title("Where it is wrong", "the surest mistakes first"))
                errors = html(elem_id="errors")
                ask = gr.Button("Show the worst mistakes", elem_classes="narrow", elem_id="show-errors")
            cost = html(elem_classes="card-block", elem_id="cost")
        with gr.Column(elem_classes="card-block"):
            html(markup.title("Side by side", "scores, curves, and only what differs in the settings"))
            others = gr.Dropdown([], value=[], multiselect=True, label="Compare with", max_choices=MOST_COMPARED - 1,
                                 elem_id="compare")  # fmt: skip
            judged = html(elem_id="verdict")
            side = html(elem_id="side")
        with gr.Accordion("All runs", open=False, elem_classes="fold"):
            history = html(elem_id="history")
            delete = gr.Button("Delete the run above", size="sm", elem_classes="narrow", elem_id="delete")
        with gr.Row(elem_classes="foot"):
            gr.Button("Try it", variant="primary").click(None, js="() => hftransfer.go('try')")

    def wire() -> None:
        outputs = [nothing, there, scores, where, errors, ask, cost, others, history]

        def render(visitor: Visitor, name: str | None) -> list[Any]:
            folder = visitors.find(visitor, name).folder if name else Path()
            result = page.monitor.result(folder) if name else {}
            names = [run.name for run in page.queue.runs(visitor)]
            choices = gr.update(choices=[n for n in names if n != name], value=[])
            if not result:
                return [
                    NOTHING,
                    gr.update(visible=False),
                    *(gr.skip() for _ in range(5)),
                    choices,
                    history_of(page, visitor),
                ]
            return [
                "", gr.update(visible=True), scores_of(result),
                where_of(result, folder) + rows_found.rows_of(result, folder), "", gr.update(visible=True),
                cost_of(result, train_step.estimate_of(folder)), choices,
                history_of(page, visitor),
            ]  # fmt: skip

        page.on(gr.on, render, [page.run], outputs, triggers=[page.go["viewed"].change])

        def worst(visitor: Visitor, name: str) -> list[Any]:
            try:
                found = page.workers.call(visitor, "errors", run=name, n=ERRORS)
            except UserError as error:
                return [markup.note(str(error), "bad"), gr.update(visible=True)]
            return [errors_of(found), gr.update(visible=False)]

        page.on(ask.click, lambda visitor: looking("Looking at the test rows …"), [], [errors])
        page.on(ask.click, worst, [page.run], [errors, ask])

        def compare(visitor: Visitor, name: str | None, chosen: Sequence[str]) -> str:
            names = [n for n in (name, *(chosen or ())) if n]
            if len(names) < 2:
                return ""
            return comparison(page, [visitors.find(visitor, n).folder for n in names[:MOST_COMPARED]])

        def judging(visitor: Visitor, name: str | None, chosen: Sequence[str]) -> str:
            return looking("Comparing row by row …") if name and chosen else ""

        def judge(visitor: Visitor, name: str | None, chosen: Sequence[str]) -> str:
            if not name or not chosen:
                return ""
            try:
                found = page.workers.call(visitor, "verdict", run=name, others=list(chosen)[: MOST_COMPARED - 1])
            except UserError as error:
                return markup.note(str(error), "warn")
            return verdict_of(found)

        def remove(visitor: Visitor, name: str | None) -> Any:
            if not name:
                return gr.skip()
            page.queue.remove(visitor, name)
            entries = train_step.entries_of(page, visitor)
            left = entries[0][0].name if entries else None
            return gr.update(choices=train_step.choices_of(entries), value=left, visible=bool(entries))

        tick, told, shown = page.go["refresh"]
        sure = "(name) => confirm(`Delete ${name} with its model?`) ? name : null"
        page.on(page.on(delete.click, remove, [page.run], [page.run], js=sure).success, tick, told, shown)
        compared = page.on(others.change, compare, [page.run, others], [side])
        waiting = page.on(compared.success, judging, [page.run, others], [judged])
        page.on(waiting.success, judge, [page.run, others], [judged])

    return wire


# --- one run ---


def scores_of(result: Mapping[str, Any]) -> str:
    """Return the table of test scores with intervals, beside the trivial baseline, and what must be said of them."""
    test, baseline = result["test"], result["baseline"]
    confidence = f"{test.get('confidence', 0.95):.0%} interval"
    rows = [
        [
            markup.text(name.replace("_", " ")), markup.score(score),
            markup.text(follow.number(baseline["metrics"].get(name, {}).get("value"))),
        ]
        for name, score in test["metrics"].items()
    ]  # fmt: skip
    remarks = [baseline.get("below"), *test.get("notes", ())]
    words = markup.note([r for r in remarks if r], "warn")
    head = markup.title("Scores on the test rows", f"{test['n']:,} rows, {confidence}")
    first, second = _headline(result)
    return f"{first}{words}{head}{markup.table(['score', 'this run', baseline['name']], rows, [2])}{second}"


def _headline(result: Mapping[str, Any]) -> tuple[str, str]:
    name, score = next(iter(result["test"]["metrics"].items()))
    trivial = result["baseline"]["metrics"].get(name, {}).get("value")
    ends = "" if score.get("low") is None else f"between {score['low']:.3f} and {score['high']:.3f}"
    against = "" if trivial is None else f"{result['baseline']['name']}: {trivial:.3f}"
    small = "; ".join(part for part in (ends, against) if part)
    words = f"{markup.text(name.replace('_', ' '))} {score['value']:.3f}<small>{markup.text(small)}</small>"
    head = f'<p class="answer">{words}</p>'
    warnings = markup.warnings(result["data"].get("warnings", []))
    return head, f'<div style="margin-top:14px">{warnings}</div>' if warnings else ""


def where_of(result: Mapping[str, Any], folder: Path) -> str:
    """Return the confusion matrix, the reliability and the table per class, where the task has them."""
    matrix = charts.confusion(monitor.plot(folder, "confusion_matrix"))
    reliability = charts.reliability(monitor.plot(folder, "reliability"))
    residuals = charts.residuals(monitor.plot(folder, "predicted_vs_true"))
    parts = [
        f"<div>{markup.title('What it takes for what')}{matrix}</div>" if matrix else "",
        f"<div>{markup.title('When it is sure, is it right?')}{reliability}</div>" if reliability else "",
        f"<div>{markup.title('How far off')}{residuals}</div>" if residuals else "",
    ]
    classes = result["test"].get("classes") or []
    rows = [
        [
            markup.text(c["name"]), markup.count(c.get("n")), markup.text(follow.number(c.get("precision"))),
            markup.text(follow.number(c.get("recall"))), markup.score(
                {"value": c.get("f1"), "low": c.get("f1_low"), "high": c.get("f1_high")}),
        ]
        for c in classes
    ]  # fmt: skip
    table = markup.title("Label by label") + markup.table(
        ["label", "rows", "precision", "recall", "F1"], rows, [1, 2, 3]
    )
    together = f'<div class="charts">{"".join(parts)}</div>' if any(parts) else ""
    return together + (f'<div style="margin-top:26px">{table}</div>' if rows else "")


def cost_of(result: Mapping[str, Any], estimate: Mapping[str, Any]) -> str:
    """Return what the run cost, beside what was predicted."""
    cost = result["cost"]
    trained, total = cost["trainable_parameters"], cost["total_parameters"]
    seconds = f"predicted {markup.roughly(estimate['seconds'])}" if estimate.get("seconds") else ""
    memory = f"predicted {markup.size(estimate['memory_mb'])}" if estimate.get("memory_mb") else ""
    pairs = [
        ("Training", f"{markup.roughly(cost['train_seconds'])}|{seconds}"),
        ("In all", markup.roughly(cost["total_seconds"])),
        ("Speed", f"{cost['examples_per_second']:.1f}|examples/s"),
        ("Peak memory", f"{markup.size(cost['peak_memory_mb'])}|{memory}"),
        ("Trained", f"{markup.short_count(trained)}|of {markup.short_count(total)} parameters, {trained / total:.2%}"),
    ]
    return markup.title("What it cost") + markup.facts(pairs)


def errors_of(found: Sequence[Mapping[str, Any]]) -> str:
    """Return the worst mistakes: pictures as pictures, texts in a table."""
    if not found:
        return markup.note("No mistakes on the test rows.", "good")
    if any(entry.get("kind") == "image" for entry in found[0]["input"].values()):
        figures = []
        for row in found:
            image = next(entry for entry in row["input"].values() if entry.get("kind") == "image")
            words = f"{markup.text(row['prediction'])}, is {markup.text(row['label'])}"
            sure = f" ({row['score']:.2f})" if row.get("score") is not None else ""
            figures.append(
                f"<figure>{markup.picture(image['value'], str(row['label']))}"
                f"<figcaption>{words}{sure}</figcaption></figure>"
            )
        return f'<div class="pictures">{"".join(figures)}</div>'
    roles = list(found[0]["input"])
    rows = [
        [*(cell(row["input"].get(role)) for role in roles), markup.text(row["label"]), markup.text(row["prediction"]),
         "" if row.get("score") is None else f"{row['score']:.2f}"]
        for row in found
    ]  # fmt: skip
    return markup.table([*roles, "is", "answered", "sure"], rows, [len(roles) + 2])


# --- several ---


def history_of(page: Page, visitor: Visitor) -> str:
    """Return every run with its state, its first score and its cost."""
    rows = []
    for run, state, _ in train_step.entries_of(page, visitor):
        result = page.monitor.result(run.folder)
        name, score = next(iter(result["test"]["metrics"].items()), ("", None)) if result else ("", None)
        took = markup.roughly(result["cost"]["total_seconds"]) if result else ""
        measured = f"{markup.text(name)} {markup.score(score)}" if score else ""
        rows.append([markup.text(run.name), markup.text(train_step.NAMES[state]), measured, took])
    return markup.table(["run", "state", "score", "took"], rows) if rows else markup.note("There is no run yet.")


def verdict_of(found: Mapping[str, Any]) -> str:
    """Return which run is worth its time, in words and as a table: paired on the same test rows."""
    header, *rows = found["table"]
    cells = [[markup.text(cell) for cell in row] for row in rows]
    words = f"<p><b>{markup.text(found['verdict'])}</b></p>"
    return words + markup.table(header, cells) + "".join(f"<p>{markup.text(one)}</p>" for one in found["notes"])


def comparison(page: Page, folders: Sequence[Path]) -> str:
    """Return several runs side by side: scores, curves, and the settings in which they differ."""
    names = [folder.name for folder in folders]
    results = [page.monitor.result(folder) for folder in folders]
    measured = list(dict.fromkeys(m for r in results if r for m in r["test"]["metrics"]))
    scores = [
        [markup.text(m.replace("_", " ")), *(markup.score(r["test"]["metrics"].get(m)) if r else "" for r in results)]
        for m in measured[:6]
    ]
    cost = [["training", *(markup.text(follow.duration(r["cost"]["train_seconds"])) if r else "" for r in results)],
            ["peak memory", *(markup.size(r["cost"]["peak_memory_mb"]) if r else "" for r in results)]]  # fmt: skip
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
    drawn = [charts.chart(losses, "Training loss"), charts.chart(lines, f"Validation {metric}")]
    titles = ["Training loss", f"Validation {(metric or '').replace('_', ' ')}"]
    figures = "".join(f"<div>{markup.title(t)}{d}</div>" for t, d in zip(titles, drawn, strict=True) if d)
    parts.append(f'<div class="charts">{figures}</div>')
    rows = differences([_tree(folder) for folder in folders])
    if rows:
        table = markup.table(["setting", *names], [[markup.text(v) for v in row] for row in rows])
        parts.append(markup.title("Settings that differ") + table)
    else:
        parts.append(markup.note("Their settings are the same."))
    return '<div style="display:grid;gap:24px">' + "".join(parts) + "</div>"


def differences(trees: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return (path, value of each) of the settings in which configurations differ; empty where one has the default."""
    flat = [dict(_flat(tree)) for tree in trees]
    paths = list(dict.fromkeys(path for one in flat for path in one))
    rows = [[path, *(form.written(one[path]) if path in one else "" for one in flat)] for path in paths]
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
