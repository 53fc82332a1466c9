"""Labels that are mended in the app: decided one by one, kept among one's uploads, trained again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hftransfer.config import build
from hftransfer.data import corrections
from hftransfer.errors import UserError
from hftransfer.runs import Run
from hftransfer.ui import adding, mending, mending_part, rules
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor

ANSWER = {"kind": "single_label", "names": ["bad", "good"], "counts": [40, 40]}
HEADER = "row_id,text_or_file,about,given,suggested,probability,probability_given"
ROWS = ("train:1,bad <b>one</b>,,good,bad,0.9,0.1", "train:2,fine,,bad,good,0.8,0.2", "train:3,odd,,bad,good,0.7,0.2")


@pytest.fixture
def run(alice: Visitor, space: Settings) -> Run:
    """Return a run of Alice's with rows that may be labelled wrongly."""
    alice.runs.mkdir(parents=True, exist_ok=True)
    alice.uploads.mkdir(parents=True, exist_ok=True)
    (alice.uploads / "rows.csv").write_text("text,label\na,good\n", encoding="utf-8")
    tree = {"task": "text-classification", "model": "acme/tiny", "data": {"source": str(alice.uploads / "rows.csv")}}
    made = Run.create(build(tree), alice.runs / "20261129-210000-text-classification-tiny-auto")
    (made.folder / mending.ISSUES).write_text("\n".join([HEADER, *ROWS]), encoding="utf-8")
    return made


def test_decisions_are_kept_and_train_again_with_the_same_test_rows(run: Run, alice: Visitor, space: Settings) -> None:
    path = mending.place_of(alice, run)
    mending.decide(alice, run, "train:1", "bad")
    mending.decide(alice, run, "train:2", "bad")  # as it was: it is not asked about again
    mending.decide(alice, run, "train:3", "")
    mending.decide(alice, run, "train:1", "good")  # another mind

    assert mending.decided(path) == {"train:1": ("good", "good"), "train:2": ("bad", "bad"), "train:3": ("bad", "")}
    assert corrections.read(path)["train:3"] == corrections.Correction("", "bad")
    assert mending_part.told(mending.decided(path)).count("2 kept, 0 changed, 1 left out") == 1
    tree = adding.tree_of(alice, run)
    assert "output" not in tree and rules.admit(alice, tree, space).data.corrections == str(path)


def test_rows_are_shown_escaped_and_none_is_invented(run: Run, alice: Visitor, guest: Visitor) -> None:
    first = mending.issues_of(run.folder)[0]
    assert "&lt;b&gt;one" in mending_part.asked(first, 0, 3) and "1 of 3" in mending_part.asked(first, 0, 3)
    with pytest.raises(UserError, match="this is none"):
        mending.decide(alice, run, "train:999", "bad")
    with pytest.raises(UserError):
        mending.decide(guest, run, "train:1", "bad")
    (run.folder / mending.ISSUES).write_bytes(b"\xff\x00[")
    with pytest.raises(UserError, match="must be readable"):
        mending.issues_of(run.folder)
    (run.folder / mending.ISSUES).unlink()
    assert mending.issues_of(run.folder) == []


def test_damaged_decisions_are_not_written_over(run: Run, alice: Visitor) -> None:
    path = mending.place_of(alice, run)
    path.write_bytes(b"row_id,given,label\n\xff\xfe")
    with pytest.raises(UserError, match="must be readable"):
        mending.decide(alice, run, "train:1", "bad")
    assert path.read_bytes().endswith(b"\xff\xfe")


def test_corrections_of_others_cannot_be_named(run: Run, alice: Visitor, bob: Visitor, space: Settings) -> None:
    mending.decide(alice, run, "train:1", "bad")
    tree: dict[str, Any] = {"task": "text-classification", "model": "acme/tiny", "data": {"source": "acme/rows"}}
    tree["data"]["corrections"] = str(mending.place_of(alice, run))
    with pytest.raises(UserError, match=r"data\.corrections"):
        rules.admit(bob, tree, replace(space))
    tree["data"]["corrections"] = str(Path("/etc/hostname"))
    with pytest.raises(UserError, match=r"data\.corrections"):
        rules.admit(alice, tree, space)


def test_decisions_of_the_run_before_stand_in_the_next_one(
    run: Run, alice: Visitor, bob: Visitor, space: Settings
) -> None:
    """The labels mended before the second run are of the data as they came: its own decisions join them."""
    mending.decide(alice, run, "train:1", "bad")
    mending.decide(alice, run, "train:2", "bad")
    first = adding.tree_of(alice, run)
    assert first["data"]["corrections"] == str(mending.place_of(alice, run))
    after = Run.create(build(first), alice.runs / "20261129-220000-text-classification-tiny-auto")
    rows = ("train:1,bad one,,bad,good,0.9,0.1", "train:3,odd,,bad,good,0.7,0.2")
    (after.folder / mending.ISSUES).write_text("\n".join([HEADER, *rows]), encoding="utf-8")
    assert mending.so_far(alice, after) == {"train:1": ("good", "bad"), "train:2": ("bad", "bad")}
    shown = mending_part.shown(alice, after.name)
    assert "2 of 2" in shown[1] and shown[-1] == "train:3"  # what was looked through is not asked about again
    assert shown[-2]["visible"] is False  # nothing is other than what it was trained with
    mending.decide(alice, after, "train:3", "")
    mending.decide(alice, after, "train:1", "")  # of which the data say "good", and the run before "bad"
    assert mending_part.shown(alice, after.name)[-2]["visible"] is True
    again = adding.tree_of(alice, after)["data"]["corrections"]
    assert corrections.read(again) == {
        "train:1": corrections.Correction("", "good"), "train:2": corrections.Correction("bad", "bad"),
        "train:3": corrections.Correction("", "bad"),
    }  # fmt: skip

    theirs = Run.create(build(first), bob.runs / "20261129-230000-text-classification-tiny-auto")
    assert mending.so_far(bob, theirs) == {}  # a configuration may name a file of somebody else


def test_labels_are_trained_again_with_the_rows_added_since(run: Run, alice: Visitor, space: Settings) -> None:
    run.result_path.write_text(json.dumps({"task": "text-classification", "answer": ANSWER}))
    adding.add(alice, space, run, {"text": "a new one"}, "good")
    mending.decide(alice, run, "train:1", "bad")
    queued: list[Any] = []

    class Page:
        class queue:
            runs = staticmethod(lambda visitor: [])
            entitle = staticmethod(lambda *given, **more: queued.append((given[1].name, given[2], more)))

            @staticmethod
            def submit(visitor: Visitor, tree: Any, number: int) -> Run:
                queued.append(tree["data"])
                return run

    page: Any = Page()
    mending_part.train(page, alice, run.name)
    assert queued[0]["added"] == str(adding.place_of(alice, run))
    assert queued[0]["corrections"] == str(mending.place_of(alice, run))
    assert "labels mended" in queued[1][1] and queued[1][2] == {"follows": run.name}
