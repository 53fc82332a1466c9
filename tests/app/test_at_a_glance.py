"""What stands there before anybody asks: a score in words and drawn, rows as a gallery, what a run will take."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hftransfer.errors import UserError
from hftransfer.hub import demo
from hftransfer.launchers import launcher
from hftransfer.ui import (
    adding,
    adding_part,
    app,
    headline,
    model_step,
    publish_step,
    result_step,
    rows_shown,
    rules,
    train_view,
    worker,
)
from hftransfer.ui.monitor import Monitor
from hftransfer.ui.page import Page
from hftransfer.ui.queueing import Queue
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor
from tests import tiny, tiny_heard
from tests.app.test_adding import finished_run
from tests.hub_server import HubServer


def result(name: str, value: float, trivial: float) -> dict[str, Any]:
    return {
        "test": {"n": 40, "metrics": {name: {"value": value, "low": value - 0.1, "high": value + 0.1}}},
        "baseline": {"name": "majority class", "metrics": {name: {"value": trivial}}},
        "verdict": {"useless": False, "sentences": [], "advice": []},
        "data": {},
    }


@pytest.mark.parametrize(
    ("name", "value", "trivial", "words"),
    [
        ("accuracy", 0.8, 0.5, "right on about 80 (70 to 90)."),
        ("wer", 0.3, 1.0, "lower is better. An answer that does not look has 1.000."),
        ("mae", 12.0, 30.0, "mean absolute error; lower is better."),
    ],
)
def test_every_score_has_a_sentence_and_a_picture(name: str, value: float, trivial: float, words: str) -> None:
    drawn = headline.of(result(name, value, trivial))
    assert words in drawn
    at = 100 * value if trivial <= 1 and value < 1 else 100 * value / trivial
    assert f'class="at" style="left:{at:.1f}%"' in drawn and f"majority class {trivial:.3f}" in drawn


def test_of_no_number_nothing_is_drawn() -> None:
    assert "<figure" not in headline.of(result("mae", 1.0, float("nan")))


def test_one_number_first_and_the_table_behind_a_line() -> None:
    drawn = result_step.scores_of(result("accuracy", 0.8, 0.5))
    assert drawn.index("<figure") < drawn.index("<details") < drawn.index("<table")


def test_rows_with_pictures_are_a_gallery_and_recordings_are_heard() -> None:
    texts = rows_shown.table_of(["text"], [{"text": {"form": "text", "value": "a < b"}}])
    assert "as-gallery" not in texts and "a &lt; b" in texts
    picture = {"form": "picture", "value": "data:image/png;base64,AA=="}
    assert "as-gallery" in rows_shown.table_of(["image"], [{"image": picture}])
    sound = {"form": "text", "value": "a.wav, 1.0 s", "sound": "data:audio/wav;base64,AA=="}
    heard = rows_shown.table_of(["audio"], [{"audio": sound}])
    assert "<audio controls" in heard and "as-gallery" in heard and "a.wav" in heard


def test_a_preview_has_rows_of_every_class_and_says_what_they_can_show(tmp_path: Path) -> None:
    lines = [f"text {n},c{n % 12:02}" for n in range(240)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *sorted(lines, key=lambda line: line[-3:])]))
    tree = {"task": "text-classification", "model": "-", "data": {"source": str(tmp_path / "rows.csv")}}
    found = worker.preview(tree)
    assert {row["label"]["value"] for row in found["rows"]} == {f"c{n:02}" for n in range(12)}
    test = found["splits"]["test"]
    assert found["tells"]["n"] == test and 0.05 < found["tells"]["half"] < 0.2
    assert f"Test rows: {test}. A score near 0.80 will be known to about" in rows_shown.tells_of(found)
    assert rows_shown.tells_of(worker.preview({**tree, "data": {**tree["data"], "group": "text"}})) == ""


def test_recordings_of_a_preview_can_be_heard(tmp_path: Path) -> None:
    folder = tiny_heard.class_folder(tmp_path / "sounds", 12)
    tree = {"task": "audio-classification", "model": "-", "data": {"source": str(folder)}}
    found = worker.preview(tree)
    drawn = rows_shown.table_of([one["name"] for one in found["columns"]], found["rows"])
    assert drawn.count("<audio") == len(found["rows"]) and str(tmp_path) not in drawn


@pytest.fixture
def laptop(tmp_path: Path) -> Settings:
    return Settings.read({"HFTRANSFER_ROOT": str(tmp_path / "root")})


class Answering:
    """Workers that answer what a test says."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def call(self, visitor: Visitor, function: str, **asked: Any) -> Any:
        return self.answers[function]


