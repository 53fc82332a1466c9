"""Each task from rows to result, predictions, artifact and card: every kind of label and of input, on tiny models."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from hftransfer.evaluation.predictions import Predictions
from hftransfer.predictor import Predictor
from hftransfer.runs import Run
from tests import tiny

LEARNING = {"learning_rate": 5e-3, "num_train_epochs": 6}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.text_model(tmp_path_factory.mktemp("models") / "bert"))


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.image_model(tmp_path_factory.mktemp("models") / "vit"))


def jsonl(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def events(run: Run, type: str) -> list[dict[str, Any]]:
    return [event for event in run.events()[0] if event["type"] == type]


def finished(run: Run, result: dict[str, Any], kind: str, names: list[str]) -> Predictions:
    """Check what every run leaves behind, and return its predictions on test."""
    assert json.loads(run.result_path.read_text()) == result
    test = result["test"]
    assert (result["answer"]["kind"], result["answer"]["names"]) == (kind, names)
    assert result["answer"]["rows"] == result["data"]["splits"]["train"]
    assert result["main_metric"] in test["metrics"] and result["selected_by"] == result["main_metric"]
    assert test["n"] == result["data"]["splits"]["test"]
    for score in test["metrics"].values():
        assert score["low"] <= score["value"] <= score["high"]
    assert result["baseline"]["name"] and result["baseline"]["metrics"]

    found = Predictions.read_parquet(run.predictions / "test.parquet", tiny.answer(kind, names))
    assert len(set(found.row_ids)) == len(found) == test["n"]
    validation = pd.read_parquet(run.predictions / "validation.parquet")
    assert not set(validation.row_id) & set(found.row_ids)

    files = {str(path.relative_to(run.artifact)) for path in run.artifact.rglob("*") if path.is_file()}
    assert {"config.json", "model.safetensors", "README.md", "hftransfer.json", "run.yaml"} <= files
    assert set(result["artifact_plots"]) <= files and result["artifact_plots"]
    # training_args.bin would be one of them
    assert not {name for name in files if name.endswith((".bin", ".pt", ".pth", ".pkl"))}
    notes = json.loads((run.artifact / "hftransfer.json").read_text())
    assert (notes["answer"]["kind"], notes["answer"]["names"]) == (kind, names)
    assert notes["test"] == test
    settings = json.loads((run.artifact / "config.json").read_text())
    if names:
        assert settings["id2label"] == {str(i): name for i, name in enumerate(names)}
        assert settings["label2id"] == {name: i for i, name in enumerate(names)}
    card = (run.artifact / "README.md").read_text()
    assert f"pipeline_tag: {result['task']}" in card and next(iter(test["metrics"])) in card
    for name in sorted(files - {"model.safetensors"}):
        text = (run.artifact / name).read_bytes().decode(errors="replace")
        assert str(run.folder.parent) not in text and "/tmp/" not in text, f"{name} holds a path of this machine"
        assert not re.search(r"hf_[A-Za-z]{8}", text)
    return found


# --- text-classification ---


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijklmnop")


def test_one_label(train, bert, tmp_path, secret):
    source = tiny.text_csv(tmp_path / "rows.csv", 160)
    run, result = train(
        {"task": "text-classification", "model": bert, "data": {"source": str(source)}, "train": LEARNING}
    )
    found = finished(run, result, "single_label", ["negative", "positive"])
    truth = {f"rows.csv:{i}": label for i, (_, label) in enumerate(tiny.sentences(160))}
    assert [found.answer.names[i] for i in found.truth] == [truth[row] for row in found.row_ids]
    assert result["test"]["metrics"]["accuracy"]["value"] > 0.9
    right = found.answer.predicted(found.outputs) == found.truth
    assert np.mean(right) == pytest.approx(result["test"]["metrics"]["accuracy"]["value"])
    assert result["baseline"]["metrics"]["accuracy"]["value"] == pytest.approx(0.5, abs=0.05)
    # nobody reads the token off what a run writes for itself either
    assert not any(b"hf_abcdefghijklmnop" in path.read_bytes() for path in run.folder.rglob("*") if path.is_file())


def test_several_labels(train, bert, tmp_path):
    """A row may have all labels or none."""
    rows = []
    for i, (text, _) in enumerate(tiny.sentences(160)):
        marks = [name for name, wanted in (("even", i % 2 == 0), ("third", i % 3 == 0)) if wanted]
        words = [text, *("good" for m in marks if m == "even"), *("grim" for m in marks if m == "third")]
        rows.append({"text": " ".join(w for w in words if w), "label": marks})
    run, result = train(
        {
            "task": "text-classification", "model": bert, "data": {"source": jsonl(tmp_path / "rows.jsonl", rows)},
            "train": LEARNING,
        }
    )  # fmt: skip
    found = finished(run, result, "multi_label", ["even", "third"])
    assert found.truth.shape == (result["test"]["n"], 2) and {0, 1, 2} == set(found.truth.sum(axis=1))
    assert ((found.outputs >= 0) & (found.outputs <= 1)).all() and not np.allclose(found.outputs.sum(axis=1), 1)
    assert {"f1_macro", "f1_micro"} <= result["test"]["metrics"].keys()
    for row, truth in zip(found.row_ids, found.truth, strict=True):
        wanted = rows[int(row.partition(":")[2])]["label"]
        assert [name for name, is_there in zip(found.answer.names, truth, strict=True) if is_there] == wanted


def test_regression(train, bert, tmp_path):
    sign = {"positive": 1.5, "negative": -1.5}
    rows = [{"text": text, "label": sign[label] + i % 5 / 10} for i, (text, label) in enumerate(tiny.sentences(160))]
    source = jsonl(tmp_path / "rows.jsonl", rows)
    run, result = train(
        {
            "task": "text-classification", "model": bert,
            "data": {"source": source, "problem_type": "regression"}, "train": LEARNING | {"num_train_epochs": 15},
        }
    )  # fmt: skip
    found = finished(run, result, "regression", [])
    settings = json.loads((run.artifact / "config.json").read_text())
    assert settings["problem_type"] == "regression"
    assert found.truth == pytest.approx([rows[int(row.partition(":")[2])]["label"] for row in found.row_ids])
    metrics, baseline = result["test"]["metrics"], result["baseline"]["metrics"]
    assert metrics["mae"]["value"] == pytest.approx(np.abs(found.truth - found.outputs).mean(), rel=1e-4)
    assert metrics["mae"]["value"] < 0.5 * baseline["mae"]["value"]


def test_pairs(train, bert, tmp_path):
    """The label lies in the second text alone."""
    rows = [{"premise": "the film was", "hypothesis": text, "label": label} for text, label in tiny.sentences(160)]
    run, result = train(
        {
            "task": "text-classification", "model": bert,
            "data": {"source": jsonl(tmp_path / "rows.jsonl", rows)}, "train": LEARNING,
        }
    )  # fmt: skip
    finished(run, result, "single_label", ["negative", "positive"])
    notes = json.loads((run.artifact / "hftransfer.json").read_text())
    assert notes["columns"] == {"text": "premise", "text_pair": "hypothesis", "label": "label"}
    assert result["test"]["metrics"]["accuracy"]["value"] > 0.9


def test_truncation_is_said(train, bert, tmp_path):
    source = tiny.text_csv(tmp_path / "rows.csv", 80)
    tree = {"task": "text-classification", "model": bert, "data": {"source": str(source), "max_length": 6}}
    run, result = train(tree, "train.max_steps=1")
    texts = {f"rows.csv:{i}": text.split() for i, (text, _) in enumerate(tiny.sentences(80))}
    test = pd.read_parquet(run.predictions / "test.parquet")
    cut = sum(len(texts[row]) + 2 > 6 for row in test.row_id)  # with [CLS] and [SEP]
    said = f"test: {cut / len(test):.1%} of rows ({cut}) were cut at 6 tokens; data.max_length sets the limit"
    assert 0 < cut < len(test) and said in result["data"]["warnings"]
    assert said in [event["message"] for event in events(run, "warning")]
    assert json.loads((run.artifact / "hftransfer.json").read_text())["max_length"] == 6


def test_streaming(train, bert, tmp_path):
    source = tiny.text_csv(tmp_path / "rows.csv", 160)
    tree = {
        "task": "text-classification", "model": bert, "data": {"source": str(source), "streaming": True},
        "train": LEARNING,
    }  # fmt: skip
    run, result = train(tree)
    finished(run, result, "single_label", ["negative", "positive"])
    assert result["data"]["splits"] == {"train": 112, "validation": 16, "test": 32}
    assert result["cost"]["steps"] == 6 * 112 / 16
    assert result["test"]["metrics"]["accuracy"]["value"] > 0.9
    assert not (run.folder / "data").exists()


def test_balanced_weights_and_smoothing(train, bert, tmp_path):
    """With nine rows of ten in one class, weights raise the share of the rare class among the answers' probability."""
    rows = [row for i, row in enumerate(tiny.sentences(200)) if row[1] == "positive" or i % 9 == 0]
    source = jsonl(tmp_path / "rows.jsonl", [{"text": "the film", "label": label} for _, label in rows])
    shares = {}
    for name, override in {
        "plain": "train.class_weights=null", "weighted": "train.class_weights=balanced",
        "smooth": "train.label_smoothing_factor=0.4",
    }.items():  # fmt: skip
        run, _ = train(
            {
                "task": "text-classification", "model": bert, "data": {"source": source},
                "train": {"learning_rate": 5e-3, "num_train_epochs": 10, "load_best_model_at_end": False},
            },
            override, name=name,
        )  # fmt: skip
        scores = np.stack(pd.read_parquet(run.predictions / "test.parquet").scores)
        shares[name] = scores[:, 0].mean()
    rare = sum(label == "negative" for _, label in rows) / len(rows)
    assert shares["plain"] == pytest.approx(rare, abs=0.06)
    assert shares["weighted"] == pytest.approx(0.5, abs=0.1)
    assert shares["smooth"] == pytest.approx(0.6 * rare + 0.4 / 2, abs=0.06)


