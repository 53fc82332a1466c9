"""Questions to passages: ranks in the whole corpus, wrong passages that are looked for, baselines, and strangers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers

from hftransfer import catalog, config, data, questions, views
from hftransfer.answers import _last_norm, _nearest, _nearness
from hftransfer.answers._catalogue import Words
from hftransfer.answers._lists import Listed, Relevant
from hftransfer.answers._ranks import METRICS, Lists
from hftransfer.data.collections import judgements
from hftransfer.errors import UserError
from hftransfer.fitting.interruption import Interrupted, Interruption
from hftransfer.follow import result_text
from hftransfer.modeling import inference
from hftransfer.predictor import Predictor
from hftransfer.runs import Run
from hftransfer.tasks.base import Preparation
from hftransfer.weighting import Sample
from tests import tiny_catalogue, tiny_pairs
from tests.engine.conftest import QUICK
from tests.engine.test_resume import resume, same_weights, start

TASK = catalog.task("retrieval")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("retrieval")
    tiny_catalogue.collection(found / "beir")
    tiny_pairs.model(found / "bert")
    return found


def tree(folder: Path, **data: Any) -> dict[str, Any]:
    return {
        **QUICK, "task": "retrieval", "model": str(folder / "bert"), "data": {"source": str(folder / "beir"), **data},
        "train": {**QUICK["train"], "learning_rate": 3e-3},
    }  # fmt: skip


def test_a_beir_folder_from_end_to_end(folder, train):
    run, result = train(tree(folder), "method.negatives=2")
    assert result["data"]["splits"] == {"train": 120, "validation": 30, "test": 40}
    assert result["answer"]["size"] == 200 and result["answer"]["negatives"] == 2
    scores = result["test"]["metrics"]
    assert list(scores) == ["ndcg_10", "recall_10", "mrr_10"] and scores["recall_10"]["value"] > 0.6, "chance is 0.05"
    assert result["baseline"]["name"] == "BM25"
    assert [one["name"] for one in result["beside"]["models"]] == ["the model as it came", "TF-IDF"]
    assert "Others on the same test rows" in result_text(result)
    assert "TF-IDF" in (run.artifact / "README.md").read_text()
    stored = pd.read_parquet(run.predictions / "test.parquet")
    assert (stored["among"] == 200).all() and stored["found"].map(len).min() == 50
    expected = [1 / (list(found).index(label[0]) + 1) if label[0] in found[:10] else 0.0
                for found, label in zip(stored["found"], stored["label"], strict=True)]  # fmt: skip
    assert np.mean(expected) == pytest.approx(scores["mrr_10"]["value"])
    # asked again: the corpus lies beside the artifact and not in it
    assert (run.folder / "items.parquet").is_file() and not (run.artifact / "items.parquet").exists()
    predictor = Predictor(run.artifact)
    (answer,) = predictor.answer(["good film was a"], top_k=3)
    assert len(answer["items"]) == 3 and answer["items"][0]["score"] >= answer["items"][1]["score"]
    assert isinstance(predictor.views([answer])[0], views.Items)
    names: dict[str, Any] = {}
    exec(TASK.snippet(repr(str(run.artifact)), {"query": repr("good film was a")}, predictor.notes), names)
    assert np.allclose(names["answer"], answer["vector"], atol=1e-5)
    modules = json.loads((run.artifact / "modules.json").read_text())
    assert len(modules) == 3 and transformers.AutoModel.from_pretrained(run.artifact)
    items = pd.read_parquet(run.folder / "items.parquet").set_index("id")
    read = _vector(run, "film " + tiny_pairs.rows(200)[1]["positive"])
    assert np.allclose(items.vector.iloc[1], read, atol=1e-5), "of the model as it is at the end"
    first = answer["items"][0]
    assert np.stack([items.vector[first["id"]]])[0] @ np.array(answer["vector"]) == pytest.approx(
        first["score"], abs=1e-5
    )


def _vector(run: Run, text: str) -> Any:
    """Return what the card's lines make of a text."""
    names: dict[str, Any] = {}
    exec(TASK.snippet(repr(str(run.artifact)), {"query": repr(text)}, Predictor(run.artifact).notes), names)
    return names["answer"]


