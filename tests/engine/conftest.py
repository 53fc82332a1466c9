"""A run in this process: what the engine tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hftransfer import catalog, config
from hftransfer.fitting.interruption import Interruption
from hftransfer.runs import Run

ON_CPU = os.environ.get("HFTRANSFER_TESTS_ON") != "gpu"  # see docs/several-gpus.md
QUICK: dict[str, Any] = {
    "method": {"name": "full"},
    "train": {"auto": False, "num_train_epochs": 2, "per_device_train_batch_size": 16, "use_cpu": ON_CPU},
    "data": {"label_issues": False},
    "evaluation": {"resamples": 100},
    "speed": {"tune": False, "threads": 1},
}


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., tuple[Run, dict[str, Any]]]:
    """Return a function that runs a configuration tree with overrides in this process."""

    def start(tree: dict[str, Any], *overrides: str, name: str = "run") -> tuple[Run, dict[str, Any]]:
        from hftransfer import training

        merged = {**QUICK, **tree}
        for part in ("method", "train", "data"):
            merged[part] = {**QUICK[part], **tree.get(part, {})}
        built = catalog.build_config(config.override(merged, overrides))
        run = Run.create(built, tmp_path / name)
        with Interruption() as interruption:
            return run, training.run(built, run, interruption)

    return start