# --- label names ---


def test_class_labels_keep_their_names(train, bert, tmp_path):
    names = ["positive", "negative", "never"]  # neither sorted, nor all of them used
    texts = tiny.sentences(80)
    rows = {"text": [t for t, _ in texts], "label": [names.index(label) for _, label in texts]}
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "saved")
    tree = {"task": "text-classification", "model": bert, "data": {"source": str(tmp_path / "saved")}}
    run, result = train(tree, "train.max_steps=1")
    found = finished(run, result, "single_label", names)
    assert [names[i] for i in found.truth] == [texts[int(row.partition(":")[2])][1] for row in found.row_ids]
    assert any("class never missing from train" in warning for warning in result["data"]["warnings"])


@pytest.mark.parametrize(
    ("values", "names"), [((10, 9), ["9", "10"]), ((True, False), ["False", "True"]), (("b", "a"), ["a", "b"])]
)
def test_labels_of_other_types_are_named_by_their_values(train, bert, tmp_path, values, names):
    rows = [{"text": text, "label": values[label == "positive"]} for text, label in tiny.sentences(60)]
    tree = {
        "task": "text-classification", "model": bert, "data": {"source": jsonl(tmp_path / "rows.jsonl", rows)},
    }  # fmt: skip
    run, result = train(tree, "train.max_steps=1")
    notes = json.loads((run.artifact / "hftransfer.json").read_text())
    assert [name.lower() for name in notes["answer"]["names"]] == [name.lower() for name in names]
    finished(run, result, "single_label", notes["answer"]["names"])


