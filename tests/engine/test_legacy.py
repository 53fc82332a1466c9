"""What the code of before left is read, asked, compared, resumed and drawn as its own."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from hftransfer import answers, artifact, cli, training
from hftransfer.card import report
from hftransfer.comparison import contenders
from hftransfer.evaluation.predictions import Predictions
from hftransfer.evaluation.scoring import measure_point
from hftransfer.fitting.interruption import Interruption
from hftransfer.predictor import Predictor
from hftransfer.runs import Run, read_json
from hftransfer.ui import result_step
from tests import legacy

INPUTS = {"single": ("rows.csv", "text"), "tags": ("tokens.jsonl", "tokens")}


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the runs of before, to work in: their configurations name files beside them."""
    here = legacy.copy(tmp_path)
    monkeypatch.chdir(here)
    return here


def inputs(old: Path, name: str) -> dict[str, Any]:
    """Return the inputs of a run's data by row id."""
    file, column = INPUTS[name]
    lines = (old / file).read_text().splitlines()
    rows = [line.rpartition(",")[0] for line in lines[1:]] if file.endswith("csv") else map(json.loads, lines)
    return {f"{file}:{i}": row if isinstance(row, str) else row[column] for i, row in enumerate(rows)}


def stored(run: Run) -> Predictions:
    return Predictions.read_parquet(run.predictions / "test.parquet", contenders.answer_of(run))


def test_they_are_listed_with_their_scores(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["runs"]) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    listed = {name: " ".join(rest.split()) for name, rest in lines}
    assert listed["single"] == "done accuracy 0.500 (0.314 to 0.686)"
    assert listed["tags"] == "done f1_entity 1.000 (0.862 to 1.000)"
    assert listed["stopped"].startswith("stopped training 4")


