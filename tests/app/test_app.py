"""The page as a whole: what its process loads, which endpoints it has, and that nothing of the data becomes HTML."""

from __future__ import annotations

import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest

from hftransfer import views
from hftransfer.errors import UserError
from hftransfer.runs import Run
from hftransfer.ui import (
    answers_shown,
    app,
    comparing,
    data_step,
    markup,
    publish_step,
    result_step,
    rows_found,
    train_step,
    train_view,
)
from hftransfer.ui.monitor import Monitor, View
from hftransfer.ui.settings import Settings
from tests import tiny_dicom

HOSTILE = "<img src=x onerror=alert(1)>${1+1}{{7*7}}\"'`"
HEAVY = ("torch", "transformers", "datasets", "peft", "accelerate")
SERVE = """
import json, sys
from gradio_client import Client
from hftransfer.ui import app
from hftransfer.ui.settings import Settings
blocks = app.launch(Settings.read(), block=False)
import PIL.Image
try:
    PIL.Image.open(sys.argv[1])
    refused = False
except PIL.UnidentifiedImageError:
    refused = "pydicom" not in sys.modules
endpoints = Client(blocks.local_url, verbose=False).view_api(return_format="dict")["named_endpoints"]
import httpx
asked = {"origin": "https://evil.example", "access-control-request-method": "POST"}
preflight = httpx.options(blocks.local_url + "gradio_api/queue/join", headers=asked)
modules = [m for m in sys.modules if "." not in m]
print("SAID" + json.dumps({"endpoints": sorted(endpoints), "modules": modules, "refused": refused,
                          "preflight": [preflight.status_code, *preflight.headers]}))
sys.stdout.flush(); import os; os._exit(0)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.read({"HFTRANSFER_ROOT": str(tmp_path)})


def test_the_process_of_the_app_stays_light_and_shows_only_what_is_meant_for_programs(tmp_path: Path) -> None:
    source = str(Path(app.__file__).parents[2])
    scan = tiny_dicom.write(tmp_path / "scan.dcm", np.zeros((8, 8), np.uint8))
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {source!r})\n{SERVE}", str(scan)], cwd=tmp_path,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.rpartition("SAID")[2])
    assert not {*HEAVY} & {*said["modules"]}
    assert said["preflight"][0] == 405 and not any("access-control" in name for name in said["preflight"][1:])
    assert said["refused"]  # a DICOM file is for the workers
    assert said["endpoints"] == ["/predict", "/start", "/status", "/stop"]


def test_every_handler_of_the_page_is_private_and_waits_for_nobody(settings: Settings) -> None:
    blocks = app.build(settings)
    shown = [fn for fn in blocks.fns.values() if fn.fn and fn.api_visibility != "private"]
    assert sorted(str(fn.api_name) for fn in shown) == ["predict", "start", "status", "stop"]
    assert all(fn.concurrency_limit is None for fn in blocks.fns.values() if fn.fn and fn not in shown)
    labels = [
        block for block in blocks.blocks.values()
        if isinstance(block, gr.components.FormComponent) and not getattr(block, "label", None) and block.visible
    ]  # fmt: skip
    assert not labels, "a widget without a label says nothing to a screen reader"


def test_no_two_handlers_of_one_event_wait_for_each_other(settings: Settings) -> None:
    """A browser that held back calls of both asks all handlers of the event again after each, without end."""
    waiting: dict[tuple[int, str], list[int]] = {}
    for one in app.build(settings).config["dependencies"]:
        if one["backend_fn"] and one["trigger_mode"] == "always_last":
            for target, event in one["targets"]:
                if target is not None:
                    waiting.setdefault((target, event), []).append(one["id"])
    assert waiting
    assert not {where: several for where, several in waiting.items() if len(several) > 1}


# --- nothing of the data is HTML ---


class Attributes(HTMLParser):
    """Collect every attribute as a browser would see it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [(tag, name) for name, _ in attributes]


def harmless(html: str) -> None:
    assert "${1+1}" not in html and "{{7*7}}" not in html  # Gradio's own templates would fill these in
    assert not [one for one in Attributes(html).found if one[1].startswith("on") or one == ("img", "x")]


def result() -> dict[str, Any]:
    score = {"value": 0.9, "low": 0.8, "high": 0.95}
    return {
        "task": "text-classification", "model": HOSTILE, "method": "full",
        "test": {"n": 10, "metrics": {"accuracy": score, HOSTILE: score}, "notes": [HOSTILE],
                 "classes": [{"name": HOSTILE, "n": 5, "precision": None, "recall": 0.5, "f1": 0.4}]},
        "baseline": {"name": HOSTILE, "metrics": {"accuracy": {"value": 0.5}}, "below": HOSTILE},
        "data": {"source": HOSTILE, "fingerprint": "a", "warnings": [HOSTILE]},
        "cost": {"train_seconds": 1, "total_seconds": 2, "examples_per_second": 3, "peak_memory_mb": 4,
                 "trainable_parameters": 5, "total_parameters": 6},
    }  # fmt: skip


