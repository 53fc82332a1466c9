"""Two of everything at once: files of one name, rows that are added, labels that are mended, pushes; none is lost."""

from __future__ import annotations

import dataclasses
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hftransfer.errors import UserError
from hftransfer.runs import Run
from hftransfer.ui import adding, mending, publish_step, uploads, visitors
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor
from tests.app.test_adding import finished_run
from tests.app.test_queueing import until

MANY = 12


def at_once(do: Callable[[int], Any]) -> list[Any]:
    """Do something many times, all beginning together; a UserError is an answer."""
    gate = threading.Barrier(MANY)

    def one(number: int) -> Any:
        gate.wait(30)
        try:
            return do(number)
        except UserError as error:
            return error

    with ThreadPoolExecutor(MANY) as pool:
        return [*pool.map(one, range(MANY))]


def test_files_of_one_name_are_all_kept(
    space: Settings, alice: Visitor, received: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "_inspect", lambda *words: {})  # it waits in a line of its own
    for number in range(MANY):
        (received / f"{number}").mkdir()
        (received / f"{number}" / "rows.csv").write_text(f"text,label\n{number},1\n")

    def accept(number: int) -> Path:
        while True:  # who brings more than a few at once is told to try again
            try:
                return uploads.accept(alice, received / f"{number}" / "rows.csv", space)
            except UserError as error:
                assert "are awaited" in str(error)
                time.sleep(0.01)

    kept = at_once(accept)
    assert len({*kept}) == MANY and {*uploads.listing(alice)} == {*kept}
    assert [path.read_text() for path in kept] == [f"text,label\n{number},1\n" for number in range(MANY)]
    assert len([*alice.uploads.iterdir()]) == MANY, "nothing is left beside them"


def test_rows_added_on_several_pages_are_all_kept(alice: Visitor, space: Settings) -> None:
    run = finished_run(alice, "one")
    at_once(lambda number: adding.add(alice, space, run, {"text": f"row {number}"}, "positive"))
    texts = [row["text"] for row in adding.rows_of(adding.place_of(alice, run))]
    assert sorted(texts) == sorted(f"row {number}" for number in range(MANY))


def test_labels_mended_on_several_pages_are_all_kept(alice: Visitor) -> None:
    run = finished_run(alice, "one")
    lines = [f"train:{number},text {number},negative,positive" for number in range(MANY)]
    (run.folder / mending.ISSUES).write_text("\n".join(["row_id,text_or_file,given,suggested", *lines]) + "\n")
    at_once(lambda number: mending.decide(alice, run, f"train:{number}", "positive"))
    assert len(mending.decided(mending.place_of(alice, run))) == MANY


def test_two_clicks_are_one_push(alice: Visitor, space: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    run: Run = finished_run(alice, "one")
    pushing = threading.Event()

    def wait(timeout: float) -> int:
        pushing.wait(30)
        return 0

    child = SimpleNamespace(poll=lambda: None if not pushing.is_set() else 0, wait=wait)
    monkeypatch.setattr(publish_step.subprocess, "Popen", lambda *words, **options: child)
    found = at_once(lambda number: publish_step.start(space, alice, run, "alice/new", "", True, False))
    assert sum(one is child for one in found) == 1
    assert all("one push at a time" in str(one) for one in found if one is not child)
    pushing.set()


def test_pushes_are_few_at_a_time_and_bounded_as_runs_are(
    alice: Visitor, bob: Visitor, space: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each loads a model: a hundred clicks on a hundred runs would take the memory of all."""
    children: list[Any] = []

    class Push:
        def __init__(self, *words: Any, **options: Any) -> None:
            self.pid, self.code = -1, None
            children.append(self)

        def poll(self) -> int | None:
            return self.code

        def wait(self, timeout: float | None = None) -> int:
            if self.code is None:
                time.sleep(0.01)
                raise subprocess.TimeoutExpired("push", timeout or 0)
            return self.code

    def start(who: Visitor, name: str) -> Any:
        return publish_step.start(space, who, finished_run(who, name), f"{who.name}/new", "", True, False)

    used = {"mb": 10.0}
    monkeypatch.setattr(publish_step.subprocess, "Popen", Push)
    monkeypatch.setattr(publish_step.memory, "held_mb", lambda pid, most: used["mb"])
    monkeypatch.setattr(publish_step.machine, "end_session", lambda pid: [setattr(c, "code", -9) for c in children])
    start(alice, "one")
    with pytest.raises(UserError, match="another run of yours is being published"):
        start(alice, "two")
    start(bob, "one")
    carol = dataclasses.replace(alice, name="carol", folder=alice.folder.with_name("carol"))
    with pytest.raises(UserError, match="at most 2 runs are published at the same time"):
        start(carol, "one")
    used["mb"] = space.run_memory_mb + 1.0
    until(lambda: not publish_step._PUSHING)
    last = visitors.find(alice, "one").events()[0][-1]
    assert last["type"] == "unpublished" and "MB of memory" in last["message"] and len(children) == 2
    assert start(carol, "two") is children[-1]
    children[-1].code = 0
    until(lambda: not publish_step._PUSHING)


def test_what_was_added_by_others_is_not_taken_over(alice: Visitor, bob: Visitor, space: Settings) -> None:
    """A configuration lies where a visitor's processes may write; the app reads it outside of their fence."""
    theirs = bob.uploads / "added-x" / adding.FILE
    theirs.parent.mkdir(parents=True)
    theirs.write_text('{"text": "secret", "label": "positive"}\n')
    run = finished_run(alice, "one", added=str(theirs))
    assert adding.begun(alice, run) == []
    assert not adding.place_of(alice, run).exists()