# --- image-classification ---


def test_pictures(train, vit, tmp_path):
    source = tiny.image_folder(tmp_path / "pictures", 60)
    run, result = train(
        {
            "task": "image-classification", "model": vit, "data": {"source": str(source)},
            "train": {"learning_rate": 2e-3, "num_train_epochs": 4, "dataloader_num_workers": 0},
        }
    )  # fmt: skip
    finished(run, result, "single_label", ["blue", "red"])
    assert result["test"]["metrics"]["accuracy"]["value"] > 0.9
    assert (run.artifact / "preprocessor_config.json").exists()


def test_pictures_with_several_labels(train, vit, tmp_path):
    folder = tiny.image_folder(tmp_path / "pictures", 60)
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))
    rows = [
        {"file_name": name, "label": [name.split("/")[0], *(["picture"] if i % 4 else [])]}
        for i, name in enumerate(files)
    ]
    jsonl(folder / "metadata.jsonl", rows)
    run, result = train(
        {
            "task": "image-classification", "model": vit, "data": {"source": str(folder)},
            "train": {"learning_rate": 2e-3, "num_train_epochs": 2, "dataloader_num_workers": 0},
        }
    )  # fmt: skip
    found = finished(run, result, "multi_label", ["blue", "picture", "red"])
    assert (found.truth[:, 0] + found.truth[:, 2] == 1).all()
    settings = json.loads((run.artifact / "config.json").read_text())
    assert settings["problem_type"] == "multi_label_classification"


