"""Probe and few-shot with two processes: each computes its part of the features, and the outcome is that of one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from hftransfer import train
from hftransfer.runs import Run
from tests.chaos.zygote import Zygote
from tests.launch.conftest import SECONDS, call, of, ranks, start, wait_for

pytestmark = pytest.mark.slow


def test_two_processes_probe_as_one_does(
    configuration: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zygote: Zygote
) -> None:
    path = configuration(method={"name": "probe"})
    alone = "data.likely_copies=false"  # it computes features too
    caches = [str(tmp_path / name) for name in ("two-cache", "one-cache")]  # features are computed, not found
    done = ranks(zygote, tmp_path, "--config", path, alone, HFTRANSFER_CACHE=caches[0])
    assert done.returncode == 0, done.stderr
    two = Run(tmp_path / "run")
    assert of(two, "process")[0]["world_size"] == 2
    assert [event["cached"] for event in of(two, "features")] == [False]
    monkeypatch.setenv("HFTRANSFER_CACHE", caches[1])
    assert train.main(["--config", str(path), f"output={tmp_path / 'one'}", alone]) == 0
    one = Run(tmp_path / "one")
    assert of(one, "probe")[-1]["losses"] == pytest.approx(of(two, "probe")[-1]["losses"], abs=1e-4)
    ours, theirs = (load_file(run.artifact / "model.safetensors") for run in (one, two))
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, abs=1e-2 if name.startswith("classifier") else 0), name
    metrics = [run.result()["test"]["metrics"]["accuracy"] for run in (one, two)]
    assert metrics[0] == metrics[1]


@pytest.mark.long
def test_two_processes_tune_on_few_rows_as_one_does(
    configuration: Callable[..., Path], tmp_path: Path, zygote: Zygote
) -> None:
    path = configuration(method={"name": "few_shot"}, train={"max_steps": 6})
    done = ranks(zygote, tmp_path, "--config", path)
    assert done.returncode == 0, done.stderr
    two = Run(tmp_path / "run")
    assert of(two, "process")[0]["world_size"] == 2
    assert train.main(["--config", str(path), f"output={tmp_path / 'one'}"]) == 0
    one = Run(tmp_path / "one")
    ours, theirs = (load_file(run.artifact / "model.safetensors") for run in (one, two))
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, abs=1e-2 if name.startswith("classifier") else 1e-4), name
    losses = [[event["loss"] for event in of(run, "log")] for run in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3) and len(losses[0]) == 6


@pytest.mark.long
def test_two_processes_stop_together_and_go_on(configuration: Callable[..., Path], tmp_path: Path) -> None:
    path = configuration(method={"name": "few_shot"}, train={"max_steps": 500})
    child, run = start("train", path, "--processes", "2", cwd=tmp_path), Run(tmp_path / "run")
    wait_for(child, run, lambda event: event["type"] == "step" and event["step"] > 20)
    assert call("stop", run.folder).returncode == 0
    child.communicate(timeout=SECONDS)
    (checkpoint,) = of(run, "checkpoint")
    (stopped,) = of(run, "stopped")
    assert stopped["step"] == checkpoint["step"] < 500
    done = call("resume", run.folder, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    after = [event["step"] for event in of(run, "step") if event["time"] > stopped["time"]]
    assert checkpoint["step"] < after[0] and after[-1] == 500
