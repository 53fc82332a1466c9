"""Judgements that are easily misread: several files of a split, fields in another order, a question itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers

from hftransfer import catalog, config, data
from hftransfer.answers import _nearest, _nearness
from hftransfer.answers._histories import trimmed
from hftransfer.answers._lists import ITSELF, KEPT, first
from hftransfer.answers._ranks import METRICS, Lists
from hftransfer.answers.ranking import Ranking
from hftransfer.data.judged import judgements
from hftransfer.errors import UserError
from hftransfer.evaluation.predictions import Predictions
from hftransfer.evaluation.scoring import measure
from hftransfer.modeling.prepared import prepare
from hftransfer.tasks.base import Preparation
from tests import tiny_catalogue, tiny_pairs
from tests.engine.conftest import QUICK

TASK = catalog.task("retrieval")


def loaded(source: Path, **section: Any) -> Any:
    return data.load(config.DataConfig(source=str(source), **section), TASK, 42)


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


# --- judgements ---


def test_fields_are_read_by_their_names(tmp_path):
    expected = {"7": {"doc-1": 2.0, "doc-2": 0.0}}
    rows = [("doc-1", 2, "7"), ("doc-2", 0, "7")]
    frame = pd.DataFrame(rows, columns=["corpus-id", "score", "query-id"])
    frame.to_csv(tmp_path / "one.tsv", sep="\t", index=False)
    frame.assign(split="test").to_parquet(tmp_path / "two.parquet")
    frame.to_json(tmp_path / "three.jsonl", orient="records", lines=True)
    for name in ("one.tsv", "two.parquet", "three.jsonl"):
        assert judgements(tmp_path / name) == expected, name
    pd.DataFrame([("7", "doc-1")], columns=["query-id", "corpus-id"]).to_csv(tmp_path / "four.csv", index=False)
    assert judgements(tmp_path / "four.csv") == {"7": {"doc-1": 1.0}}, "the names are no judgement"


def test_several_files_of_a_split_are_read_together(tmp_path):
    folder = tiny_catalogue.collection(tmp_path / "beir")
    test = (folder / "qrels" / "test.tsv").read_text().splitlines()
    (folder / "qrels" / "test.tsv").write_text("\n".join(test[:20]) + "\n")
    (folder / "qrels" / "test.2020.tsv").write_text("\n".join([test[0], *test[20:]]) + "\n")
    found = loaded(folder)
    assert found.sizes["test"] == 40
    assert any("test.2020.tsv, test.tsv are all of test: read together" in one for one in found.warnings)


@pytest.mark.parametrize(
    ("section", "first", "sizes"),
    [
        ({}, "q150", (120, 30, 40)),
        ({"test": "dev"}, "q120", None),
        ({"test": "dev.tsv", "validation": "test"}, "q120", (120, 40, 30)),
        ({"test": "qrels/dev.tsv", "validation": "test", "train": "train"}, "q120", (120, 40, 30)),
        ({"test": "beside.tsv"}, "q190", (120, 30, 2)),
    ],
)
def test_qrels_that_are_named_are_the_splits(section, first, sizes, tmp_path):
    folder = tiny_catalogue.collection(tmp_path / "beir")
    (folder / "beside.tsv").write_text("query-id\tcorpus-id\tscore\nq190\td190\t1\nq191\td191\t1\n")
    found = loaded(folder, **section)
    asked = {row["_id"]: row["text"] for row in map(json.loads, (folder / "queries.jsonl").read_text().splitlines())}
    assert found.splits["test"][0]["query"] == asked[first]
    if sizes is None:  # what is left of train's own is cut
        assert found.sizes["train"] + found.sizes["validation"] == 120 and found.sizes["test"] == 30
        assert "not read, because data.test names another: test.tsv" in found.warnings
    else:
        assert tuple(found.sizes[use] for use in ("train", "validation", "test")) == sizes


def test_the_split_to_train_on_is_the_one_that_is_left(tmp_path):
    folder = tiny_catalogue.collection(tmp_path / "beir")
    (folder / "qrels" / "train.tsv").unlink()
    found = loaded(folder, test="dev")
    assert found.sizes["test"] == 30 and found.sizes["train"] + found.sizes["validation"] == 40
    with pytest.raises(UserError, match=r"a split to train on is needed; the source has validation, test"):
        loaded(folder, test="dev", validation="test")


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"test": "tset"}, "a known split in data.test is needed; found 'tset'. Did you mean 'test'"),
        ({"test": "dev", "validation": "dev.tsv"}, "each split is used once; 'dev' stands for validation and test"),
        ({"columns": {"query": "body"}}, "_id, title and text; data.columns.query names another. Drop data.columns.q"),
        (
            {"columns": {"qeury": "body"}},
            "a known role in data.columns is needed; found 'qeury'. Did you mean 'query'",
        ),
        ({"split_column": "part"}, "_id, title and text; data.split_column names another. Drop data.split_column"),
    ],
)
def test_what_a_folder_with_qrels_does_not_have_is_refused(section, words, tmp_path):
    folder = tiny_catalogue.collection(tmp_path / "beir")
    with pytest.raises(UserError) as raised:
        loaded(folder, **section)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"relevent": "passage"}, "a known role in data.columns is needed; found 'relevent'. Did you mean 'relevant'"),
        ({"relevant": ["passage", "more"]}, "data.columns.relevant names one column; it names 2: passage, more"),
        ({"relevant": "passages"}, "there is no 'passages'. Did you mean 'passage'"),
        ({"relevant": "more", "query": "more"}, "a column plays one role; `more` is named for several"),
    ],
)
def test_columns_of_pairs_are_named_rightly(columns, words, tmp_path):
    lines(tmp_path / "a.jsonl", [{"text": f"how {i}", "passage": f"so {i}", "more": f"or {i}"} for i in range(60)])
    with pytest.raises(UserError) as raised:
        loaded(tmp_path / "a.jsonl", columns=columns)
    assert words in str(raised.value)


def test_a_column_that_is_named_for_the_passage_asks_nothing(tmp_path):
    lines(tmp_path / "a.jsonl", [{"text": f"so {i}", "sentence1": f"how {i}", "question": f"that {i}"}
                                 for i in range(60)])  # fmt: skip
    found = loaded(tmp_path / "a.jsonl", columns={"relevant": "question"})
    assert found.splits["test"][0]["query"].startswith("how ")


def test_ids_that_are_numbers_are_the_same_ids(tmp_path):
    folder = tiny_catalogue.collection(tmp_path / "beir")
    for name in ("corpus", "queries"):
        rows = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        lines(folder / f"{name}.jsonl", [{**row, "_id": int(row["_id"][1:])} for row in rows])
    for path in (folder / "qrels").iterdir():
        rest = path.read_text().splitlines()[1:]
        path.write_text("query-id\tcorpus-id\tscore\n" + "\n".join(rest).replace("q", "").replace("d", "") + "\n")
    assert loaded(folder).sizes["test"] == 40


def test_questions_whose_ids_stand_twice_are_refused(tmp_path):
    folder = tiny_catalogue.collection(tmp_path / "beir")
    with (folder / "queries.jsonl").open("a") as file:
        file.write(json.dumps({"_id": "q3", "text": "another question"}) + "\n")
    with pytest.raises(UserError, match="an id of its own is needed for each question; q3"):
        loaded(folder)


def test_grades_of_a_table_are_grades_where_they_can_be(tmp_path):
    rows = [
        {"query": f"question {i}", "passage": f"text {i} {kind}", "label": kind} for i in range(40) for kind in (0, 1)
    ]
    lines(tmp_path / "train.jsonl", rows)
    found = loaded(tmp_path / "train.jsonl")
    grades = {one["grade"] for row in found.splits["train"] for one in row["relevant"]}
    assert grades == {0.0, 1.0} and any("`label` grades each row's passage" in one for one in found.guesses)
    assert all(len(row["relevant"]) == 2 for row in found.splits["test"])
    assert found.answer.negatives == 1, "what is known to be wrong is learnt as such"


# --- a question that stands among the passages ---


def with_itself(folder: Path) -> Path:
    """Add each question to the corpus, by the same id, as ArguAna's stand there; one id is equal by chance."""
    tiny_catalogue.collection(folder)
    corpus = [json.loads(line) for line in (folder / "corpus.jsonl").read_text().splitlines()]
    asked = [json.loads(line) for line in (folder / "queries.jsonl").read_text().splitlines()]
    more = [{"_id": row["_id"], "title": "a title", "text": row["text"].upper()} for row in asked]
    more[155]["text"] = "something else"
    lines(folder / "corpus.jsonl", corpus + more)
    return folder


