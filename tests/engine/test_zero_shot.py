"""Direct use: each way in which a pretrained model answers, and what is said of one that cannot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from scipy.special import softmax

from hftransfer import catalog, questions, runs
from hftransfer.answers._head import matching
from hftransfer.answers.base import Answer
from hftransfer.errors import ConfigError, UserError
from hftransfer.evaluation.predictions import Predictions
from hftransfer.fitting.interruption import Interruption
from hftransfer.frozen import zero_shot
from hftransfer.hub import publishing
from hftransfer.runs import Run
from tests import tiny


def text_tree(folder: Path, model: Path, **method: Any) -> dict[str, Any]:
    return {
        "task": "text-classification",
        "model": str(model),
        "data": {"source": str(tiny.text_csv(folder / "rows.csv", 60))},
        "method": {"name": "zero_shot", **method},
    }


def classifier(folder: Path, names: list[str], architecture: str = "bert") -> Path:
    """Save a model with a head for some labels."""
    config = tiny.TEXT[architecture]()
    config.id2label, config.label2id = dict(enumerate(names)), {name: i for i, name in enumerate(names)}
    torch.manual_seed(0)
    transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def test_names_match_without_case_and_punctuation_and_nothing_else() -> None:
    def places(names: list[str], answer: Answer[Any]) -> list[int] | None:
        return zero_shot.own_places(transformers.BertConfig(id2label=dict(enumerate(names))), answer)

    answer = tiny.answer("single_label", ("very good", "bad"))
    assert places(["BAD", "meh", "Very-Good"], answer) == [2, 0]
    assert places(["awful", "very_good"], answer) is None
    assert places(["Bad", "bad", "very good"], answer) is None
    assert places(["LABEL_0"], tiny.answer("regression")) == [0]


def test_an_own_head_with_these_labels_is_asked_and_kept(train: Callable[..., Any], tmp_path: Path) -> None:
    source = classifier(tmp_path / "model", ["Positive", "NEUTRAL", "Negative"])
    run, result = train(text_tree(tmp_path, source))
    assert result["artifact"] == "artifact" and result["cost"]["trainable_parameters"] == 0
    assert result["method"] == "zero_shot"
    text = "the film was good"
    before = transformers.pipeline("text-classification", str(source), device="cpu")(text, top_k=None)
    after = transformers.pipeline("text-classification", str(run.artifact), device="cpu")(text, top_k=None)
    logits = {a["label"].lower(): np.log(a["score"]) for a in before if a["label"] != "NEUTRAL"}
    expected = softmax([logits["negative"], logits["positive"]])
    assert {a["label"]: a["score"] for a in after} == pytest.approx(
        {"negative": expected[0], "positive": expected[1]}, abs=1e-6
    )


def test_an_entailment_model_is_asked_as_the_zero_shot_pipeline_asks_it(
    train: Callable[..., Any], tmp_path: Path
) -> None:
    source = classifier(tmp_path / "model", ["CONTRADICTION", "neutral", "entailment"])
    run, result = train(text_tree(tmp_path, source, templates=["it was a {} story"]))
    assert result["artifact"] is None and not run.artifact.exists()
    assert (run.folder / "README.md").is_file()
    names = ("negative", "positive")
    found = Predictions.read_parquet(run.predictions / "test.parquet", tiny.answer("single_label", names))
    examples = [line.split(",") for line in (tmp_path / "rows.csv").read_text().splitlines()[1:]]
    pipeline = transformers.pipeline("zero-shot-classification", str(source), device="cpu")
    for row_id, scores in list(zip(found.row_ids, found.outputs, strict=True))[:4]:
        text = examples[int(row_id.rpartition(":")[2]) if ":" in row_id else int(row_id)][0]
        answer = pipeline(text, list(names), hypothesis_template="it was a {} story")
        assert dict(zip(names, scores, strict=True)) == pytest.approx(
            dict(zip(answer["labels"], answer["scores"], strict=True)), abs=1e-5
        )
    for ask in (lambda: runs.require_artifact(Run(run.folder)), lambda: publishing.contents(run, "user/model")):
        with pytest.raises(UserError, match="no model that can be loaded as one"):
            ask()
    assert "no model folder" in (run.folder / "README.md").read_text()


def test_labels_of_a_head_correspond_by_what_tells_them_apart() -> None:
    assert matching(("POSITIVE", "Nega-tive"), ("negative", "positive")) == [1, 0]
    assert matching(("1.0", "0.0"), ("0", "1")) == [1, 0]
    for head, names in ((("0", "1"), ("-1", "0")), (("1.5", "2"), ("15", "2")), (("c", "java"), ("C++", "Java"))):
        assert matching(head, names) is None
    assert matching(("+", "-"), ("-", "+")) == [1, 0]


@pytest.mark.parametrize(("architecture", "plain"), [("bert", True), ("distilbert", True), ("mpnet", False)])
def test_similarity_is_the_cosine_to_the_names(
    architecture: str, plain: bool, train: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = transformers.MPNetConfig(**{**tiny.SMALL, "pad_token_id": 0})
    monkeypatch.setitem(tiny.TEXT, "mpnet", lambda: config)
    source = tiny.text_model(tmp_path / "model", architecture)
    tree = text_tree(tmp_path, source, templates=["a {} film"])
    rows = "text,label\n" + "\n".join(
        f"{text},{'good' if label == 'positive' else 'awful'}" for text, label in tiny.sentences(60)
    )
    (tmp_path / "rows.csv").write_text(rows)  # labels that the tiny vocabulary has
    run, result = train(tree)
    assert (result["artifact"] is not None) is plain
    assert result["cost"]["trainable_parameters"] == 0
    backbone = transformers.AutoModel.from_pretrained(source)
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)

    def embedding(text: str) -> np.ndarray:
        with torch.inference_mode():
            vector = backbone(**tokenizer(text, return_tensors="pt"))["last_hidden_state"][0].mean(dim=0).numpy()
        vector = vector - vector.mean() if plain else vector  # a layer norm takes the mean of the features off
        return vector / np.linalg.norm(vector)

    names = np.stack([embedding("a awful film"), embedding("a good film")])
    found = Predictions.read_parquet(run.predictions / "test.parquet", tiny.answer("single_label", ("awful", "good")))
    texts = [line.split(",")[0] for line in rows.splitlines()[1:]]
    for row_id, scores in zip(found.row_ids, found.outputs, strict=True):
        text = texts[int(row_id.rpartition(":")[2]) if ":" in row_id else int(row_id)]
        np.testing.assert_allclose(
            scores, softmax(zero_shot.SCALE * names @ embedding(text)), atol=3e-3
        )  # the first token's share


@pytest.mark.parametrize("kind", ["CLIP", "Siglip"])
def test_an_image_text_model_is_asked_with_prompts(kind: str, train: Callable[..., Any], tmp_path: Path) -> None:
    source = tiny.image_text_model(tmp_path / "model", kind)
    pictures = tiny.image_folder(tmp_path / "pictures", 40)
    (pictures / "red").rename(pictures / "bright")
    (pictures / "blue").rename(pictures / "dull")
    tree = {
        "task": "image-classification",
        "model": str(source),
        "data": {"source": str(pictures)},
        "method": {"name": "zero_shot", "templates": ["a {} film", "the {} story"]},
    }
    run, result = train(tree)
    assert result["artifact"] is None and result["test"]["n"] == 8
    assert (run.folder / "README.md").is_file()
    _, probed = train({**tree, "method": {"name": "probe"}}, name="probe")
    assert probed["test"]["metrics"]["accuracy"]["value"] == 1.0


def test_the_logits_of_prompts_are_the_models_own(tmp_path: Path) -> None:
    source = tiny.image_text_model(tmp_path / "model", "CLIP")
    model = transformers.CLIPModel.from_pretrained(source).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    texts, pixels = ["a good film", "a bad film"], torch.rand(3, 3, 32, 32)
    batch = tokenizer(texts, return_tensors="pt")
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    with torch.inference_mode():
        expected = model(pixel_values=pixels, **inputs).logits_per_image
        vectors = model.get_text_features(**inputs)["pooler_output"]
        got = zero_shot.ImageText(model, vectors)(pixels)["logits"]
    torch.testing.assert_close(got, expected)


def test_a_bare_backbone_of_pictures_cannot_answer_and_says_what_can(
    train: Callable[..., Any], tmp_path: Path
) -> None:
    tree = {
        "task": "image-classification",
        "model": str(tiny.image_model(tmp_path / "model")),
        "data": {"source": str(tiny.image_folder(tmp_path / "pictures", 24))},
        "method": {"name": "zero_shot"},
    }
    with pytest.raises(UserError, match=r"CLIP, SigLIP.*method\.name=probe"):
        train(tree)
    with pytest.raises(UserError, match=r"CLIP, SigLIP"), Interruption() as interruption:
        questions.check(catalog.build_config({**tree, "train": {"use_cpu": True}}), interruption)


def test_checking_trains_nothing(tmp_path: Path) -> None:
    tree = text_tree(tmp_path, tiny.text_model(tmp_path / "model")) | {"train": {"use_cpu": True}}
    with Interruption() as interruption:
        found = questions.check(catalog.build_config(tree), interruption)
    assert found["parameters"]["trainable"] == 0 < found["parameters"]["total"]


def test_a_template_needs_a_place_for_the_label(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"method\.templates.*one \{\}"):
        catalog.build_config(text_tree(tmp_path, tmp_path, templates=["a film"]))


def pairs(folder: Path, names: tuple[str, str]) -> Path:
    """Write pairs of sentences: the first name where both are good or both bad."""
    sentences = tiny.sentences(120, 3)
    rows = []
    for (one, first), (other, second) in zip(sentences[::2], sentences[1:][::3] + sentences[:20], strict=True):
        rows.append({"text": one, "text_pair": other, "label": names[first != second]})
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def asked(run: Run, answer: Answer[Any], path: Path) -> list[tuple[dict[str, Any], np.ndarray]]:
    """Return test rows with the stored scores."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    found = Predictions.read_parquet(run.predictions / "test.parquet", answer)
    return [(rows[int(i.rpartition(":")[2])], scores) for i, scores in zip(found.row_ids, found.outputs, strict=True)]


