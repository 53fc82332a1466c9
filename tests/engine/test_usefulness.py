"""A model that is of no use is called so, everywhere: at the baseline, blind to its input, without a class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hftransfer import cli, follow
from hftransfer.card import report
from hftransfer.config import EvaluationConfig
from hftransfer.evaluation.predictions import Predictions
from hftransfer.evaluation.reporting import report as measured
from hftransfer.evaluation.usefulness import advice, never_above
from hftransfer.runs import verdict_of
from tests import tiny

N = 200
ANSWER = tiny.answer("single_label", ("a", "b", "c"), (90, 60, 50), 200)
TRUTH = np.array([0] * 90 + [1] * 60 + [2] * 50)


def of(scores: np.ndarray, answer: Any = ANSWER, truth: Any = TRUTH) -> dict[str, Any]:
    found = Predictions(answer, [str(i) for i in range(len(truth))], truth, scores)
    return dict(measured(found, found, EvaluationConfig(resamples=400), 0)["verdict"])


def right(share: float, classes: tuple[int, ...] = (0, 1, 2)) -> np.ndarray:
    """Return scores that are right in a share of the rows of some classes, and answer `a` elsewhere."""
    rng = np.random.default_rng(0)
    given = np.where((rng.random(N) < share) & np.isin(TRUTH, classes), TRUTH, 0)
    return np.eye(3)[given] * 0.6 + rng.random((N, 3)) * 0.1


def test_a_model_that_collapsed_to_the_majority_is_equal_to_the_baseline_and_told_so() -> None:
    collapsed = np.tile([0.5, 0.3, 0.2], (N, 1)) + np.random.default_rng(0).random((N, 3)) * 0.05
    found = of(collapsed)
    assert found["useless"] and found["advantage"]["value"] == 0
    assert found["sentences"][0].startswith("It answers every test row as the majority class (accuracy 0.450)")
    assert found["sentences"][1] == "It never answers `b` (60 in the test rows), `c` (50 in the test rows)."
    blind = of(np.tile([0.5, 0.3, 0.2], (N, 1)))
    assert blind["sentences"][1] == "Its answer is the same for every row: it does not look at the input."


def test_what_is_not_shown_to_be_better_is_not_relied_on() -> None:
    found = of(right(0.02))
    assert found["useless"] and "is not shown: the difference is +0.0" in found["sentences"][0]


def test_a_useful_model_is_left_in_peace_and_one_without_a_class_is_told() -> None:
    assert of(right(0.9)) | {"advantage": None} == {"advantage": None, "useless": False, "sentences": []}
    partial = of(right(0.95, (0, 1)))
    assert not partial["useless"] and partial["sentences"] == ["It never answers `c` (50 in the test rows)."]


def test_less_is_better_for_an_error() -> None:
    truth = np.random.default_rng(1).normal(size=100)
    answer = tiny.answer("regression", rows=100, total=0.0)
    assert not of(truth + 0.1, answer, truth)["useless"]
    worse = of(truth + 3, answer, truth)
    assert worse["useless"] and "is worse than the mean (rmse" in worse["sentences"][0]
    assert of(np.zeros(100), answer, truth)["sentences"][0].startswith("It answers every test row as the mean")


def test_a_curve_that_never_left_the_baseline() -> None:
    events = [{"type": "evaluation", "metrics": {"accuracy": value}} for value in (0.4, 0.45)]
    (said,) = never_above(events, {"accuracy": 0.45}, ANSWER)
    assert said == "At none of 2 evaluations was its validation accuracy better than the trivial answer's 0.450."
    assert not never_above(
        [*events, {"type": "evaluation", "metrics": {"accuracy": 0.46}}], {"accuracy": 0.45}, ANSWER
    )


def test_advice_is_of_what_was_not_tried() -> None:
    verdict = {"useless": True, "sentences": ["x"]}
    assert any("method.name=probe" in one for one in advice(verdict, "full", ["probe"], 100))
    assert not any("probe" in one for one in advice(verdict, "probe", ["probe"], 100))
    assert not any("probe" in one for one in advice(verdict, "full", ["full"], 100))
    assert advice({"useless": False, "sentences": []}, "full", ["probe"], 100) == []


def test_it_is_said_everywhere(tmp_path: Path, train: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from hftransfer.ui import monitor, result_step, train_view

    tree = {
        "task": "text-classification", "model": str(tiny.text_model(tmp_path / "model")),
        "data": {"source": str(tiny.text_csv(tmp_path / "rows.csv", 120))},
        "train": {"learning_rate": 1e-7, "num_train_epochs": 2},
    }  # fmt: skip
    run, result = train(tree)
    verdict = verdict_of(result)
    assert verdict.useless and verdict.sentences and verdict.advice
    text = follow.result_text(json.loads(run.result_path.read_text()))
    card = report.render(result, run.config())
    page = result_step.scores_of(result)
    for sentence in verdict.sentences:
        assert sentence in text and sentence in card.replace("\\", "")
    assert f"  try: {verdict.advice[0]}" in text and verdict.advice[0].split(":")[0] in page
    assert "do not use it as it is" in card and card.index("**") < card.index("## Use")
    run.event("done", seconds=1.0)
    assert cli.main(["publish", str(run.folder), "me/mine"]) != 0  # no Hub here
    assert verdict.sentences[0] in capsys.readouterr().err
    (trivial,) = (event for event in run.events()[0] if event["type"] == "trivial")
    assert 0 < trivial["metrics"]["accuracy"] < 1
    view = monitor.View(run.folder)
    for event in run.events()[0]:
        view.fold(event)
    assert f">{trivial['name']}" in train_view.curves_of(view) and "dashed" in train_view.curves_of(view)
