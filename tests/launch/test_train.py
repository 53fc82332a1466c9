"""The script that accelerate launches, and the commands around it: exit codes, words, and nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hftransfer import train
from hftransfer.events import EventWriter
from hftransfer.launchers.base import PEER_ENDED
from hftransfer.runs import Run
from tests import tiny
from tests.launch import conftest
from tests.launch.conftest import ROOT, call, of, shell

pytestmark = pytest.mark.slow

ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch"]
SCRIPT = ROOT / "hftransfer" / "train.py"


def test_accelerate_launches_the_script_from_anywhere(configuration: Callable[..., Path], tmp_path: Path) -> None:
    """As a script its own folder comes first on sys.path: what lies there must not shadow what libraries import."""
    copy = tmp_path / "checkout" / "hftransfer"
    shutil.copytree(ROOT / "hftransfer", copy, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("datasets", "types", "evaluate", "logging", "tokenize"):
        (copy / f"{name}.py").write_text("raise RuntimeError('the wrong module')\n")
    configuration()
    flags = ["--num_processes", "1", copy / "train.py"]
    done = shell(*ACCELERATE, *flags, "--config", "wanted.yaml", "train.max_steps=3", "output=there")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in (tmp_path / "there" / "events.jsonl").read_text().splitlines()]
    assert events[-1]["type"] == "done"
    assert {event["max_steps"] for event in events if event["type"] == "step"} == {3}
    assert json.loads((tmp_path / "there" / "result.json").read_text())["test"]["n"] == 21
    assert {path.name for path in tmp_path.iterdir()} == {"checkout", "wanted.yaml", "there"}


@pytest.mark.parametrize("told", ["flags", "file"])
def test_two_asked_and_one_started_is_an_error(configuration: Callable[..., Path], tmp_path: Path, told: str) -> None:
    """accelerate starts one CPU process for both of these without a word; its own exit code for any failure is 1."""
    options: list[str | Path] = ["--cpu", "--num_processes", "2"]
    if told == "file":
        options = ["--config_file", tmp_path / "accelerate.yaml"]
        (tmp_path / "accelerate.yaml").write_text(
            "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_CPU\nnum_machines: 1\nnum_processes: 2\n"
            "mixed_precision: 'no'\nuse_cpu: true\n"
        )
    done = shell(*ACCELERATE, *options, SCRIPT, "--config", configuration())
    assert done.returncode == 1
    assert "hftransfer: 2 processes were asked for; 1 started. On CPU use: hftransfer train CONFIG" in done.stderr
    assert "returned non-zero exit status 2" in done.stderr
    assert not (tmp_path / "run").exists()


def test_check_tells_and_leaves_nothing(
    configuration: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = configuration({"max_steps": 7})
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    done = call("check", path)
    assert done.returncode == 0, done.stderr
    for line in (
        "text <- `text`: string, by its name",
        "label <- `label`: 2 distinct strings",
        "labels: single_label (negative 36, positive 36)",
        "rows: train 72, validation 10, test 21",
        "training: 21,922 of 21,922 parameters, 7 updates",
        "nothing stands in the way of training",
    ):
        assert line in done.stdout
    assert {path.name for path in tmp_path.rglob("*")} == {"wanted.yaml", "temporary"}


def test_a_crash_exits_1_with_the_end_of_its_traceback(
    configuration: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A torn installation, which shows where plots are drawn, is nobody's to mend in a configuration."""
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "matplotlib.py").write_text("raise RuntimeError('a torn installation')\n")
    path = os.pathsep.join([str(tmp_path / "torn"), str(ROOT)])
    monkeypatch.setattr(conftest, "environment", lambda: {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"})
    done = call("train", configuration({"max_steps": 2}))
    assert done.returncode == 1
    assert "RuntimeError: a torn installation" in done.stderr
    assert "matplotlib.py" in done.stderr  # where, not only what
    assert "hftransfer resume run" in done.stderr


def test_two_ranks_refuse_with_one_message(configuration: Callable[..., Path], tmp_path: Path) -> None:
    data = {"source": str(tiny.text_csv(tmp_path / "rows.csv", 20)), "columns": {"text": "words"}}
    done = call("train", configuration(data=data), "--processes", "2")
    (failed,) = of(Run(tmp_path / "run"), "failed")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [f"hftransfer: {failed['message']}"]
    assert "there is no column 'words'" in failed["message"]


@pytest.fixture
def started(tmp_path: Path) -> Run:
    """A run that was stopped once and works again."""
    run = Run(tmp_path)
    run.event("stopped", message="at the first launch")
    run.event("process", pid=1)
    return run


def test_rank_0_has_the_last_word(started: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another rank waits for it: with the first that ends, the launcher ends rank 0 before it can say the same."""
    first = EventWriter(started.events_path)
    monkeypatch.setenv("RANK", "1")
    late = threading.Timer(0.3, first.write, ("failed",), {"message": "of rank 0"})
    late.start()
    train.last_word(started, "failed", message="of rank 1")
    late.join()
    assert [event["message"] for event in of(started, "failed")] == ["of rank 0"]


def test_another_rank_speaks_when_rank_0_cannot(started: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 0 waits for the rank that failed, and afterwards sees a broken connection, which is not the reason."""
    monkeypatch.setattr(train, "HEARING", 0.2)
    monkeypatch.setenv("RANK", "1")
    train.last_word(started, "failed", message="of rank 1")
    monkeypatch.setenv("RANK", "0")
    train.last_word(started, "failed", message=PEER_ENDED)
    assert [event["message"] for event in of(started, "failed")] == ["of rank 1"]


def test_ctrl_c_for_launcher_and_trainer_is_one_wish(tmp_path: Path) -> None:
    """A terminal sends it to both; that the launcher ended must not count as the second one, which stops at once."""
    trainer = """
import os, signal, sys, time
from hftransfer.fitting.interruption import Interruption
parent = os.getppid()
with Interruption() as interruption, interruption.patience():
    os.kill(os.getpid(), signal.SIGINT)
    print("ready", flush=True)
    while os.getppid() == parent:
        time.sleep(0.05)
    time.sleep(1.5)  # a checkpoint is written
    open(sys.argv[1], "w").write("whole")
"""
    launcher = "import subprocess, sys; subprocess.Popen(sys.argv[1:], stdout=-1).stdout.readline()"
    shell(sys.executable, "-c", launcher, sys.executable, "-c", trainer, tmp_path / "checkpoint")
    end = time.monotonic() + 20
    while not (tmp_path / "checkpoint").exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert (tmp_path / "checkpoint").read_text() == "whole"
