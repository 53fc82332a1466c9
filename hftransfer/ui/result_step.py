"""Step 4, Result: scores with their intervals beside the baseline, where it errs, its cost, several side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from hftransfer import answers, follow
from hftransfer.audit import forgetting_report
from hftransfer.errors import UserError
from hftransfer.evaluation import telling
from hftransfer.runs import Run, verdict_of
from hftransfer.ui import (
    charts,
    downloads,
    headline,
    markup,
    mending_part,
    monitor,
    next_steps,
    rows_found,
    runs_part,
    train_view,
    visitors,
)
from hftransfer.ui.comparing import comparison, comparison_of, names_of
from hftransfer.ui.page import Page, html
from hftransfer.ui.saying import retold, say
from hftransfer.ui.visitors import Visitor

ERRORS = 48
TITLES = {  # of charts, in a page's words
    "matrix": "What it takes for what", "bars": "What it finds of each label",
    "reliability": "When it is sure, is it right?", "scatter": "How far off",
}  # fmt: skip


def none() -> str:
    """Return what stands where a result will."""
    return markup.empty("No result yet", "It stands here when a run is done.", "train", "Go to training")


def build(page: Page) -> Callable[[], None]:
    """Lay out the step; the function it returns wires it, once every step is laid out."""
    with gr.Column(elem_id="panel-result", elem_classes="step"):
        html(
            markup.lead(
                "How good is it?", "Measured once, on rows that it never saw, beside an answer that does not look."
            )
        )
        nothing = html(none())
        with gr.Column(visible=False) as there:
            scores = html(elem_classes="card-block", elem_id="scores")
            onward = html(elem_classes="card-block", elem_id="next", js_on_load=markup.CARDS)
            where = html(elem_classes="card-block", elem_id="where")
            with gr.Column(elem_classes="card-block"):
                html(markup.title("Where it is wrong", "the surest mistakes first"))
                errors = html(elem_id="errors")
                ask = gr.Button("Show the worst mistakes", elem_classes="narrow", elem_id="show-errors")
            mend = mending_part.build(page)
            cost = html(elem_classes="card-block", elem_id="cost")
        with gr.Column(elem_classes="card-block"):
            html(markup.title("Side by side", "scores, curves, and only what differs in the settings"))
            others = gr.Dropdown([], value=[], multiselect=True, label="Compare with", elem_id="compare")
            judged = html(elem_id="verdict")
            side = html(elem_id="side")
        runs = runs_part.build(page)
        with gr.Row(elem_classes="foot"):
            take = gr.DownloadButton("Download the model", elem_id="download")
            gr.Button("Try it", variant="primary").click(None, js="() => hftransfer.go('try')")

    def wire() -> None:
        mend()
        runs()
        outputs = [nothing, there, scores, onward, where, errors, ask, cost, others]

        page.on(gr.on, partial(render, page), [page.run], outputs, triggers=[page.go["viewed"].change])

        tick, told, shown = page.go["refresh"]
        more = page.on(
            onward.click, partial(next_steps.longer, page), [page.run], [page.run, page.go["timer"]], picks=True
        )
        page.on(more.success, tick, told, shown)

        page.on(ask.click, partial(worst, page), [page.run], [errors, ask], turn="errors",
                meanwhile=(errors, "Looking at the test rows …"))  # fmt: skip

        page.on_download(take, partial(pack, page), [page.run])

        compared = page.on(others.change, partial(compare, page), [page.run, others], [side], turn="compared")
        page.on(compared.success, partial(judge, page), [page.run, others], [judged], turn="judged",
                meanwhile=(judged, judging), trigger_mode="always_last")  # fmt: skip

    return wire


def render(page: Page, visitor: Visitor, name: str | None) -> list[Any]:
    """Return the step as it stands for a run."""
    folder = visitors.find(visitor, name).folder if name else Path()
    result = page.monitor.result(folder) if name else {}
    rest = [run for run in page.queue.runs(visitor) if run.name != name]
    noted = visitors.find(visitor, name).noted() if name else {}
    before = [run.name for run in rest if run.name == noted.get("follows")] if result else []
    choices = gr.update(choices=[(train_view.called(run), run.name) for run in rest], value=before)
    if not result:
        return [none(), gr.update(visible=False), *(gr.skip() for _ in range(6)), choices]
    return [
        "", gr.update(visible=True), scores_of(result),
        next_steps.cards_of(result, next_steps.facts_of(page, Run(folder))),
        where_of(result, folder) + rows_found.rows_of(result, folder), "", gr.update(visible=True),
        cost_of(result, train_view.estimate_of(folder)), choices,
    ]  # fmt: skip


def worst(page: Page, visitor: Visitor, name: str) -> list[Any]:
    """Show the test rows that were answered worst."""
    try:
        found = page.workers.call(visitor, "errors", run=name, n=ERRORS)
    except UserError as error:
        return [markup.note(str(error), "bad"), gr.update(visible=True)]
    return [rows_found.errors_of(found), gr.update(visible=False)]


def pack(page: Page, visitor: Visitor, name: str | None) -> str:
    """Write the model as one file and return its place."""
    return str(downloads.packed(visitor, visitors.find(visitor, name or ""), page.settings))


def compare(page: Page, visitor: Visitor, name: str | None, chosen: Sequence[str]) -> str:
    """Show runs side by side."""
    names = [n for n in (name, *(chosen or ())) if n]
    if len(names) < 2:
        return ""
    return comparison(page, [visitors.find(visitor, n).folder for n in names])


def judging(visitor: Visitor, name: str | None, chosen: Sequence[str]) -> str:
    """Say that runs are being compared."""
    return markup.looking("Comparing row by row …") if name and chosen else ""


def judge(page: Page, visitor: Visitor, name: str | None, chosen: Sequence[str]) -> str:
    """Say which of some runs is worth its time."""
    if not name or not chosen:
        return ""
    try:
        found = page.workers.call(visitor, "verdict", run=name, others=list(chosen))
    except UserError as error:
        return markup.note(str(error), "warn")
    return comparison_of(found, names_of([visitors.find(visitor, one).folder for one in (name, *chosen)]))


# --- one run ---


def scores_of(result: Mapping[str, Any]) -> str:
    """Return the table of test scores with intervals, beside the trivial baseline, and what must be said of them."""
    test, baseline = result["test"], result["baseline"]
    confidence = f"{test.get('confidence', 0.95):.0%}"
    rows = [
        [
            _explained(name), markup.score(score),
            markup.text(follow.number(baseline["metrics"].get(name, {}).get("value"))),
        ]
        for name, score in test["metrics"].items()
    ]  # fmt: skip
    verdict = verdict_of(result)
    plain = [advice for advice in verdict.advice if not headline.in_settings(advice)]
    words = markup.note([*verdict.sentences, *plain], "bad" if verdict.useless else "warn")
    noted = [
        *test.get("notes", ()),
        *telling.sentences(result),
        *(one for one in verdict.advice if headline.in_settings(one)),
    ]
    aside = markup.note(noted)
    of = say(" in {n:,} groups, which are resampled", n=test["groups"]) if test.get("groups") else ""
    known = {"n": test["n"], "groups": of, "share": confidence}
    table = markup.table([say("score"), say("this run"), retold(baseline["name"])], rows, [2])
    every = say("All {n} scores", n=len(rows)) if len(rows) > 1 else say("The score")
    line = say("{scores} on {n:,} test rows{groups}, with {share} intervals", scores=every, **known)
    scores = markup.fold(line, table + aside)
    apart = "".join(
        markup.title(found.title)
        + markup.table([*map(retold, found.header)], [[*map(markup.text, row)] for row in found.rows])
        for found in telling.tables(result)
    )
    warnings = markup.warnings(result["data"].get("warnings", []))
    second = f'<div style="margin-top:14px">{warnings}</div>' if warnings else ""
    return f"{headline.of(result)}{words}{scores}{apart}{second}"


def _explained(name: str) -> str:
    """Return a metric's name, with what it is behind it."""
    metric = answers.metrics().get(name)
    words = markup.text(name.replace("_", " "))
    if metric is None:
        return words
    better = say("higher is better") if metric.greater_is_better else say("lower is better")
    return f'<abbr title="{markup.text(retold(metric.about))}; {better}">{words}</abbr>'