def test_names_and_texts_of_the_data_are_text(tmp_path: Path) -> None:
    plots = tmp_path / "plots"
    plots.mkdir()
    (plots / "confusion_matrix.json").write_text(json.dumps({"labels": [HOSTILE, "b"], "counts": [[1, 2], [3, 4]]}))
    entry = {"form": "text", "value": HOSTILE}
    shown = views.Ranked(((HOSTILE, 0.5),), (HOSTILE,))
    answer = {"label": HOSTILE, "score": 0.5, "scores": {HOSTILE: 0.5}, "view": views.to_dict(shown)}
    forms = [
        shown, views.Ranked(((HOSTILE, 0.5),), (HOSTILE,), several=True), views.Prose(HOSTILE),
        views.Marked(((HOSTILE, HOSTILE, 0.5), (HOSTILE, None, None))),
        views.Regions(((HOSTILE, 0.5, (0, 0, 1, 1)),)), views.Items(((HOSTILE, 0.5, HOSTILE),)),
    ]  # fmt: skip
    preview = {
        "columns": [{"name": HOSTILE, "type": "string"}],
        "choices": [{"role": "text", "column": HOSTILE, "reason": HOSTILE}],
        "rows": [{HOSTILE: entry}], "balance": [{"label": HOSTILE, "count": 1}], "splits": {HOSTILE: 1},
        "guesses": [HOSTILE], "warnings": [HOSTILE], "problem": HOSTILE,
    }  # fmt: skip
    tree = {"task": "text-classification", "data": {"source": HOSTILE}}
    row = {"row_id": HOSTILE, "label": HOSTILE, "prediction": HOSTILE, "score": 1.0, "input": {HOSTILE: entry}}
    for html in (
        result_step.scores_of(result()), result_step.where_of(result(), tmp_path),
        rows_found.errors_of([row]), answers_shown.answer_of(answer), *map(markup.view, forms),
        answers_shown.explanation({"form": "tokens", "parts": [{"text": HOSTILE, "weight": 1.0}]}),
        answers_shown.examples_of([row]), answers_shown.answers_of([{"input": HOSTILE, **answer}]),
        *(html for html in data_step._seen(preview, tree) if isinstance(html, str)),
        markup.cards([markup.Card(HOSTILE, HOSTILE, HOSTILE, ((HOSTILE, ""),))]), markup.note([HOSTILE, HOSTILE]),
        train_view.about(HOSTILE, HOSTILE, HOSTILE), train_step.navigation(HOSTILE, HOSTILE, HOSTILE, None, None),
    ):  # fmt: skip
        assert "onerror" in html  # it is there, as text
        harmless(html)


def test_what_a_run_says_is_text(tmp_path: Path) -> None:
    view = View(tmp_path / HOSTILE.replace("/", ""))
    for event in (
        {"type": "created"}, {"type": "phase", "name": HOSTILE}, {"type": "notice", "message": HOSTILE},
        {"type": "warning", "message": HOSTILE}, {"type": "failed", "message": HOSTILE},
        {"type": "unpublished", "repo": HOSTILE, "message": HOSTILE},
    ):  # fmt: skip
        view.fold({"time": 1.0, **event})
    for html in (train_view.timeline(view), publish_step.progress_of(view), train_view.progress(view.status())):
        harmless(html)


def test_a_link_leads_to_the_web_or_nowhere(tmp_path: Path) -> None:
    view = View(tmp_path)
    view.fold({"type": "published", "time": 1.0, "repo": "a/b", "url": "javascript:alert(1)", "verified": True})
    assert "href" not in publish_step.progress_of(view)
    view.fold({"type": "published", "time": 1.0, "repo": "a/b", "url": "https://hub/a/b", "commit": "c" * 40})
    assert 'href="https://hub/a/b"' in publish_step.progress_of(view) and "Not verified" in publish_step.progress_of(
        view
    )


# --- what is said ---


def test_a_page_that_does_not_answer_is_no_traceback() -> None:
    """On a machine that is busy with something else gradio waits for its own page for seconds, and gives up."""
    with pytest.raises(UserError, match=r"does not answer there.*Try again.*NO_PROXY"), app.reached():
        raise ValueError("When localhost is not accessible, a shareable link must be created.")
    with pytest.raises(ValueError, match="else"), app.reached():
        raise ValueError("something else")


