"""Vectors by which texts are found: the loss of a whole batch, exact ranks, strangers, and what they load."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
import transformers

from hftransfer import api, catalog, config, data, questions
from hftransfer.answers import _nearness
from hftransfer.answers._ranks import by_rank
from hftransfer.answers.likeness import Likeness
from hftransfer.answers.ranking import Ranking
from hftransfer.errors import UserError
from hftransfer.fitting.interruption import Interrupted, Interruption
from hftransfer.predictor import Predictor
from hftransfer.runs import Run
from tests import tiny, tiny_pairs
from tests.engine import refusals
from tests.engine.conftest import QUICK
from tests.engine.test_resume import resume, same_weights, start

TASK = catalog.task("sentence-similarity")
ARCHITECTURES = ("bert", "roberta", "distilbert", "deberta-v2", "modernbert", "llama", "mpnet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("pairs")
    tiny_pairs.jsonl(found / "rows.jsonl")
    return found


def tree(folder: Path, architecture: str = "bert", still: bool = False) -> dict[str, Any]:
    place = folder / f"{architecture}-{still}"
    if not place.is_dir():
        tiny_pairs.model(place, architecture, still)
    return {
        **QUICK, "task": "sentence-similarity", "model": str(place), "data": {"source": str(folder / "rows.jsonl")},
        "train": {**QUICK["train"], "learning_rate": 3e-3},
    }  # fmt: skip


def vector_of(run: Run, text: str) -> list[float]:
    """Return what the card's lines make of a text."""
    names: dict[str, Any] = {}
    exec(TASK.snippet(repr(str(run.artifact)), {"anchor": repr(text)}, Predictor(run.artifact).notes), names)
    return list(names["answer"])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_finds_texts_and_a_stranger_gets_the_same_vectors(architecture, folder, train):
    run, result = train(tree(folder, architecture))
    scores = result["test"]["metrics"]
    assert list(scores) == ["ndcg_10", "recall_10", "recall_1", "mrr_10"] and result["main_metric"] == "ndcg_10"
    assert all(score["low"] <= score["value"] <= score["high"] + 1e-9 for score in scores.values()), scores
    assert scores["recall_10"]["value"] > 0.6, "chance is a quarter"
    (before,) = result["beside"]["models"]
    assert before["name"] == "the model as it came" and {"value", "low", "high"} <= set(before["ahead"])
    (answer,) = Predictor(run.artifact).answer(["good film was a"])
    assert np.allclose(vector_of(run, "good film was a"), answer["vector"], atol=1e-5)
    assert np.linalg.norm(answer["vector"]) == pytest.approx(1, abs=1e-5)
    stored = pd.read_parquet(run.predictions / "test.parquet")
    assert (stored["among"] == stored["label"].nunique()).all()
    assert ((stored["rank"] == 1) == (stored["prediction"] == stored["label"])).all()
    assert (stored["rank"] <= 10).mean() == pytest.approx(scores["recall_10"]["value"])


