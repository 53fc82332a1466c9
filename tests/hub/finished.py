"""A finished run of a tiny model, made once, copied for each test, and commands that act on it as a user."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hftransfer import catalog, config
from hftransfer.fitting.interruption import Interruption
from hftransfer.runs import Run
from tests import tiny
from tests.engine.conftest import QUICK
from tests.hub.conftest import SECONDS, environment
from tests.hub_server import HubServer


def train(folder: Path, *overrides: str) -> Run:
    """Train a tiny model in this process, with a head that has learned something."""
    from hftransfer import training

    tiny.text_model(folder / "model")
    tiny.text_csv(folder / "rows.csv", 120)
    tree = {
        **QUICK,
        "task": "text-classification",
        "model": str(folder / "model"),
        "data": {"source": str(folder / "rows.csv")},
        "train": {**QUICK["train"], "learning_rate": 2e-2, "num_train_epochs": 15},
    }
    built = catalog.build_config(config.override(tree, overrides))
    run = Run.create(built, folder / "runs" / "finished")
    with Interruption() as interruption:
        result = training.run(built, run, interruption)
    run.event("result", metrics=result["test"]["metrics"], n=result["test"]["n"])
    run.event("done", seconds=1.0)
    return run


def copy(run: Run, folder: Path) -> Run:
    """Return a run of its own for a test."""
    return Run(Path(shutil.copytree(run.folder, folder / "runs" / run.name)))


def start(hub: HubServer, user: str | None, home: Path, *words: str | Path, **env: str) -> subprocess.Popen[str]:
    """Start `hftransfer ...` as `user`, in the folder above `home`."""
    home.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "hftransfer.cli", *map(str, words)],
        env=environment(hub, user, home, OMP_NUM_THREADS="1", **env),
        cwd=home.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def call(
    hub: HubServer, user: str | None, home: Path, *words: str | Path, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run `hftransfer ...` to its end."""
    child = start(hub, user, home, *words, **env)
    try:
        out, err = child.communicate(timeout=SECONDS)
    except BaseException:
        child.kill()
        raise
    return subprocess.CompletedProcess(child.args, child.returncode, out, err)


def events(text: str) -> list[dict[str, Any]]:
    """Return the events that a command printed with --json."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def last(run: Run, type: str) -> dict[str, Any]:
    """Return the last event of a type."""
    return [event for event in run.events()[0] if event["type"] == type][-1]