# --- token-classification ---


def test_tags_with_windows(train, bert, tmp_path):
    """Sentences of up to ten words are read in windows of eight tokens: every word has its tag, in its place."""
    rows = []
    for text, label in tiny.sentences(160):
        words = text.split()
        first = next(i for i, word in enumerate(words) if word in tiny.GOOD + tiny.BAD)
        tags = ["O"] * len(words)
        tags[first : first + 2] = [f"B-{label}", f"I-{label}"][: len(words) - first]
        rows.append({"tokens": words, "ner_tags": tags})
    source = jsonl(tmp_path / "rows.jsonl", rows)
    run, result = train(
        {
            "task": "token-classification", "model": bert, "data": {"source": source, "max_length": 8},
            "train": LEARNING | {"num_train_epochs": 15},
        }
    )  # fmt: skip
    names = ["B-negative", "B-positive", "I-negative", "I-positive", "O"]
    found = finished(run, result, "tags", names)
    assert max(map(len, found.truth)) > 6, "no sentence needs a second window"
    for row, truth, scores in zip(found.row_ids, found.truth, found.outputs, strict=True):
        wanted = rows[int(row.partition(":")[2])]["ner_tags"]
        assert [found.answer.names[i] for i in truth] == wanted
        assert scores.shape == (len(wanted), 5) and np.allclose(scores.sum(axis=1), 1, atol=1e-5)
    assert result["test"]["metrics"]["f1_entity"]["value"] > 0.6  # a window's edge hides what stood before


def test_words_that_the_tokenizer_makes_nothing_of_keep_their_tags_and_are_counted(train, bert, tmp_path):
    """Tags behind such a word would shift by one; the Predictor answers as many tags as there are words."""
    rows = []
    for i, (text, _) in enumerate(tiny.sentences(60)):
        words = text.split()
        words.insert(1, ("", "\xa0")[i % 2])
        tags = ["GOOD" if word in tiny.GOOD else "BAD" if word in tiny.BAD else "O" for word in words]
        rows.append({"tokens": words, "ner_tags": tags})
    tree = {"task": "token-classification", "model": bert, "data": {"source": jsonl(tmp_path / "rows.jsonl", rows)}}
    run, result = train({**tree, "train": LEARNING | {"num_train_epochs": 8}})
    sizes = result["data"]["splits"]
    wanted = [f"{split}: {count:,} words (blanks, signs" for split, count in sizes.items()]
    assert all(any(w.startswith(start) for w in result["data"]["warnings"]) for start in wanted)
    assert result["test"]["metrics"]["accuracy"]["value"] > 0.95
    (answer,) = Predictor(run.artifact).answer([["a", "\u200b", "good", "\xa0", "film", "\ufe0f"]])
    assert len(answer["tags"]) == 6 and answer["tags"][2] == "GOOD"


def test_windows_lose_no_word_whatever_their_size(bert):
    from transformers import AutoTokenizer

    from hftransfer import catalog
    from hftransfer.answers._head import IGNORED
    from hftransfer.config import DataConfig
    from hftransfer.modeling.prepared import prepare
    from hftransfer.tasks.base import Preparation

    words = [[str(w) for w in np.random.default_rng(n).choice(tiny.FILLER, n)] for n in range(1, 14)]
    table = Dataset.from_dict({"words": words, "tags": [list(range(len(w))) for w in words]})
    answer = tiny.answer("tags", map(str, range(14)))
    task, tokenizer = catalog.task("token-classification"), AutoTokenizer.from_pretrained(bert)
    for size in (3, 4, 7, 64):
        prepared = prepare(task, table, tokenizer, Preparation(DataConfig(source="-"), answer, 0, size), False)
        assert [row.tolist() for row in prepared.truth] == [list(range(len(w))) for w in words]
        found: list[list[int]] = [[] for _ in words]
        for row, item in zip(prepared.rows, prepared.dataset, strict=True):
            found[row] += [tag for tag in item["labels"] if tag != IGNORED]
        assert found == [list(range(len(w))) for w in words]
