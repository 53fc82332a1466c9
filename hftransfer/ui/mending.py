"""Labels to mend, one row at a time: kept, changed or left out by a key each, then trained again on the same tests."""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from hftransfer.errors import UserError
from hftransfer.runs import Run, write_text
from hftransfer.ui import markup, train_step, train_view, visitors
from hftransfer.ui.page import Page, html
from hftransfer.ui.queueing import TITLE
from hftransfer.ui.saying import say
from hftransfer.ui.visitors import Visitor

ISSUES = "label_issues.csv"  # of a run, as the engine writes it
HEADER = ("row_id", "given", "label")  # of corrections: an empty label leaves its row out
MOST = 500  # rows that are offered
ONE_AT_A_TIME = threading.Lock()  # what people decide is read, added to and written: two pages at once lose nothing


@dataclass(frozen=True)
class Issue:
    """A row whose label may be wrong: what it is known by, its label, and the one that a probe suggests."""

    row_id: str
    shown: str
    given: str
    suggested: str


def issues_of(folder: Path) -> list[Issue]:
    """Return the rows of a run that may be labelled wrongly, likeliest first; none of kinds with several labels.

    UserError for a file of them that is damaged.
    """
    try:
        with open(folder / ISSUES, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))[:MOST]
        return [
            Issue(row["row_id"], row["text_or_file"], row["given"], row["suggested"])
            for row in rows
            if not row.get("about")
        ]
    except FileNotFoundError:
        return []
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise UserError(f"{ISSUES} must be readable", " ".join(str(error).split())[:200], "Train again.") from error


def place_of(visitor: Visitor, run: Run) -> Path:
    """Return where the corrections that this visitor makes of a run's rows lie: among their uploads."""
    return Path(visitor.uploads) / f"corrections-{run.name}.csv"


def decided(path: Path) -> dict[str, tuple[str, str]]:
    """Return (given, label) by row of what was decided so far; UserError for a file that is damaged.

    To take it for an empty one would be to write the next decision over all that were made.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return {row["row_id"]: (row["given"], row["label"]) for row in csv.DictReader(file)}
    except FileNotFoundError:
        return {}
    except (OSError, KeyError, ValueError, csv.Error) as error:
        words = " ".join(str(error).split())[:200]
        raise UserError(f"{path.name} must be readable", words, "Mend it, or delete it under Uploads.") from error


def decide(visitor: Visitor, run: Run, row_id: str, label: str) -> None:
    """Write down what a row is: its own label, another one, or none (empty), which leaves it out."""
    visitors.require(visitor)
    issue = next((one for one in issues_of(run.folder) if one.row_id == row_id), None)
    if issue is None:
        raise UserError("a row that may be labelled wrongly is needed", "this is none", "Reload the page.")
    path = place_of(visitor, run)
    with ONE_AT_A_TIME:
        found = decided(path) | {row_id: (issue.given, label)}
        out = io.StringIO()
        csv.writer(out).writerows([HEADER, *((row, *both) for row, both in found.items())])
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, out.getvalue())


def tree_of(run: Run, corrections: Path) -> dict[str, Any]:
    """Return a run's configuration with its labels mended; the test rows stay the same."""
    tree = run.config().to_dict()
    tree.pop("output", None)
    tree.pop("hub", None)
    return {**tree, "data": {**tree["data"], "corrections": str(corrections)}}


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
    """Train again with the labels as they are now; the new run says which one it follows."""
    run = visitors.find(visitor, name)
    visitors.require(visitor)
    new = page.queue.submit(visitor, tree_of(run, place_of(visitor, run)), 1)
    title = say("{run}, labels mended", run=train_view.called(run))[:TITLE]
    page.queue.entitle(visitor, new, title, "", follows=run.name)
    entries = train_step.entries_of(page, visitor)
    return [gr.update(choices=train_step.choices_of(entries), value=new.name), gr.Timer(train_step.FAST)]


def shown(visitor: Visitor, name: str | None) -> list[Any]:
    """Return the part as it stands for a run: the next row that is not looked through, and what was decided."""
    run = visitors.find(visitor, name) if name else None
    try:
        found = issues_of(run.folder) if run is not None else []
        made = decided(place_of(visitor, run)) if run is not None else {}
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
        gr.update(visible=any(given != label for given, label in made.values())),
        issue.row_id if issue else None,
    ]


def chosen(
    pick: Callable[[Issue, str | None], str | None], visitor: Visitor, name: str, row_id: str | None, label: str | None
) -> list[Any]:
    """Write down what `pick(issue, label)` says that a row is, if anything, and ask about the next one."""
    run = visitors.find(visitor, name)
    issue = next((one for one in issues_of(run.folder) if one.row_id == row_id), None)
    words = pick(issue, label) if issue is not None else None
    if issue is not None and words is not None:
        decide(visitor, run, issue.row_id, words)
    return shown(visitor, name)


def asked(issue: Issue | None, done: int, count: int) -> str:
    """Return the row that is asked about, as HTML."""
    if issue is None:
        return markup.note(say("All {n} rows are looked through.", n=count), "good")
    known = {"place": done + 1, "n": count, "given": issue.given, "suggested": issue.suggested}
    small = say("{place} of {n}; labelled {given}, looks like {suggested}", **known)
    return f'<p class="words">{markup.text(issue.shown, 2000)}</p><p class="quiet small">{markup.text(small)}</p>'


def told(made: dict[str, tuple[str, str]]) -> str:
    """Return how many rows were kept, changed and left out."""
    if not made:
        return ""
    changed = sum(bool(label) and label != given for given, label in made.values())
    gone = sum(not label for _, label in made.values())
    kept = len(made) - changed - gone
    words = say("{kept} kept, {changed} changed, {gone} left out", kept=kept, changed=changed, gone=gone)
    return f'<p class="quiet small" aria-live="polite">{words}</p>'
