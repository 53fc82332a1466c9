"""The local launcher with real processes: start, follow, stop, kill, two processes, and nothing left behind.

The trainer is a small script that speaks the engine's events, so that no model is needed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import hftransfer
from hftransfer.config import RunConfig, build
from hftransfer.errors import UserError
from hftransfer.launchers.local import LocalLauncher
from hftransfer.runs import MARK, Run

pytestmark = pytest.mark.slow

TRAINER = """
import argparse, os, signal, sys, time
from hftransfer.config import read_tree
from hftransfer.events import EventWriter
from hftransfer.runs import Run, seal
from hftransfer.safety.identity import note_process
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--config")
parser.add_argument("--resume", action="store_true")
options = parser.parse_args()
tree = read_tree(options.config)
run = Run(Path(tree["output"]))
asked = []
behaviour = tree["model"]
signal.signal(signal.SIGTERM, signal.SIG_IGN if behaviour == "deaf" else lambda *_: asked.append(1))
world = int(os.environ.get("WORLD_SIZE", "1"))
run.event("process", **note_process(), world_size=world, fsdp=os.environ.get("ACCELERATE_USE_FSDP"))
(run.folder / f"rank{os.environ.get('RANK', '0')}").write_text(os.environ["HFTRANSFER_PROCESSES"])
print("console line", flush=True)
if behaviour == "crash":
    raise RuntimeError("boom")
if behaviour == "refuse":
    run.event("failed", message="a text column is needed; found none. Add one.", user_error=True)
    sys.exit(2)
if behaviour == "memory":
    os.kill(os.getpid(), signal.SIGKILL)
steps = 3 if behaviour == "short" or options.resume else 10_000
run.event("phase", name="training", detail=None)
for step in range(1, steps + 1):
    run.event("step", step=step, max_steps=steps, epoch=0.0, seconds=0.0)
    time.sleep(0.05)
    if asked:
        folder = run.checkpoints / f"checkpoint-{step}"
        if os.environ.get("RANK", "0") == "0":
            folder.mkdir()
            (folder / "weights").write_text("w")
            seal(folder)
            run.event("checkpoint", step=step, path=str(folder))
        run.event("stopped", message="asked to", step=step)
        sys.exit(0)
