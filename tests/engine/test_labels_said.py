"""What labels are taken for, and that there are few of some, is said; whole numbers in a row are scored as such."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score, mean_absolute_error

from hftransfer import catalog, data
from hftransfer.config import DataConfig
from hftransfer.evaluation.predictions import Predictions
from hftransfer.evaluation.scoring import measure_only, measure_point
from tests import tiny

STARS = tiny.answer("single_label", ("1", "2", "3", "4", "5"), (9, 9, 9, 9, 9), 45)


def loaded(folder: Path, labels: list[str], **section: Any) -> data.Data:
    texts = [text for text, _ in tiny.sentences(len(labels))]
    frame = pd.DataFrame({"text": [f"{text} {i}" for i, text in enumerate(texts)], "label": labels})
    frame.to_csv(folder / "rows.csv", index=False)
    config = DataConfig(source=str(folder / "rows.csv"), **section)
    return data.load(config, catalog.task("text-classification"), 1)


def test_stars_are_scored_by_how_far_off_they_are() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 5, 80)
    answered = np.clip(truth + rng.integers(-1, 2, 80), 0, 4)
    found = Predictions(STARS, [str(i) for i in range(80)], truth, np.eye(5)[answered])
    values = measure_point(found)
    assert values["quadratic_kappa"] == pytest.approx(cohen_kappa_score(truth, answered, weights="quadratic"))
    assert values["mae"] == pytest.approx(mean_absolute_error(truth, answered)) and STARS.main_metric == "accuracy"
    score = measure_only(found, ["quadratic_kappa"], resamples=100)["quadratic_kappa"]
    assert score["low"] < score["value"] < score["high"]
    said = STARS.guessed()
    assert "the whole numbers 1 to 5" in said[0] and "data.problem_type=regression" in said[0]


@pytest.mark.parametrize("names", [("0", "1"), ("1", "2", "4"), ("a", "b", "c"), ("1", "2", "3.5")])
def test_other_labels_have_no_order(names: tuple[str, ...]) -> None:
    answer = tiny.answer("single_label", names, [9] * len(names), 27)
    assert answer.guessed() == [] and not {"quadratic_kappa", "mae"} & {*answer.metrics, *answer.default_metrics}


def test_a_label_that_is_called_like_a_gap_is_a_label_and_that_is_said(tmp_path: Path) -> None:
    found = loaded(tmp_path, ["NA", "None", "good"] * 20)
    assert found.answer.names == ("NA", "None", "good")
    (said,) = [guess for guess in found.guesses if "not missing" in guess]
    assert said.startswith("`NA` (20 rows), `None` (20 rows) are labels like the others")
    empty = loaded(tmp_path, ["bad", "", "good"] * 20)
    assert empty.answer.names == ("bad", "good") and sum(empty.sizes.values()) == 40
    assert any("20 with no label" in warning for warning in empty.warnings)


def test_few_rows_of_a_class_are_said_by_split(tmp_path: Path) -> None:
    found = loaded(tmp_path, ["a"] * 80 + ["b"] * 8 + ["c"] * 2, test_size=0.25, validation_size=0.1)
    assert any(warning.startswith("train has few of b (") and ", c (" in warning for warning in found.warnings)
    assert any(warning.startswith("test has few of b (2)") for warning in found.warnings)
    assert any("class c missing from test" in warning for warning in found.warnings)
    (said,) = found.answer.uneven()
    assert "a has" in said and "times the rows of c" in said and "train.class_weights=balanced" in said
    assert STARS.uneven() == []


def test_uneven_classes_are_said_unless_they_are_weighed(tmp_path: Path, train: Any) -> None:
    frame = pd.DataFrame(tiny.sentences(240), columns=["text", "label"])
    kept = [i for i in range(240) if frame["label"][i] == "negative" or i % 24 == 1]
    frame.loc[kept].to_csv(tmp_path / "rows.csv", index=False)
    tree = {
        "task": "text-classification", "model": str(tiny.text_model(tmp_path / "base")), "method": {"name": "probe"},
        "data": {"source": str(tmp_path / "rows.csv"), "label_issues": False, "likely_copies": False},
    }  # fmt: skip
    _, plain = train(tree)
    assert any("the classes of train are uneven" in warning for warning in plain["data"]["warnings"])
    _, weighed = train(tree, "train.class_weights=balanced", name="weighed")
    assert not any("uneven" in warning for warning in weighed["data"]["warnings"])
