"""The loss is the same however a batch is cut up; weights, freezing and schedules do what their names say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from hftransfer.answers import _head
from hftransfer.errors import UserError
from tests import tiny


def logs(run, type="log"):
    return [event for event in run.events()[0] if event["type"] == type]


def bert(tmp_path, **train):
    return {
        "task": "text-classification",
        "model": str(tiny.text_model(tmp_path / "model")),
        "data": {"source": str(tiny.text_csv(tmp_path / "rows.csv", 100))},
        "train": {
            "learning_rate": 0.0, "max_steps": 1, "logging_steps": 1, "train_sampling_strategy": "sequential", **train,
        },
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["text", "image"])
def test_loss_does_not_grow_with_accumulation(train, tmp_path, kind):
    """transformers#47688: 16 x 1 and 4 x 4 rows give one loss, and one gradient for BERT; both heads are affected."""
    tree = bert(tmp_path)
    if kind == "image":
        tree |= {
            "task": "image-classification",
            "model": str(tiny.image_model(tmp_path / "pixels", "resnet")),
            "data": {"source": str(tiny.image_folder(tmp_path / "pictures")), "augmentation": False},
        }
    found = []
    for batch, accumulation in ((16, 1), (4, 4)):
        run, _ = train(
            tree,
            f"train.per_device_train_batch_size={batch}",
            f"train.gradient_accumulation_steps={accumulation}",
            "train.bf16=false",
            name=f"run-{batch}",
        )
        found.append((logs(run)[0]["loss"], logs(run)[0]["grad_norm"]))
    # dropout draws differ between the two cuts, and a batch norm's statistics of 4 rows are not those of 16, which its
    # gradient shows; a wrong scale would be off by a factor of four
    assert found[0][0] == pytest.approx(found[1][0], rel=0.25)
    if kind == "text":
        assert found[0][1] == pytest.approx(found[1][1], rel=0.25)


def test_loss_is_a_mean_over_rows():
    loss = tiny.answer("single_label", "abc", (5, 3, 2)).loss()
    logits, targets = torch.randn(12, 3), torch.arange(12) % 3
    whole = loss({"logits": logits}, targets, torch.tensor(12))
    parts = [loss({"logits": logits[i : i + 4]}, targets[i : i + 4], torch.tensor(12)) for i in (0, 4, 8)]
    assert whole.item() == pytest.approx(sum(parts).item(), rel=1e-6)
    assert whole.item() == pytest.approx(torch.nn.functional.cross_entropy(logits, targets).item(), rel=1e-6)


@pytest.mark.parametrize("kind", ["multi_label", "regression", "tags"])
def test_every_kind_of_loss_is_a_mean(kind):
    answer = tiny.answer(kind, () if kind == "regression" else "abc")
    torch.manual_seed(0)
    logits = torch.randn(4, 1) if kind == "regression" else torch.randn(4, 3)
    targets = {"regression": torch.randn(4), "multi_label": torch.eye(4, 3), "tags": torch.tensor([[0, 1], [2, -100]])}
    if kind == "tags":
        logits = torch.randn(2, 2, 3)
    loss = answer.loss()({"logits": logits}, targets[kind])
    expected = {
        "regression": lambda: torch.nn.functional.mse_loss(logits.view(-1), targets[kind]),
        "multi_label": lambda: torch.nn.functional.binary_cross_entropy_with_logits(logits, targets[kind]),
        "tags": lambda: torch.nn.functional.cross_entropy(logits.view(-1, 3), targets[kind].view(-1)),
    }[kind]()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_class_weights(train, tmp_path):
    assert _head.balanced([30, 10]) == pytest.approx([40 / 60, 2.0])
    tree = bert(tmp_path)
    heavy, _ = train(tree, "train.class_weights={positive: 10, negative: 10}", "train.bf16=false", name="heavy")
    plain, _ = train(tree, "train.bf16=false", name="plain")
    assert logs(heavy)[0]["loss"] == pytest.approx(10 * logs(plain)[0]["loss"], rel=1e-3)
    with pytest.raises(UserError, match=r"class_weights.*'positiv'.*Did you mean 'positive'"):
        train(tree, "train.class_weights={positiv: 2}", name="wrong")


def test_freeze_keeps_weights(train, tmp_path):
    from safetensors.numpy import load_file

    tree = bert(tmp_path, learning_rate=1e-2, max_steps=5)
    run, result = train(tree, 'method.freeze=["*embeddings*", bert.encoder.layer.0]')
    before, after = load_file(tmp_path / "model" / "model.safetensors"), load_file(run.artifact / "model.safetensors")
    frozen = [n for n in before if "embeddings" in n or "layer.0." in n]
    trained = [n for n in before if "layer.1." in n and "weight" in n]
    assert frozen and all((before[n] == after[f"bert.{n}"]).all() for n in frozen)
    assert trained and all((before[n] != after[f"bert.{n}"]).any() for n in trained)
    assert result["cost"]["trainable_parameters"] < result["cost"]["total_parameters"]
    with pytest.raises(UserError, match=r"'\*embedings\*' matches none"):
        train(tree, 'method.freeze=["*embedings*"]', name="wrong")


