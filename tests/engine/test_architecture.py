"""The house as docs/architecture.md has it: kinds in files of their own, and a toy kind that goes all the way."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import hftransfer.answers
import hftransfer.tasks
from hftransfer import answers, catalog, cli, views
from hftransfer.card import report
from hftransfer.comparison import contenders, judging
from hftransfer.predictor import Predictor
from hftransfer.runs import Run
from tests import tiny
from tests.engine.trained import trained
from tests.engine.trained import tree as text_tree

PACKAGE = Path(hftransfer.__file__).parent
TOYS = Path(__file__).parents[1] / "toys"
OWN = ("answers", "inputs", "tasks")  # where a kind may be named
MOST_LINES, MOST_MODULES = 400, 20
COMMON = (
    "text",
    "words",
    "image",
    "audio",
    "tags",
    "mask",
    "instances",
)  # names that other things have too: roles, fields of the Hub


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE), ast.parse(path.read_text(encoding="utf-8"))


def inputs() -> set[str]:
    found = {path.stem for path in (PACKAGE / "inputs").glob("*.py")}
    return {name for name in found if name != "base" and not name.startswith("_")}


def test_no_other_file_names_a_kind() -> None:
    """A string of its name, a comparison with it, or a question for an object's `kind` would be a branch on it."""
    names = {*answers.kinds(), *inputs()}
    assert {"single_label", "multi_label", "regression", "tags", "text", "words", "image"} <= names
    found = []
    for path, tree in modules():
        if path.parts[0] in (*OWN, "samples"):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and node.value in names - set(COMMON):
                found.append(f"{path}:{node.lineno} names {node.value}")
            if isinstance(node, ast.Compare | ast.MatchValue):
                said = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}
                found += [f"{path}:{node.lineno} compares with {name}" for name in said & names if name != "text"]
            if isinstance(node, ast.Attribute) and node.attr == "kind" and path.name != "origins.py":
                found.append(f"{path}:{node.lineno} asks for .kind")
    assert not found, "\n".join(found)


def test_modules_are_small_and_few_stand_at_the_top() -> None:
    long = {
        str(path.relative_to(PACKAGE)): lines
        for path in PACKAGE.rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MOST_LINES
    }
    assert not long
    assert len([path for path in PACKAGE.glob("*.py") if path.name != "__init__.py"]) <= MOST_MODULES


def test_a_metric_means_the_same_in_every_kind() -> None:
    for name, metric in answers.metrics().items():
        for kind in answers.kinds_of(name):
            one = answers.of(kind).METRICS[name]
            assert (one.about, one.greater_is_better, one.perfect, one.scale) == (
                metric.about, metric.greater_is_better, metric.perfect, metric.scale
            ), (name, kind)  # fmt: skip


# --- a kind and a task of the test's own ---


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the package find the toys' files beside its own."""
    import sys

    for package, folder in ((hftransfer.answers, "answers"), (hftransfer.tasks, "tasks")):
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(TOYS / folder)])
    caches = (answers.metrics, answers.validated, catalog.problem_types)
    for one in caches:
        one.cache_clear()
    yield
    for name in ("hftransfer.answers.interval", "hftransfer.tasks.text_to_interval"):
        sys.modules.pop(name, None)
    for one in caches:
        one.cache_clear()


