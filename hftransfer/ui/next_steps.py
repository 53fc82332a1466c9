"""What to do next after a result, as cards: mend labels, add rows of a weak class, train longer, try, publish."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from hftransfer.errors import UserError
from hftransfer.runs import Run, verdict_of
from hftransfer.ui import adding, going, markup, train_step, train_view, visitors
from hftransfer.ui.markup import Card
from hftransfer.ui.page import Page
from hftransfer.ui.queueing import TITLE
from hftransfer.ui.visitors import Visitor

LONGER = 2  # times the updates that there were
WEAK = 0.1  # that a class's score lies below the mean, to be named


def cards_of(result: Mapping[str, Any], events: Mapping[str, Any]) -> str:
    """Return the cards for a finished run, the likeliest gain first; `events` is what `facts_of` gives."""
    cards, useless = [], verdict_of(result).useless
    noted = result["data"].get("label_issues") or {}
    if noted.get("found"):
        words = f"{noted['found']} rows may be labelled wrongly: look through them, a key each."
        cards.append(Card("mend", "Mend labels", words))
    if (weak := weakest(result)) is not None and adding.offered(result) is not None:
        name, told = weak
        cards.append(
            Card("go:try", f"More rows of {name}", f"{told} Ask the model under Try, and add rows like them.")
        )
    if updates := int(events.get("updates") or 0):
        gaining = "Validation scores were still rising at the end." if events.get("gaining") else (
            "Validation scores had stopped rising: little is to be expected."
        )  # fmt: skip
        words = f"{LONGER * updates:,} updates in place of {updates:,}. {gaining}"
        cards.append(Card("longer", "Train longer", words))
    cards.append(Card("go:try", "Try it", "With a row of your own; what it gets wrong can be added to the rows."))
    if not useless:
        cards.append(Card("go:publish", "Publish", "With its card, its scores and what it cannot do."))
    return markup.title("What to do next") + markup.cards(cards, None, "What to do next")


def weakest(result: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the class whose rows are found least, with a sentence; None where none lies far below the others."""
    rows = result["test"].get("classes") or []
    scores = [name for name in ("recall", "f1", "iou", "ap") if rows and name in rows[0]]
    if len(rows) < 2 or not scores:
        return None
    known = [row for row in rows if isinstance(row.get(scores[0]), int | float)]
    if len(known) < 2:
        return None
    least = min(known, key=lambda row: row[scores[0]])
    mean = sum(row[scores[0]] for row in known) / len(known)
    if mean - least[scores[0]] < WEAK:
        return None
    noted = result.get("answer", {})
    counts = dict(zip(noted.get("names", ()), noted.get("counts", ()), strict=False))
    taught = f", of {counts[least['name']]:,} that taught it" if counts.get(least["name"]) else ""
    return str(least["name"]), f"Its {scores[0]} is {least[scores[0]]:.2f}, the others' mean {mean:.2f}{taught}."


def facts_of(page: Page, run: Run) -> dict[str, Any]:
    """Return how many updates a run had, and whether its scores were still rising."""
    view = page.monitor.view(run.folder)
    updates = int(view.step.get("max_steps") or 0)
    return {"updates": updates, "gaining": "still gaining" in going.said(view)}


def longer(page: Page, visitor: Visitor, picked: str, name: str | None) -> list[Any]:
    """Start a run with more updates where that card was picked; the others lead somewhere by the page's script."""
    if picked != "longer" or not name:
        return [gr.skip(), gr.skip()]
    run = visitors.find(visitor, name)
    updates = int(page.monitor.view(run.folder).step.get("max_steps") or 0)
    if not updates:
        raise UserError("a run of some updates is needed", f"{run.name} had none", "Choose a method that trains.")
    tree = adding.tree_of(visitor, run)
    train = {key: value for key, value in tree.get("train", {}).items() if key != "num_train_epochs"}
    new = page.queue.submit(visitor, {**tree, "train": {**train, "max_steps": LONGER * updates}}, 1)
    title = f"{train_view.called(run)}, {LONGER * updates} updates"[:TITLE]
    page.queue.entitle(visitor, new, title, "", follows=run.name)
    entries = train_step.entries_of(page, visitor)
    return [gr.update(choices=train_step.choices_of(entries), value=new.name), gr.Timer(train_step.FAST)]
