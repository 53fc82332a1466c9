"""A conversation with a model that writes: its turns so far, and the next one as it grows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from hftransfer.errors import UserError
from hftransfer.ui import markup
from hftransfer.ui.page import Page, html
from hftransfer.ui.saying import retold
from hftransfer.ui.visitors import Visitor
from hftransfer.ui.workers import CHARACTERS

Turns = list[dict[str, str]]
SAID = {"user": "You", "assistant": "The model"}
DEEPEST = 1000  # lists and objects in what is read as turns
MOST = 40  # turns that are kept


@dataclass(frozen=True)
class Talk:
    """The widgets of a conversation."""

    place: Any
    shown: Any
    turns: Any
    fresh: Any


def none() -> str:
    """Return what stands where a conversation will."""
    return markup.empty("A new conversation", "What you write below is answered with all that was said above in mind.")


def build() -> Talk:
    """Lay out the conversation, hidden."""
    with gr.Column(visible=False) as place:
        shown = html(none(), elem_id="talk")
        turns = gr.State([])
        fresh = gr.Button("New conversation", size="sm", elem_classes="narrow", elem_id="talk-fresh")
    return Talk(place, shown, turns, fresh)


def is_chat(asks: Sequence[tuple[str, str]]) -> bool:
    """Tell whether a model is asked in a conversation."""
    return [widget for _, widget in asks] == ["chat"]


def wire(page: Page, talk: Talk, where: Any, events: Sequence[Any], question: Sequence[Any], text: Any) -> None:
    """Let the model answer on each event; `question` are whom, what it is asked with, and the words in `text`.

    `where(visitor, chosen, typed, run)` names the model.
    """
    for event in events:
        page.on(event, partial(answer, page, where), [*question, talk.turns], [talk.shown, talk.turns, text])
    page.on(talk.fresh.click, lambda visitor: [none(), []], [], [talk.shown, talk.turns])


def answer(
    page: Page, where: Any, visitor: Visitor, chosen: str, typed: str, run: str | None, asks: Any, words: str,
    turns: Turns,
) -> Iterator[list[Any]]:  # fmt: skip
    """Yield the conversation as the model's answer grows; nothing of a model that is asked otherwise."""
    if not is_chat(asks):
        yield [gr.skip(), gr.skip(), gr.skip()]
        return
    if not (words or "").strip():
        raise UserError("a text is needed", "there is none yet", "Write one, or pick an example.")
    asked = whole(words) or [*turns, {"role": "user", "content": words.strip()}]
    yield [drawn(asked, ""), turns, gr.skip()]
    said = ""
    for said in page.workers.grow(visitor, where(visitor, chosen, typed, run), {asks[0][0]: json.dumps(asked)}):
        yield [drawn(asked, said), turns, gr.skip()]
    done = [*asked, {"role": "assistant", "content": said}]
    yield [drawn(done), latest(done), ""]


def latest(turns: Turns) -> Turns:
    """Return what is kept of a conversation: how it was set up, and its last turns, from one of the user's on."""
    head = [turn for turn in turns[:1] if turn["role"] == "system"]
    rest = turns[len(head) :][-MOST:]
    while rest and rest[0]["role"] != "user":  # templates refuse an answer to nobody
        rest = rest[1:]
    return [*head, *rest]


def whole(words: str) -> Turns | None:
    """Return the turns that an example is made of; None of what somebody wrote, and of what is too large to read."""
    if len(words) > CHARACTERS or words.count("[") + words.count("{") > DEEPEST:
        return None
    try:
        found = json.loads(words)
    except (ValueError, RecursionError):
        return None
    turns = isinstance(found, list) and all(
        isinstance(one, dict) and "content" in one and isinstance(one.get("role"), str) for one in found
    )
    return found if turns and found else None


def _who(role: str) -> str:
    return retold(SAID.get(role, role))


def drawn(turns: Turns, growing: str | None = None) -> str:
    """Return turns as a page shows them, behind them what the model has written so far."""
    every = turns if growing is None else [*turns, {"role": "assistant", "content": growing or "\u2026"}]
    told = "".join(
        f'<div class="turn {markup.text(turn["role"])}"><b>{markup.text(_who(turn["role"]))}</b>'
        f"{_said(turn['content'])}</div>"
        for turn in every
    )
    return f'<div class="card-block talk" role="log" aria-live="polite">{told}</div>'


def _said(content: Any) -> str:
    if not str(content).strip():
        return markup.note(markup.NOTHING_WRITTEN)
    return f'<p class="prose">{markup.text(content)}</p>'