def test_what_a_run_takes_stands_beside_the_button(alice: Visitor, laptop: Settings) -> None:
    measured = {"seconds": 41.0, "memory_mb": 900.0, "steps": 10}
    page = Page(laptop, Queue(laptop, launcher("local")), cast(Any, Answering(estimate=measured)), Monitor())
    app.laid_out(page)
    asked = ("text-classification", "sample:vader-tweets", "acme/m", "auto")
    assert "measured as it starts" in train_view.ready_of(page, alice, *asked)
    form = {"task": asked[0], "data.source": asked[1], "model": asked[2], "method.name": asked[3]}
    values = [*(form.get(path) for path in page.widgets), *[""] * len(page.roles), []]
    said, cost, known = model_step.measured(page, alice, *values)
    assert "Measured: about 41 s, and 900 MB of memory." in said and "41 s" in cost
    assert train_view.ready_of(page, alice, *asked, known) == said
    assert "Measured" not in train_view.ready_of(page, alice, asked[0], "another.csv", *asked[2:], known)
    unready, *_ = model_step.measured(page, alice, *[None] * len(page.widgets), *values[len(page.widgets) :])
    assert "Choose data in step 1" in unready

    run = finished_run(alice, "20260101-120000-text-classification-m-auto")
    run.result_path.write_text(json.dumps({"cost": {"total_seconds": 80.0, "peak_memory_mb": 700.0}}))
    assert "took about 80 s, and up to 700 MB" in train_view.ready_of(page, alice, *asked)


def test_each_widget_of_the_form_is_called_as_in_a_configuration(laptop: Settings) -> None:
    page = Page(laptop, Queue(laptop, launcher("local")), cast(Any, None), Monitor())
    blocks = app.laid_out(page)
    (keys,) = [one for one in blocks.blocks.values() if "config-keys" in str(getattr(one, "value", ""))]
    for path, widget in page.widgets.items():
        assert widget.elem_id and f"{widget.elem_id}&quot;: &quot;{path}&quot;" in str(keys.value)
    names = [widget.elem_id for widget in page.widgets.values()]
    assert len(set(names)) == len(names)


def test_any_number_of_runs_can_be_compared(laptop: Settings) -> None:
    blocks = app.laid_out(Page(laptop, Queue(laptop, launcher("local")), cast(Any, None), Monitor()))
    (compare,) = [one for one in blocks.blocks.values() if getattr(one, "elem_id", None) == "compare"]
    assert compare.max_choices is None


# --- what goes to the Hub besides the model ---