def test_published_alone_it_gives_a_vector(folder, train, tmp_path):
    run, _ = train(tree(folder), "train.max_steps=1")
    away = tmp_path / "published"
    run.artifact.rename(away)
    (answer,) = Predictor(away).answer(["good film"])
    assert answer["items"] == [] and len(answer["vector"]) == 32
    assert "no catalogue lies beside this model" in views.line(Predictor(away).views([answer])[0])


def test_tables_of_pairs_are_a_row_a_question(folder, tmp_path, train):
    rows = [
        {"question": r["anchor"], "answer": r["positive"], "doc": i // 4} for i, r in enumerate(tiny_pairs.rows(80))
    ]
    rows += [
        {"question": rows[0]["question"].upper(), "answer": "another text", "doc": 0},
        {"question": " ", "answer": "x"},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = data.load(config.DataConfig(source=str(path), group="doc"), TASK, 42)
    assert sum(found.sizes.values()) == 80 and len(found.answer.catalogue) == 81
    assert "`question` asks and `answer` answers" in found.guesses
    assert any("82 rows ask 80 questions: equal ones are one row" in one for one in found.guesses)
    assert any("1 of 82 rows dropped: without a question or a passage" in one for one in found.guesses)
    _, result = train({**tree(folder), "data": {"source": str(path)}}, "train.max_steps=1")
    assert result["answer"]["size"] == 81


def test_a_stopped_run_goes_on_to_the_same_bits(folder, tmp_path):
    chosen = {**tree(folder), "method": {"name": "lora", "r": 4, "negatives": 1}}
    whole = start(chosen, tmp_path / "whole")
    with pytest.raises(Interrupted):
        start(chosen, tmp_path / "stopped", steps=5)
    resume(Run(tmp_path / "stopped"))
    same_weights(whole, Run(tmp_path / "stopped"))


def test_the_catalogue_is_asked_again_only_when_weights_changed(folder, monkeypatch):
    built = catalog.build_config(tree(folder))
    model = transformers.AutoModel.from_pretrained(folder / "bert").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "bert", padding_side="right")
    found = data.load(built.data, TASK, 42)
    from hftransfer.modeling.batches import collator
    from hftransfer.modeling.prepared import Entries

    preparation = Preparation(built.data, found.answer, 0, 32)
    entries, collate = Entries(TASK, tokenizer, preparation), collator(TASK, tokenizer, preparation, training=False)
    monkeypatch.setattr(inference, "AT_ONCE", 33)  # in several parts
    first = inference.known_of(found.answer, model, entries, collate, alone=True)
    assert inference.known_of(found.answer, model, entries, collate, alone=True) is first
    for options in ({"foreach": True}, {"fused": True}):
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, **options)
        model(**tokenizer("good film", return_tensors="pt")).last_hidden_state.sum().backward()
        optimizer.step()
        again = inference.known_of(found.answer, model, entries, collate, alone=True)
        assert again is not first and not np.allclose(again, first)
        first = again
    text = found.answer.catalogue.texts([7])
    shown = tokenizer(text, return_tensors="pt", truncation=True, max_length=32)
    with torch.no_grad():
        own = torch.nn.functional.normalize(model(**shown).last_hidden_state.mean(dim=1), dim=-1)[0]
    assert np.allclose(own.numpy(), first[7], atol=1e-5)