def test_pairs_become_one_premise(train: Callable[..., Any], tmp_path: Path) -> None:
    source = classifier(tmp_path / "model", ["CONTRADICTION", "neutral", "entailment"])
    path = pairs(tmp_path, ("good", "dull"))
    tree = text_tree(tmp_path, source, templates=["it was a {} story"], premise="{} and {}")
    tree["data"] = {"source": str(path)}
    run, result = train(tree)
    assert result["artifact"] is None
    pipeline = transformers.pipeline("zero-shot-classification", str(source), device="cpu")
    for row, scores in asked(run, tiny.answer("single_label", ("dull", "good")), path)[:4]:
        premise = f"{row['text']} and {row['text_pair']}"
        answer = pipeline(premise, ["dull", "good"], hypothesis_template="it was a {} story")
        expected = dict(zip(answer["labels"], answer["scores"], strict=True))
        assert dict(zip(["dull", "good"], scores, strict=True)) == pytest.approx(expected, abs=1e-5)


def test_whether_one_text_entails_the_other_is_asked_of_the_pair_itself(
    train: Callable[..., Any], tmp_path: Path
) -> None:
    source = classifier(tmp_path / "model", ["CONTRADICTION", "neutral", "entailment"])
    path = pairs(tmp_path, ("entailment", "not_entailment"))
    tree = text_tree(tmp_path, source)
    tree["data"] = {"source": str(path)}
    run, _ = train(tree)
    pipeline = transformers.pipeline("text-classification", str(source), device="cpu")
    for row, scores in asked(run, tiny.answer("single_label", ("entailment", "not_entailment")), path)[:4]:
        answer = pipeline({"text": row["text"], "text_pair": row["text_pair"]}, top_k=None)
        entailed = {a["label"]: a["score"] for a in answer}["entailment"]
        assert list(scores) == pytest.approx([entailed, 1 - entailed], abs=1e-5)