def test_only_what_differs_is_compared() -> None:
    trees = [
        {"task": "t", "model": "a", "train": {"learning_rate": 1e-3}, "output": "x"},
        {"task": "t", "model": "b", "method": {"name": "lora"}, "output": "y"},
    ]
    assert comparing.differences(trees) == [
        ["model", "a", "b"], ["train.learning_rate", "0.001", ""], ["method.name", "", "lora"],
    ]  # fmt: skip
    assert comparing.differences([trees[0], trees[0]]) == []


def test_runs_on_other_test_rows_are_not_compared_in_silence(settings: Settings, tmp_path: Path) -> None:
    folders = []
    for name, fingerprint in (("one", "a"), ("two", "b")):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(f"task: text-classification\nmodel: m\ndata: {{source: {name}}}\n")
        found = result()
        found["data"]["split_fingerprints"] = {"test": fingerprint}
        (folder / "result.json").write_text(json.dumps(found))
        folders.append(folder)
    page = type("Page", (), {"monitor": Monitor()})()
    assert "different test rows" in comparing.comparison(page, folders)
    assert "different test rows" not in comparing.comparison(page, [folders[0], folders[0]])


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("no spaces", "a name like"), ("a/b/c", "a name like"), ("--create-pr", "a name like"), ("", "a name like"),
     ("alice/model", "token that may write")],
)  # fmt: skip
def test_publishing_needs_a_name_and_a_token(settings: Settings, tmp_path: Path, name: str, wanted: str) -> None:
    visitor = type("V", (), {"token": None})()
    with pytest.raises(Exception, match=wanted):
        publish_step.start(settings, visitor, Run(tmp_path), name, "", True, False)


def test_a_run_that_was_cut_off_is_one_button(tmp_path: Path) -> None:
    assert train_view.cut_off_of([]) == ""
    assert 'data-pick="one"' in train_view.cut_off_of([Run(tmp_path / "one")])


def test_answers_for_a_spreadsheet_are_no_formulas() -> None:
    found = [views.Ranked((("@x", 0.5), ("y", 0.25)), ("@x",)), views.Prose("+1\n\tand =2")]
    path = Path(answers_shown.table_of([{"input": "=cmd()", "view": views.to_dict(view)} for view in found]))
    assert path.read_text().splitlines()[1:] == ["'=cmd(),'@x 0.500", "'=cmd(),'+1 and =2"]


@pytest.mark.parametrize(
    ("view", "cell"),
    [
        (views.Ranked((("a", 0.75), ("b", 0.25)), ("a",)), "a 0.750"),
        (views.Ranked((("a", 0.75), ("b", 0.5)), ("a", "b"), several=True), "a, b"),
        (views.Ranked((("a", 0.25),), (), several=True), ""),
        (views.Number(1.2345678), "1.2346"),
        (views.Marked((("I", "PRON", 0.5), ("see", "VERB", 0.5))), "I/PRON see/VERB"),
    ],
)
def test_every_kind_of_answer_is_a_cell(view: views.View, cell: str) -> None:
    assert answers_shown._short({"view": views.to_dict(view)}) == cell


def test_the_words_below_the_steps_tell_how_far_a_run_is(tmp_path: Path) -> None:
    view = View(tmp_path)
    for event in (
        {"type": "launched"},
        {"type": "phase", "name": "training"},
        {"type": "step", "step": 5, "max_steps": 20},
    ):
        view.fold({"time": 1.0, **event})
    found = train_step.navigation("sample:vader-tweets", "google/vit", "full", view, "running")
    assert 'data-data="vader-tweets"' in found and 'data-model="vit"' in found and 'data-train="25%"' in found


def test_runs_are_compared_by_what_people_call_them(tmp_path: Path) -> None:
    folders = []
    for number, title in enumerate(("first try", "", "twice", "twice")):
        folder = tmp_path / f"20261201-00000{number}-text-classification-m-full"
        folder.mkdir()
        (folder / "config.yaml").write_text("task: text-classification\nmodel: m\ndata: {source: x}\n")
        if title:
            Run(folder).entitle(title, "")
        folders.append(folder)
    names = comparing.names_of(folders)
    first, second, third, fourth = (names[folder.name] for folder in folders)
    assert first == "first try" and second.startswith("Text classification") and third == folders[2].name
    found = {
        "verdict": f"{folders[0].name} beats {folders[3].name}.",
        "notes": [],
        "table": [["run"], [folders[1].name]],
    }
    told = comparing.comparison_of(found, names)
    assert f"first try beats {fourth}." in told and second in told and folders[0].name not in told