def test_a_page_beside_a_model_is_exported_for_and_asked_for(
    alice: Visitor, space: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[list[str]] = []
    child = SimpleNamespace(poll=lambda: 0, wait=lambda timeout: 0)
    monkeypatch.setattr(publish_step.subprocess, "Popen", lambda words, **options: begun.append(words) or child)
    run = finished_run(alice, "one")
    with pytest.raises(UserError, match="a public model is needed"):
        publish_step.start(space, alice, run, "alice/new", "", True, False, True)
    publish_step.start(space, alice, run, "alice/new", "", False, False, True)
    assert "--export" in begun[0] and "--demo" in begun[0] and "--no-private" in begun[0]
    assert run.events()[0][-1]["stage"] == "exporting"
    publish_step.start(space, alice, run, "alice/new", "", False, False)
    assert "--demo" not in begun[1] and "--export" not in begun[1]

    run.event("notice", message=f"demo: {demo.address_of('alice/new')}")
    run.event("published", repo="alice/new", url="https://hub.test/alice/new", verified=True, commit="c")
    shown = publish_step.progress_of(Monitor().view(run.folder))
    assert f'href="{demo.address_of("alice/new")}"' in shown
    assert demo.possible("text-classification") and not demo.possible("recommendation")


def test_a_push_exports_first_and_stops_where_that_fails(alice: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    from hftransfer import cli
    from hftransfer.export import onnx
    from hftransfer.hub import publishing

    run, done = finished_run(alice, "one"), []

    def refuse(found: Any) -> None:
        done.append("exported")
        raise UserError("a model that can be exported is needed", "this is none", "")

    monkeypatch.setattr(onnx, "export", refuse)
    monkeypatch.setattr(publishing, "publish", lambda *words, **more: done.append("published"))
    assert cli.main(["publish", str(run.folder), "a/b", "--export", "--json"]) == 2 and done == ["exported"]


PUSH = """
import json, sys
from hftransfer.errors import UserError
from hftransfer.ui import revision
for line in sys.stdin:
    try:
        print(json.dumps(revision.pushed(*json.loads(line))), flush=True)
    except UserError as error:
        print(json.dumps({"refused": str(error)}), flush=True)
"""


def test_the_rows_as_they_are_now_become_a_data_set(alice: Visitor, space: Settings, tmp_path: Path) -> None:
    run = finished_run(alice, "one")
    adding.add(alice, space, run, {"text": "a new row"}, "positive")
    tree = rules.admit(alice, adding.tree_of(alice, run), space).to_dict()
    photos = {"task": "image-classification", "model": "m"}
    photos["data"] = {"source": str(tiny.image_folder(tmp_path / "photos", 20))}
    with HubServer(tmp_path / "hub") as hub:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment = {**kept, **hub.env("alice"), "HF_HOME": str(tmp_path / "hf")}
        hub.create_repo("alice/theirs", kind="dataset", files={"data.csv": b"a,b\n"})
        with subprocess.Popen(
            [sys.executable, "-c", PUSH], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdin is not None and child.stdout is not None

            def pushed(rows: dict[str, Any], repo: str) -> dict[str, Any]:
                child.stdin.write(json.dumps([rows, repo]) + "\n")
                child.stdin.flush()
                return dict(json.loads(child.stdout.readline()))

            found = pushed(tree, "alice/rows")
            assert found.get("rows") == 104, found
            assert found["url"].endswith("alice/rows")
            files = hub.files("alice/rows", kind="dataset")
            assert {"train.jsonl", "validation.jsonl", "test.jsonl"} <= set(files)
            assert {"text": "a new row", "label": "positive"} in [*map(json.loads, files["train.jsonl"].splitlines())]
            repo = hub.repo("alice/rows", "dataset")
            assert repo is not None and repo.private

            pushed(photos, "alice/rows")  # a revision takes the place of the one before
            files = hub.files("alice/rows", kind="dataset")
            labels = {name.split("/")[1] for name in files if "/" in name}
            assert "train.jsonl" not in files and labels == {"blue", "red"}
            assert "holds other files" in pushed(tree, "alice/theirs")["refused"]
            assert "may write to" in pushed(tree, "bob/rows")["refused"]
            child.stdin.close()


def test_where_rows_are_pushed_is_a_name(alice: Visitor) -> None:
    finished_run(alice, "one")
    page: Any = SimpleNamespace(workers=Answering(pushed={"rows": 3, "url": "https://hub.test/datasets/alice/rows"}))
    with pytest.raises(UserError, match="a name like"):
        adding.pushed(page, alice, "one", "a/b/c")
    assert 'href="https://hub.test/datasets/alice/rows"' in adding_part.send(page, alice, "one", "alice/rows")
    assert "note bad" in adding_part.send(page, alice, "one", "")
    with pytest.raises(UserError, match="a token"):
        adding.pushed(page, replace(alice, token=None), "one", "alice/rows")
