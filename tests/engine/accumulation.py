"""Four batches of four rows are one of sixteen: Trainer multiplies the loss of some heads by the number of batches."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def still(model: Path) -> Path:
    """Take the dropout out of a model's configuration: it would draw other masks for other batches."""
    path = model / "config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {name: 0.0 for name in settings if name.endswith("dropout")}))
    return model


def require_exact(train: Callable[..., Any], tree: dict[str, Any]) -> None:
    """Make one update of 16 rows at once and of 4 times 4, through Trainer; compare loss and gradient to 1e-5."""
    found = []
    for size, times in ((16, 1), (4, 4)):
        run, _ = train(
            tree,
            f"train.per_device_train_batch_size={size}", f"train.gradient_accumulation_steps={times}",
            "train.learning_rate=0", "train.max_steps=1", "train.logging_steps=1", "train.bf16=false",
            "train.train_sampling_strategy=sequential", name=str(size),
        )  # fmt: skip
        (log,) = (event for event in run.events()[0] if event["type"] == "log")
        found.append((log["loss"], log["grad_norm"]))
    assert found[0] == pytest.approx(found[1], rel=1e-5)
