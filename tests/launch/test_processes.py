"""Runs with one process and two that are stopped, killed or out of disk: what is left, and how they go on."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from safetensors.numpy import load_file

from hftransfer import catalog, train
from hftransfer.events import Event
from hftransfer.fitting.interruption import Interrupted, Interruption
from hftransfer.launchers.base import DISK_FULL
from hftransfer.runs import Run
from tests import tiny
from tests.engine.test_resume import StopAfter
from tests.launch.conftest import call, of, start, wait_for, write

pytestmark = pytest.mark.slow

Configuration = Callable[..., Path]
# one process makes about 150 steps a second, two make 40: long enough to be hit, short enough to be done
STEPS = {1: 800, 2: 160}


def long(processes: int) -> dict[str, object]:
    return {"max_steps": STEPS[processes], "save_strategy": "steps", "save_steps": 40, "logging_first_step": True}


def trains(event: Event) -> bool:
    return bool(event["type"] == "step" and event["step"] > 0)


def saved(event: Event) -> bool:
    return bool(event["type"] == "checkpoint")


def in_this_process(path: Path, *overrides: str) -> Run:
    """Run a configuration with one process, the quick way."""
    assert train.main(["--config", str(path), *overrides]) == 0
    return Run(Path(catalog.read_config(path, overrides).output or ""))


def go_on_in_this_process(run: Run) -> None:
    assert train.main(["--config", str(run.config_path), "--resume"]) == 0


def same_weights(one: Run, other: Run) -> bool:
    left, right = (load_file(run.artifact / "model.safetensors") for run in (one, other))
    return left.keys() == right.keys() and all((left[name] == right[name]).all() for name in left)


@pytest.fixture(scope="session")
def unbroken(materials: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Run]:
    """Return a function that gives the run of `long` with one process or two that nothing broke."""
    found: dict[int, Run] = {}

    def give(processes: int) -> Run:
        if processes not in found:
            folder = tmp_path_factory.mktemp(f"unbroken-{processes}")
            path = write(materials, folder, long(processes))
            if processes == 1:
                found[1] = in_this_process(path)
            else:
                done = call("train", path, "--processes", "2", "--json", cwd=folder)
                assert done.returncode == 0, done.stderr
                (folder / "said").write_text(done.stdout)
                found[2] = Run(folder / "run")
        return found[processes]

    return give


def test_two_processes_compute_what_one_does(
    unbroken: Callable[[int], Run], configuration: Configuration, tmp_path: Path
) -> None:
    """transformers#47688: the loss and its gradient are those of one process with a batch of twice the rows."""
    import pandas as pd

    two = unbroken(2)
    assert [event["world_size"] for event in of(two, "process")] == [2]
    assert {path.name for path in two.folder.parent.iterdir()} == {"wanted.yaml", "said", "run"}  # a folder, not two
    said = [json.loads(line)["type"] for line in (two.folder.parent / "said").read_text().splitlines()]
    assert (said[0], said[-1]) == ("created", "done")
    one = in_this_process(configuration(long(2)), "train.per_device_train_batch_size=16")
    for name in ("loss", "grad_norm"):
        first = [of(run, "log")[0][name] for run in (one, two)]
        assert first[0] == pytest.approx(first[1], rel=1e-4)
    assert len(of(one, "log")) == len(of(two, "log"))
    # the same weights, one process: the same answers to the same rows in the same order, each row once
    still = configuration({"max_steps": 1, "learning_rate": 0.0}, model=str(two.artifact))
    again = in_this_process(still, f"output={tmp_path / 'again'}")
    left, right = (pd.read_parquet(run.predictions / "test.parquet") for run in (two, again))
    assert two.result()["test"]["n"] == len(left) == left["row_id"].nunique() == 21
    assert [*left["row_id"]] == [*right["row_id"]]
    assert [*left["label"]] == [*right["label"]]
    for mine, other in zip(left["scores"], right["scores"], strict=True):
        assert mine == pytest.approx(other, rel=1e-5)


def by_command(child: subprocess.Popen[str], run: Run) -> None:
    assert "go on from checkpoint-" in call("stop", run.folder).stdout


def by_ctrl_c(child: subprocess.Popen[str], run: Run) -> None:
    child.send_signal(signal.SIGINT)


def by_signal(child: subprocess.Popen[str], run: Run) -> None:
    """Reach rank 0 alone: the others are to follow it."""
    os.kill(of(run, "process")[0]["pid"], signal.SIGTERM)


@pytest.mark.parametrize(
    ("processes", "stop", "resume"),
    [
        (1, by_ctrl_c, True),
        (2, by_signal, True),
        pytest.param(1, by_command, False, marks=pytest.mark.long),
        pytest.param(2, by_ctrl_c, False, marks=pytest.mark.long),
    ],
)
def test_a_stopped_run_goes_on_to_the_same_weights(
    unbroken: Callable[[int], Run],
    configuration: Configuration,
    tmp_path: Path,
    processes: int,
    stop: Callable[..., None],
    resume: bool,
) -> None:
    run = Run(tmp_path / "run")
    with start("train", configuration(long(processes)), "--processes", processes) as child:
        wait_for(child, run, trains)
        began = time.monotonic()
        stop(child, run)
        errors = child.communicate(timeout=300)[1]
    assert time.monotonic() - began < 10
    assert child.returncode == 130, errors
    assert run.status().state == "stopped"
    (stopped,) = of(run, "stopped")
    assert 0 < stopped["step"] < STEPS[processes]
    assert run.checkpoint() == run.checkpoints / f"checkpoint-{stopped['step']}"
    if not resume:
        return
    done = call("resume", run.folder)
    assert done.returncode == 0, done.stderr
    assert [event["world_size"] for event in of(run, "process")] == [processes] * 2
    assert same_weights(unbroken(processes), run)


