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
from hftransfer.ui.saying import say
from hftransfer.ui.visitors import Visitor

LONGER = 2  # times the updates that there were
WEAK = 0.1  # that a class's score lies below the mean, to be named


def cards_of(result: Mapping[str, Any], events: Mapping[str, Any]) -> str:
    """Return the cards for a finished run, the likeliest gain first; `events` is what `facts_of` gives."""
    cards, useless = [], verdict_of(result).useless
    noted = result["data"].get("label_issues") or {}
    if noted.get("found"):
        words = say("{n} rows may be labelled wrongly: look through them, a key each.", n=noted["found"])
        cards.append(Card("mend", say("Mend labels"), words))
    if (weak := weakest(result)) is not None and adding.offered(result) is not None:
        name, told = weak
        words = say("{why} Ask the model under Try, and add rows like them.", why=told)
        cards.append(Card("go:try", say("More rows of {name}", name=name), words))
    if updates := int(events.get("updates") or 0):
        words = say("{more:,} updates in place of {before:,}.", more=LONGER * updates, before=updates)
        if events.get("gaining"):
            words += say(" Validation scores were still getting better at the end.")
        elif events.get("gaining") is False:  # of a few points nobody knows
            words += say(" Validation scores had stopped getting better: little is to be expected.")
        cards.append(Card("longer", say("Train longer"), words))
    words = say("With a row of your own.")
    if adding.offered(result) is not None:
        words = say("With a row of your own; what it gets wrong can be added to the rows.")
    cards.append(Card("go:try", say("Try it"), words))
    if not useless:
        cards.append(Card("go:publish", say("Publish"), say("With its card, its scores and what it cannot do.")))
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
    found = {"score": scores[0], "value": least[scores[0]], "mean": mean, "n": counts.get(least["name"])}
    if found["n"]:
        told = say("Its {score} is {value:.2f}, the others' mean {mean:.2f}, of {n:,} that taught it.", **found)
    else:
        told = say("Its {score} is {value:.2f}, the others' mean {mean:.2f}.", **found)
    return str(least["name"]), told


def facts_of(page: Page, run: Run) -> dict[str, Any]:
    """Return how many updates a run had, and whether its scores still got better; None where few points tell."""
    view = page.monitor.view(run.folder)
    updates = int(view.step.get("max_steps") or 0)
    return {"updates": updates, "gaining": going.gaining(view)}


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
    title = say("{run}, {n} updates", run=train_view.called(run), n=LONGER * updates)
    return train_step.follow(page, visitor, run, {**tree, "train": {**train, "max_steps": LONGER * updates}}, title)
