"""Frozen layers that run once: the same weights as with layers that run at every step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers

from tests import tiny

STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
CONFIGS: dict[str, Callable[[], Any]] = {
    "bert": lambda: transformers.BertConfig(**{**tiny.SMALL, **STILL}),
    "deberta-v2": lambda: transformers.DebertaV2Config(
        **{**tiny.SMALL, **STILL, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
    ),
    "llama": tiny.TEXT["llama"],
    "vit": lambda: transformers.ViTConfig(**{**tiny.SMALL, **tiny.PICTURE, **STILL}),
}
FREEZE = {
    "bert": ["bert.embeddings.*", "bert.encoder.layer.0"],
    "deberta-v2": ["deberta.embeddings.*", "deberta.encoder.layer.0", "deberta.encoder.rel_embeddings*"],
    "llama": ["model.embed_tokens*", "model.layers.0"],
    "vit": ["vit.*"],
}


def tree(folder: Path, architecture: str, *freeze: str) -> dict[str, Any]:
    if architecture == "vit":
        data: dict[str, Any] = {"source": str(tiny.image_folder(folder / "pictures", 30)), "augmentation": False}
        model, task = tiny.image_model(folder / "model", "vit"), "image-classification"
    else:
        data = {"source": str(tiny.text_csv(folder / "rows.csv", 60))}
        model, task = tiny.text_model(folder / "model", architecture), "text-classification"
    return {
        "task": task,
        "model": str(model),
        "data": data,
        "method": {"name": "full", "freeze": list(freeze) or FREEZE[architecture]},
        "train": {"learning_rate": 0.1, "optim": "sgd", "bf16": False},  # AdamW makes much of rounding
    }


def notices(run: Any) -> list[str]:
    return [
        event["message"] for event in run.events()[0] if event["type"] == "notice" and "run once" in event["message"]
    ]


def weights(run: Any) -> dict[str, torch.Tensor]:
    return dict(safetensors.torch.load_file(run.artifact / "model.safetensors"))


@pytest.mark.parametrize("architecture", CONFIGS)
def test_the_weights_are_those_of_training_without_it(
    architecture: str, train: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, build in CONFIGS.items():
        monkeypatch.setitem(tiny.TEXT if name != "vit" else tiny.IMAGE, name, build)
    found = tree(tmp_path, architecture)
    cached, result = train(found, name="cached")
    plain, expected = train(found, "method.cache_frozen=false", name="plain")
    assert len(notices(cached)) == 1 and not notices(plain)
    assert not (cached.folder / "frozen.states").exists()
    before = safetensors.torch.load_file(Path(found["model"]) / "model.safetensors")
    ours, theirs = weights(cached), weights(plain)
    changed = 0
    for name, value in theirs.items():
        torch.testing.assert_close(
            ours[name], value, atol=2e-5, rtol=1e-4, msg=lambda text, name=name: f"{name} {text}"
        )
        changed += name.partition(".")[2] in before and not torch.equal(before[name.partition(".")[2]], value)
    assert changed or architecture == "vit"  # layers above the frozen ones did train
    for metric, score in expected["test"]["metrics"].items():
        assert result["test"]["metrics"][metric]["value"] == pytest.approx(score["value"], abs=1e-4)


@pytest.mark.parametrize(
    ("architecture", "overrides", "freeze"),
    [
        ("bert", ["train.num_train_epochs=1"], []),  # nothing to save
        ("bert", [], ["bert.encoder.layer.0"]),  # embeddings train below
        ("bert", [], ["bert.embeddings.*", "bert.encoder.layer.1"]),  # a layer below trains
        ("bert", ["method.unfreeze_after=0.5"], []),  # it is set free later
        ("deberta-v2", [], ["deberta.embeddings.*", "deberta.encoder.layer.0"]),  # shared positions train
        ("vit", ["data.augmentation.flip=true"], []),  # no epoch shows the same pictures
    ],
)
def test_it_is_off_where_it_would_not_be_exact_or_not_help(
    architecture: str, overrides: list[str], freeze: list[str], train: Callable[..., Any], tmp_path: Path
) -> None:
    found = tree(tmp_path, architecture, *freeze)
    run, _ = train(found, *overrides)
    assert notices(run) == []
    assert (run.artifact / "model.safetensors").is_file()