def test_a_question_is_no_answer_to_itself(tmp_path, train):
    folder = with_itself(tmp_path / "arguana")
    found = loaded(folder)
    own = [[one["id"] for one in row["relevant"] if one["grade"] == ITSELF] for row in found.splits["test"]]
    assert sum(map(len, own)) == 39 and any("39 of 40 questions stand among the passages" in w for w in found.warnings)
    model = tiny_pairs.model(tmp_path / "bert")
    tree = {**QUICK, "task": "retrieval", "model": str(model), "data": {"source": str(folder)},
            "method": {"name": "zero_shot"}}  # fmt: skip
    run, result = train(tree)
    stored = pd.read_parquet(run.predictions / "test.parquet")
    for names, label, grades in zip(stored["found"], stored["label"], stored["grades"], strict=True):
        itself = [name for name, grade in zip(label, grades, strict=True) if grade == ITSELF]
        assert not {*itself} & {*names}
    assert result["baseline"]["name"] == "BM25" and result["baseline"]["metrics"]["ndcg_10"]["value"] >= 0
    assert {*stored["among"]} == {399, 400}


def test_a_question_among_the_passages_of_a_table_is_no_answer_either(tmp_path):
    rows = [{"question": f"how to {i}", "passage": f"How to {i + 1}"} for i in range(60)]
    lines(tmp_path / "train.jsonl", rows)
    found = loaded(tmp_path / "train.jsonl")
    for row in (row for split in found.splits.values() for row in split):
        own = [one for one in row["relevant"] if one["grade"] == ITSELF]
        texts = found.answer.catalogue.texts(found.answer.catalogue.places[one["id"]] for one in own)
        assert [text.lower() for text in texts] == ([row["query"]] if row["query"] != "how to 0" else [])


