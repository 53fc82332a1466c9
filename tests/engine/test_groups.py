"""Rows of one patient are no independent witnesses: intervals, paired tests, folds and curves take whole groups."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from hftransfer import catalog, data
from hftransfer.card import report
from hftransfer.comparison import contenders, judging
from hftransfer.config import DataConfig
from hftransfer.data.columns import likely_groups
from hftransfer.evaluation.differences import differing, pairwise
from hftransfer.evaluation.intervals import bootstrap_weights, jackknife_weights
from hftransfer.evaluation.predictions import Predictions
from hftransfer.evaluation.scoring import measure_only
from hftransfer.frozen import out_of_fold
from hftransfer.frozen.features import Features
from tests import tiny

PATIENTS, PICTURES, SHARE, CORRELATION = 40, 10, 0.8, 0.17
ANSWER = tiny.answer("single_label", ("no", "yes"), (1, 1), 2)


def drawn(rng: np.random.Generator, patients: int = PATIENTS) -> Predictions:
    """Return answers that are right in SHARE of the rows; those of one patient are correlated (a beta-binomial)."""
    size = 1 / CORRELATION - 1
    rates = np.repeat(rng.beta(SHARE * size, (1 - SHARE) * size, patients), PICTURES)
    right = rng.random(len(rates)) < rates
    scores = np.stack([1.0 - right, right.astype(float)], axis=1)
    names = [f"p{patient}" for patient in range(patients) for _ in range(PICTURES)]
    return Predictions(ANSWER, [str(i) for i in range(len(right))], np.ones(len(right), np.int64), scores, names)


def covered(found: Predictions, seed: int) -> bool:
    score = measure_only(found, ["accuracy"], resamples=200, seed=seed)["accuracy"]
    return bool(score["low"] <= SHARE <= score["high"])


def test_the_interval_covers_where_that_over_rows_does_not() -> None:
    """A nominal 95 % interval over rows covers three quarters of the time; over patients as often as it says."""
    rng = np.random.default_rng(1)
    tried = [drawn(rng) for _ in range(300)]
    over_patients = np.mean([covered(found, i) for i, found in enumerate(tried)])
    alone = [Predictions(ANSWER, one.row_ids, one.truth, one.outputs) for one in tried]
    over_rows = np.mean([covered(found, i) for i, found in enumerate(alone)])
    assert 0.915 <= over_patients <= 0.98 and over_rows < 0.85


def test_equal_models_are_not_told_apart_more_often_than_said() -> None:
    """Two models that err with the same patients' difficulty, compared over patients."""
    rng = np.random.default_rng(2)
    low = 0
    for trial in range(200):
        one, other = drawn(rng), drawn(rng)
        low += pairwise([one, other], "accuracy", resamples=200, seed=trial)[0, 1].p_value < 0.05
    assert low / 200 < 0.09


def test_rows_of_one_group_that_differ_are_one_witness() -> None:
    """Four patients of whom one model is better tell no more than four rows: a sign test on them shows nothing."""
    names = [f"p{i // 10}" for i in range(300)]
    truth = np.ones(300, np.int64)
    better = np.tile([0.0, 1.0], (300, 1))
    found = {}
    for patients in (4, 7):
        worse = better.copy()
        worse[: 10 * patients] = [1.0, 0.0]
        pair = [Predictions(ANSWER, [str(i) for i in range(300)], truth, one, names) for one in (better, worse)]
        assert differing(*pair, "accuracy") == patients
        found[patients] = pairwise(pair, "accuracy", resamples=500)[0, 1].p_value
        alone = [Predictions(ANSWER, one.row_ids, truth, one.outputs) for one in pair]
        assert differing(*alone, "accuracy") == 10 * patients
    assert found[4] >= 2.0**-4 > 0.05 > found[7]


def test_whole_groups_are_drawn_and_left_out() -> None:
    codes = np.array([0, 0, 1, 2, 2, 2])
    weights = np.concatenate([*bootstrap_weights(6, 50, 0, codes)], axis=1)
    assert (weights[0] == weights[1]).all() and (weights[3] == weights[5]).all()
    assert (weights[[0, 2, 3]].sum(axis=0) == 3).all(), "as many groups as there are"
    left = np.concatenate([*jackknife_weights(6, codes)], axis=1)
    assert left.shape == (6, 3) and left[:, 2].tolist() == [1, 1, 1, 0, 0, 0]


def test_a_faultless_share_is_as_sure_as_its_groups_are_many() -> None:
    truth = np.ones(100, np.int64)
    scores = np.tile([0.0, 1.0], (100, 1))
    ids = [str(i) for i in range(100)]
    alone = measure_only(Predictions(ANSWER, ids, truth, scores), ["accuracy"])["accuracy"]
    five = measure_only(Predictions(ANSWER, ids, truth, scores, [str(i % 5) for i in range(100)]), ["accuracy"])
    assert alone["low"] > 0.96 and five["accuracy"]["low"] < 0.6


