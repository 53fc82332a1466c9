"""Planted copies are found by features, rows that merely lie close together are not, and a run tells of them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import transformers

from hftransfer import catalog
from hftransfer.audit import likely_copies
from hftransfer.audit.likely_copies import FILE, pairs_of
from hftransfer.fitting.base import Setup
from hftransfer.frozen import out_of_fold
from hftransfer.modeling.prepared import Prepared
from tests import tiny


def cloud(n: int, d: int = 24, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def with_copies(values: np.ndarray, copies: int, noise: float, seed: int = 1) -> np.ndarray:
    return np.concatenate([values, values[:copies] + noise * cloud(copies, values.shape[1], seed)])


def unordered(pairs: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(pair) for pair in pairs.tolist()}


@pytest.mark.parametrize("copies", [5, 60, 150])
def test_planted_copies_are_found_and_nothing_else(copies: int) -> None:
    """Also where two of five rows have one, so that the law cannot be read off the median alone."""
    pairs, figures, limit = pairs_of(with_copies(cloud(600), copies, 0.1))
    planted = {frozenset((i, 600 + i)) for i in range(copies)}
    found = unordered(pairs)
    assert found <= planted and len(found) > 0.9 * copies
    assert (figures[:, 0] > 0.9).all() and (figures[:, 1] <= limit).all()
    assert {(j, i) for i, j in pairs.tolist()} == set(map(tuple, pairs.tolist()))


@pytest.mark.parametrize("kind", ["even", "classes", "uneven", "few dimensions"])
def test_data_without_copies_has_none(kind: str) -> None:
    """Of 20 data sets none or one; their nearest neighbours have cosines up to 0.99."""
    hits = 0
    for seed in range(20):
        values = cloud(500, 4 if kind == "few dimensions" else 24, seed)
        if kind == "classes":
            values += 12 * cloud(5, 24, 99)[np.arange(500) % 5]
        if kind == "uneven":
            values *= np.exp(cloud(500, 1, 1000 + seed)) * np.linspace(1, 0.05, 24)
        hits += len(pairs_of(values)[0]) > 0
    assert hits <= 1


def test_a_crowd_is_no_set_of_copies() -> None:
    """Forty rows say nearly the same, as rows of thanks do: each has many others as near as its nearest."""
    crowd = cloud(1, 24, 5) + 0.05 * cloud(40, 24, 6)
    pairs, _, _ = pairs_of(np.concatenate([cloud(400), crowd]))
    assert len(pairs) == 0


def test_features_that_tell_nothing_apart_accuse_nobody() -> None:
    assert len(pairs_of(np.ones((200, 8), np.float32))[0]) == 0
    assert len(pairs_of(np.eye(200, dtype=np.float32))[0]) == 0  # all equally far
    assert len(pairs_of(np.repeat(cloud(10), 30, axis=0))[0]) == 0  # thirty of each: no place has a scale


def test_neighbours_are_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = cloud(230)
    whole = likely_copies.nearest(values)
    monkeypatch.setattr(likely_copies, "BLOCK", 64)
    parts = likely_copies.nearest(values)
    assert np.array_equal(whole[0], parts[0]) and np.allclose(whole[1], parts[1], atol=1e-3)
    centred = values - values.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    apart = np.linalg.norm(centred[:, None] - centred[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert np.array_equal(whole[0], np.argsort(apart, axis=1)[:, : likely_copies.NEIGHBOURS])
    assert np.allclose(whole[1], np.sort(apart, axis=1)[:, : likely_copies.NEIGHBOURS], atol=1e-3)


def texts(folder: Path) -> Path:
    """Write splits of unlike sentences; test rows 30 to 33 are train rows turned round."""
    rng = np.random.default_rng(0)
    words = np.array([*tiny.GOOD, *tiny.BAD, *tiny.FILLER])

    def some(count: int) -> list[str]:
        return [" ".join(rng.choice(words, 12)) for _ in range(count)]

    splits = {"train": some(160), "validation": some(20), "test": some(30)}
    for text in splits["train"][:4]:
        first, *middle, last = text.split()
        splits["test"].append(" ".join([last, *middle[::-1], first]))  # no two words in the old order
    folder.mkdir()
    for use, rows in splits.items():
        lines = (json.dumps({"text": text, "label": "ab"[n % 2]}) + "\n" for n, text in enumerate(rows))
        (folder / f"{use}.jsonl").write_text("".join(lines))
    return folder


def test_a_run_lists_reworded_texts_and_scores_without_them(train: Callable[..., Any], tmp_path: Path) -> None:
    model = tiny.text_model(tmp_path / "bert")
    tree = {"task": "text-classification", "model": str(model), "data": {"source": str(texts(tmp_path / "rows"))}}
    run, result = train(tree, "train.max_steps=1", "data.label_issues=false")
    told = result["data"]["likely_copies"]
    assert told["looked"] == {"train": 160, "validation": 20, "test": 34} and told["file"] == FILE
    assert told["found"] == {"test": {"train": 4}}
    with open(run.folder / FILE, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {(row["row_id"], row["copy_id"]) for row in rows} == {
        (f"test.jsonl:{30 + n}", f"train.jsonl:{n}") for n in range(4)
    }
    assert all(float(row["ratio"]) <= told["limit"] and row["split"] == "test" for row in rows)
    assert sorted(rows[0]["text_or_file"].split()) == sorted(rows[0]["copy_text_or_file"].split())
    assert result["without_leaked_rows"]["left_out"] == 4
    warning = next(w for w in result["data"]["warnings"] if "likely copy" in w)
    assert warning.startswith("leakage: 4 of 34 test rows (11.8%) have a likely copy in train (nearly the same feat")
    assert result["data"]["not_looked_for"] == {"label_issues": "data.label_issues is false"}


def test_copies_that_are_known_are_not_told_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    values = {"train": cloud(200), "validation": cloud(20, seed=2), "test": cloud(20, seed=3)}
    values["test"][:2] = values["train"][:2] + 0.02
    values["train"][9] = values["train"][8] + 0.02
    setup, loaded = a_setup(monkeypatch, values, tmp_path)
    known = np.zeros(20, bool)
    known[0] = True
    found = likely_copies.look(setup, loaded, {("test", "train"): known})
    assert found.found == {"test": {"train": 1}, "train": {"train": 2}}
    assert np.flatnonzero(found.masks["test", "train"]).tolist() == [1]
    lines = (tmp_path / FILE).read_text().splitlines()
    assert len(lines) == 3 and len(found.warnings) == 1  # a pair within train is listed once, and warned of nowhere


def test_a_part_of_many_rows_is_looked_at_and_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    values = {"train": cloud(200), "validation": cloud(20, seed=2), "test": cloud(20, seed=3)}
    values["test"][:] = values["train"][:20] + 0.02
    monkeypatch.setattr(likely_copies, "MOST_ROWS", 120)
    setup, loaded = a_setup(monkeypatch, values, tmp_path)
    found = likely_copies.look(setup, loaded, {})
    drawn = np.random.default_rng(3).permutation(200)[:120]
    assert np.flatnonzero(found.masks["test", "train"]).tolist() == sorted(drawn[drawn < 20].tolist())
    assert found.looked["train"] == 120 and "(looked at 120 of 200 train rows)" in found.warnings[0]


def a_setup(monkeypatch: pytest.MonkeyPatch, values: dict[str, np.ndarray], folder: Path) -> Any:
    """Return a setup whose rows have these features, for `look`."""
    rows = {
        use: datasets.Dataset.from_dict(
            {"row_id": [f"{use}:{n}" for n in range(len(found))], "text": ["a"] * len(found), "at": range(len(found))}
        )
        for use, found in values.items()
    }  # fmt: skip

    def extract(setup: Any, loaded: Any, split: str) -> Any:
        return SimpleNamespace(pooled={"mean": values[split][setup.rows[split]["at"]], "head": None})

    monkeypatch.setattr(likely_copies.features, "extract", extract)
    monkeypatch.setattr(likely_copies, "is_main_process", lambda: True)
    prepared = {use: Prepared(None, np.arange(len(found))) for use, found in values.items()}
    monkeypatch.setattr(out_of_fold, "prepare", lambda task, some, *_, **__: Prepared(None, some["at"]))
    task = catalog.task("text-classification")
    config = SimpleNamespace(seed=3)
    run = SimpleNamespace(folder=folder, predictions=folder / "predictions")
    fields: dict[str, Any] = {"processor": None, "preparation": None, "fingerprints": dict.fromkeys(values, "0")}
    setup: Any = Setup(
        config, task, prepared=prepared, run=run, threads=1, interruption=None, reload=None,  # type: ignore[arg-type]
        rows=rows, **fields,
    )  # fmt: skip
    return setup, None


def test_where_nothing_can_be_said() -> None:
    def setup(kind: str, rows: int = 100, **data: Any) -> Any:
        settings = {"likely_copies": True, "streaming": False} | data
        prepared = {"train": SimpleNamespace(rows=np.arange(rows - 10)), "test": SimpleNamespace(rows=np.arange(10))}
        config = SimpleNamespace(data=SimpleNamespace(**settings))
        return SimpleNamespace(answer=tiny.answer(kind, "ab"), config=config, prepared=prepared)

    config = transformers.BertConfig(**tiny.SMALL, num_labels=2)
    model: Any = SimpleNamespace(model=transformers.BertForSequenceClassification(config))
    other: Any = SimpleNamespace(model=transformers.BertForMaskedLM(config))
    assert likely_copies.why_not(setup("single_label"), model) is None
    assert "fewer than 100" in str(likely_copies.why_not(setup("single_label", 99), model))
    assert "no one vector" in str(likely_copies.why_not(setup("tags"), model))
    assert "streamed" in str(likely_copies.why_not(setup("single_label", streaming=True), model))
    assert "is false" in str(likely_copies.why_not(setup("single_label", likely_copies=False), model))
    assert "BertForMaskedLM has no linear" in str(likely_copies.why_not(setup("single_label"), other))
