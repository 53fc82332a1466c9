"""All runs: favourites first, one deleted and had back, lines of code, and a report that stands alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from hftransfer.errors import UserError
from hftransfer.launchers import launcher
from hftransfer.ui import deleting, reporting, snippets, train_step
from hftransfer.ui.queueing import Queue
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor
from tests.app.test_adding import finished_run


def test_a_deleted_run_comes_back_until_the_next_one_goes(alice: Visitor, bob: Visitor, space: Settings) -> None:
    queue = Queue(space, launcher("local"))
    names = [finished_run(alice, name).name for name in ("one", "two")]
    deleting.remove(queue, alice, "one")
    assert [run.name for run in queue.runs(alice)] == ["two"] and deleting.last(alice) == "one"
    assert deleting.last(bob) is None
    with pytest.raises(UserError, match="to bring back"):
        deleting.restore(bob)
    assert deleting.restore(alice) == "one" and deleting.last(alice) is None
    assert sorted(run.name for run in queue.runs(alice)) == names
    for name in names:
        deleting.remove(queue, alice, name)
    assert deleting.last(alice) == "two" and not queue.runs(alice)
    with pytest.raises(UserError):
        deleting.remove(queue, alice, "one")
    assert deleting.last(alice) == "two"


def test_favourites_stand_first(alice: Visitor, space: Settings) -> None:
    queue = Queue(space, launcher("local"))
    runs = [finished_run(alice, name) for name in ("one", "two")]
    queue.entitle(alice, runs[0], "the best", "", favourite=True)
    entries = [(run, "done", run.status()) for run in reversed(runs)]
    assert [name for _, name in train_step.choices_of(entries)] == ["one", "two"]
    assert train_step.choices_of(entries)[0][0].startswith(train_step.STAR)
    queue.entitle(alice, runs[0], "renamed", "a note")  # the rest stays as it was
    assert runs[0].noted() == {"name": "renamed", "note": "a note", "favourite": True}


def test_lines_of_code_name_the_run(alice: Visitor) -> None:
    found = snippets.of(finished_run(alice, "one"))
    assert set(found) == {"Python", "JavaScript", "curl"}
    compile(found["Python"], "snippet", "exec")
    assert '"one"' in found["JavaScript"] and '["one", ["a text"], 5]' in found["curl"]


def test_a_report_needs_nothing_beside_it() -> None:
    found = reporting.document("<b>mine", "tried <i>twice", ["<details><summary>all</summary>x</details>", ""])
    assert "&lt;b&gt;mine" in found and "&lt;i&gt;twice" in found and "<details open>" in found
    assert "src=" not in found and "http" not in found.replace("http://www.w3.org", "") and "@media print" in found
    assert Path(reporting.__file__).with_name("report.css").is_file()