def test_a_probe_is_a_plain_model_whose_last_normalisation_alone_changed(folder, train, tmp_path):
    with Interruption() as interruption:
        assert questions.check(catalog.build_config({**tree(folder), "method": {"name": "probe"}}), interruption)
    run, result = train({**tree(folder), "method": {"name": "probe"}})
    assert result["cost"]["trainable_parameters"] == 64 and result["test"]["metrics"]["recall_10"]["value"] > 0.6
    before = transformers.AutoModel.from_pretrained(folder / "bert").state_dict()
    after = transformers.AutoModel.from_pretrained(run.artifact).state_dict()
    kept = {name for name in after if not name.startswith("pooler")}  # which no vector comes of, and is left out
    changed = {name for name in kept if not torch.equal(after[name], before[name])}
    assert changed <= {f"encoder.layer.1.output.LayerNorm.{name}" for name in ("weight", "bias")}
    names: dict[str, Any] = {}
    predictor = Predictor(run.artifact)
    exec(TASK.snippet(repr(str(run.artifact)), {"query": repr("good film was a")}, predictor.notes), names)
    assert np.allclose(names["answer"], predictor.answer(["good film was a"])[0]["vector"], atol=1e-5)


@pytest.mark.parametrize("architecture", ["roberta", "distilbert", "deberta-v2", "modernbert", "llama", "mpnet"])
def test_the_last_normalisation_of_every_architecture(architecture, tmp_path):
    model = transformers.AutoModel.from_pretrained(tiny_pairs.model(tmp_path / "m", architecture)).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "m", padding_side="right")
    name = _last_norm.name_of(model)
    encoded = dict(tokenizer(["good film", "was a very good film"], return_tensors="pt", padding=True))
    shown = {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"],
             "parts": encoded["attention_mask"].sum(dim=1, keepdim=True)}  # fmt: skip
    with torch.no_grad():
        module = model.get_submodule(name)
        module.weight.add_(torch.randn_like(module.weight))
        means = torch.from_numpy(_last_norm.before(model, name, shown))
        wanted = _nearness.embedded(model, model.config.to_dict().get("pad_token_id") or 0, shown)
        assert torch.allclose(_last_norm.behind(model, name, means), wanted, atol=1e-5)


def test_words_that_an_encoder_wants_stand_before_questions_and_passages(folder):
    section = config.DataConfig(source=str(folder / "beir"), prefix="film ", entry_prefix="good ")
    found = data.load(section, TASK, 42)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "bert", padding_side="right")
    preparation = Preparation(section, found.answer, 0, 32, training=True)
    row = found.splits["train"][0]
    items = TASK.items({"query": [row["query"]]}, [row["relevant"]], tokenizer, preparation)
    first, second, *_ = items["parts"][0]
    (passage,) = found.answer.catalogue.texts([found.answer.catalogue.place(row["relevant"][0]["id"])])
    assert (
        items["input_ids"][0][:first] == tokenizer("film " + row["query"], truncation=True, max_length=32)["input_ids"]
    )
    expected = tokenizer("good " + passage, truncation=True, max_length=32)["input_ids"]
    assert items["input_ids"][0][first : first + second] == expected
    assert TASK.entries([passage], tokenizer, preparation)["input_ids"] == [expected]
    assert TASK.said(section) == {"prefix": "film ", "entry_prefix": "good "}
    assert "tokenizer(['film ' + \"x\"]" in TASK.snippet("place", {"query": '"x"'}, {"carried": TASK.said(section)})


def test_judgements_by_other_ids_are_refused_with_both(tmp_path):
    source = tiny_catalogue.collection(tmp_path / "beir")
    place = source / "qrels" / "train.tsv"
    lines = place.read_text()
    place.write_text(lines.replace("\td", "\tdoc-"))
    with pytest.raises(
        UserError, match=r"ids of the corpus are needed.*train\.tsv has doc-0, .*the corpus d0, d1, d2"
    ):
        data.load(config.DataConfig(source=str(source)), TASK, 42)
    place.write_text(lines.replace("q", "question"))
    with pytest.raises(UserError, match="ids of queries are needed"):
        data.load(config.DataConfig(source=str(source)), TASK, 42)


def test_grades_beside_pairs_are_said_to_count_for_nothing(tmp_path):
    rows = [f"what is {i},it is {i},{i % 5 / 4}" for i in range(40)]
    (tmp_path / "rows.csv").write_text("\n".join(["question,passage,score", *rows]) + "\n")
    found = data.load(config.DataConfig(source=str(tmp_path / "rows.csv")), TASK, 42)
    assert any("`score` is not looked at" in one for one in (*found.warnings, *found.guesses))


