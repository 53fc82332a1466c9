"""The task that rows of one's own are for: guessed from their columns, said, and left to be changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from hftransfer.errors import UserError
from hftransfer.ui import markup
from hftransfer.ui.page import Page
from hftransfer.ui.saying import retold, say
from hftransfer.ui.visitors import Visitor

LIKELY = 0.55  # a task that is worth naming beside the first one
CLEAR = 0.15  # that a task's columns speak more for it than for the next one


def label(name: str) -> str:
    """Return a task's name as people read it."""
    return retold(name.replace("-", " ").capitalize())


def guess(page: Page, visitor: Visitor, *values: Any) -> list[Any]:
    """Return the task for the rows that the form names, and a sentence; the task stays where nothing is known."""
    tree = page.tree(values)
    if "source" not in tree.get("data", {}):
        return [gr.skip(), ""]
    try:
        found = page.workers.call(visitor, "tasks_for", tree=tree)
    except UserError:
        return [gr.skip(), ""]  # the look at the rows says what is wrong with them
    if not found:
        return [gr.skip(), ""]
    return [found[0]["task"], markup.note(said(found))]


def said(found: Sequence[Mapping[str, Any]]) -> str:
    """Return what was guessed and why, and what else would fit."""
    first = found[0]
    others = [label(one["task"]).lower() for one in found[1:4] if one["speaks"] > LIKELY]
    named = [
        say("{column} is the {role}", column=one["column"], role=retold(one["role"].replace("_", " ")))
        for one in first["choices"] if one["column"] != one["role"]
    ]  # fmt: skip
    columns = say(" and ").join(one["column"] for one in first["choices"])
    parts = say(", ").join(named) or say("columns {columns}", columns=columns)
    sure = len(found) == 1 or first["speaks"] - found[1]["speaks"] > CLEAR
    task = label(first["task"]).lower()
    words = (
        say("These rows look like {task}: {parts}.", task=task, parts=parts)
        if sure
        else say("These rows may be for {task} ({parts}).", task=task, parts=parts)
    )
    if others:
        words += say(" They would fit {others} as well: choose below.", others=say(" or ").join(others))
    return words