(run.folder / "result.json").write_text('{"schema": 1}')
run.event("done", seconds=1.0)
"""


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[LocalLauncher]:
    script = tmp_path / "trainer.py"
    script.write_text(TRAINER)
    yield LocalLauncher(script=script)
    left = [process for process in psutil.process_iter() if _belongs(process, tmp_path)]
    for process in left:
        process.kill()
    assert not left


def _belongs(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.environ().get(MARK, "").startswith(str(folder)) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _config(tmp_path: Path, behaviour: str) -> RunConfig:
    return build(
        {
            "task": "text-classification",
            "model": behaviour,
            "data": {"source": "x.csv"},
            "output": str(tmp_path / "run"),
        }
    )


def _run(tmp_path: Path, behaviour: str) -> Run:
    return Run.create(_config(tmp_path, behaviour))


def _wait(condition: Callable[[], object], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def _trains(run: Run) -> bool:
    return run.status().step > 0


def test_a_run_is_followed_to_its_end(launcher: LocalLauncher, tmp_path: Path) -> None:
    run = _run(tmp_path, "short")
    launcher.start(run)
    assert launcher.is_alive(run)
    kinds = [event["type"] for event in launcher.follow(run)]
    assert kinds == ["created", "launched", "process", "phase", "step", "step", "step", "done"]
    assert not launcher.is_alive(run)
    assert launcher.outcome(run).exit_code == 0
    assert launcher.log_tail(run) == ["console line"]


def test_the_given_environment_is_the_trainers_whole_one(launcher: LocalLauncher, tmp_path: Path) -> None:
    os.environ["HFTRANSFER_TEST_OWNER"] = "hf_owner"
    try:
        run = _run(tmp_path, "short")
        given = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        path = str(Path(hftransfer.__file__).parents[1])
        launcher.start(run, environment={**given, "PYTHONPATH": path, "HF_TOKEN": "hf_visitor"})
        _wait(lambda: any(event["type"] == "process" for event in run.events()[0]))
        trainers = [p for p in psutil.process_iter() if _belongs(p, tmp_path)]
        seen = [process.environ() for process in trainers]
    finally:
        del os.environ["HFTRANSFER_TEST_OWNER"]
    assert seen and all(found["HF_TOKEN"] == "hf_visitor" for found in seen)
    assert not [found for found in seen if "HFTRANSFER_TEST_OWNER" in found]
    list(launcher.follow(run))
    assert launcher.outcome(run).state == "done"
    written = b"".join(path.read_bytes() for path in run.folder.rglob("*") if path.is_file())
    assert b"hf_visitor" not in written


def test_two_processes_are_two(launcher: LocalLauncher, tmp_path: Path) -> None:
    run = _run(tmp_path, "short")
    launcher.start(run, processes=2)
    (process,) = [event for event in launcher.follow(run) if event["type"] == "process"]
    assert process["world_size"] == 2
    assert [(run.folder / f"rank{rank}").read_text() for rank in (0, 1)] == ["2", "2"]
    assert launcher.outcome(run).state == "done"


@pytest.mark.parametrize("processes", [1, 2])
def test_stop_leaves_a_checkpoint_and_resume_goes_on(launcher: LocalLauncher, tmp_path: Path, processes: int) -> None:
    run = _run(tmp_path, "long")
    launcher.start(run, processes=processes)
    _wait(lambda: _trains(run))
    with pytest.raises(UserError, match="is running"):
        launcher.start(run)
    assert LocalLauncher().stop(run) == "stopped"  # as another command would: it started nothing
    assert not launcher.is_alive(run)
    assert run.status().state == "stopped"
    assert run.checkpoint() is not None
    assert launcher.outcome(run).exit_code == 130
    launcher.start(run, resume=True)
    assert "--resume" in run.launch()["command"]
    assert [event["type"] for event in launcher.follow(run)][-1] == "done"


def test_what_does_not_end_is_killed(launcher: LocalLauncher, tmp_path: Path) -> None:
    run = _run(tmp_path, "deaf")
    launcher.start(run, processes=2)
    _wait(lambda: _trains(run))
    assert launcher.stop(run, grace=0.5) == "killed"
    assert run.status().state == "stopped"
    assert launcher.stop(run) == "gone"


def test_stop_before_the_trainer_is_there(launcher: LocalLauncher, tmp_path: Path) -> None:
    run = _run(tmp_path, "long")
    launcher.start(run)
    assert launcher.stop(run) == "stopped"
    assert run.status().state == "stopped"


def test_stop_finds_the_trainer_of_a_killed_launcher(launcher: LocalLauncher, tmp_path: Path) -> None:
    run = _run(tmp_path, "long")
    launcher.start(run)
    _wait(lambda: _trains(run))
    os.kill(run.launch()["pid"], signal.SIGKILL)
    assert launcher.is_alive(run)
    assert launcher.stop(run) == "stopped"
    assert run.checkpoint() is not None


@pytest.mark.parametrize(
    ("behaviour", "state", "code", "words"),
    [
        ("crash", "killed", 1, "without a word"),
        ("refuse", "failed", 2, "a text column is needed"),
        ("memory", "killed", 1, "memory ran out"),
    ],
)
def test_a_run_that_ends_badly_says_why(
    launcher: LocalLauncher, tmp_path: Path, behaviour: str, state: str, code: int, words: str
) -> None:
    run = _run(tmp_path, behaviour)
    launcher.start(run)
    list(launcher.follow(run))
    outcome = launcher.outcome(run)
    assert (outcome.state, outcome.exit_code) == (state, code)
    assert words in outcome.message
    if behaviour == "crash":
        assert any("boom" in line for line in outcome.log)
        assert "boom" in str(outcome.error())


def test_an_accelerate_default_of_the_user_changes_nothing(
    launcher: LocalLauncher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = tmp_path / "hf" / "accelerate" / "default_config.yaml"
    default.parent.mkdir(parents=True)
    default.write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: FSDP\nnum_processes: 2\n"
        "mixed_precision: fp16\nuse_cpu: false\ndebug: false\n"
    )
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    run = _run(tmp_path, "short")
    launcher.start(run)
    (process,) = [event for event in launcher.follow(run) if event["type"] == "process"]
    assert (process["world_size"], process["fsdp"]) == (1, None)


def test_run_in_python_waits_and_returns_the_result(
    launcher: LocalLauncher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hftransfer.launchers.local.LAUNCHER", launcher)
    seen: list[str] = []
    result = hftransfer.run(_config(tmp_path, "short"), follow=lambda event: seen.append(event["type"]))
    assert result == {"schema": 1}
    assert seen[-1] == "done"


def test_run_in_python_raises_what_the_trainer_said(
    launcher: LocalLauncher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hftransfer.launchers.local.LAUNCHER", launcher)
    with pytest.raises(UserError, match=r"^a text column is needed; found none\. Add one\.$"):
        hftransfer.run(_config(tmp_path, "refuse"))


def test_run_in_python_stops_the_run_when_interrupted(
    launcher: LocalLauncher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hftransfer.launchers.local.LAUNCHER", launcher)

    def interrupt(event: dict[str, object]) -> None:
        if event["type"] == "step":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hftransfer.run(_config(tmp_path, "long"), follow=interrupt)
    assert Run(tmp_path / "run").status().state == "stopped"
    assert Run(tmp_path / "run").checkpoint() is not None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_stops_its_run(launcher: LocalLauncher, tmp_path: Path, number: int) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(_config(tmp_path, "long").to_yaml())
    code = (
        "import sys; from pathlib import Path; from hftransfer.launchers import local;"
        f"local.LAUNCHER = local.LocalLauncher(Path({str(launcher.script)!r}));"
        "from hftransfer.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "train", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        _wait(lambda: _trains(Run(tmp_path / "run")))
        child.send_signal(number)
        _, said = child.communicate(timeout=300)
    assert child.returncode == 130
    assert "saving a checkpoint" in said and "hftransfer resume run" in said
    assert Run(tmp_path / "run").checkpoint() is not None
