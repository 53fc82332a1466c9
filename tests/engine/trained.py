"""Finished tiny runs on the same rows, trained in this process: what the tests of comparing and fusing begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hftransfer import catalog
from hftransfer.fitting.interruption import Interruption
from hftransfer.runs import Run
from tests import tiny
from tests.engine.conftest import QUICK


def tree(folder: Path, **method: Any) -> dict[str, Any]:
    """Return the configuration of a tiny text classifier whose model and data lie in `folder`."""
    model, rows = folder / "base", folder / "rows.csv"
    if not model.is_dir():
        tiny.text_model(model)
        tiny.text_csv(rows, 240)
    return {
        **QUICK,
        "task": "text-classification",
        "model": str(model),
        "data": {**QUICK["data"], "source": str(rows), "test_size": 0.4, "validation_size": 0.2},
        "method": {"name": "full", **method},
        "train": {**QUICK["train"], "learning_rate": 5e-3, "num_train_epochs": 8},
    }


def trained(folder: Path, name: str, tree: dict[str, Any], **train: Any) -> Run:
    """Run a configuration in this process into folder/name."""
    from hftransfer import training

    config = catalog.build_config({**tree, "train": {**tree["train"], **train}})
    run = Run.create(config, folder / name)
    with Interruption() as interruption:
        training.run(config, run, interruption)
    run.event("done", seconds=1.0)
    return run
