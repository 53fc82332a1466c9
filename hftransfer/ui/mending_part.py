"""Labels to mend, one row at a time: kept, changed or left out by a key each, then trained again on the same tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr

from hftransfer.errors import UserError
from hftransfer.ui import adding, markup, mending, train_step, train_view, visitors
from hftransfer.ui.page import Page, html
from hftransfer.ui.saying import say
from hftransfer.ui.visitors import Visitor


def build(page: Page) -> Callable[[], None]:
    """Lay out the part; the function it returns wires it, once every step is laid out."""
    with gr.Column(visible=False, elem_classes="card-block", elem_id="mending") as box:
        html(markup.title("Labels to mend", "test rows are not among them: the scores stay comparable"))
        row = html(elem_id="mend-row")
        with gr.Row() as choices:
            keep = gr.Button("Keep", elem_classes="narrow", elem_id="mend-keep")
            change = gr.Button("Change", elem_classes="narrow", elem_id="mend-change")
            drop = gr.Button("3  Leave out", elem_classes="narrow", elem_id="mend-drop")
            other = gr.Dropdown([], label="Another label", min_width=160, elem_id="mend-other")
        tally = html(elem_id="mend-tally")
        again = gr.Button("Train again with these labels", elem_classes="narrow", elem_id="mend-again", visible=False)
    now = gr.State(None)  # the row that is asked about
    outputs = [box, row, choices, keep, change, other, tally, again, now]

    def wire() -> None:
        page.on(gr.on, shown, [page.run], outputs, triggers=[page.go["viewed"].change])

        asking = [page.run, now, other]
        page.on(keep.click, partial(chosen, lambda issue, label: issue.given), asking, outputs)
        page.on(change.click, partial(chosen, lambda issue, label: issue.suggested), asking, outputs)
        page.on(drop.click, partial(chosen, lambda issue, label: ""), asking, outputs)
        page.on(other.input, partial(chosen, lambda issue, label: label or None), asking, outputs)

        tick, inputs, parts = page.go["refresh"]
        begun = page.on(again.click, partial(train, page), [page.run], [page.run, page.go["timer"]])
        page.on(begun.success, tick, inputs, parts)
        begun.success(None, js="() => hftransfer.go('train')")

    return wire


def train(page: Page, visitor: Visitor, name: str) -> list[Any]:
    """Train again with the labels as they are now, and with the rows that were added since."""
    run = visitors.find(visitor, name)
    title = say("{run}, labels mended", run=train_view.called(run))
    return train_step.follow(page, visitor, run, adding.tree_of(visitor, run), title)


def shown(visitor: Visitor, name: str | None) -> list[Any]:
    """Return the part as it stands for a run: the next row that is not looked through, and what was decided."""
    run = visitors.find(visitor, name) if name else None
    try:
        found = mending.issues_of(run.folder) if run is not None else []
        made, before = (mending.so_far(visitor, run), mending.learnt(visitor, run)) if run is not None else ({}, {})
    except UserError as error:
        gone, said = gr.update(visible=False), markup.note(str(error), "bad")
        return [gr.update(visible=True), said, gone, *(gr.skip() for _ in range(3)), "", gone, None]
    if not found:
        return [gr.update(visible=False), *(gr.skip() for _ in range(8))]
    left = [issue for issue in found if issue.row_id not in made]
    issue = left[0] if left else None
    labels = sorted({one.given for one in found} | {one.suggested for one in found})
    return [
        gr.update(visible=True),
        asked(issue, len(found) - len(left), len(found)),
        gr.update(visible=issue is not None),
        gr.update(value=say("1  Keep {label}", label=issue.given) if issue else say("Keep")),
        gr.update(value=say("2  Change to {label}", label=issue.suggested) if issue else say("Change")),
        gr.update(choices=labels, value=None),
        told(made),
        gr.update(visible=_mended(made) != _mended(before)),
        issue.row_id if issue else None,
    ]


def chosen(
    pick: Callable[[mending.Issue, str | None], str | None],
    visitor: Visitor,
    name: str,
    row_id: str | None,
    label: str | None,
) -> list[Any]:
    """Write down what `pick(issue, label)` says that a row is, if anything, and ask about the next one."""
    run = visitors.find(visitor, name)
    issue = next((one for one in mending.issues_of(run.folder) if one.row_id == row_id), None)
    words = pick(issue, label) if issue is not None else None
    if issue is not None and words is not None:
        mending.decide(visitor, run, issue.row_id, words)
    return shown(visitor, name)


def asked(issue: mending.Issue | None, done: int, count: int) -> str:
    """Return the row that is asked about, as HTML."""
    if issue is None:
        return markup.note(say("All {n} rows are looked through.", n=count), "good")
    known = {"place": done + 1, "n": count, "given": issue.given, "suggested": issue.suggested}
    small = say("{place} of {n}; labelled {given}, looks like {suggested}", **known)
    return f'<p class="words">{markup.text(issue.shown, 2000)}</p><p class="quiet small">{markup.text(small)}</p>'


def _mended(made: dict[str, tuple[str, str]]) -> dict[str, str]:
    """Return the labels by row that are not as the data say."""
    return {row: label for row, (given, label) in made.items() if label != given}


def told(made: dict[str, tuple[str, str]]) -> str:
    """Return how many rows were kept, changed and left out."""
    if not made:
        return ""
    changed = sum(bool(label) and label != given for given, label in made.values())
    gone = sum(not label for _, label in made.values())
    kept = len(made) - changed - gone
    words = say("{kept} kept, {changed} changed, {gone} left out", kept=kept, changed=changed, gone=gone)
    return f'<p class="quiet small" aria-live="polite">{words}</p>'