def rows(path: Path, count: int = 160) -> Path:
    """Write texts, each with an interval that its words tell."""
    lines = []
    for text, label in tiny.sentences(count):
        low = 1.0 if label == "positive" else -2.0
        lines.append(json.dumps({"text": text, "interval": [low, low + 1.0]}))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_new_kind_goes_all_the_way(toys: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "interval" in answers.kinds() and "text-to-interval" in catalog.tasks()
    assert not catalog.fits("text-to-interval", "probe")
    assert cli.main(["tasks"]) == 0 and "answers: interval" in capsys.readouterr().out
    base = text_tree(tmp_path)
    tree: dict[str, Any] = {**base, "task": "text-to-interval", "data": {"source": str(rows(tmp_path / "r.jsonl"))}}
    runs = [trained(tmp_path, name, {**tree, "method": {"name": name}}) for name in ("full", "lora")]

    result = runs[0].result()
    assert result["answer"]["kind"] == "interval" and result["main_metric"] == "shared"
    score, trivial = result["test"]["metrics"]["shared"], result["baseline"]
    assert score["low"] <= score["value"] <= score["high"] and score["value"] > trivial["metrics"]["shared"]["value"]
    assert trivial["name"] == "mean interval"

    card = report.render(result, runs[0].config(), repo="me/mine")
    assert "Its low end may lie above its high end." in card and "`shared`" in card
    assert "AutoModelForSequenceClassification" in card and "pipeline_tag: text-to-interval" in card

    judged = judging.judge([run.name for run in runs], contenders.gather([str(run.folder) for run in runs]))
    assert {one["name"] for one in judged["models"]} == {"full", "lora"} and judged["verdict"]

    predictor = Predictor(runs[0].artifact)
    (answer,) = predictor.answer(["the film was good"])
    assert answer["low"] == pytest.approx(1.0, abs=0.7)
    assert cli.main(["predict", str(runs[0].folder), "the film was good"]) == 0
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    items = predictor.views([answer])[0]
    assert isinstance(items, views.Items)
    for name, value, about in items.found:  # of one question all that it is answered with, a line each
        assert [name, f"{value:.3f}", *about.split()] in printed
    known: dict[str, Any] = {}
    exec(predictor.task.snippet(repr(str(runs[0].artifact)), {"text": "'the film was good'"}, {}), known)
    assert predictor.answered.distance(predictor.answered.as_json(known["answer"]), answer) < 1e-3


def test_a_new_kind_is_shown_by_the_app(toys: None, tmp_path: Path) -> None:
    """What the Try and Result pages make of it: no page knows the kind."""
    pytest.importorskip("gradio")
    from hftransfer.ui import asking, markup, result_step, rows_found, rows_of_runs, try_step

    tree = {**text_tree(tmp_path), "task": "text-to-interval", "data": {"source": str(rows(tmp_path / "r.jsonl"))}}
    run = trained(tmp_path, "run", tree, num_train_epochs=1)
    found = asking.predict(str(run.artifact), [{"text": "the film was good"}])
    shown = try_step.answers_of(found)
    assert "low" in try_step.answer_of(found[0]) and "<" in shown
    assert markup.view(views.from_dict(found[0]["view"]))
    examples = rows_of_runs.examples(str(run.folder), 3)
    assert len(examples) == 3 and try_step.examples_of(examples)
    assert "shared" in result_step.scores_of(run.result())
    worst = rows_of_runs.errors(str(run.folder), 3)
    assert len(worst) == 3 and rows_found.errors_of(worst)
    assert result_step.where_of(run.result(), run.folder) is not None
    other = trained(tmp_path, "other", tree, num_train_epochs=2)
    assert rows_of_runs.verdict(str(run.folder), [str(other.folder)])["table"]


class AtOnce:
    """What asks workers, answered in this process."""

    def call(self, visitor: Any, name: str, **given: Any) -> Any:
        from hftransfer.ui import worker

        if "run" in given:
            given["run"] = str(visitor.runs / given["run"])
        return worker.FUNCTIONS[name](**given)


def test_a_new_task_stands_in_every_step_of_the_page(toys: None, tmp_path: Path) -> None:
    """Each step as its handlers give it for a run of a task that no page knows."""
    pytest.importorskip("gradio")
    from hftransfer.launchers import launcher
    from hftransfer.ui import (
        app,
        data_step,
        model_step,
        publish_step,
        result_step,
        settings,
        train_step,
        try_step,
        visitors,
    )
    from hftransfer.ui.monitor import Monitor
    from hftransfer.ui.page import Page
    from hftransfer.ui.queueing import Queue

    place = settings.Settings.read({"HFTRANSFER_ROOT": str(tmp_path)})
    page = Page(place, Queue(place, launcher("local")), cast(Any, AtOnce()), Monitor())
    blocks = app.laid_out(page)
    visitor = visitors.of(None, None, None, place)
    task, source = "text-to-interval", str(rows(tmp_path / "r.jsonl"))
    base = text_tree(tmp_path)
    tree = {**base, "task": task, "data": {"source": source}}

    # Data: it can be chosen, has its roles, and its rows are shown
    choices = [one["props"]["choices"] for one in blocks.config["components"] if one["props"].get("elem_id") == "task"]
    assert ("Text to interval", task) in [tuple(one) for one in choices[0]]
    _, *roles = data_step.change_task(visitor, task, "")
    assert [role["label"] for role in roles if role["visible"]] == ["Text", "Interval"]
    values = [tree["data"]["source"] if path == "data.source" else tree.get(path) for path in page.widgets]
    said, there, summary, *_, shown = data_step.look(page, visitor, *values, *[""] * len(page.roles), [])
    assert said == "" and there["visible"] and "Text to interval" in summary and "<table" in shown

    # Model: methods that give such answers, and what is known of a model
    _, methods, names, _ = model_step.changed(visitor, "m", task, "probe")
    assert "lora" in methods and "probe" not in names["choices"] and names["value"] == "auto"
    about, _ = model_step.tell(page, visitor, str(base["model"]), "", task, "full")
    assert "Parameters" in about

    # Train, Result, Try, Publish: of a run that is done
    (tmp_path / "runs").mkdir()
    run = trained(tmp_path / "runs", "20260101-000000-text-to-interval-m-full", tree, num_train_epochs=1)
    looked = train_step.tick(page, visitor, run.name, source, "m", "full", None, {})
    assert "Text to interval" in looked[1] and "done" in looked[1]
    _, box, scores, *_ = result_step.render(page, visitor, run.name)
    assert box["visible"] and "shared" in scores
    ready = try_step.choose(page, visitor, try_step.RUN, "", run.name)
    assert ready[1] == [("text", "textbox")] and ready[2]["visible"]
    question = [try_step.RUN, "", run.name, ready[1], "the film was good", "", None, None]
    assert "where it begins" in try_step.asked(page, visitor, *question, None)[0]
    assert "film" in try_step.show_examples(page, visitor, run.name)
    offered = publish_step.offer(page, visitor, run.name, "", "")
    assert offered[1]["visible"] and "Its low end may lie above its high end." in offered[4]


def test_a_new_kind_streams_and_checks(toys: None, tmp_path: Path) -> None:
    from hftransfer import questions
    from hftransfer.fitting.interruption import Interruption

    tree = {**text_tree(tmp_path), "task": "text-to-interval"}
    tree["data"] = {"source": str(rows(tmp_path / "r.jsonl")), "streaming": True}
    run = trained(tmp_path, "stream", tree, max_steps=4)
    assert np.isfinite(run.result()["test"]["metrics"]["shared"]["value"])
    with Interruption() as interruption:
        assert questions.check(catalog.build_config(tree), interruption)["labels"]["kind"] == "interval"


def test_the_toys_are_gone_afterwards() -> None:
    assert "interval" not in answers.kinds() and "text-to-interval" not in catalog.tasks()
    assert Run  # the package itself is untouched
