"""What people had beside what a model reads: shares chosen on validation, published as they were scored."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from hftransfer import catalog
from hftransfer.answers import _crowd, _nearest, _next_items
from hftransfer.answers._histories import Histories
from hftransfer.answers.ranked_items import RankedItems
from hftransfer.fitting.interruption import Interrupted
from hftransfer.predictor import Predictor
from hftransfer.runs import Run
from tests import tiny_catalogue, tiny_pairs
from tests.engine.conftest import QUICK
from tests.engine.test_resume import resume, start

TASK = catalog.task("recommendation")


def people(seed: int = 0, count: int = 400, size: int = 60) -> tuple[Histories, list[list[int]], list[list[int]]]:
    """Return interactions: i and i + 30 go together, and small numbers are popular."""
    rng = np.random.default_rng(seed)
    weights = 1 / (1 + np.arange(size // 2))
    had, right, rows = [], [], []
    for person in range(count):
        first = rng.choice(size // 2, 5, replace=False, p=weights / weights.sum()).tolist()
        more = [one + size // 2 for one in first if rng.random() < 0.8]
        rows += [(person, item, time) for time, item in enumerate([*first, *more])]
        if person % 4 == 0 and more:
            had.append(first)
            right.append(more)
    users, items, times = (np.array(column) for column in zip(*rows, strict=True))
    return Histories(users, items, times.astype(float), size), had, right


def ndcg(crowd: _crowd.Crowd | None, vectors: np.ndarray, queries: np.ndarray, had: Any, right: Any) -> float:
    added = None if crowd is None else (crowd.popular, crowd.spoken(had))
    places, _ = _nearest.nearest(queries, vectors, 10, had, added)
    most = np.cumsum(1 / np.log2(np.arange(2, 12)))
    gains = [
        sum(1 / np.log2(at + 2) for at, place in enumerate(row) if place in wanted) / most[min(len(wanted), 10) - 1]
        for row, wanted in zip(places.tolist(), right, strict=True)
    ]
    return float(np.mean(gains))


def test_shares_are_those_that_find_most_and_nothing_where_nothing_helps():
    histories, had, right = people()
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(60, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = vectors[[row[-1] for row in had]]
    shares, crowd = _crowd.chosen(histories, vectors, queries, had, right)
    alone, both = ndcg(None, vectors, queries, had, right), ndcg(crowd, vectors, queries, had, right)
    assert shares.together > 0 and both > alone + 0.3
    assert shares.alone == pytest.approx(alone, abs=1e-6) and shares.both == pytest.approx(both, abs=1e-6)
    assert "chosen on" in shares.told() and shares.model in ("EASE", "item-kNN")

    known = np.eye(60, dtype=np.float32)
    told = np.stack([known[row].sum(axis=0) for row in right])
    shares, crowd = _crowd.chosen(histories, known, told, had, right)
    assert not shares.counts and shares.both == shares.alone == 1 and "is not added" in shares.told()
    assert not crowd.popular.any() and crowd.together.nnz == 0


def test_no_worse_on_validation_than_any_of_its_parts():
    """Where texts say nothing, what is left is what ids say: EASE and popularity are among what is tried."""
    histories, had, right = people(seed=3)
    vectors = np.full((60, 2), np.sqrt(0.5), np.float32)
    shares, _ = _crowd.chosen(histories, vectors, vectors[: len(had)].repeat(5, axis=0)[: len(had)], had, right)
    for scores in (histories.popular[0], histories.linear[0], histories.knn[0]):
        added = np.array(scores(had), np.float32)
        for row, gone in enumerate(had):
            added[row, gone] = -np.inf
        places = np.argsort(-added, axis=1, kind="stable")[:, :10]
        most = np.cumsum(1 / np.log2(np.arange(2, 12)))
        found = np.mean([
            sum(1 / np.log2(at + 2) for at, place in enumerate(row) if place in wanted) / most[len(wanted) - 1]
            for row, wanted in zip(places.tolist(), right, strict=True)
        ])  # fmt: skip
        assert shares.both > found - 0.01


def test_new_items_are_given_what_validation_says():
    histories, had, right = people(seed=5)
    kept = histories.items != 59  # the last pair is new: nobody had it in train
    histories = Histories(histories.users[kept], histories.items[kept], histories.times[kept], 60)
    right = [[59] for _ in right]
    vectors = np.eye(60, dtype=np.float32)
    queries = np.repeat(0.3 * vectors[59:60], len(had), axis=0)
    shares, crowd = _crowd.chosen(histories, vectors, queries, had, right)
    assert shares.both == 1, "cosines find what is new, and nothing may push it down"
    assert crowd.popular.max() < 0.3


def test_what_is_new_counts_as_what_is_like_it():
    """59 is new, and reads like 58, which is taken with 28: who had 28 and 58 already takes the new one."""
    histories, had, _ = people(seed=5, count=800)
    kept = histories.items != 59
    histories = Histories(histories.users[kept], histories.items[kept], histories.times[kept], 60)
    had = [[28, 58, *row[:2]] for row in had if not {28, 58, 59} & {*row[:2]}]
    right = [[59] for _ in had]
    vectors = np.eye(60, dtype=np.float32)
    vectors[59] = 0.9 * vectors[58] + np.sqrt(1 - 0.81) * vectors[59]
    queries = np.repeat(np.full((1, 60), -0.1, np.float32), len(had), axis=0)
    shares, crowd = _crowd.chosen(histories, vectors, queries, had, right)
    assert shares.fresh > 0 and shares.together > 0 and shares.both > shares.alone + 0.2
    assert crowd.together[28, 59] > 0 and "items that nobody had count" in shares.told()


def test_what_is_added_is_added_in_every_block_and_hidden_stays_hidden(monkeypatch):
    rng = np.random.default_rng(0)
    queries, vectors = rng.normal(size=(9, 4)).astype(np.float32), rng.normal(size=(50, 4)).astype(np.float32)
    import scipy.sparse

    more = scipy.sparse.random(9, 50, 0.2, "csr", np.float32, rng)
    popular = rng.random(50).astype(np.float32)
    hidden = [[int(rng.integers(50)), 3] for _ in range(9)]
    whole = queries @ vectors.T + popular + more.toarray()
    for row, gone in enumerate(hidden):
        whole[row, gone] = -np.inf
    for block in (7, 1000):
        monkeypatch.setattr(_nearest, "ENTRIES", block)
        monkeypatch.setattr(_nearest, "QUERIES", 4)
        places, scores = _nearest.nearest(queries, vectors, 6, hidden, (popular, more))
        assert np.array_equal(places, np.argsort(-whole, axis=1, kind="stable")[:, :6])
        assert np.allclose(scores, -np.sort(-whole, axis=1)[:, :6], atol=1e-6)


def test_what_came_next_before_is_no_wrong_answer_of_a_sequence():
    """The full softmax holds what can be recommended: not what was had, not what nobody had."""
    histories = Histories(np.array([0, 0, 1]), np.array([0, 1, 2]), np.arange(3.0), 5)
    vectors = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)

    class Known:
        def __len__(self) -> int:
            return 5

    Known.histories = histories
    answer = dataclasses.replace(RankedItems(recommends=True, size=5), catalogue=Known())
    loss = _next_items.learning(answer, vectors).loss()
    outputs = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[1, 2, 4]])
    scores = outputs[0] @ torch.from_numpy(vectors).T / 0.05
    scores[:, 3:] = -torch.inf  # nobody had these
    scores[1, 1] = scores[2, 1] = scores[2, 2] = -torch.inf
    scores[2, 4] = outputs[0, 2] @ torch.from_numpy(vectors[4]) / 0.05
    expected = torch.nn.functional.cross_entropy(scores, labels[0], reduction="sum") / 3
    assert float(loss({"vectors": outputs}, labels)) == pytest.approx(float(expected), rel=1e-5)


# --- from end to end ---


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("crowd")
    paired(tiny_catalogue.interactions(found / "csv"))
    tiny_pairs.model(found / "bert")
    return found


def paired(place: Path) -> Path:
    """Give items words that say nothing: what goes with what is known by ids alone."""
    movies = pd.read_csv(place / "movies.csv")
    movies.assign(title=[f"film was {i}" for i in range(len(movies))], genres="a").to_csv(
        place / "movies.csv", index=False
    )
    return place


def tree(folder: Path, method: str, **section: Any) -> dict[str, Any]:
    own = {"name": "sequence", "width": 32, "layers": 1, "dropout": 0.0} if method == "sequence" else {"name": method}
    return {
        **QUICK, "task": "recommendation", "model": str(folder / "bert"), "method": own,
        "data": {"source": str(folder / "csv"), **section},
        "train": {**QUICK["train"], "learning_rate": 1e-3, "max_steps": 6},
    }  # fmt: skip


@pytest.mark.parametrize("method", ["full", "sequence"])
def test_what_is_published_is_what_was_scored(method, folder, train):
    run, result = train(tree(folder, method), name=method)
    shares = result["answer"]["shares"]
    assert shares["together"] > 0, "words say nothing here"
    said = [event["message"] for event in run.events()[0] if event["type"] == "notice"]
    assert any("beside a cosine count" in one for one in said)
    others = {one["name"]: one for one in result["beside"]["models"]}
    ours = result["test"]["metrics"]["ndcg_10"]["value"]
    assert ours > others["its cosines alone"]["metrics"]["ndcg_10"]["value"] + 0.1
    assert ours > 0.9 * others["EASE"]["metrics"]["ndcg_10"]["value"]
    assert ours > result["baseline"]["metrics"]["ndcg_10"]["value"]

    items = pd.read_parquet(run.artifact / "items.parquet")
    assert list(items.columns) == ["id", "title", "vector", "popular", "others", "weights"]
    predictor = Predictor(run.artifact)
    assert predictor.answered.crowd is not None and predictor.preparation.answer.crowd is None
    stored = pd.read_parquet(run.predictions / "test.parquet").head(5)
    from tests.engine.test_recommendation import loaded

    rows = loaded(folder / "csv").splits["test"][:5]["history"]
    for history, found, scores in zip(rows, stored["found"], stored["scores"], strict=True):
        (answer,) = predictor.answer([history])
        stored_as = dict(zip(found, scores, strict=True))  # what floats cannot tell apart may change places
        assert [stored_as[one["id"]] for one in answer["items"]] == pytest.approx(scores[:10].tolist(), abs=1e-5)
        assert [one["score"] for one in answer["items"]] == pytest.approx(scores[:10].tolist(), abs=1e-5)
        known: dict[str, Any] = {}
        exec(TASK.snippet(repr(str(run.artifact)), {"history": repr(list(history))}, predictor.notes), known)
        assert known["ranked"].tolist() == pytest.approx(scores[:10].tolist(), abs=1e-5)


def test_it_can_be_left_out(folder, train):
    run, result = train(tree(folder, "full", crowd=False), name="off")
    assert result["answer"]["shares"] is None and "its cosines alone" not in json.dumps(result["beside"])
    assert list(pd.read_parquet(run.artifact / "items.parquet").columns) == ["id", "title", "vector"]


def test_the_untuned_model_answers_as_it_came(folder, train):
    _, result = train(tree(folder, "zero_shot"), name="zero")
    assert result["answer"]["shares"] is None


def test_a_stopped_run_goes_on_to_the_same_shares(folder, tmp_path):
    chosen = tree(folder, "full")
    whole = start(chosen, tmp_path / "whole")
    with pytest.raises(Interrupted):
        start(chosen, tmp_path / "stopped", steps=3)
    resume(Run(tmp_path / "stopped"))
    one, other = (
        (place / "artifact" / "items.parquet").read_bytes() for place in (whole.folder, tmp_path / "stopped")
    )
    assert one == other