def test_sentence_transformers_finds_its_files_beside_the_model(folder, train):
    """Transformer, the mean of the tokens, and length 1, under the names that it reads."""
    run, _ = train(tree(folder), "train.max_steps=1", "data.max_length=24")
    modules = json.loads((run.artifact / "modules.json").read_text())
    assert [(one["path"], one["type"].rpartition(".")[2]) for one in modules] == [
        ("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"),
    ]  # fmt: skip
    pooling = json.loads((run.artifact / "1_Pooling" / "config.json").read_text())
    assert pooling == {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
    settings = json.loads((run.artifact / "sentence_bert_config.json").read_text())
    assert settings["max_seq_length"] == 24 and transformers.AutoModel.from_pretrained(run.artifact)


def test_sentence_transformers_gives_the_same_vectors(folder, train):
    library = pytest.importorskip("sentence_transformers")
    run, _ = train(tree(folder), "train.max_steps=1")
    text = "good film was a"
    theirs = library.SentenceTransformer(str(run.artifact), device="cpu").encode(text)
    assert np.abs(theirs - np.array(vector_of(run, text))).max() < 1e-6


# --- the loss ---


def test_the_loss_is_that_of_a_plain_loop():
    torch.manual_seed(2)
    vectors = torch.nn.functional.normalize(torch.randn(6, 3, 5), dim=-1)
    numbers = torch.tensor([[1, 11, 21], [2, 12, 0], [3, 11, 23], [1, 14, 24], [5, 15, 25], [6, 16, 12]])
    total = 0.0
    right = {}
    for one, other, _ in numbers.tolist():
        right.setdefault(one, set()).add(other)
    for i in range(6):
        scores = []
        for side in (1, 2):
            for j in range(6):
                number = int(numbers[j, side])
                own = side == 1 and j == i
                if own or (number != 0 and number not in right[int(numbers[i, 0])]):
                    scores.append(float(vectors[i, 0] @ vectors[j, side]) / 0.05)
        total -= float(vectors[i, 0] @ vectors[i, 1]) / 0.05 - np.log(np.exp(scores).sum())
    assert float(_nearness.contrast(vectors, numbers, 0.05)) == pytest.approx(total, rel=1e-5)


def test_rows_that_are_encoded_in_pieces_have_the_gradient_of_the_whole_batch(folder, monkeypatch):
    place = tiny_pairs.model(folder / "whole", "bert")
    tokenizer = transformers.AutoTokenizer.from_pretrained(place)
    found = TASK.items({"anchor": [r["anchor"] for r in tiny_pairs.rows(16)]},
                       [r["positive"] for r in tiny_pairs.rows(16)], tokenizer, _preparation())  # fmt: skip
    batch = dict(tokenizer.pad({name: found[name] for name in ("input_ids", "attention_mask")}, return_tensors="pt"))
    batch["parts"], grown = torch.tensor(found["parts"]), []
    for tokens in (10**6, 40):  # all at once, and four or so at a time
        monkeypatch.setattr(_nearness, "TOKENS", tokens)
        model = Ranking().attach(transformers.AutoModel.from_pretrained(place)).train()
        torch.manual_seed(1)  # dropout too draws the same on the way back
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        loss = Ranking().loss()(model(**batch), torch.tensor(found["labels"]))
        loss.backward()
        grown.append((loss.item(), {name: p.grad.clone() for name, p in model.named_parameters()}))
    assert grown[0][0] == pytest.approx(grown[1][0], rel=1e-6)
    for name, gradient in grown[0][1].items():
        assert torch.allclose(gradient, grown[1][1][name], atol=1e-5), name


def _preparation() -> Any:
    from hftransfer.tasks.base import Preparation

    return Preparation(config.DataConfig(source="-"), Ranking(), 0, 32)


def test_four_batches_of_four_are_one_of_sixteen(folder, train):
    """An update is one batch, whose rows are all compared with one another."""
    found = []
    for size, times in ((16, 1), (4, 4)):
        run, _ = train(
            tree(folder, still=True), f"train.per_device_train_batch_size={size}",
            f"train.gradient_accumulation_steps={times}", "train.learning_rate=0", "train.max_steps=1",
            "train.logging_steps=1", "train.bf16=false", name=str(size),
        )  # fmt: skip
        (log,) = (event for event in run.events()[0] if event["type"] == "log")
        found.append((log["loss"], log["grad_norm"]))
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_a_stopped_run_goes_on_to_the_same_bits(folder, tmp_path):
    chosen = tree(folder)
    whole = start(chosen, tmp_path / "whole")
    with pytest.raises(Interrupted):
        start(chosen, tmp_path / "stopped", steps=7)
    resume(Run(tmp_path / "stopped"))
    same_weights(whole, Run(tmp_path / "stopped"))


# --- ranks ---


def test_ranks_are_those_of_the_whole_catalogue_block_by_block(monkeypatch):
    rng = np.random.default_rng(0)
    queries, found = (rng.normal(size=(50, 4)).astype(np.float32) for _ in range(2))
    asked = [1000 + number // 2 for number in range(50)]  # two rows ask the same
    right = [number % 40 for number in range(50)]  # ten texts are right twice
    found = found[right]
    expected = []
    for i in range(50):
        others = {j: found[right.index(j)] for j in set(right)}
        allowed = {right[k] for k in range(50) if asked[k] == asked[i]} - {right[i]}
        own = queries[i] @ found[i]
        expected.append(
            1 + sum(queries[i] @ v > own + 1e-7 for j, v in others.items() if j not in {right[i], *allowed})
        )
    for block in (7, 1000):
        monkeypatch.setattr(_nearness, "BLOCK", block)
        ranks, scores, best, size = _nearness.ranked(queries, found, asked, right)
        assert (
            ranks.tolist() == expected and size == 40 and scores[3] == pytest.approx(queries[3] @ found[3], rel=1e-6)
        )
        assert all(queries[i] @ found[b] >= queries[i] @ found[i] - 1e-6 for i, b in enumerate(best))


def test_metrics_of_ranks():
    found = by_rank(np.array([1, 2, 10, 11]))
    assert found["ndcg_10"].tolist() == pytest.approx([1, 1 / np.log2(3), 1 / np.log2(11), 0])
    assert found["recall_10"].tolist() == [1, 1, 1, 0] and found["recall_1"].tolist() == [1, 0, 0, 0]
    assert found["mrr_10"].tolist() == pytest.approx([1, 0.5, 0.1, 0])


def test_shared_words_are_the_trivial_answer():
    rows = {"anchor": ["red cat", "blue dog", "zzz"]}
    trivial = Ranking().baseline(["a red cat sat", "one blue dog", "nothing like it"], rows)
    assert [row.rank for row in trivial.outputs][:2] == [1, 1] and trivial.outputs[2].rank == 2, "of equals half"
    assert [row.first for row in trivial.outputs][:2] == ["a red cat sat", "one blue dog"]
    assert trivial.name == "shared pieces of words" and {row.among for row in trivial.outputs} == {3}


def test_models_that_want_more_than_a_text_are_refused(tmp_path):
    clip = transformers.AutoModel.from_pretrained(tiny.image_text_model(tmp_path / "clip", "CLIP"))
    small = transformers.T5Config(vocab_size=48, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    for model, name in ((clip, "CLIPModel"), (transformers.T5Model(small).eval(), "T5Model")):
        with pytest.raises(UserError, match=f"states of texts alone is needed; {name} does not"):
            Ranking().attach(model)


# --- scores ---


def test_scored_pairs_are_learnt_as_cosines_and_a_stranger_gets_the_same(folder, train, tmp_path):
    chosen = {**tree(folder), "data": {"source": str(tiny_pairs.scored(tmp_path / "scored.jsonl"))}}
    run, result = train(chosen, "train.num_train_epochs=4")
    roles = {choice["role"]: choice["column"] for choice in result["columns"]}
    assert roles == {"anchor": "sentence1", "compared": "sentence2", "target": "score"}
    assert result["answer"] == {"kind": "likeness", "names": [], "low": 0.0, "high": 5.0, "rows": 200}
    scores = result["test"]["metrics"]
    assert list(scores) == ["spearman", "pearson"] and scores["spearman"]["value"] > 0.5
    assert result["baseline"]["name"] == "shared pieces of words"
    assert [one["name"] for one in result["beside"]["models"]] == ["the model as it came"]
    row = {"anchor": "good film was a", "compared": "a film was bad"}
    (ours,) = Predictor(run.artifact).answer([row])
    names: dict[str, Any] = {}
    quoted = {name: repr(value) for name, value in row.items()}
    exec(TASK.snippet(repr(str(run.artifact)), quoted, Predictor(run.artifact).notes), names)
    assert names["answer"] == pytest.approx(ours["score"], abs=1e-5)
    assert (run.artifact / "modules.json").is_file()
    with pytest.raises(UserError, match="two texts are needed, whose likeness is scored"):
        Predictor(run.artifact).answer(["good film"])


def test_four_batches_of_four_scored_pairs_are_one_of_sixteen(folder, train, tmp_path):
    chosen = {**tree(folder, still=True), "data": {"source": str(tiny_pairs.scored(tmp_path / "scored.jsonl"))}}
    found = []
    for size, times in ((16, 1), (4, 4)):
        run, _ = train(
            chosen, f"train.per_device_train_batch_size={size}", f"train.gradient_accumulation_steps={times}",
            "train.learning_rate=0", "train.max_steps=1", "train.logging_steps=1", "train.bf16=false", name=str(size),
        )  # fmt: skip
        (log,) = (event for event in run.events()[0] if event["type"] == "log")
        found.append((log["loss"], log["grad_norm"]))
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_a_pair_without_its_other_text_is_dropped_and_said(folder, tmp_path):
    path = tiny_pairs.scored(tmp_path / "scored.jsonl", 60)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[4]["sentence2"], rows[9]["score"] = " ", None
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = data.load(config.DataConfig(source=str(path)), TASK, 42).warnings
    assert any("2 of 60 rows dropped: 1 with no text to compare with; 1 with no score" in one for one in said)


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        (
            [55.0, *[i % 11 / 2 for i in range(60)]],
            r"1 of 61 of `score` lie beyond 0 to 5, where all others are \(55\)",
        ),
        ([-400.0, *[i % 6 for i in range(60)]], r"lie beyond 0 to 5, where all others are \(-400\)"),
        ([9999.0, 9999.0, *[i / 800 for i in range(800)]], r"2 of 802 .* beyond 0 to 1"),
        ([-1, -1, -1, *[i % 6 for i in range(60)]], r"3 of 63 .* beyond 0 to 5, where all others are \(-1\)"),
        (
            [*[-1] * 1200, *[i % 6 for i in range(8800)]],
            r"at least 1,000 of 10,000 .* beyond 0 to 5, where all others are \(-1\)",
        ),
        ([i % 6 for i in range(60)], None),
        ([100, *[i % 30 for i in range(400)]], None),  # few of the highest
        ([3, 3, 3, *[i % 2 for i in range(1000)]], None),
        ([5, 1, 1, 1, 2, 1, 1, 2, 1, 1, 1, 2], None),
        ([-1, 1, 0, 0.5, -0.25] * 9, None),  # cosines
        ([1, *[0] * 40], None),
        ([0.1, 0.2, 1.9], None),
        ([i**2 / 100 for i in range(101)], None),  # the higher the rarer, and no row far from the next
    ],
)
def test_a_few_scores_of_train_far_from_all_others_are_refused(scores: list[float], words: str | None) -> None:
    learner = Likeness().learner("score", {})
    for at in range(0, len(scores), 40):
        learner.add(pa.array(scores[at : at + 40], pa.float64()))
    if words is None:
        found = learner.learn()
        assert isinstance(found, Likeness) and found.low <= min(scores) and max(scores) <= found.high
    else:
        with pytest.raises(UserError, match=words):
            learner.learn()


def written(path: Path, rows: list[list[str]], divider: str = ",") -> config.DataConfig:
    path.write_text("".join(divider.join(row) + "\n" for row in rows))
    return config.DataConfig(source=str(path))


def test_scores_that_are_written_as_texts_are_no_texts_to_be_found(tmp_path):
    """CSV has texts alone; a cell that is no number is a mistake, and labels are no texts to be found either."""
    head = ["sentence1", "sentence2", "score"]
    rows = [[f"red {i}", f"blue {i}", f"{i % 11 / 2}"] for i in range(60)]
    found = data.load(written(tmp_path / "a.csv", [head, *rows]), TASK, 42)
    assert (found.answer.kind, found.answer.low, found.answer.high) == ("likeness", 0.0, 5.0)
    commas = [[one, two, score.replace(".", ",")] for one, two, score in rows]
    found = data.load(written(tmp_path / "b.csv", [head, *commas], ";"), TASK, 42)
    assert found.answer.kind == "likeness" and found.answer.high == 5.0
    rows[7][2] = "high"
    with pytest.raises(UserError, match=r"a column of numbers is needed.*high"):
        data.load(written(tmp_path / "c.csv", [head, *rows]), TASK, 42)
    labels = [[f"red {i}", f"blue {i}", ("entailment", "neutral")[i % 2]] for i in range(60)]
    found = data.load(written(tmp_path / "d.csv", [["sentence1", "sentence2", "label"], *labels]), TASK, 42)
    assert any("`label` has 2 texts in" in one and "data.columns.target" in one for one in found.warnings)


def test_scores_beyond_those_of_train_are_refused(folder, tmp_path, capfd):
    test = tiny_pairs.scored(tmp_path / "test.jsonl", 30, highest=100.0)
    section = {"source": str(tiny_pairs.scored(tmp_path / "train.jsonl")), "test": str(test)}
    message = r"scores of test between 0 and 5 are needed, as train's are; \d+ lie beyond \(rows test.jsonl:"
    assert re.search(message, refusals.said({**tree(folder), "data": section}, tmp_path, capfd))


# --- the way ---


def test_triplets_lora_the_untuned_model_and_their_comparison(folder, train, tmp_path):
    source = tiny_pairs.jsonl(tmp_path / "triplets.jsonl", 160, negative=True)
    rows = {"data": {"source": str(source)}}
    tuned, result = train({**tree(folder), **rows, "method": {"name": "lora", "r": 8}}, "train.learning_rate=0.01",
                          name="tuned")  # fmt: skip
    assert [choice["role"] for choice in result["columns"]] == ["anchor", "negative", "target"]
    untuned, before = train({**tree(folder), **rows, "method": {"name": "zero_shot"}}, name="untuned")
    assert before["cost"]["trainable_parameters"] == 0
    assert not any("lora" in name for name in transformers.AutoModel.from_pretrained(tuned.artifact).state_dict())
    card = (tuned.artifact / "README.md").read_text()
    assert 'Predictor("' in card and "rows.csv" not in card, "a negative is no part of what is asked"
    compared = api.compare(str(tuned.folder), str(untuned.folder))
    assert compared["metric"] == "ndcg_10"


def test_a_stream(folder, train):
    _, result = train(tree(folder), "data.streaming=true", "train.max_steps=5")
    assert result["test"]["n"] > 10 and result["test"]["metrics"]["recall_10"]["value"] > 0


def test_check_asks_scores_saves_and_asks_again(folder):
    with Interruption() as interruption:
        assert questions.check(catalog.build_config(tree(folder)), interruption)["updates"] > 0


WRONG: dict[str, tuple[Callable[[int], dict[str, Any]], str]] = {
    "negatives that are their positives": (
        lambda i: {"anchor": f"line {i}", "positive": f"text {i}", "negative": f"text {i}"},
        r"usable rows are needed in train; 40 of 40 are not: 40 with a negative that is its positive",
    ),
    "a catalogue with one text": (
        lambda i: {"anchor": f"line {i}", "positive": "the only one"},
        r"a catalogue of two texts or more is needed; train has 1. Name another column",
    ),
    "texts that are to find themselves": (
        lambda i: {"anchor": f"line {i}", "positive": f"line {i}"},
        r"a text to be found other than `anchor` is needed; every row has the same as both",
    ),
    "no texts to be found": (
        lambda i: {"anchor": f"line {i}", "positive": " "},
        r"40 with no text to be found",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_ends_the_command_before_training(name, folder, tmp_path, capfd):
    make, message = WRONG[name]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(make(i)) + "\n" for i in range(40)))
    assert re.search(message, refusals.said({**tree(folder), "data": {"source": str(path)}}, tmp_path, capfd))


@pytest.mark.parametrize("name", ["sentence-similarity", "retrieval"])
def test_few_negatives_that_are_their_positives_are_said(name, folder, tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [
        {"query": f"line {i}", "positive": f"text {i}", "negative": f"text {i if i == 7 else i + 1}"}
        for i in range(60)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = data.load(config.DataConfig(source=str(path)), catalog.task(name), 42)
    assert any("negative that is its positive" in one and "1" in one for one in (*found.warnings, *found.guesses))


def test_methods_that_need_a_linear_head_are_refused(folder):
    for method in ("few_shot",):
        with pytest.raises(UserError, match=r"solves a linear head, which gives no ranking"):
            catalog.build_config({**tree(folder), "method": {"name": method}})