def where_of(result: Mapping[str, Any], folder: Path) -> str:
    """Return the confusion matrix, the reliability and the table per class, where the task has them."""
    parts = [
        f'<div class="{"whole" if charts.is_wide(plot) else ""}">{_titled(plot)}{drawn}</div>'
        for plot in monitor.plots(folder)
        if (drawn := charts.of_plot(plot))
    ]
    classes = result["test"].get("classes") or []
    scores = [
        name
        for name in (classes[0] if classes else ())
        if name not in ("name", "n") and not name.endswith(("_low", "_high"))
    ]
    rows = [
        [markup.text(one["name"]), markup.count(one.get("n")), *(_of_class(one, name) for name in scores)]
        for one in classes
    ]
    plain = [place + 2 for place, name in enumerate(scores) if classes and f"{name}_low" not in classes[0]]
    header = [say("label"), say("rows"), *({"f1": "F1"}.get(name, name.replace("_", " ")) for name in scores)]
    table = markup.title("Label by label") + markup.table(header, rows, [1, *plain])
    together = f'<div class="charts">{"".join(parts)}</div>' if any(parts) else ""
    return together + (f'<div style="margin-top:26px">{table}</div>' if rows else "")


def _titled(plot: Mapping[str, Any]) -> str:
    if plot.get("y") == "net benefit":
        return markup.title("Is it worth acting on?")
    return markup.title(TITLES.get(plot["chart"], plot.get("title", "")))