@pytest.mark.parametrize("kind", ["single_label", "multi_label"])
def test_folds_hold_whole_groups(kind: str) -> None:
    rng = np.random.default_rng(0)
    groups = [f"g{i // 4}" for i in range(80)]
    targets = rng.integers(0, 2, 80) if kind == "single_label" else rng.integers(0, 2, (80, 2)).astype(np.float32)
    found = Features({"mean": rng.normal(size=(80, 3))}, targets, np.arange(80), 0.0, False)
    answer = tiny.answer(kind, ("a", "b"), (40, 40), 80)
    folds = out_of_fold.assign(found, answer, 3, groups)
    assert sorted(set(folds)) == list(range(out_of_fold.FOLDS))
    assert all(len(set(folds[np.array(groups) == group])) == 1 for group in set(groups))
    few = out_of_fold.assign(found, answer, 3, ["a", "b"] * 40)
    assert np.array_equal(few, out_of_fold.assign(found, answer, 3)), "two groups make no five folds"


def rows(path: Path, patients: int = 24) -> Path:
    lines = []
    for place, (text, label) in enumerate(tiny.sentences(patients * 5)):
        lines.append(json.dumps({"text": text, "label": label, "patient": f"p{place // 5}"}))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_run_says_what_it_resampled(tmp_path: Path, train: Any) -> None:
    source = rows(tmp_path / "rows.jsonl")
    tree = {
        "task": "text-classification", "model": str(tiny.text_model(tmp_path / "model")),
        "data": {"source": str(source), "group": "patient"}, "train": {"max_steps": 4},
    }  # fmt: skip
    run, result = train(tree)
    stored = pd.read_parquet(run.predictions / "test.parquet")
    lines = [json.loads(line) for line in source.read_text().splitlines()]
    assert [lines[int(one.split(":")[1])]["patient"] for one in stored["row_id"]] == [*stored["group"]]
    assert result["test"]["groups"] == stored["group"].nunique() < len(stored)
    card = report.render(result, run.config())
    assert f"resampled by `patient` ({result['test']['groups']} of them)" in card
    other, _ = train(tree, "seed=42", "train.learning_rate=1e-3", name="other")
    judged = judging.judge([run.name, "other"], contenders.gather([str(run.folder), str(other.folder)]))
    assert f"over the {result['test']['groups']} groups of the test rows" in " ".join(judged["notes"])
    streamed, told = train(tree, "data.streaming=true", name="streamed")
    assert told["test"]["groups"] == pd.read_parquet(streamed.predictions / "test.parquet")["group"].nunique()


def test_a_column_that_looks_like_a_group_is_said(tmp_path: Path) -> None:
    task = catalog.task("text-classification")
    source = rows(tmp_path / "rows.jsonl")
    said = [w for w in data.load(DataConfig(source=str(source)), task, 1).warnings if "data.group=patient" in w]
    assert len(said) == 1 and "`patient` has 24 values in 120 rows" in said[0]
    grouped = data.load(DataConfig(source=str(source), group="patient"), task, 1)
    assert not any("data.group=" in w for w in grouped.warnings)
    assert set(grouped.groups) == {"train", "validation", "test"}
    assert not set(grouped.groups["train"]) & set(grouped.groups["test"])


@pytest.mark.parametrize(
    ("column", "values", "told"),
    [
        ("PatientID", [f"p{i // 3}" for i in range(60)], True),
        ("userid", [i // 2 for i in range(60)], True),
        ("doc_ids", [f"d{max(i - 9, 0)}" for i in range(60)], True),  # 51 of 60
        ("speaker", [f"s{max(i - 2, 0)}" for i in range(60)], False),  # 58 of 60
        ("speaker", [None] * 50 + [f"s{i}" for i in range(10)], False),
        ("user", [f"u{i % 3}" for i in range(60)], False),  # three groups cannot be cut into three splits
        ("paid", [i // 3 for i in range(60)], False),
        ("p", [i // 3 for i in range(60)], False),
    ],
)
def test_which_columns_look_like_groups(column: str, values: list[Any], told: bool) -> None:
    table = pa.table({column: values})
    found = likely_groups(datasets.Features.from_arrow_schema(table.schema), table, [], True)
    assert bool(found) == told and all(f"data.group={column}" in one for one in found)


def test_of_a_part_of_the_rows_few_that_share_a_group_tell() -> None:
    table = pa.table({"user_id": [*range(980), *range(20)]})
    features = datasets.Features.from_arrow_schema(table.schema)
    assert not likely_groups(features, table, [], True)
    assert "980 values in 1,000 rows that were looked at" in likely_groups(features, table, [], False)[0]