def test_two_of_them_are_compared(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(old / "runs/single", old / "runs/again")
    assert cli.main(["compare", "single", "again", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metric"] == "accuracy" and found["n"] == 24 and found["pairs"][0]["advantage"] == 0
    assert "Their answers are the same on all 24 test rows." in found["verdict"]
    shutil.copytree(old / "runs/tags", old / "runs/tags2")
    assert cli.main(["compare", "tags", "tags2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["metric"], found["unit"]) == ("f1_entity", "sentences")


@pytest.mark.parametrize(("name", "kind"), [("single", "single_label"), ("tags", "tags")])
def test_a_result_alone_tells_the_kind_of_answer(old: Path, name: str, kind: str) -> None:
    run = Run(old / "runs" / name)
    result = run.result()
    assert "answer" not in result and answers.of_result(result).kind == kind
    assert answers.of_notes(artifact.read_notes(run.artifact)).kind == kind
    assert answers.of_result(result).main_metric == {"single": "accuracy", "tags": "f1_entity"}[name]


def test_a_run_without_its_model_keeps_its_answers(old: Path) -> None:
    run = Run(old / "runs/single")
    before = stored(run)
    shutil.rmtree(run.artifact)
    found = contenders.of_run(run).predictions
    assert found.answer.names == before.answer.names and np.array_equal(found.outputs, before.outputs)


@pytest.mark.parametrize("name", INPUTS)
def test_stored_answers_give_the_scores_that_were_told(old: Path, name: str) -> None:
    run = Run(old / "runs" / name)
    told = {metric: score["value"] for metric, score in run.result()["test"]["metrics"].items()}
    assert measure_point(stored(run), list(told)) == pytest.approx(told, abs=1e-6)


@pytest.mark.parametrize("name", INPUTS)
def test_their_models_answer_as_they_did(old: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(old / "runs" / name)
    found, known = stored(run), inputs(old, name)
    predictor = Predictor(run.artifact)
    asked = [known[row_id] for row_id in found.row_ids]
    outputs = predictor.ask([predictor.task.row(value) for value in asked])
    assert len(outputs) == len(found) == 24
    for now, before in zip(outputs, found.outputs, strict=True):
        np.testing.assert_allclose(now, before, atol=1e-5)
    table = found.answer.columns(found.truth, found.outputs)
    answered = predictor(asked)
    given = [one["label"] if name == "single" else one["tags"] for one in answered]
    assert given == table["prediction"].to_pylist()
    text = asked[0] if isinstance(asked[0], str) else " ".join(asked[0])
    assert cli.main(["predict", str(run.folder), text, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["scores"] == pytest.approx(answered[0]["scores"], abs=1e-5)


def test_the_notes_of_the_first_schema_are_read(old: Path) -> None:
    run = Run(old / "runs/single")
    texts = list(inputs(old, "single").values())[:6]
    before = Predictor(run.artifact)(texts)
    notes = read_json(run.artifact / "hftransfer.json")
    for name in ("sources", "method", "cost", "calibration", "speed"):
        del notes[name]
    (run.artifact / "hftransfer.json").write_text(json.dumps(notes | {"schema": 1}))
    after = Predictor(run.artifact)
    assert after(texts) == before and after.answered == answers.of_notes(notes)


def test_an_old_temperature_still_divides(old: Path) -> None:
    run = Run(old / "runs/single")
    (text, *_) = inputs(old, "single").values()
    plain = Predictor(run.artifact)(text)["scores"]
    path = run.artifact / "hftransfer.json"
    path.write_text(json.dumps(read_json(path) | {"temperature": 0.25}))
    odds = {name: score**4 for name, score in plain.items()}
    expected = {name: value / sum(odds.values()) for name, value in odds.items()}
    assert Predictor(run.artifact)(text)["scores"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", INPUTS)
def test_the_card_is_that_of_then_but_for_what_it_says_of_the_baseline(old: Path, name: str) -> None:
    run = Run(old / "runs" / name)
    then = (run.artifact / "README.md").read_text(encoding="utf-8")
    trivial = run.result()["baseline"]["name"]
    for before, after in (
        ("answers without looking at the input.", "answers the same whatever the input."),
        ("schema: 1\n", "schema: 2\n"),  # of the form of a configuration
        ("worse than an answer that never looks at the input", f"worse than a trivial answer ({trivial})"),
    ):
        then = then.replace(before, after)
    seconds = r"[\d.]+ s in all"  # it was written before the run's last second
    defaults = r"(?m)^method:\n  name: full\n|^  auto: false\n"  # of then, which that form names
    now = re.sub(defaults, "", report.render(run.result(), run.config()))
    now = re.sub(r", truncation=True, max_length=\d+", "", now)  # which it did not say then
    assert re.sub(seconds, "", now) == re.sub(seconds, "", then)


def test_a_stopped_run_goes_on_near_the_one_that_was_not(old: Path) -> None:
    """An evaluation moves the random state no more, so dropout draws other numbers than the code of before did."""
    run = Run(old / "runs/stopped")
    checkpoint = run.checkpoint()
    assert checkpoint is not None and checkpoint.name == "checkpoint-43"
    start = load_file(checkpoint / "model.safetensors")
    with Interruption() as interruption:
        result = training.run(run.config(), run, interruption, resume=True)
    assert result["schema"] == 3 and result["cost"]["steps"] == 240
    found, whole = load_file(run.artifact / "model.safetensors"), load_file(old / "whole.safetensors")
    assert found.keys() == whole.keys()
    apart, moved = (
        sum(float(((whole[name] - other[name]) ** 2).sum()) for name in whole) ** 0.5 for other in (found, start)
    )
    assert apart < 0.5 * moved and result["test"]["metrics"]["accuracy"]["value"] > 0.9


# --- the app's page of a result ---


@pytest.mark.parametrize("name", INPUTS)
def test_the_page_shows_scores_and_draws_the_plots(old: Path, name: str) -> None:
    run = Run(old / "runs" / name)
    result = run.result()
    scores = result_step.scores_of(result)
    main = answers.of_result(result).main_metric
    assert main.replace("_", " ") in scores and f"{result['test']['metrics'][main]['value']:.3f}" in scores
    where = result_step.where_of(result, run.folder)
    for title in ("What it takes for what", "When it is sure, is it right?", "Label by label"):
        assert title in where
    for label in json.loads((run.folder / "plots/confusion_matrix.json").read_text())["labels"]:
        assert label in where
    assert [one["name"] in where for one in result["test"]["classes"]] == [True, True]


@pytest.mark.parametrize(
    ("name", "plot", "title", "shown"),
    [
        (
            "confusion_matrix",
            {"labels": [{"name": "odd", "true_positives": 7, "false_negatives": 2, "false_positives": 1}]},
            "What it finds of each label", "odd",
        ),
        (
            "predicted_vs_true",
            {
                "n": 9, "bias": 0.5, "residual_quantiles": {"0.5": 0.25},
                "residual_histogram": {"edges": [-1.0, 0.0, 1.0], "counts": [4, 5]},
            },
            "How far off", "svg",
        ),
    ],
)  # fmt: skip
def test_plots_that_do_not_name_their_chart(
    old: Path, name: str, plot: dict[str, Any], title: str, shown: str
) -> None:
    folder = old / "runs/other"
    (folder / "plots").mkdir(parents=True)
    (folder / "plots" / f"{name}.json").write_text(json.dumps(plot))
    result = Run(old / "runs/single").result()
    where = result_step.where_of(result | {"test": {**result["test"], "classes": []}}, folder)
    assert title in where and shown in where
