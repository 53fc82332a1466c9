"""The table architecture x method: train, save, reload in a fresh process through plain pipeline(), same answers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from hftransfer import catalog
from hftransfer.errors import UserError
from hftransfer.methods.peft import merged
from hftransfer.modeling import loading
from tests import tiny

LORA = {"r": 4, "lora_alpha": 8}
METHODS: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": LORA,
    "dora": LORA,
    "rslora": LORA,
    "pissa": LORA,
    "olora": LORA,
    "ia3": {},
    "vera": {"r": 4},
    "miss": {"r": 4},
    "lokr": {"r": 4},
    "loha": {"r": 4},
    "boft": {"boft_block_size": 2},
    "hra": {"r": 4},
    "randlora": {"r": 4},
    "adalora": {"target_r": 2, "init_r": 4, "total_step": 20},
    "ln_tuning": {},
}
# what a model of width 32 asks of the methods that are not in the table
FITTING: dict[str, dict[str, Any]] = {
    "c3a": {"block_size": 8},
    "road": {"group_size": 8},
    "shira": {"r": 2},
    "vblora": {"vector_length": 8},
    "waveft": {"n_frequency": 50},
}
UNMERGED = ("lily", "poly", "shadow")
EVERY = tuple(METHODS)
CORE = ("full", "lora", "dora", "ia3")
TEXT = [(a, m) for a in tiny.TEXT for m in (EVERY if a == "bert" else CORE)]
CONVOLUTIONS = ("resnet", "mobilenet-v2")
IMAGE = [(a, m) for a in tiny.IMAGE for m in (("full",) if a in CONVOLUTIONS else EVERY if a == "vit" else CORE)]

PIPELINE = """
import json, sys
from transformers import pipeline
found = {}
for name, (task, folder, inputs) in json.load(open(sys.argv[1])).items():
    found[name] = pipeline(task, folder, top_k=None, device="cpu")(inputs)
