"""A conversation on the Try page: the model's text as it grows, turn after turn."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from typing import Any

import pytest

from hftransfer import views
from hftransfer.errors import UserError
from hftransfer.ui import chatting, markup, try_step, workers
from hftransfer.ui.page import _one_by_one
from hftransfer.ui.workers import Workers
from tests import tiny_causal
from tests.app.conftest import Finished

HOSTILE = "<script>alert(1)</script>${x}"
TURNS = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]


def test_turns_are_drawn_as_text():
    shown = chatting.drawn([{"role": HOSTILE, "content": HOSTILE}], HOSTILE)
    assert "<script>" not in shown and "${" not in shown and shown.count("alert(1)") == 4
    empty = [{"role": "assistant", "content": " "}]
    assert "It wrote nothing" in chatting.drawn(empty) and "It wrote nothing" not in chatting.drawn(empty[:0], "")
    assert "It wrote nothing" in markup.view(views.Prose("")) and views.line(views.Prose(" ")) == "no text"
    assert "You" in chatting.drawn(TURNS) and "The model" in chatting.drawn(TURNS)


def test_an_example_is_a_whole_conversation():
    assert chatting.whole(json.dumps(TURNS)) == TURNS
    assert [chatting.whole(words) for words in ("hi", "[1]", "[]", '{"role": 1}', "7")] == [None] * 5
    assert chatting.whole('[{"role": ["user"], "content": "hi"}]') is None
    assert chatting.whole('[{"role": "user"}]') is None


def test_what_somebody_writes_is_not_read_beyond_bounds(monkeypatch: pytest.MonkeyPatch):
    nested = "[" * 900 + "]" * 900
    assert chatting.whole(json.dumps([{"role": "user", "content": nested[:900]}])) is not None
    for deep in (nested, "[" * 90_000, '{"a":' * 20_000):
        assert chatting.whole(deep) is None
    read: list[str] = []
    monkeypatch.setattr(chatting.json, "loads", read.append)
    for large in (json.dumps(TURNS) + " " * workers.CHARACTERS, "[" + "{}," * 2000 + "{}]"):
        assert chatting.whole(large) is None
    assert not read


def test_a_long_conversation_keeps_how_it_was_set_up_and_begins_with_the_user():
    system = {"role": "system", "content": "be kind"}
    turns = [{"role": role, "content": f"{number}"} for number in range(60) for role in ("user", "assistant")]
    kept = chatting.latest([system, *turns])
    assert kept[0] == system and [turn["role"] for turn in kept[1:3]] == ["user", "assistant"]
    assert len(kept) == chatting.MOST + 1 and kept[-1] == turns[-1]
    assert chatting.latest(turns)[0]["role"] == chatting.latest(turns[1:])[0]["role"] == "user"
    assert chatting.latest(turns[:4]) == turns[:4]


def test_a_model_that_writes_is_asked_in_a_conversation():
    assert chatting.is_chat(try_step._asks("text-generation", ()))
    assert not chatting.is_chat(try_step._asks("translation", ()))


def test_a_worker_tells_what_there_is_so_far(finished: Finished):
    place = tiny_causal.causal_model(finished.visitor.uploads / "chats")
    asked = Workers(finished.settings)
    try:
        found = list(asked.grow(finished.visitor, str(place), {"prompt": json.dumps(TURNS[:1])}))
        whole = asked.call(
            finished.visitor, "predict", where=str(place), inputs=[{"prompt": json.dumps(TURNS[:1])}], top_k=None
        )
        assert found and found[-1] == whole[0]["text"]
        with pytest.raises(UserError, match="ends with the user"):
            list(asked.grow(finished.visitor, str(place), {"prompt": json.dumps(TURNS)}))
    finally:
        asked.close()


def test_the_page_shows_each_answer_of_a_handler_as_it_comes():
    def handler(request: Any, value: int) -> Any:
        def each() -> Iterator[int]:
            yield value
            raise UserError("a", "b", "c")

        return each()

    made = _one_by_one(handler)
    assert inspect.isgeneratorfunction(made) and "value" in inspect.signature(made).parameters
    found = made(None, 3)
    assert next(found) == 3
    with pytest.raises(Exception, match="a; b"):
        next(found)