def test_what_a_row_is_never_answered_with_is_no_wrong_answer():
    """A history's items, and the question itself, stand in no choice but the row's own."""
    torch.manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(4, 2, 8), dim=-1)
    numbers = torch.tensor([[1, 11, 12, 0], [13, 12, 0, 0], [3, 13, 11, 14], [4, 14, 0, 0]])
    logits = vectors[:, 0] @ vectors[:, 1].T / 0.05
    for row, gone in ((0, 1), (1, 2), (2, 0), (2, 3)):  # had, its own question, had, had
        logits[row, gone] = -torch.inf
    expected = torch.nn.functional.cross_entropy(logits, torch.arange(4), reduction="sum")
    assert float(_nearness.contrast(vectors, numbers, 0.05)) == pytest.approx(float(expected), rel=1e-5)


def test_ranks_leave_out_the_question_itself_and_what_was_had():
    queries = np.eye(4, dtype=np.float32)
    found = np.array([[0.5, 0, 0, 0], [1, 0, 0, 0], [0.9, 0, 0, 0], [0.8, 0, 0, 0]], np.float32)
    asked, right = [12, 1, 2, 3], [11, 12, 13, 14]
    assert _nearness.ranked(queries, found, asked, right)[0][0] == 3, "12 is what it asks"
    gone = [[13, 0], [0, 0], [0, 0], [0, 0]]
    assert _nearness.ranked(queries, found, asked, right, gone)[0][0] == 2


# --- scores ---


class Row(tuple):
    def __new__(cls, ids):
        return super().__new__(cls, (ids,))

    ids = property(lambda self: self[0])
    popularity = ()