print("ANSWERS" + json.dumps(found))
"""


@pytest.fixture(scope="module")
def trained() -> dict[str, list[Any]]:
    """Collect what the tests of the table trained, for the one fresh process at the end."""
    return {}


@pytest.mark.parametrize(("architecture", "method"), TEXT)
def test_text(train, trained, tmp_path, architecture, method):
    model = tiny.text_model(tmp_path / "model", architecture)
    rows = tiny.text_csv(tmp_path / "rows.csv", 80)
    run, result = train(
        {
            "task": "text-classification",
            "model": str(model),
            "data": {"source": str(rows)},
            "method": {"name": method, **METHODS[method]},
            "train": {"learning_rate": 5e-3, "num_train_epochs": 3},
        }
    )
    cost = result["cost"]
    assert (cost["trainable_parameters"] < cost["total_parameters"]) == (method != "full")
    assert (run.artifact / "adapter" / "adapter_model.safetensors").exists() == (method != "full")
    test = pd.read_parquet(run.predictions / "test.parquet")
    texts = {f"rows.csv:{i}": text for i, (text, _) in enumerate(tiny.sentences(80))}
    trained[f"{architecture}-{method}"] = ["text-classification", str(run.artifact), test, texts]


@pytest.mark.parametrize(("architecture", "method"), IMAGE)
def test_image(train, trained, tmp_path, architecture, method):
    model = tiny.image_model(tmp_path / "model", architecture)
    folder = tiny.image_folder(tmp_path / "pictures", 40)
    run, _ = train(
        {
            "task": "image-classification",
            "model": str(model),
            "data": {"source": str(folder)},
            "method": {"name": method, **METHODS[method]},
            "train": {"learning_rate": 5e-3, "dataloader_num_workers": 0},
        }
    )
    assert (run.artifact / "model.safetensors").exists()
    test = pd.read_parquet(run.predictions / "test.parquet")
    trained[f"{architecture}-{method}"] = ["image-classification", str(run.artifact), test, folder]


def test_fresh_process_agrees(trained, tmp_path):
    """Plain pipeline() in another process gives the labels and probabilities that the runs stored."""
    assert trained, "the table has to run first: select this whole file"
    asked = {}
    for name, (task, folder, test, inputs) in trained.items():
        rows = test.head(6)
        values = (
            [inputs[i] for i in rows.row_id] if isinstance(inputs, dict) else [_path(inputs, i) for i in rows.row_id]
        )
        asked[name] = (task, folder, values)
    (tmp_path / "asked.json").write_text(json.dumps(asked))
    done = subprocess.run(
        [sys.executable, "-c", PIPELINE, str(tmp_path / "asked.json")], capture_output=True, text=True, check=True
    )
    answers = json.loads(done.stdout.partition("ANSWERS")[2])
    assert answers.keys() == trained.keys()
    for name, found in answers.items():
        _, folder, test, _ = trained[name]
        names = json.loads((Path(folder) / "hftransfer.json").read_text())["answer"]["names"]
        for answer, (_, row) in zip(found, test.head(6).iterrows(), strict=True):
            assert answer[0]["label"] == row.prediction, name
            scores = {item["label"]: item["score"] for item in answer}
            assert [scores[n] for n in names] == pytest.approx(list(row.scores), abs=1e-5), name


OF_PEFT = [name for name in catalog.adapting_methods() if catalog.methods()[name] == catalog.PEFT]


@pytest.mark.parametrize("name", [name for name in OF_PEFT if name not in UNMERGED])
def test_every_peft_method_merges_into_what_it_trained(tmp_path, name):
    """The adapted, the merged and the reloaded model answer alike, its new head included."""
    method = {"name": name, **METHODS.get(name, {}), **FITTING.get(name, {})}
    model = str(tiny.text_model(tmp_path / "model"))
    tree = {"task": "text-classification", "model": model, "data": {"source": "-"}, "method": method}
    config, task = catalog.build_config(tree), catalog.task("text-classification")
    processor = loading.load_processor(config, task)
    loaded = loading.load_model(config, task, tiny.answer("single_label", "ab"), processor)
    adapted = catalog.method(name).apply(loaded, config.method)
    torch.manual_seed(0)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data += torch.randn_like(parameter) * 0.05
    inputs = torch.randint(5, 30, (4, 8))
    expected = adapted.eval()(input_ids=inputs).logits
    plain = merged(adapted).eval()
    assert torch.allclose(plain(input_ids=inputs).logits, expected, atol=1e-4)
    plain.save_pretrained(tmp_path / "saved")
    saved, info = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert torch.equal(saved.eval()(input_ids=inputs).logits, plain(input_ids=inputs).logits)


@pytest.mark.parametrize("name", UNMERGED)
def test_a_method_that_cannot_merge_is_refused_before_training(train, tmp_path, name):
    tree = {
        "task": "text-classification",
        "model": str(tiny.text_model(tmp_path / "model")),
        "data": {"source": str(tiny.text_csv(tmp_path / "rows.csv", 80))},
        "method": {"name": name},
    }
    with pytest.raises(UserError, match=f"{name} must merge into the weights"):
        train(tree)


def test_layer_norms_are_what_ln_tuning_trains(train, tmp_path):
    from safetensors.numpy import load_file

    model = tiny.text_model(tmp_path / "model")
    rows = tiny.text_csv(tmp_path / "rows.csv", 80)
    tree = {"task": "text-classification", "model": str(model), "data": {"source": str(rows)}}
    run, _ = train({**tree, "method": {"name": "ln_tuning"}, "train": {"learning_rate": 5e-3, "max_steps": 2}})
    before, after = load_file(model / "model.safetensors"), load_file(run.artifact / "model.safetensors")
    changed = {name for name in before if "pooler" not in name and (before[name] != after[f"bert.{name}"]).any()}
    assert changed == {name for name in before if "LayerNorm" in name}


def test_convolutions_under_lora_are_explained(train, tmp_path):
    """A backbone without linear layers cannot take all-linear: the message says so and names a way out."""
    for architecture in CONVOLUTIONS:
        model = tiny.image_model(tmp_path / architecture, architecture)
        folder = tiny.image_folder(tmp_path / "pictures", 40)
        tree = {
            "task": "image-classification",
            "model": str(model),
            "data": {"source": str(folder)},
            "method": {"name": "lora"},
        }
        with pytest.raises(UserError, match=r"method\.name=full"):
            train(tree, name=f"run-{architecture}")


def _path(folder: Path, row_id: str) -> str:
    found = [p for p in folder.rglob("*.png") if row_id.partition(":")[0].endswith(p.name)]
    return str(found[0]) if found else str(sorted(folder.rglob("*.png"))[int(row_id.rpartition(":")[2])])