def test_frozen_batch_norm_keeps_its_statistics(train, tmp_path):
    from safetensors.numpy import load_file

    model = tiny.image_model(tmp_path / "model", "resnet")
    tree = {
        "task": "image-classification",
        "model": str(model),
        "data": {"source": str(tiny.image_folder(tmp_path / "pictures"))},
        "method": {"name": "full", "freeze": ["resnet"]},
        "train": {"dataloader_num_workers": 0},
    }
    run, _ = train(tree)
    before, after = load_file(model / "model.safetensors"), load_file(run.artifact / "model.safetensors")
    statistics = [n for n in before if "running" in n]
    assert statistics and all((before[n] == after[f"resnet.{n}"]).all() for n in statistics)


def test_layer_decay_lowers_the_rate_of_lower_layers(tmp_path):
    from transformers import AutoModelForSequenceClassification

    from hftransfer.methods.full import layer_groups

    model = AutoModelForSequenceClassification.from_pretrained(tiny.text_model(tmp_path / "model"))
    groups = layer_groups(model, 0.5)
    assert [group["scale"] for group in groups] == [0.125, 0.25, 0.5, 1.0]  # embeddings, two layers, head
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_unfreezing_trains_the_head_alone_first(train, tmp_path):
    from safetensors.numpy import load_file

    tree = bert(tmp_path, learning_rate=1e-2, max_steps=4, save_strategy="steps", save_steps=1, save_total_limit=9)
    tree["train"] |= {"eval_strategy": "steps", "eval_steps": 1}
    run, _ = train(tree, "method.unfreeze_after=0.5")
    name = "bert.encoder.layer.1.output.dense.weight"
    steps = [load_file(run.checkpoints / f"checkpoint-{i}" / "model.safetensors") for i in (1, 2, 3)]
    assert (steps[0][name] == steps[1][name]).all()
    assert (steps[1][name] != steps[2][name]).any()
    assert (steps[0]["classifier.weight"] != steps[1]["classifier.weight"]).any()


def test_early_stopping_and_best_checkpoint(train, tmp_path):
    tree = bert(tmp_path, learning_rate=0.0, max_steps=-1, num_train_epochs=6)
    run, result = train(tree, "train.early_stopping_patience=1", "train.metric_for_best_model=f1_macro")
    assert len(logs(run, "evaluation")) == 2  # nothing improves at a learning rate of 0
    assert result["cost"]["best_step"] == logs(run, "evaluation")[0]["step"]
    with pytest.raises(UserError, match="Did you mean 'f1_macro'"):
        train(tree, "train.metric_for_best_model=f1_marco", name="wrong")


def test_old_checkpoints_go_and_the_best_stays(train, tmp_path):
    tree = bert(tmp_path, learning_rate=0.0, max_steps=-1, num_train_epochs=4, save_total_limit=1)
    run, result = train(tree)
    kept = sorted(p.name for p in run.checkpoints.glob("checkpoint-*"))
    assert kept == sorted({f"checkpoint-{result['cost']['best_step']}", f"checkpoint-{result['cost']['steps']}"})
    assert all((run.checkpoints / name / "manifest.json").exists() for name in kept)


def outermost(told: str) -> list[str]:
    """Return the names in quotes that stand in the first pair of braces alone, but behind a colon: values."""
    names, depth = [], 0
    for part in re.findall(r'[{}\[\]()]|: *"[^"]*"|"[^"]*"', told):
        depth += (part in "{[(") - (part in "}])")
        if depth == 1 and part.startswith('"'):
            names.append(part.strip('"'))
    return names


def test_result_has_its_parts(train, tmp_path):
    run, result = train(bert(tmp_path), "data.label_issues=true")
    assert json.loads(run.result_path.read_text()) == result
    assert result["schema"] == 3
    assert result["data"]["splits"] == {"train": 70, "validation": 10, "test": 20}
    accuracy = result["test"]["metrics"]["accuracy"]
    assert 0 <= accuracy["low"] <= accuracy["value"] <= accuracy["high"] <= 1
    assert result["baseline"]["name"] == "majority class"
    assert {"train_seconds", "examples_per_second", "peak_memory_mb"} <= result["cost"].keys()
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    told = page.partition("## result.json")[2].split("```")[1]
    assert set(outermost(told)) == result.keys(), "docs/evaluation.md tells what result.json holds"
    assert [e["name"] for e in logs(run, "phase")] == [
        *("data", "model", "tuning", "training", "evaluation", "labels", "copies", "intervals", "saving")
    ]
