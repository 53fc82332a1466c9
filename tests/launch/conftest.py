"""Real runs in real processes: a tiny model, the command line as a person uses it, and no process left behind."""

from __future__ import annotations

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from hftransfer.events import Event
from hftransfer.launchers._alone import ENVIRONMENT
from hftransfer.launchers.local import PROCESSES
from hftransfer.runs import MARK, Run
from tests import tiny
from tests.chaos.zygote import Zygote

ROOT = Path(__file__).parents[2]
CLI = [sys.executable, "-m", "hftransfer.cli"]
SECONDS = 300.0  # what waits for longer hangs: a busy machine takes several times what an idle one does
DEAD = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)


@pytest.fixture(scope="session")
def materials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a model without dropout, whose loss does not depend on who computes which rows, and its data."""
    folder = tmp_path_factory.mktemp("materials")
    path = tiny.text_model(folder / "model") / "config.json"
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    path.write_text(json.dumps(json.loads(path.read_text()) | quiet))
    tiny.text_csv(folder / "rows.csv", 103)
    return folder


@pytest.fixture
def configuration(materials: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return `write` for this test."""
    return functools.partial(write, materials, tmp_path)


def write(materials: Path, folder: Path, train: dict[str, Any] | None = None, **sections: Any) -> Path:
    """Write a configuration: `train` on top of a fit of a second, other sections as they are."""
    tree = {
        "task": "text-classification",
        "model": str(materials / "model"),
        "data": {"source": str(materials / "rows.csv"), "label_issues": False, "likely_copies": False},
        "method": {"name": "full"},
        "train": {
            "auto": False, "learning_rate": 1e-3, "max_steps": 20, "per_device_train_batch_size": 8, "use_cpu": True,
            "bf16": False, "eval_strategy": "no", "save_strategy": "no", **(train or {}),
        },
        "evaluation": {"resamples": 100},
        "speed": {"tune": False, "threads": 1},
        "output": str(folder / "run"),
    }  # fmt: skip
    path = folder / "wanted.yaml"
    path.write_text(yaml.safe_dump({**tree, **sections}))
    return path


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """Start the process that has imported everything and forks; see `ranks`."""
    made = Zygote(environment(), tmp_path_factory.mktemp("zygote"))
    yield made
    made.close()


def ranks(zygote: Zygote, folder: Path, *words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `train.py` with two processes to its end, as accelerate starts them.

    They are forks: three times the imports of everything took ten times as long as two tiny models do. What starts
    processes for real is in test_processes.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", PROCESSES: "2", **place, **ENVIRONMENT, **variables}
    seen = (folder / "modules", None)
    both = [
        zygote.start("train", *words, cwd=folder, modules=seen[rank], RANK=str(rank), LOCAL_RANK=str(rank), **world)
        for rank in (0, 1)
    ]
    codes = [one.wait(SECONDS) for one in both]
    said = (folder / "train.log").read_text()
    if None in codes:
        [one.signal(signal.SIGKILL) for one in both]
        raise AssertionError(f"waited in vain: {said}")
    zygote.imports(folder / "modules")  # what the next ones find imported
    return subprocess.CompletedProcess(words, next((code for code in codes if code), 0), said, said)


@pytest.fixture(autouse=True)
def no_process_left(tmp_path: Path) -> Iterator[None]:
    """Fail a test, and clean up, when one of its processes outlives it by more than its own way out takes."""
    yield
    found = [process for process in psutil.process_iter() if _works_in(process, tmp_path)]
    left = [process for process in psutil.wait_procs(found, timeout=10)[1] if _works_in(process, tmp_path)]
    for process in left:
        process.kill()
    assert not left


def _works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        words = [process.environ().get(MARK, ""), *process.cmdline()]
        return process.pid != os.getpid() and any(str(folder) in w for w in words) and process.status() not in DEAD
    except psutil.Error:
        return False


def environment() -> dict[str, str]:
    """Return the variables of a child: this checkout, one thread."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def start(*words: str | Path, **options: Any) -> subprocess.Popen[str]:
    """Start `hftransfer ...` and go on."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*CLI, *map(str, words)], env=environment(), **{**pipes, **options})


def call(*words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `hftransfer ...` to its end."""
    return shell(*CLI, *words, **options)


def shell(*words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run any command to its end."""
    return subprocess.run(
        [str(w) for w in words], env=environment(), capture_output=True, text=True, timeout=SECONDS, **options
    )


def wait_for(child: subprocess.Popen[str], run: Run, is_it: Callable[[Event], bool]) -> Event:
    """Wait, while the command that follows the run goes on, until an event is the one."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and child.poll() is None:
        for event in run.events()[0]:
            if is_it(event):
                return event
        time.sleep(0.01)
    child.kill()
    raise AssertionError(f"waited in vain: {run.events()[0]}, {child.communicate()}")


def of(run: Run, type: str) -> list[Event]:
    """Return the events of one type."""
    return [event for event in run.events()[0] if event["type"] == type]


def two_and_one(zygote: Zygote, path: Path, folder: Path, size: int = 16, near: float = 1e-4) -> tuple[Run, Run]:
    """Train a configuration by two processes, then by one on batches of `size`; both begin with the same step.

    What they answer is to the same test rows, each once.
    """
    from hftransfer import catalog, train

    done = ranks(zygote, folder, "--config", path)
    assert done.returncode == 0, done.stderr
    two = Run(folder / "run")
    assert [event["world_size"] for event in of(two, "process")] == [2]
    words = [f"train.per_device_train_batch_size={size}", f"output={folder / 'one'}"]
    assert train.main(["--config", str(path), *words]) == 0
    one = Run(Path(catalog.read_config(path, words).output or ""))
    for name in ("loss", "grad_norm"):
        assert of(two, "log")[0][name] == pytest.approx(of(one, "log")[0][name], rel=near), name
    left, right = (answered(run) for run in (two, one))
    assert len(left) == left["row_id"].nunique() == two.result()["test"]["n"]
    assert [*left["row_id"]] == [*right["row_id"]]
    return two, one


def answered(run: Run) -> Any:
    """Return what a run answered to its test rows, as a data frame."""
    import pandas as pd

    return pd.read_parquet(run.predictions / "test.parquet")