def test_a_killed_trainer_shows_and_goes_on_from_its_last_checkpoint(
    unbroken: Callable[[int], Run], configuration: Configuration, tmp_path: Path
) -> None:
    run = Run(tmp_path / "run")
    with start("train", configuration(long(1))) as child:
        wait_for(child, run, saved)
        os.kill(of(run, "process")[0]["pid"], signal.SIGKILL)
        errors = child.communicate(timeout=300)[1]
    assert child.returncode == 1
    assert "was killed (signal 9), most likely because memory ran out" in errors
    assert f"hftransfer resume {run.name}" in errors
    assert run.status().state == "killed"
    torn = run.checkpoints / f"checkpoint-{STEPS[1]}"  # what a kill while it is written leaves
    torn.mkdir()
    (torn / "model.safetensors").write_bytes(b"half")
    go_on_in_this_process(run)
    assert any("cut off" in event["message"] for event in of(run, "notice"))
    assert same_weights(unbroken(1), run)


def test_a_killed_rank_is_what_the_run_died_of(configuration: Configuration, tmp_path: Path) -> None:
    """Rank 0 sees nothing but a broken connection; the user reads what happened."""
    run = Run(tmp_path / "run")
    with start("train", configuration(long(2)), "--processes", 2) as child:
        wait_for(child, run, saved)
        first = of(run, "process")[0]["pid"]
        (other,) = [p for p in psutil.Process(run.launch()["pid"]).children() if p.pid != first]
        other.kill()
        errors = child.communicate(timeout=300)[1]
    assert child.returncode == 1
    assert "was killed (signal 9), most likely because memory ran out" in errors
    assert run.status().finished
    assert run.checkpoint() is not None


@pytest.mark.parametrize("processes", [pytest.param(1, marks=pytest.mark.long), 2])
def test_a_killed_launcher_leaves_no_orphan(configuration: Configuration, tmp_path: Path, processes: int) -> None:
    run = Run(tmp_path / "run")
    with start("train", configuration(long(processes)), "--processes", processes) as child:
        wait_for(child, run, trains)
        os.kill(run.launch()["pid"], signal.SIGKILL)
        assert child.wait(30) == 130  # the command follows the trainer, which noticed
    (stopped,) = of(run, "stopped")
    assert run.checkpoint() == run.checkpoints / f"checkpoint-{stopped['step']}"


@pytest.mark.parametrize(
    ("phase", "processes"),
    [("imports", 1), pytest.param("data", 1, marks=pytest.mark.long), ("evaluation", 2)],
)
def test_a_stop_outside_of_training_ends_at_once(
    configuration: Configuration, tmp_path: Path, phase: str, processes: int
) -> None:
    data = {"source": str(tiny.text_csv(tmp_path / "many.csv", 20_000)), "test_size": 0.5, "max_length": 16}
    run = Run(tmp_path / "run")
    path = configuration({"max_steps": 2}, data=data, evaluation={"resamples": 20_000})
    with start("train", path, "--processes", processes) as child:
        wait_for(child, run, lambda event: event["type"] == "phase" and event["name"] == phase)
        began = time.monotonic()
        assert call("stop", run.folder).returncode == 0
        errors = child.communicate(timeout=300)[1]
    assert time.monotonic() - began < 10
    assert child.returncode == 130, errors
    assert run.status().state == "stopped"
    assert not run.result_path.exists()


class AtTheEnd(Interruption):
    """A signal that comes while the last step is made or after it."""

    @contextmanager
    def patience(self) -> Iterator[None]:
        with super().patience():
            yield
        self.requested = True


def test_a_stop_after_the_last_step_keeps_the_weights(
    unbroken: Callable[[int], Run], configuration: Configuration
) -> None:
    from hftransfer import training

    run = Run.create(catalog.read_config(configuration(long(1))))
    with pytest.raises(Interrupted, match=f"step {STEPS[1]}"), AtTheEnd() as interruption:
        training.run(run.config(), run, interruption)
    go_on_in_this_process(run)
    assert same_weights(unbroken(1), run)


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


def test_a_full_disk_costs_no_whole_checkpoint(
    unbroken: Callable[[int], Run], configuration: Configuration, tmp_path: Path
) -> None:
    """A limit on the size of files stands for the disk: it fails the same writes, in this run alone."""
    from hftransfer import training

    run = Run.create(catalog.read_config(configuration(long(1))))
    with pytest.raises(Interrupted), StopAfter(60) as interruption:
        training.run(run.config(), run, interruption)
    good = run.checkpoint()
    assert good is not None
    refused = call("resume", run.folder, preexec_fn=limited)
    assert refused.returncode == 1
    assert DISK_FULL in refused.stderr
    assert run.status().state == "failed"
    assert run.checkpoint() == good
    go_on_in_this_process(run)
    assert same_weights(unbroken(1), run)
