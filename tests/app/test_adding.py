"""Rows added from Try: kept beside the uploads, trained on with the same test rows, never one of those."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from hftransfer.catalog import build_config
from hftransfer.errors import UserError
from hftransfer.runs import Run
from hftransfer.ui import adding, adding_part, mending, next_steps, revision, rules
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor
from tests import tiny
from tests.app.conftest import materials, tree_of


def finished_run(visitor: Visitor, name: str, **data: Any) -> Run:
    """Return a run as one that is done stands in its folder, of two labels."""
    tree = tree_of(materials(visitor))
    run = Run.create(build_config({**tree, "data": {**tree["data"], **data}}), visitor.runs / name)
    answer = {"kind": "single_label", "names": ["negative", "positive"], "counts": [40, 40]}
    run.result_path.write_text(json.dumps({"task": "text-classification", "answer": answer}))
    return run


@pytest.fixture
def run(alice: Visitor) -> Run:
    return finished_run(alice, "one")


def test_rows_are_kept_and_trained_on(run: Run, alice: Visitor, space: Settings) -> None:
    assert adding.offered(run.result()) == (str, ["negative", "positive"])
    assert adding.add(alice, space, run, {"text": "what a night"}, " positive ") == 1
    assert adding.add(alice, space, run, {"text": "of a new kind"}, "mixed") == 2
    place = adding.place_of(alice, run)
    assert [json.loads(line)["label"] for line in place.read_text().splitlines()] == ["positive", "mixed"]
    tree = adding.tree_of(alice, run)
    assert tree["data"]["added"] == str(place) and "output" not in tree
    assert rules.admit(alice, tree, space).data.added == str(place)
    assert adding.take_back(alice, run) == 1

    mending_place = mending.place_of(alice, run)
    mending_place.write_text("row_id,given,label\n")
    assert adding.tree_of(alice, run)["data"]["corrections"] == str(mending_place)
    # what was added before is the beginning of what is added after the next run
    after = finished_run(alice, "two", added=str(place))
    assert adding.add(alice, space, after, {"text": "another one"}, "negative") == 2
    adding.take_back(alice, after)
    assert adding.tree_of(alice, after)["data"]["added"] == str(adding.place_of(alice, after))
    adding.take_back(alice, after)
    assert "added" not in adding.tree_of(alice, after)["data"], "what was taken back is not learned from again"


def test_pictures_are_looked_at_and_copied(alice: Visitor, space: Settings, received: Path) -> None:
    tree = {**tree_of(materials(alice)), "task": "image-classification"}
    run = Run.create(build_config(tree), alice.runs / "pictures")
    answer = {"kind": "single_label", "names": ["blue", "red"], "counts": [4, 4]}
    run.result_path.write_text(json.dumps({"task": "image-classification", "answer": answer}))
    picture = next((tiny.image_folder(received / "photos", 2) / "red").iterdir())
    adding.add(alice, space, run, {"image": str(picture)}, "red")
    (row,) = adding.rows_of(adding.place_of(alice, run))
    assert (adding.place_of(alice, run).parent / row["image"]).read_bytes() == picture.read_bytes()
    bad = received / "bad.png"
    bad.write_bytes(b"no picture")
    with pytest.raises(UserError):
        adding.add(alice, space, run, {"image": str(bad)}, "red")


def test_what_cannot_be_added_is_said(run: Run, alice: Visitor, bob: Visitor, space: Settings) -> None:
    for value, said, words in (({"text": "t"}, "", "should have been"), ({}, "positive", "one answer a row")):
        with pytest.raises(UserError, match=words):
            adding.add(alice, space, run, value, said)
    with pytest.raises(UserError, match="a number"):
        adding.truth_of(float, "many")
    adding.add(alice, space, run, {"text": "t"}, "positive")
    tree = adding.tree_of(alice, run)
    with pytest.raises(UserError, match=r"data\.added"):
        rules.admit(bob, {**tree, "data": {**tree["data"], "source": "sample:vader-tweets"}}, space)


def test_a_test_row_is_not_added(run: Run, alice: Visitor) -> None:
    class Page:
        class workers:
            @staticmethod
            def call(visitor: Visitor, function: str, **asked: Any) -> Any:
                return [{"row_id": "test:1", "input": {"text": {"form": "text", "value": "a  test row"}}}]

    page: Any = Page()
    adding_part.require_new(page, alice, run, {"text": "another row"})
    for value in ({"text": "a test row"}, {"image": "/tmp/gradio/x/example.png"}):
        with pytest.raises(UserError, match="this is a test row"):
            adding_part.require_new(page, alice, run, value)


def test_the_next_steps_name_the_weakest_class() -> None:
    classes = [{"name": "a", "n": 30, "recall": 0.9}, {"name": "b", "n": 9, "recall": 0.3}]
    score = {"value": 0.8, "low": 0.7, "high": 0.9}
    result: dict[str, Any] = {
        "task": "text-classification", "main_metric": "accuracy",
        "answer": {"kind": "single_label", "names": ["a", "b"], "counts": [90, 12]},
        "test": {"n": 39, "metrics": {"accuracy": score}, "classes": classes},
        "baseline": {"name": "majority class", "metrics": {"accuracy": {"value": 0.5}}},
        "data": {"label_issues": {"found": 4}},
        "verdict": {"useless": False, "sentences": [], "advice": []},
    }  # fmt: skip
    assert next_steps.weakest(result) == ("b", "Its recall is 0.30, the others' mean 0.60, of 12 that taught it.")
    drawn = next_steps.cards_of(result, {"updates": 250, "gaining": True})
    assert "More rows of b" in drawn and "4 rows may be labelled wrongly" in drawn
    assert "500 updates in place of 250" in drawn and "go:publish" in drawn
    assert "250. Validation scores were still getting better at the end." in drawn
    flat = next_steps.cards_of(result, {"updates": 250, "gaining": False})
    assert "250. Validation scores had stopped getting better" in flat
    for few in ({"updates": 250, "gaining": None}, {"updates": 250}):
        assert "Validation scores" not in next_steps.cards_of(result, few)
    result["verdict"]["useless"] = True
    assert "go:publish" not in next_steps.cards_of(result, {})


def test_the_rows_as_they_are_now_are_written(run: Run, alice: Visitor, space: Settings, tmp_path: Path) -> None:
    adding.add(alice, space, run, {"text": "a new row"}, "positive")
    tree = rules.admit(alice, adding.tree_of(alice, run), space).to_dict()
    assert revision.revision(tree, "CSV", str(tmp_path / "rows.csv")) == {"rows": 104}
    lines = (tmp_path / "rows.csv").read_text().splitlines()
    assert lines[0] == "text,label,split" and "a new row,positive,train" in lines
    revision.revision(tree, "Label Studio", str(tmp_path / "rows.json"))
    found = json.loads((tmp_path / "rows.json").read_text())
    (added,) = [one for one in found if one["data"]["text"] == "a new row"]
    assert added["annotations"][0]["result"][0]["value"] == {"choices": ["positive"]}
    with pytest.raises(UserError, match="a form for texts"):
        revision.revision(tree, "Folders of files", str(tmp_path / "rows.zip"))


def test_pictures_are_written_as_folders(tmp_path: Path) -> None:
    source = tiny.image_folder(tmp_path / "photos", 20)
    tree = {"task": "image-classification", "model": "m", "data": {"source": str(source)}}
    assert revision.revision(tree, "Folders of files", str(tmp_path / "rows.zip")) == {"rows": 20}
    with zipfile.ZipFile(tmp_path / "rows.zip") as archive:
        names = archive.namelist()
    assert len(names) == 20 and {name.split("/")[1] for name in names} == {"blue", "red"}
    assert {name.split("/")[0] for name in names} == {"train", "validation", "test"}