# --- search and scores ---


def test_exact_search_by_blocks_is_that_of_the_whole(monkeypatch):
    rng = np.random.default_rng(0)
    vectors = rng.integers(-2, 3, (90, 5)).astype(np.float32)  # many equal scores
    queries = rng.integers(-2, 3, (23, 5)).astype(np.float32)
    hidden = [[int(place) for place in rng.choice(90, 3, replace=False)] for _ in queries]
    scores = queries @ vectors.T
    for row, gone in enumerate(hidden):
        scores[row, gone] = -np.inf
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :12]
    monkeypatch.setattr(_nearest, "faiss", lambda: None)
    for entries, asked in ((7, 5), (64, 1000), (1000, 3)):
        monkeypatch.setattr(_nearest, "ENTRIES", entries)
        monkeypatch.setattr(_nearest, "QUERIES", asked)
        places, found = _nearest.nearest(queries, vectors, 12, hidden)
        assert (places == expected).all() and (found == np.take_along_axis(scores, expected, axis=1)).all()
    assert _nearest.nearest(queries, vectors, 500)[0].shape == (23, 90)


def test_faiss_stays_out_where_it_ends_the_process(monkeypatch):
    monkeypatch.setattr("hftransfer.safety.machine.SYSTEM", "Darwin")
    monkeypatch.setattr(_nearest.importlib, "import_module", lambda name: pytest.fail(f"{name} was imported"))
    assert _nearest.faiss.__wrapped__() is None


def test_faiss_finds_what_search_by_blocks_finds(monkeypatch):
    pytest.importorskip("faiss")
    rng = np.random.default_rng(0)
    vectors, queries = (rng.normal(size=(count, 16)).astype(np.float32) for count in (300, 40))
    hidden = [[int(place) for place in rng.choice(300, count % 5, replace=False)] for count in range(40)]
    assert _nearest.faiss() is not None
    found = [_nearest.nearest(queries, vectors, count, hidden) for count in (10, 500)]
    monkeypatch.setattr(_nearest, "faiss", lambda: None)
    for (places, scores), count in zip(found, (10, 500), strict=True):
        expected = _nearest.nearest(queries, vectors, count, hidden)
        assert (places == expected[0]).all() and np.allclose(scores, expected[1], atol=1e-5)
    monkeypatch.undo()
    equal = np.ones((20, 4), np.float32)
    assert _nearest.nearest(equal[:1], equal, 30, [[3]])[0][0].tolist() == [*range(3), *range(4, 20), 3]


def test_scores_are_those_of_trec_eval_by_hand():
    truth = [(Relevant("a", 2.0), Relevant("b", 1.0), Relevant("x", 0.0)), (Relevant("c"),)]
    outputs = [Listed(b"", ("x", "b", "z", "a")), Listed(b"", (*(f"n{i}" for i in range(10)), "c"))]
    found = Lists(truth, outputs, 50)
    best = 2 / np.log2(2) + 1 / np.log2(3)
    assert found.gains["ndcg_10"].tolist() == pytest.approx([(1 / np.log2(3) + 2 / np.log2(5)) / best, 0])
    assert found.gains["recall_10"].tolist() == [1, 0] and found.gains["mrr_10"].tolist() == [0.5, 0]
    assert METRICS["coverage_10"].value(Sample(found, np.ones((2, 1)))).tolist() == [14 / 50]


def test_bm25_is_that_of_its_formula():
    texts = ["red cat red", "a blue dog sat here", "cat and dog"]
    scores = Words(texts).scores(["red cat", "none"])
    rare = {"red": np.log1p((3 - 1 + 0.5) / 1.5), "cat": np.log1p((3 - 2 + 0.5) / 2.5)}
    long = 1.2 * (0.25 + 0.75 * 3 / (11 / 3))
    assert scores[0, 0] == pytest.approx(rare["red"] * 2 / (2 + long) + rare["cat"] / (1 + long), rel=1e-5)
    assert scores[0, 1] == 0 and (scores[1] == 0).all() and Words(["!", "?"]).scores(["a"]) is None


