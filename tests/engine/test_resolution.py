"""What a test split can resolve is said before training, and is what comes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hftransfer import catalog, config, follow
from hftransfer.config import EvaluationConfig
from hftransfer.evaluation import resolution
from hftransfer.evaluation.differences import pairwise
from hftransfer.evaluation.predictions import Predictions
from hftransfer.evaluation.scoring import measure_only
from hftransfer.fitting.interruption import Interruption
from tests import tiny
from tests.engine.conftest import QUICK

ANSWER = tiny.answer("single_label", ("a", "b"), (60, 60), 120)


def rows(right: np.ndarray, groups: list[str] | None = None) -> Predictions:
    n = len(right)
    truth = np.arange(n) % 2
    answered = np.where(right, truth, 1 - truth)
    return Predictions(ANSWER, [str(i) for i in range(n)], truth, np.eye(2)[answered], groups)


def foreseen(found: Predictions, **evaluation: Any) -> dict[str, Any]:
    return resolution.report(found, EvaluationConfig.model_validate(evaluation), 5 * len(found), True)


@pytest.mark.parametrize("n", [60, 500])
def test_it_is_what_comes_of_it(n: int) -> None:
    right = np.arange(n) % 5 > 0  # .8
    one = foreseen(rows(right))["shares"]["accuracy"]
    score = measure_only(rows(right), ["accuracy"])["accuracy"]
    assert one["near"] == 0.8 and one["half"] == pytest.approx((score["high"] - score["low"]) / 2)
    rng = np.random.default_rng(0)
    pair = [rows(rng.random(n) < 0.8), rows(rng.random(n) < 0.8)]
    assert pairwise(pair, "accuracy")[0, 1].resolvable == pytest.approx(one["difference"], rel=0.25)


def test_no_pair_is_told_apart_by_fewer_rows_than_is_said() -> None:
    found = foreseen(rows(np.ones(200, bool)))
    for apart, shown in ((found["apart"] - 1, False), (found["apart"], True)):
        pair = [rows(np.ones(200, bool)), rows(np.arange(200) >= apart)]
        assert (pairwise(pair, "accuracy")[0, 1].p_value < 0.05) is shown


def test_groups_that_are_alike_tell_as_much_as_their_number() -> None:
    groups = [f"g{i // 10}" for i in range(300)]
    alike = rows(np.repeat(np.arange(30) % 5 > 0, 10), groups)
    one = foreseen(alike)["shares"]["accuracy"]
    score = measure_only(alike, ["accuracy"])["accuracy"]
    assert (
        one["half"] == pytest.approx((score["high"] - score["low"]) / 2, rel=0.15) and one["alone"] < one["half"] / 2
    )
    assert "in 30 groups" in foreseen(alike)["sentences"][0]


def test_folds_are_proposed_where_they_tell_more() -> None:
    few, many = np.ones(60, bool), np.ones(4000, bool)
    (proposed,) = [one for one in foreseen(rows(few))["sentences"] if "evaluation.folds=5" in one]
    assert "over all 300 rows" in proposed
    for found in (foreseen(rows(many)), foreseen(rows(few), folds=5)):
        assert not any("evaluation.folds" in one for one in found["sentences"])
    assert resolution.half_over_folds(0.8, 300, 5, 5, 0.95) < resolution.half(0.8, 60, 0.95)


def test_scores_that_are_no_share_are_foreseen_in_standard_deviations() -> None:
    answer = tiny.answer("regression", rows=100, total=0.0)
    found = Predictions(answer, [str(i) for i in range(100)], np.zeros(100), np.zeros(100))
    (said,) = foreseen(found)["sentences"]
    assert "±0.20 standard deviations" in said and "by 0.28 of them" in said


def test_check_says_it(tmp_path: Path) -> None:
    from hftransfer import questions

    frame = pd.DataFrame(tiny.sentences(120), columns=["text", "label"])
    frame.to_csv(tmp_path / "rows.csv", index=False)
    tree = {
        **QUICK, "task": "text-classification", "model": str(tiny.text_model(tmp_path / "base")),
        "data": {"source": str(tmp_path / "rows.csv"), "label_issues": False, "likely_copies": False},
        "evaluation": {"at": {"specificity": 0.9}},
    }  # fmt: skip
    with Interruption() as interruption:
        found = questions.check(catalog.build_config(config.override(tree, [])), interruption)
    assert set(found["resolution"]["shares"]) == {"sensitivity", "specificity"}
    text = "\n".join(follow.lines_of({"type": "checked", "time": 0.0, **found}))
    assert "With 24 test rows (12 of them) a value of sensitivity near 0.80 has an interval of about ±0.2" in text
    assert "evaluation.folds=5 evaluation.repeats=5" in text and "will rest on" in text


def test_a_share_is_foreseen_from_the_groups_that_hold_its_rows() -> None:
    """Five patients of sixty have it: sensitivity has five witnesses, however many the others are."""
    point = {"label": "b", "rule": {"specificity": 0.9}, "prevalence": None, "threshold": 0.5}
    answer = tiny.answer("single_label", ("a", "b"), (60, 60), 120, positive="b", points=[point])
    truth = np.repeat(np.arange(60) < 5, 10).astype(np.int64)
    groups = [f"p{i // 10}" for i in range(600)]
    found = Predictions(answer, [str(i) for i in range(600)], truth, np.eye(2)[truth], groups)
    shares = foreseen(found)["shares"]
    assert {name: (one["of"], one["units"]) for name, one in shares.items()} == {
        "sensitivity": (50, 5), "specificity": (550, 55),
    }  # fmt: skip
    assert shares["sensitivity"]["half"] == pytest.approx(resolution.half(0.8, 5, 0.95, True))
    assert any("50 of them in 5" in sentence for sentence in foreseen(found)["sentences"])
    score = measure_only(found, ["sensitivity"])["sensitivity"]  # faultless, so wider below than what is foreseen
    assert (score["high"] - score["low"]) / 2 == pytest.approx(resolution.half(1.0, 5, 0.95, True), rel=0.5)
    alone = foreseen(Predictions(answer, found.row_ids, truth, found.outputs))["shares"]["sensitivity"]
    assert alone["units"] == 50 and alone["half"] == alone["alone"] < shares["sensitivity"]["half"]
