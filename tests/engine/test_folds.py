"""Folds: every row is tested by a model that has not seen it nor its group, and the interval covers as it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hftransfer import catalog, config, data, follow, samples
from hftransfer.card import report
from hftransfer.config import DataConfig, EvaluationConfig
from hftransfer.data import folding
from hftransfer.errors import ConfigError, UserError
from hftransfer.evaluation import folds
from hftransfer.evaluation.intervals import corrected
from hftransfer.fitting import crossing
from hftransfer.fitting.interruption import Interruption
from hftransfer.frozen.features import Features, of_rows
from tests import tiny

ROWS = 120


def table(folder: Path) -> Path:
    frame = pd.DataFrame(tiny.sentences(ROWS), columns=["text", "label"])
    frame["patient"] = [f"p{i // 4}" for i in range(ROWS)]
    frame.to_csv(folder / "rows.csv", index=False)
    return folder / "rows.csv"


def test_groups_stay_whole_and_classes_keep_their_shares() -> None:
    rng = np.random.default_rng(0)
    strata, groups = rng.integers(0, 2, 200), np.arange(200) // 5
    found = folding.assign(200, 5, 1, strata, groups)
    assert all(len(np.unique(found[groups == group])) == 1 for group in range(40))
    alone = folding.assign(200, 5, 1, strata)
    counts = [np.bincount(strata[alone == fold], minlength=2) for fold in range(5)]
    assert np.ptp(counts, axis=0).max() <= 1 and sorted(set(alone)) == [0, 1, 2, 3, 4]
    assert (folding.assign(200, 5, 1, strata) == alone).all() and (folding.assign(200, 5, 2, strata) != alone).any()
    with pytest.raises(UserError, match=r"5 folds need 5 groups of data\.group"):
        folding.assign(20, 5, 1, None, np.arange(20) // 10)


def test_a_fold_sees_neither_its_rows_nor_their_groups(tmp_path: Path) -> None:
    section = DataConfig(source=str(table(tmp_path)), group="patient")
    found = data.load(section, catalog.task("text-classification"), 3)
    seen: dict[int, list[str]] = {1: [], 2: []}
    for fold in folding.each(found, "label", 3, 2, 3):
        made = fold.data
        ids = {use: set(rows["row_id"]) for use, rows in made.splits.items()}
        assert len(set.union(*ids.values())) == ROWS == sum(made.sizes.values())
        groups = {use: set(names) for use, names in made.groups.items()}
        assert not groups["test"] & (groups["train"] | groups["validation"])
        assert not groups["train"] & groups["validation"] and made.sizes["validation"] > 5
        assert sum(made.answer.counts) == made.sizes["train"]
        seen[fold.repeat] += made.splits["test"]["row_id"]
    assert all(sorted(ids) == sorted(set(ids)) and len(ids) == ROWS for ids in seen.values())
    assert seen[1] != seen[2]


def test_what_is_kept_of_a_fold_is_no_others(tmp_path: Path) -> None:
    """Fold 1 of 5 and fold 1 of 3 hold other rows: what is kept on disk of the one is not the other's."""
    found = data.load(DataConfig(source=str(table(tmp_path)), group="patient"), catalog.task("text-classification"), 3)
    kept = [
        next(iter(folding.each(found, "label", count, 1, seed))).data.fingerprints["train"]
        for count, seed in ((5, 3), (3, 3), (5, 4), (5, 3))
    ]
    assert len(set(kept)) == 3 and kept[0] == kept[3]


def test_features_of_a_fold_are_taken_from_the_whole() -> None:
    rng = np.random.default_rng(0)

    def part(rows: list[int]) -> Features:
        where = np.repeat(np.arange(len(rows)), rows)
        return Features({"head": rng.normal(size=(len(where), 3))}, np.arange(len(where)), where, 1.0, True)

    parts = [part([1, 2]), part([3]), part([1, 1])]  # words of each sentence
    taken = of_rows(parts, np.array([4, 2, 0]))
    assert taken.rows.tolist() == [0, 1, 1, 1, 2]
    wanted = [parts[2].pooled["head"][1:2], parts[1].pooled["head"], parts[0].pooled["head"][:1]]
    assert np.array_equal(taken.pooled["head"], np.concatenate(wanted))