# --- wrong input ---


def _no_corpus_entries(folder: Path) -> None:
    lines = "".join(f"q{i}\tnone{i}\t1\n" for i in range(120))
    (folder / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\n" + lines)


def _twice(folder: Path) -> None:
    lines = (folder / "corpus.jsonl").read_text()
    (folder / "corpus.jsonl").write_text(lines + lines.splitlines()[3] + "\n")


def _words_for_scores(folder: Path) -> None:
    (folder / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\tyes\n")


def _one_passage(folder: Path) -> None:
    (folder / "corpus.jsonl").write_text(json.dumps({"_id": "d1", "text": "alone"}) + "\n")
    for path in (folder / "qrels").iterdir():
        head, *lines = path.read_text().splitlines()
        told = [line.split("\t") for line in lines]
        path.write_text("\n".join([head, *("\t".join([one[0], "d1", *one[2:]]) for one in told)]) + "\n")


def _no_ids(folder: Path) -> None:
    (folder / "corpus.jsonl").write_text(json.dumps({"name": "d1", "text": "alone"}) + "\n")


WRONG: dict[str, tuple[Callable[[Path], None], str]] = {
    "judged passages that are nowhere": (
        _no_corpus_entries,
        r"judgements by the ids of the corpus are needed; train.tsv has none0, none1",
    ),
    "ids that stand twice": (_twice, r"an id of its own is needed for each entry of a catalogue; d3 stand"),
    "scores that are words": (
        _words_for_scores,
        r"a number is needed as the score of each judgement; train.tsv has 'yes'",
    ),
    "a catalogue of one": (_one_passage, r"a catalogue of two entries or more is needed; this one has 1"),
    "a corpus without ids": (_no_ids, r"corpus needs a column `_id`; it has name, text"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_refused_before_training(name, folder, tmp_path):
    make, message = WRONG[name]
    make(tiny_catalogue.collection(tmp_path / "beir"))
    built = catalog.build_config({**tree(folder), "data": {"source": str(tmp_path / "beir")}})
    with pytest.raises(UserError, match=message) as refused, Interruption() as interruption:
        questions.check(built, interruption)
    assert refused.value.exit_code == 2


def test_wrong_tables_are_refused(folder, tmp_path):
    path = tmp_path / "rows.jsonl"
    same = [{"query": f"q {i}", "positive": f"text {i}", "negative": f"text {i}"} for i in range(30)]
    for rows, message in (
        (same, "negatives that are wrong are needed; 30 rows of train have a negative that is its positive"),
        ([{"query": f"q {i}", "number": i} for i in range(30)], "a column with the passage is needed"),
        ([{"query": f"q {i}", "positive": "one"} for i in range(30)], "a catalogue of two entries or more is needed"),
    ):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        with pytest.raises(UserError, match=message):
            data.load(config.DataConfig(source=str(path)), TASK, 42)
    with pytest.raises(UserError, match=r"retrieval needs its rows on disk"):
        data.load(config.DataConfig(source=str(path), streaming=True), TASK, 42)


def test_negatives_need_a_catalogue(folder, tmp_path):
    source = tiny_pairs.jsonl(tmp_path / "pairs.jsonl", 60)
    built = catalog.build_config({
        **tree(folder), "task": "sentence-similarity", "data": {"source": str(source)},
        "method": {"name": "full", "negatives": 2},
    })  # fmt: skip
    with pytest.raises(UserError, match=r"method\.negatives needs a catalogue"), Interruption() as interruption:
        questions.check(built, interruption)


def test_judgements_of_trec_are_read_too(tmp_path):
    path = tmp_path / "qrels.txt"
    path.write_text("7 0 doc-1 2\n7 0 doc-2 0\n8 0 doc-1 1\n")
    assert judgements(path) == {"7": {"doc-1": 2.0, "doc-2": 0.0}, "8": {"doc-1": 1.0}}