def _of_class(row: Mapping[str, Any], name: str) -> str:
    """Return one score of a class, with its interval where it has one."""
    if f"{name}_low" not in row:
        return markup.text(follow.number(row.get(name)))
    return markup.score({"value": row.get(name), "low": row[f"{name}_low"], "high": row[f"{name}_high"]})


def cost_of(result: Mapping[str, Any], estimate: Mapping[str, Any]) -> str:
    """Return what the run cost, beside what was predicted."""
    cost = result["cost"]
    trained, total = cost["trainable_parameters"], cost["total_parameters"]
    seconds = say("predicted {what}", what=markup.roughly(estimate["seconds"])) if estimate.get("seconds") else ""
    memory = say("predicted {what}", what=markup.size(estimate["memory_mb"])) if estimate.get("memory_mb") else ""
    share = say("of {total} parameters, {share}", total=markup.short_count(total), share=f"{trained / total:.2%}")
    pairs = [
        ("Training", f"{markup.roughly(cost['train_seconds'])}|{seconds}"),
        ("In all", markup.roughly(cost["total_seconds"])),
        ("Speed", f"{cost['examples_per_second']:.1f}|{say('examples/s')}"),
        ("Peak memory", f"{markup.size(cost['peak_memory_mb'])}|{memory}"),
        ("Trained", f"{markup.short_count(trained)}|{share}"),
    ]
    forgotten = "".join(markup.note(one) for one in forgetting_report.facts(result))
    return markup.title("What it cost") + markup.facts(pairs) + forgotten + choices_of(result)


def choices_of(result: Mapping[str, Any]) -> str:
    """Return what `auto` chose, and why; nothing for a run whose owner chose."""
    found = result.get("auto")
    if not found:
        return ""
    settings = [
        [
            markup.text(retold(text))
            for text in (one["name"], follow.settled(one["value"]), one["origin"], one["reason"])
        ]
        for one in found["plan"]["settings"]
    ]
    drawn = markup.table([say("setting"), say("value"), say("origin"), say("why")], settings)
    final = found["final"]
    kept = say("Kept: {method}.", method=final["method"])
    if "other" in final:
        judged = {name: final[name] for name in ("method", "judged_by", "loss", "instead_of", "other")}
        kept = say(
            "Kept: {method}, whose {judged_by} on validation rows is {loss:.4f}; that of {instead_of} is {other:.4f}.",
            **judged,
        )
    more = [found["again"]["message"]] if found["again"] else []
    if "decided_by" in final:
        told = {name: final[name] for name in ("decided_by", "score", "other_score")}
        more.append(
            say(
                "These are too near to tell apart: {decided_by} decided, {score:.4f} against {other_score:.4f}.",
                **told,
            )
        )
    return markup.title("What was chosen for you") + drawn + markup.note([kept, *more])