def test_intervals_are_over_the_rows_that_a_score_is_of():
    """Two people who took what was new, both found: of 400 people nothing is known about it."""
    from hftransfer.answers._lists import Listed, Relevant
    from hftransfer.answers.ranked_items import RankedItems

    answer = RankedItems(recommends=True, size=1000)
    truth = [(Relevant(f"i{i}", 1.0, i < 2),) for i in range(400)]
    outputs = [
        Listed(b"", (f"i{i}" if i % 2 == 0 or i < 2 else "x", *(f"n{(7 * i + j) % 500}" for j in range(9))))
        for i in range(400)
    ]
    found = measure(Predictions(answer, [str(i) for i in range(400)], truth, outputs), resamples=500)
    cold = found["ndcg_10_cold"]
    assert cold["value"] == 1 and cold["low"] < 0.4, cold
    covered = found["coverage_10"]
    assert covered["low"] < covered["value"] < covered["high"], "a resample covers less: the spread counts"
    missed = [Listed(b"", ("x",)) for _ in truth]
    none = measure(Predictions(answer, [str(i) for i in range(400)], truth, missed), resamples=500)["ndcg_10"]
    assert none["value"] == 0 and 0 < none["high"] < 0.02, "of 400 that are missed nobody knows that all will be"


def test_metrics_say_of_which_rows_they_are():
    from hftransfer.answers._lists import Listed, Relevant

    rows = Lists([(Relevant("a", 1.0, True),), (Relevant("b"),)], [Listed(b""), Listed(b"")], 10)
    assert METRICS["ndcg_10_cold"].counted(rows).tolist() == [True, False]


def test_the_first_of_many_are_those_of_all_in_order():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 40, (6, 900)).astype(np.float64)
    scores[0] = -np.inf
    scores[0, :3] = 1.0
    places, values = first(scores)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :KEPT]
    assert np.array_equal(places, order) and np.array_equal(values, np.take_along_axis(scores, order, axis=1))


def test_weights_are_trimmed_to_the_largest_dense_or_sparse():
    import scipy.sparse

    rng = np.random.default_rng(0)
    whole = rng.normal(size=(12, 12)) * (rng.random((12, 12)) < 0.6)
    for given in (whole, scipy.sparse.csr_matrix(whole)):
        found = trimmed(given, 3).toarray()
        for row, kept in zip(whole, found, strict=True):
            largest = np.argsort(-np.abs(row), kind="stable")[:3]
            assert np.array_equal(np.flatnonzero(kept), np.sort(largest[row[largest] != 0]))
            assert np.allclose(kept[kept != 0], row[kept != 0])


def test_a_model_that_diverged_finds_nothing_and_ends_nothing(monkeypatch):
    monkeypatch.setattr(_nearest, "faiss", lambda: None)
    for queries, vectors in ((np.full((3, 4), np.nan), np.ones((70, 4))), (np.ones((3, 4)), np.full((70, 4), np.nan))):
        _, scores = _nearest.nearest(queries.astype(np.float32), vectors.astype(np.float32), 50)
        assert (scores == -np.inf).all()


def test_the_first_question_that_hides_something_may_come_late(tmp_path):
    """Rows are prepared a thousand at a time: the type of what they hide is none of the first thousand's alone."""
    rows = [{"question": f"how to {i}", "passage": f"answer {i}"} for i in range(1500)]
    rows += [{"question": "late", "passage": "answer late"}, {"question": "other", "passage": "late"}]
    lines(tmp_path / "train.jsonl", rows)
    lines(tmp_path / "test.jsonl", rows[-2:])
    lines(tmp_path / "validation.jsonl", rows[-2:])
    found = loaded(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_pairs.model(tmp_path / "bert"), padding_side="right")
    preparation = Preparation(config.DataConfig(source="-"), found.answer, 0, 16)
    prepared = prepare(TASK, found.splits["train"], tokenizer, preparation, training=True)
    hidden = [row for row in prepared.dataset["_hidden"] if row]
    assert len(prepared) == 1502 and len(hidden) == 1
    whole = prepare(TASK, found.splits["test"], tokenizer, preparation, training=False)
    assert sorted(map(len, whole.dataset["_hidden"])) == [0, 1]


def test_a_text_is_not_found_by_itself_by_the_trivial_answer_either():
    asked = ["one two three", "four five six", "seven eight nine"]
    truth = ["four five six", "three two one", "nine eight"]
    found = Ranking().baseline(truth, {"anchor": asked})
    assert found.outputs[1].first != "four five six" and [one.rank for one in found.outputs][1] <= 2