def solved(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    middle = x.mean(axis=0)
    centred = x - middle
    weight = np.linalg.solve(centred.T @ centred + 10 * np.eye(x.shape[1]), centred.T @ (2 * y - 1.0))
    return weight, float(-middle @ weight)


def test_the_interval_covers_what_the_way_of_training_gives() -> None:
    """Nearly all the accuracy of ridge classifiers, where a bootstrap of the out-of-fold answers covers 90 %."""
    from statistics import NormalDist

    rng, n, width, count = np.random.default_rng(0), 100, 20, 5
    middle = np.where(np.arange(width) < 4, 0.45, 0)
    spans, naive, truths = [], [], []
    for _ in range(250):
        y = np.tile([0, 1], n // 2)
        x = rng.normal(size=(n, width)) + np.where(y[:, None] == 1, middle, -middle)
        assigned, right, scores = folding.assign(n, count, int(rng.integers(1000)), y), np.zeros(n), []
        for fold in range(count):
            weight, bias = solved(x[assigned != fold], y[assigned != fold])
            right[assigned == fold] = ((x[assigned == fold] @ weight + bias) > 0) == y[assigned == fold]
            scores.append(float(right[assigned == fold].mean()))
            size = float(np.linalg.norm(weight))
            ends = [NormalDist().cdf(float(sign * bias + middle @ weight) / size) for sign in (1, -1)]
            truths.append(sum(ends) / 2)
        spans.append(corrected(scores, 1 / (count - 1), 0.95))
        half = 1.96 * float(right.std()) / n**0.5
        naive.append((right.mean() - half, right.mean() + half))
    goal = float(np.mean(truths))
    covered, without = (np.mean([low <= goal <= high for low, high in found]) for found in (spans, naive))
    assert 0.93 <= covered <= 0.995 and without < 0.925


def test_what_is_said_of_folds() -> None:
    answer = tiny.answer("single_label", ("a", "b"), (60, 60), 120)
    records = [
        {"repeat": 1, "fold": fold, "n": 20, "other_rows": 90, "metrics": {"accuracy": value, "roc_auc": value},
         "trivial": {"name": "majority class", "value": 0.5}}
        for fold, value in enumerate((0.8, 0.85, 0.9, 1.0, 1.0, 0.95), 1)
    ]  # fmt: skip
    del records[0]["metrics"]["roc_auc"]
    found = folds.report(records, answer, EvaluationConfig(folds=6), "patient", copies=True, added=3)
    score = found["metrics"]["accuracy"]
    assert score["value"] == pytest.approx(11 / 12) and score["low"] < 0.85 and score["high"] == 1
    assert found["advantage"]["value"] == pytest.approx(11 / 12 - 0.5)
    said = " ".join(found["sentences"])
    assert (
        "each of all 120 rows was tested once, by a model that had not seen any row of its group (`patient`)" in said
    )
    assert (
        "roc_auc in 1" in said
        and "these scores flatter" in said
        and "added (3) are learned from in every fold" in said
    )
    assert "is not shown" not in said


def test_a_probe_in_folds_and_on_from_where_it_was_stopped(
    tmp_path: Path, train: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hftransfer import training
    from hftransfer.ui import result_step

    monkeypatch.setenv("HFTRANSFER_CACHE", str(tmp_path / "cache"))
    tree = {
        "task": "text-classification", "model": str(tiny.text_model(tmp_path / "base")), "method": {"name": "probe"},
        "data": {"source": str(table(tmp_path)), "group": "patient", "label_issues": False, "likely_copies": False},
        "evaluation": {"resamples": 100, "folds": 3},
    }  # fmt: skip
    run, result = train(tree)
    found = result["folds"]
    assert found["n"] == ROWS and len(found["metrics"]["accuracy"]["scores"]) == 3
    stored = [pd.read_parquet(path) for path in sorted(run.predictions.glob("fold-*.parquet"))]
    together = pd.concat(stored)
    assert sorted(together["row_id"]) == sorted(set(together["row_id"])) and len(together) == ROWS
    right = [float((one["label"] == one["prediction"]).mean()) for one in stored]
    assert found["metrics"]["accuracy"]["scores"] == pytest.approx(right)
    assert not (run.folder / "folds").exists()
    assert len(list((samples.cache_folder() / "features").glob("*.safetensors"))) == 3  # of the splits, none of a fold
    text, card = follow.result_text(result), report.render(result, run.config())
    for sentence in found["sentences"]:
        assert sentence in text
    assert "Over 3 folds of all 120 rows" in card and "Over 3 folds" in result_step.scores_of(result)
    events = [event for event in run.events()[0] if event["type"] == "fold"]
    assert follow.lines_of(events[0])[0].startswith("fold 1 of 3: accuracy")

    records = run.predictions / "folds.json"
    records.write_text(json.dumps(json.loads(records.read_text())[:2]))
    with Interruption() as interruption:
        again = training.run(run.config(), run, interruption, resume=True)
    assert again["folds"] == found
    assert len([event for event in run.events()[0] if event["type"] == "fold"]) == 4


def test_a_trained_method_in_folds(tmp_path: Path, train: Any) -> None:
    tree = {
        "task": "text-classification", "model": str(tiny.text_model(tmp_path / "base")),
        "data": {"source": str(table(tmp_path)), "label_issues": False, "likely_copies": False},
        "evaluation": {"resamples": 100, "folds": 2, "repeats": 2}, "train": {"num_train_epochs": 1},
    }  # fmt: skip
    run, result = train(tree)
    assert [(one["repeat"], one["fold"]) for one in json.loads((run.predictions / "folds.json").read_text())] == [
        (1, 1), (1, 2), (2, 1), (2, 2),
    ]  # fmt: skip
    assert result["folds"]["other_rows"] == 60 and "tested 2 times" in result["folds"]["sentences"][0]


def test_folds_that_cannot_be_are_refused_before_anything_is_trained(tmp_path: Path, train: Any) -> None:
    tree = {
        "task": "text-classification", "model": str(tmp_path / "nothing"),
        "data": {"source": str(table(tmp_path)), "group": "patient"},
    }  # fmt: skip
    with pytest.raises(UserError, match=r"40 folds need 40 groups of data\.group"):
        train(tree, "evaluation.folds=40")
    rare = pd.read_csv(tmp_path / "rows.csv")
    rare["label"] = np.where(rare["patient"].isin(["p1", "p2"]), "positive", "negative")  # one for test, one is left
    rare.to_csv(tmp_path / "rare.csv", index=False)
    tree["data"]["source"] = str(tmp_path / "rare.csv")
    built = config.build({**tree, "evaluation": {"at": {"sensitivity": 0.9}, "folds": 4, "repeats": 2}})
    found = data.load(built.data, catalog.task("text-classification"), 1)
    with pytest.raises(UserError, match=r"in fold . of repeat .: none of .* has it"):
        crossing.foresee(found, "label", built)


def test_it_is_refused_in_words() -> None:
    tree = {"task": "text-classification", "model": "m", "data": {"source": "x"}}
    with pytest.raises(ConfigError, match="needs rows on disk"):
        catalog.build_config({**tree, "data": {"source": "x", "streaming": True}, "evaluation": {"folds": 5}})
    with pytest.raises(ConfigError, match="it repeats folds"):
        catalog.build_config({**tree, "evaluation": {"repeats": 2}})
    with pytest.raises(ConfigError, match="cannot be trained again"):
        catalog.build_config({**tree, "method": {"name": "fuse", "runs": ["a", "b"]}, "evaluation": {"folds": 5}})
