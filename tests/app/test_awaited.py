"""What is said while an answer is awaited comes before it, and what comes late takes nothing away."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import gradio as gr
import pytest

from hftransfer.errors import UserError
from hftransfer.launchers import launcher
from hftransfer.ui import app, awaited, data_step, markup, model_step, proposing, visitors, workers
from hftransfer.ui.monitor import Monitor
from hftransfer.ui.page import Page
from hftransfer.ui.queueing import Queue
from hftransfer.ui.settings import Settings

HERE, THERE = object(), object()


@pytest.fixture
def page(tmp_path: Path) -> Page:
    settings = Settings.read({"HFTRANSFER_ROOT": str(tmp_path)})
    return Page(settings, Queue(settings, launcher("local")), cast(Any, None), Monitor())


class Browser:
    """What gradio knows of who asks."""

    def __init__(self, name: str) -> None:
        self.session_hash, self.query_params, self.headers = name, {"lang": "en"}, {"accept-language": "en"}
        self.username = None


def connected(page: Page, do: Callable[..., Any], outputs: list[Any], **options: Any) -> Callable[..., Any]:
    """Return the function that gradio would call."""
    return cast(Callable[..., Any], page.on(lambda **kept: kept, do, [], outputs, **options)["fn"])


def test_no_event_has_two_handlers_that_write_to_the_same_place(page: Page) -> None:
    """Two answers to one event come in any order: the one that only says "wait" may be the last."""
    by_event: dict[tuple[Any, ...], list[tuple[Any, set[int]]]] = {}
    for one in app.laid_out(page).fns.values():
        for target in one.targets:
            if target[1] not in ("then", "success"):
                by_event.setdefault(target, []).append((one.fn, {widget._id for widget in one.outputs}))
    twice = [
        (first, second, event)
        for event, handlers in by_event.items()
        for (first, one), (second, other) in itertools.combinations(handlers, 2)
        if one & other
    ]
    assert by_event and not twice, twice


def test_what_is_said_meanwhile_comes_first_and_goes_where_there_is_no_answer() -> None:
    do, written = awaited.saying_first(lambda visitor, a: f"{a}!", (HERE, "Asking …"), [HERE])
    first, second = do(None, "b")
    assert written == [HERE] and "Asking …" in first and second == "b!"

    do, written = awaited.saying_first(lambda visitor: [1, 2], (THERE, lambda visitor: "wait"), [HERE, HERE])
    first, second = do(None)
    assert written == [HERE, HERE, THERE] and first[2] == "wait"
    assert second[:2] == [1, 2] and second[2] == gr.skip()

    def cannot(visitor: Any) -> Any:
        raise UserError("a", "b", "c")

    told: list[Any] = []
    with pytest.raises(UserError):
        told.extend(awaited.saying_first(cannot, (HERE, "Asking …"), [HERE])[0](None))
    seen = awaited.saying_first(cannot, (HERE, "Asking …"), [HERE])[0](None)
    assert "Asking" in next(seen) and "note bad" in (why := next(seen)) and "a; b. c" in why


def test_of_several_questions_the_last_one_is_answered_on_the_page(page: Page) -> None:
    asked: list[Any] = []

    def do(visitor: Any) -> str:
        asked.append(visitor)
        if len(asked) == 1:
            assert handler(Browser("a")) == "answer 2"  # asked while the first one is under way
        return f"answer {len(asked) if len(asked) > 1 else 1}"

    handler = connected(page, do, [HERE], turn="rows")
    assert handler(Browser("a")) == gr.skip()
    assert handler(Browser("a")) == "answer 3"

    other = connected(page, lambda visitor: handler(Browser("b")), [HERE], turn="rows")
    assert other(Browser("a")) == "answer 4"  # another browser's questions are its own


def test_what_grows_stops_where_another_question_came(page: Page) -> None:
    def do(visitor: Any) -> Iterator[list[str]]:
        yield ["one", "one"]
        yield ["two", "two"]

    handler = connected(page, do, [HERE, THERE], turn="rows")
    first = handler(Browser("a"))
    assert next(first) == ["one", "one"]
    page.turns.ask("a", "rows")
    assert next(first) == [gr.skip(), gr.skip()]


def test_what_somebody_chose_outdates_a_guess_and_is_never_dropped(page: Page) -> None:
    chosen = connected(page, lambda visitor: "mine", [HERE], outdates="task")

    def choose_meanwhile(visitor: Any) -> str:
        assert chosen(Browser("a")) == "mine"
        return "guessed"

    assert connected(page, choose_meanwhile, [HERE], turn="task")(Browser("a")) == gr.skip()

    def guess_meanwhile(visitor: Any) -> str:
        assert connected(page, lambda visitor: "guessed", [HERE], turn="task")(Browser("a")) == "guessed"
        return "mine"

    assert connected(page, guess_meanwhile, [HERE], outdates="task")(Browser("a")) == "mine"


def test_browsers_that_were_long_quiet_are_forgotten() -> None:
    turns = awaited.Turns(browsers=2)
    questions = [turns.ask(name, "rows") for name in "abc"]
    assert turns.number(("a", "rows")) is None and all(one and one.last for one in questions)
    assert len(turns._numbers) == 2


def test_a_cost_goes_once_the_form_is_another_one(page: Page) -> None:
    app.laid_out(page)
    values = [None for _ in page.inputs[:-1]]
    tree = page.tree([*values, []])
    known = {"tree": tree, "answer": {}}
    assert model_step.still(page, cast(Any, None), known, *values, []) == [gr.skip(), gr.skip()]
    cost, left = model_step.still(page, cast(Any, None), known, *values, ["seed=3"])
    assert left is None and "real steps" in cost
    assert model_step.still(page, cast(Any, None), None, *values, ["seed=3"]) == [gr.skip(), gr.skip()]


def test_a_form_is_filled_with_what_is_offered(page: Page) -> None:
    """A choice that is none of those of its widget would end every answer of the page."""
    app.laid_out(page)
    paths = list(page.widgets)
    for minutes, shown, lines in ((5, "5", []), (None, "", []), (20, "", ["auto.minutes=20"])):
        tree = {"task": "text-classification", "model": "m", "data": {"source": "x"}}
        tree |= {"auto": {"minutes": minutes}} if minutes else {}
        *values, more = page.filled(tree)
        found = dict(zip(paths, values, strict=False))
        assert (found["auto.minutes"], more["value"]) == (shown, lines) and found["task"] == "text-classification"
        roles = ["" for _ in page.roles]
        assert page.tree([*values[: len(paths)], *roles, more["value"]]) == tree
    *values, more = page.filled({"task": "no-such-task"})
    assert values[0] is None and more["value"] == ["task=no-such-task"]


def test_with_rows_the_roles_are_left_to_their_look() -> None:
    _, *roles = data_step.change_task(cast(Any, None), "token-classification", "rows.csv")
    assert all(role == gr.skip() for role in roles)
    assert "progress waiting" in markup.looking()  # by which the page's script knows that rows are still read


def test_a_worker_imports_what_it_needs_while_a_file_is_chosen(tmp_path: Path) -> None:
    settings = Settings.read({"HFTRANSFER_ROOT": str(tmp_path)})
    found = workers.Workers(settings)
    try:
        found.prepare(visitors.guest(Settings.read({"SPACE_ID": "a/b", "HFTRANSFER_ROOT": str(tmp_path)})))
        assert not found._workers  # on a Space most who look bring nothing
        visitor = visitors.of(None, None, None, settings)
        for _ in range(2):
            found.prepare(visitor)
        end = time.monotonic() + 300
        while not (one := found._workers.get(visitor.folder)) or one._number < 1 or found._busy:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert one.lives() and one._number == 1  # it answered, and was asked once
    finally:
        found.close()


def test_a_model_that_stays_is_not_put_back_where_it_was_cleared_meanwhile() -> None:
    text, picture = (proposing.usual(task) for task in ("text-classification", "image-classification"))
    assert text != picture
    *_, kept = model_step.changed(cast(Any, None), text, "text-classification", "auto")
    *_, other = model_step.changed(cast(Any, None), text, "image-classification", "auto")
    assert kept == gr.skip() and other == picture
