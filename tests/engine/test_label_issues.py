"""Labels that were turned round on purpose are found, in probabilities and in whole runs, whose weights stay."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import transformers

from hftransfer.audit import label_issues, looking
from hftransfer.audit.label_issues import FILE, confident
from hftransfer.frozen import out_of_fold
from hftransfer.frozen.features import Features
from hftransfer.runs import Run
from tests import tiny


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.text_model(tmp_path_factory.mktemp("models") / "bert")


def clouds(n: int, k: int, seed: int, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, k, n)
    return truth, (rng.normal(size=(k, 8)) * 2)[truth] + spread * rng.normal(size=(n, 8))


def turned(truth: np.ndarray, k: int, share: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(len(truth)) < share, (truth + rng.integers(1, k, len(truth))) % k, truth)


def as_features(values: np.ndarray, targets: np.ndarray) -> Features:
    return Features({"mean": values.astype(np.float32)}, targets, np.arange(len(targets)), 0.0, False)


def issues_of(run: Any) -> list[dict[str, str]]:
    """Return the rows of a run's file of likely wrong labels."""
    with open(run.folder / FILE, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("share", [0.03, 0.1, 0.2])
def test_turned_labels_are_found(share: float) -> None:
    truth, values = clouds(900, 4, 0)
    given = turned(truth, 4, share, 1)
    features, answer = as_features(values, given), tiny.answer("single_label", "abcd")
    logits, _ = out_of_fold.probe(features, answer, out_of_fold.assign(features, answer, 0))
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    places, suggested = confident(given, odds / odds.sum(axis=1, keepdims=True))
    wrong = given != truth
    assert np.mean(wrong[places]) > 0.75 and wrong[places].sum() > 0.7 * wrong.sum()
    assert np.mean(suggested[wrong[places]] == truth[places][wrong[places]]) > 0.95
    assert wrong[places[: len(places) // 3]].mean() >= wrong[places].mean()  # the likeliest come first


def test_confident_learning_by_hand() -> None:
    """Thresholds .625 and .8: the third row counts as b, the fourth reaches neither; one error a to b is estimated."""
    given = np.array([0, 0, 0, 0, 1, 1])
    of_b = np.array([0.05, 0.05, 0.95, 0.45, 0.7, 0.9])
    probabilities = np.stack([1 - of_b, of_b], axis=1)
    places, suggested = confident(given, probabilities)
    assert places.tolist() == [2] and suggested.tolist() == [1]


def test_agreement_is_no_error() -> None:
    given = np.arange(20) % 2
    assert len(confident(given, np.eye(2)[given] * 0.8 + 0.1)[0]) == 0


def test_a_label_without_rows_is_suggested_to_nobody() -> None:
    probabilities = np.tile([0.2, 0.3, 0.5], (20, 1))
    assert len(confident(np.arange(20) % 2, probabilities)[0]) == 0


def test_folds_hold_each_class_alike_and_keep_rows_whole() -> None:
    truth, values = clouds(103, 3, 0)
    features = as_features(values, truth)
    folds = out_of_fold.assign(features, tiny.answer("single_label", "abc"), 7)
    counts = np.array([np.bincount(truth[folds == fold], minlength=3) for fold in range(out_of_fold.FOLDS)])
    assert (counts.max(axis=0) - counts.min(axis=0)).max() <= 1
    words = Features({"head": values}, truth, np.sort(np.arange(103) % 20), 0.0, False)
    folds = out_of_fold.assign(words, tiny.answer("tags", "abc"), 7)
    assert all(len(set(folds[words.rows == row])) == 1 for row in range(20)) and len(set(folds)) == out_of_fold.FOLDS


def test_no_answer_is_of_a_probe_that_saw_the_row() -> None:
    """With random labels and more features than rows a probe that saw a row would be right about it."""
    rng = np.random.default_rng(0)
    features = as_features(rng.normal(size=(200, 400)), rng.integers(0, 2, 200))
    answer = tiny.answer("single_label", "ab")
    logits, _ = out_of_fold.probe(features, answer, out_of_fold.assign(features, answer, 0))
    assert 0.35 < np.mean(logits.argmax(axis=1) == features.targets) < 0.65


def rows_with_errors(path: Path) -> list[int]:
    """Write 200 sentences of which every 20th has the other label; return their numbers."""
    other = {"positive": "negative", "negative": "positive"}
    rows = [(text, other[label] if i % 20 == 0 else label) for i, (text, label) in enumerate(tiny.sentences(200))]
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
    return list(range(0, 200, 20))


def test_a_run_lists_them_and_trains_as_without(
    train: Callable[..., Any], bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = {f"rows.jsonl:{number}" for number in rows_with_errors(tmp_path / "rows.jsonl")}
    tree = {
        "task": "text-classification",
        "model": str(bert),
        "data": {"source": str(tmp_path / "rows.jsonl"), "label_issues": True},
    }
    run, result = train(tree, "train.max_steps=3")
    issues = issues_of(run)
    found = {row["row_id"] for row in issues}
    assert len(found & wrong) >= 4 and len(found & wrong) > 0.25 * len(found)  # of 140 rows 7 or so are wrong
    row = issues[0]
    assert {row["given"], row["suggested"]} == {"positive", "negative"} and len(row["text_or_file"].split()) > 2
    assert float(row["probability"]) > float(row["probability_given"])
    assert result["data"]["label_issues"] == {
        "looked": 140, "found": len(issues), "issues": len(issues), "file": FILE,
    }  # fmt: skip
    assert any(f"{len(issues)} of 140 train rows" in warning for warning in result["data"]["warnings"])
    assert phases(run).index("training") < phases(run).index("labels")  # the first step does not wait for a look

    monkeypatch.setattr(looking, "FREE", 10**12)  # no memory for the model once more
    first, told = train(tree, "train.max_steps=3", name="first")
    assert phases(first).index("labels") < phases(first).index("training")
    assert issues_of(first) == issues and told["data"]["label_issues"] == result["data"]["label_issues"]
    assert sorted(told["data"]["warnings"]) == sorted(result["data"]["warnings"])

    plain, result = train(tree, "train.max_steps=3", "data.label_issues=false", name="plain")
    assert result["data"]["label_issues"] is None and not (plain.folder / FILE).exists()
    weights = [safetensors.numpy.load_file(r.artifact / "model.safetensors") for r in (run, plain)]
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[1])


def phases(run: Run) -> list[str]:
    return [event["name"] for event in run.events()[0] if event["type"] == "phase"]


def test_pictures_are_named_by_their_file(train: Callable[..., Any], tmp_path: Path) -> None:
    folder = tiny.image_folder(tmp_path / "pictures", 60)
    for number in (0, 2, 4, 6):
        (folder / "red" / f"{number:03}.png").rename(folder / "blue" / f"stray{number}.png")
    tree = {
        "task": "image-classification",
        "model": str(tiny.image_model(tmp_path / "vit")),
        "data": {"source": str(folder), "test_size": 6, "validation_size": 6, "label_issues": True},
    }
    run, _ = train(tree, "train.max_steps=1")
    rows = [(row["text_or_file"][:5], row["given"], row["suggested"]) for row in issues_of(run)]
    assert rows and set(rows) == {("stray", "blue", "red")}


def test_turned_labels_of_several_a_row_are_found_by_label(
    train: Callable[..., Any], bert: Path, tmp_path: Path
) -> None:
    rows = []
    for number, (text, _) in enumerate(tiny.sentences(240)):
        labels = [name for name, words in (("up", tiny.GOOD), ("down", tiny.BAD)) if set(words) & set(text.split())]
        rows.append({"text": text, "labels": sorted({*labels, "up"}) if number % 24 == 0 else labels})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tree = {
        "task": "text-classification",
        "model": str(bert),
        "data": {"source": str(tmp_path / "rows.jsonl"), "label_issues": True},
    }
    run, result = train(tree, "train.max_steps=1")
    issues = issues_of(run)
    wrong = {f"rows.jsonl:{number}" for number in range(0, 240, 24)}
    found = [row for row in issues if row["row_id"] in wrong]
    assert len(found) >= 3 and {(row["about"], row["given"], row["suggested"]) for row in found} >= {
        ("up", "yes", "no")
    }
    assert all({row["given"], row["suggested"]} == {"yes", "no"} for row in issues)
    told = result["data"]["label_issues"]
    assert told["issues"] == len(issues) >= told["found"] == len({row["row_id"] for row in issues})


def test_turned_tags_are_found_by_word(train: Callable[..., Any], bert: Path, tmp_path: Path) -> None:
    tiny.token_jsonl(tmp_path / "rows.jsonl", 200)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    other = {"B-GOOD": "B-BAD", "B-BAD": "B-GOOD", "O": "O"}
    for row in rows[::20]:
        row["ner_tags"] = [other[tag] for tag in row["ner_tags"]]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tree = {
        "task": "token-classification",
        "model": str(bert),
        "data": {"source": str(tmp_path / "rows.jsonl"), "label_issues": True},
    }
    run, _ = train(tree, "train.max_steps=1")
    issues = issues_of(run)
    wrong = {f"rows.jsonl:{number}" for number in range(0, 200, 20)}
    found = [row for row in issues if row["row_id"] in wrong]
    assert len(found) >= 4 and len(found) > 0.5 * len(issues)
    for row in found:
        number, word = row["about"].removeprefix("word ").rstrip(")").split(" (")
        assert row["text_or_file"].split()[int(number) - 1] == word
        assert row["suggested"] == ("B-GOOD" if word in tiny.GOOD else "B-BAD")


def test_where_nothing_can_be_said() -> None:
    def setup(kind: str, counts: tuple[int, ...], **data: Any) -> Any:
        config = SimpleNamespace(data=SimpleNamespace(label_issues=True, streaming=False, **data))
        return SimpleNamespace(answer=tiny.answer(kind, "ab", counts), config=config)

    config = transformers.BertConfig(**tiny.SMALL, num_labels=2)
    model: Any = SimpleNamespace(model=transformers.BertForSequenceClassification(config))
    other: Any = SimpleNamespace(model=transformers.BertForMaskedLM(config))  # it has no head for the labels
    assert label_issues.why_not(setup("single_label", (5, 90)), model) is None
    assert label_issues.why_not(setup("multi_label", (50, 90)), model) is None
    assert label_issues.why_not(setup("tags", (50, 90)), model) is None
    assert label_issues.why_not(setup("single_label", (4, 90)), model) == "each class needs 5 rows of train, a has 4"
    assert "fewer than two labels" in str(label_issues.why_not(setup("multi_label", (4, 90)), model))
    assert "the labels are numbers" in str(label_issues.why_not(setup("regression", ()), model))
    assert "has no linear output layer" in str(label_issues.why_not(setup("single_label", (5, 90)), other))
    streamed = setup("single_label", (5, 90))
    streamed.config.data.streaming = True
    assert "rows that are streamed are read once" in str(label_issues.why_not(streamed, model))
