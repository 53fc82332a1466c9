"""Very many texts: a start waits for no tokens, items are the same, and what is said is of what was looked at."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from datasets import Dataset

from hftransfer import catalog
from hftransfer.config import DataConfig
from hftransfer.modeling import on_demand, streamed
from hftransfer.modeling.prepared import prepare
from hftransfer.tasks.base import Preparation
from tests import tiny

TASK = catalog.task("text-classification")
SEEN = 20


@pytest.fixture
def few(monkeypatch):
    """More than 40 rows are very many here, of which 20 are looked at, and the 3 longest."""
    monkeypatch.setattr(on_demand, "MANY", 40)
    monkeypatch.setattr(on_demand, "LOOKED_AT", SEEN)
    monkeypatch.setattr(on_demand, "LONGEST", 3)


@pytest.fixture
def rows(tmp_path):
    """A model of texts and 120 rows, one in five of 80 words more."""
    tiny.text_model(tmp_path / "model")
    with open(tmp_path / "rows.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number, (text, label) in enumerate(tiny.sentences(120)):
            writer.writerow([text + " the film" * (40 if number % 5 == 0 else number % 7), label])
    return tmp_path / "rows.csv"


def tree(rows, **more):
    return {
        "task": "text-classification",
        "model": str(rows.parent / "model"),
        "data": {"source": str(rows), "label_issues": False, "likely_copies": False, "max_length": 24, **more},
        "train": {"max_steps": 6, "per_device_train_batch_size": 4},
    }


@pytest.mark.parametrize(("pairs", "limit"), [(False, 12), (True, 40)])
def test_items_are_those_of_rows_that_are_tokenized_first(few, pairs, limit):
    texts = [text + " the film" * (number % 9) for number, (text, _) in enumerate(tiny.sentences(80))]
    columns = {"text": texts, "label": [0, 1] * 40, **({"text_pair": texts[::-1]} if pairs else {})}
    given = Dataset.from_dict(columns)
    preparation = Preparation(DataConfig(source="-"), TASK.answers[0], 0, limit)
    now = prepare(TASK, given, tiny.tokenizer(), preparation, training=True)
    later = on_demand.on_demand(TASK, given, tiny.tokenizer(), preparation)
    assert on_demand.possible(TASK, given) and len(later) == len(later.dataset) == 80
    assert later.dataset.__getitems__([3, 70]) == now.items([3, 70]) and later.dataset[5] == now.dataset[5]
    assert later.dataset.select([7, 1])[0] == now.dataset[7]
    assert (later.rows == now.rows).all() and (np.asarray(later.truth) == np.asarray(now.truth)).all()
    assert later.looked_at == SEEN and 0 < later.truncated < now.truncated
    assert later.lengths.max() == now.lengths.max() == limit
    assert np.corrcoef(later.lengths, now.lengths)[0, 1] > 0.8
    assert not on_demand.possible(TASK, given.select(range(40)))


@pytest.mark.parametrize("text", ["the film", "the film " * 40, ""])
def test_rows_that_are_all_alike_have_one_length(few, text):
    given = Dataset.from_dict({"text": [text] * 80, "label": [0, 1] * 40})
    preparation = Preparation(DataConfig(source="-"), TASK.answers[0], 0, 12)
    later = on_demand.on_demand(TASK, given, tiny.tokenizer(), preparation)
    assert set(later.lengths) == {len(later.dataset[0]["input_ids"])}


def test_a_run_trains_validates_and_says_what_it_looked_at(few, rows, train):
    run, result = train(tree(rows))
    said = [event["message"] for event in run.events()[0] if "cut at" in event.get("message", "")]
    assert any(f"of {SEEN} rows that were looked at" in text and text.startswith("train:") for text in said), said
    assert sum(result["data"]["splits"].values()) == 120
    assert json.loads((run.artifact / "hftransfer.json").read_text())["max_length"] == 24


def test_a_stream_reads_its_first_rows_alone_before_it_begins(few, rows, train, monkeypatch):
    asked = []
    own = streamed.Streamed._items
    monkeypatch.setattr(
        streamed.Streamed, "_items", lambda self, batch: asked.append(len(batch["text"])) or own(self, batch)
    )
    run, _ = train(tree(rows, streaming=True))
    said = [event["message"] for event in run.events()[0] if "cut at" in event.get("message", "")]
    assert any(f"of {SEEN} rows that were looked at" in text for text in said), said
    assert asked[0] == SEEN


def test_frozen_layers_are_not_run_once_over_rows_whose_tokens_nobody_counted(few, rows, train, monkeypatch):
    part = {"method": {"name": "full", "freeze": ["*embeddings*", "*layer.0.*"]}, "train": {"num_train_epochs": 2}}
    told = []
    for many in (40, 1000):
        monkeypatch.setattr(on_demand, "MANY", many)
        run, _ = train({**tree(rows), **part}, name=f"run-{many}")
        told.append(any("frozen layers run once" in event.get("message", "") for event in run.events()[0]))
    assert told == [False, True]
