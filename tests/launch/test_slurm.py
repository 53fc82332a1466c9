"""A real SLURM of two nodes on this machine: runs that move, turns that end, a node that dies, no secret on disk."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from safetensors.numpy import load_file

from hftransfer import train
from hftransfer.launchers import of as of_run
from hftransfer.runs import MARK, Run
from tests.launch import conftest, slurm_here
from tests.launch.conftest import call, of, start, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not slurm_here.installed(), reason=slurm_here.WHY_NOT),
]
SECRET = "hf_" + "s" * 34
SLOW = {"max_steps": 40, "save_strategy": "steps", "save_steps": 5}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Start the cluster once; its commands are found by every test of this file."""
    folder = tmp_path_factory.mktemp("slurm")
    with slurm_here.cluster(folder) as variables:
        before = dict(os.environ)
        os.environ.update(variables)
        yield folder
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait longer than other tests do: every turn of a job imports the libraries anew."""
    monkeypatch.setattr(conftest, "SECONDS", 240.0)


def trainers(run: Run) -> list[psutil.Process]:
    """Return the processes that train, by rank."""
    found = []
    for process in psutil.process_iter():
        try:
            about = process.environ()
            if (
                about.get(MARK) == str(run.folder)
                and "RANK" in about
                and "train.py" in " ".join(process.cmdline()[:3])
            ):
                found.append((int(about["RANK"]), process))
        except psutil.Error:
            continue
    return [process for _, process in sorted(found, key=lambda pair: pair[0])]


def ending() -> bool:
    """Tell whether a step of a job still runs, or ends, on a node."""
    return any((one.info["name"] or "").startswith("slurmstepd") for one in psutil.process_iter(["name"]))


@pytest.mark.long
def test_a_node_that_dies_is_said_and_the_run_goes_on_after(
    cluster: Path, configuration: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    run, path = Run(tmp_path / "run"), configuration({**SLOW, "max_steps": 4000})
    place = ["--on", "slurm", "--place", "nodes=2"]
    with start("train", path, *place) as child:
        wait_for(child, run, lambda event: event["type"] == "checkpoint")
        assert [event["world_size"] for event in of(run, "process")] == [2]
        trainers(run)[1].kill()
        killed = time.monotonic()
        out, err = child.communicate(timeout=100)
    assert time.monotonic() - killed < 60 and child.returncode == 1
    assert run.status().state in ("failed", "killed"), out
    assert "another process of the run ended" in err or "memory ran out" in err
    written = (file.read_bytes() for file in (*run.folder.rglob("*"), *cluster.rglob("*")) if file.is_file())
    assert not any(SECRET.encode() in text for text in written)

    path = run.config_path
    path.write_text(path.read_text().replace("max_steps: 4000", f"max_steps: {run.status().step + 5}"))
    done = call("resume", run.folder)
    assert done.returncode == 0, done.stderr
    assert run.launch()["options"] == {"nodes": 2} and run.launch()["processes"] == 2
    assert of(run, "process")[-1]["world_size"] == 2 and run.result()["test"]["n"] == 21


def test_a_run_moves_from_here_to_the_cluster_and_back(
    cluster: Path, configuration: Callable[..., Path], tmp_path: Path
) -> None:
    """Stopped here, gone on with there through a turn that ended, finished here: the weights of an unbroken run."""
    path = configuration({**SLOW, "max_steps": 800, "save_steps": 800})
    run, whole = Run(tmp_path / "run"), tmp_path / "whole"
    with start("train", path) as child:
        wait_for(child, run, lambda event: event["type"] == "step" and event["step"] >= 20)
        assert of_run(run).stop(run) == "stopped"  # in this process: the command takes longer than the run
        assert child.wait(60) == 130
    here = run.status().step

    with start("resume", run.folder, "--on", "slurm") as child:
        wait_for(child, run, lambda event: event["type"] == "step" and event["step"] >= here + 20)
        job = run.launch()["job"]
        slurm("scancel", "--signal=TERM", job)  # as SLURM does when the time is nearly over
        wait_for(child, run, lambda event: event.get("command", [""])[:2] == ["scontrol", "requeue"])
        stopped = of(run, "stopped")[-1]["step"]
        end = time.monotonic() + conftest.SECONDS
        while len(of(run, "process")) < 3:  # SLURM lets a job that was queued again wait for two minutes
            assert time.monotonic() < end, "the job never came back"
            if not ending():  # a node loses a job that comes back while its last turn still ends
                slurm("scontrol", "update", f"jobid={job}", "starttime=now", check=False)
            time.sleep(0.5)
        wait_for(child, run, lambda event: event["type"] == "step" and event["step"] >= stopped + 20)
        assert of_run(run).stop(run) == "stopped"
        child.wait(60)
    assert run.status().state == "stopped" and here < stopped < run.status().step < 800

    assert call("resume", run.folder, "--on", "local").returncode == 0
    assert train.main(["--config", str(path), f"output={whole}"]) == 0
    left, right = (load_file(folder / "artifact" / "model.safetensors") for folder in (run.folder, whole))
    assert left.keys() == right.keys()
    assert all((left[name] == right[name]).all() for name in left)


@pytest.mark.long
def test_a_run_that_waits_is_said_to_and_is_taken_out(
    cluster: Path, configuration: Callable[..., Path], tmp_path: Path
) -> None:
    refused = call("train", configuration(), "--on", "slurm", "--place", "partition=moon")
    assert refused.returncode == 2 and "nvalid partition" in refused.stderr
    run = Run(tmp_path / "run")
    slurm("scontrol", "update", "partitionname=main", "state=down")
    try:
        with start("resume", run.folder, "--on", "slurm") as child:
            line = next(line for line in child.stdout or () if "waiting: PENDING (PartitionDown)" in line)
            assert line and run.status().state == "running"
            assert call("stop", run.folder).stdout.startswith("run: stopped")
            assert child.wait(30) == 130
    finally:
        slurm("scontrol", "update", "partitionname=main", "state=up")
    assert run.status().message == "taken out of the queue"


def slurm(*words: str, check: bool = True) -> None:
    """Run one of SLURM's commands."""
    subprocess.run(words, check=check, capture_output=True)