def test_two_numbers_make_similarities_log_odds() -> None:
    rng = np.random.default_rng(0)
    cosines = rng.uniform(0.2, 0.9, (4000, 3))
    truth = rng.random(cosines.shape) < 1 / (1 + np.exp(-(12 * cosines - 8)))
    assert zero_shot.log_odds(cosines, truth) == pytest.approx((12, -8), rel=0.1)
    against, _ = zero_shot.log_odds(cosines, ~truth)
    assert against == 0  # a similarity that speaks against is no reason to turn it round
    split = cosines > 0.5
    scale, shift = zero_shot.log_odds(cosines, split)
    assert np.isfinite([scale, shift]).all() and ((scale * cosines + shift > 0) == split).mean() > 0.99


@pytest.mark.parametrize(("architecture", "plain"), [("bert", True), ("mpnet", False)])
def test_similarity_decides_each_of_several_labels(
    architecture: str, plain: bool, train: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tiny.TEXT, "mpnet", lambda: transformers.MPNetConfig(**{**tiny.SMALL, "pad_token_id": 0}))
    source = tiny.text_model(tmp_path / "model", architecture)
    path = tmp_path / "rows.jsonl"
    names = ("dull", "good", "story")
    with open(path, "w") as file:
        for text, _ in tiny.sentences(150):
            file.write(json.dumps({"text": text, "labels": [name for name in names if name in text.split()]}) + "\n")
    tree = text_tree(tmp_path, source, templates=["{}"])
    tree["data"] = {"source": str(path), "problem_type": "multi_label"}
    run, result = train(tree)
    assert (result["artifact"] is not None) is plain
    (told,) = [e["message"] for e in run.events()[0] if e["type"] == "notice" and "zero_shot" in e["message"]]
    assert f"fitted to {result['validation']['n']} validation rows" in told
    found = Predictions.read_parquet(run.predictions / "test.parquet", tiny.answer("multi_label", names))
    validation = Predictions.read_parquet(run.predictions / "validation.parquet", tiny.answer("multi_label", names))
    # one scale and one shift for all: what the labels get on average is what they have on average
    assert validation.outputs.mean() == pytest.approx(np.asarray(validation.truth).mean(), abs=0.01)
    assert np.ptp(found.outputs) > 0.01
    if plain:
        ask = transformers.pipeline("text-classification", str(run.artifact), device="cpu", top_k=None)
        for row, scores in asked(run, tiny.answer("multi_label", names), path)[:3]:
            answers = {a["label"]: a["score"] for a in ask(row["text"])[0]}
            assert [answers[name] for name in names] == pytest.approx(list(scores), abs=1e-4)


@pytest.mark.parametrize(
    ("task", "wanted"), [("regression", "one number"), ("token-classification", "whose own tags")]
)
def test_numbers_and_tags_are_refused_in_words(
    task: str, wanted: str, train: Callable[..., Any], tmp_path: Path
) -> None:
    tree = text_tree(tmp_path, tiny.text_model(tmp_path / "model"))
    if task == "regression":
        path = tmp_path / "numbers.jsonl"
        path.write_text(
            "".join(json.dumps({"text": t, "label": i / 7}) + "\n" for i, (t, _) in enumerate(tiny.sentences(40)))
        )
        tree["data"] = {"source": str(path), "problem_type": "regression"}
    else:
        tree |= {"task": task, "data": {"source": str(tiny.token_jsonl(tmp_path / "rows.jsonl", 60))}}
    with pytest.raises(UserError, match=wanted):
        train(tree)
