"""Launchers without a process: the command, how it is shown, names, outcomes; the processes are in tests/launch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from accelerate.commands.launch import launch_command_parser
from accelerate.utils.launch import prepare_simple_launcher_cmd_env

from hftransfer.config import build
from hftransfer.errors import UserError
from hftransfer.events import PREFIX
from hftransfer.launchers import _alone, launcher, launchers
from hftransfer.launchers.base import RefusedByTrainer, RunFailed
from hftransfer.launchers.local import ALONE, SCRIPT, LocalLauncher, launch_flags, relative, shown
from hftransfer.runs import MARK, Run
from hftransfer.safety.identity import note_process


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(build({"task": "t", "model": "m", "data": {"source": "x"}}), tmp_path / "runs" / "a run")


def test_launchers_are_found_by_file_name() -> None:
    assert launchers() == {name: f"hftransfer.launchers.{name}" for name in ("jobs", "local", "slurm")}
    assert isinstance(launcher("local"), LocalLauncher)
    with pytest.raises(UserError, match="Did you mean 'local'"):
        launcher("locl")


def test_the_command_spells_every_setting_out(run: Run) -> None:
    command = LocalLauncher().command(run, processes=2)
    assert command[:3] == [sys.executable, "-m", "accelerate.commands.launch"]
    assert command[-3:] == [str(SCRIPT), "--config", str(run.config_path)]
    for flag, value in (("--num_processes", "2"), ("--num_machines", "1"), ("--mixed_precision", "no")):
        assert command[command.index(flag) + 1] == value
    assert "--cpu" not in command


def test_one_process_is_started_as_accelerate_would(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    command = LocalLauncher().command(run, resume=True)
    assert command == [sys.executable, str(ALONE), str(SCRIPT), "--config", str(run.config_path), "--resume"]
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    told = launch_command_parser().parse_args([*launch_flags(1, 1, Path("file")), *command[2:]])
    told.use_cpu, told.num_cpu_threads_per_process = False, 1  # what the neutral file and launch_command make of them
    for name in ("fullgraph", "dynamic", "regional_compilation"):
        setattr(told, f"dynamo_use_{name}", False)
    told.dynamo_mode = "default"
    started, environment = prepare_simple_launcher_cmd_env(told)
    assert started == [sys.executable, *command[2:]]
    ours = {**os.environ, **_alone.ENVIRONMENT, "OMP_NUM_THREADS": "1"}
    assert environment == ours


@pytest.mark.parametrize(
    ("code", "exit_code", "said"),
    [("import sys; sys.exit(3)", 3, ""), ("import os; os.kill(os.getpid(), 9)", 137, "SIGKILL")],
)
def test_how_one_process_ended_is_handed_on(tmp_path: Path, code: str, exit_code: int, said: str) -> None:
    (tmp_path / "script.py").write_text(code)
    done = subprocess.run([sys.executable, str(ALONE), str(tmp_path / "script.py")], capture_output=True, text=True)
    assert done.returncode == exit_code and said in done.stderr and bool(done.stderr) == bool(said)


def test_several_processes_are_asked_for_in_the_way_that_starts_them(run: Run) -> None:
    command = LocalLauncher().command(run, processes=3, resume=True)
    assert "--multi_gpu" in command and "--cpu" not in command
    assert command[command.index("--num_processes") + 1] == "3"
    assert command[-1] == "--resume"


def test_the_shown_command_is_short(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.folder.parent.parent)
    text = shown(LocalLauncher().command(run, processes=2))
    assert text.startswith("accelerate launch --multi_gpu --num_processes 2 ")
    assert text.endswith("--config 'runs/a run/config.yaml'")
    text = shown(LocalLauncher().command(run))
    assert text.startswith("python ") and text.split()[1].endswith("hftransfer/train.py")
    assert text.endswith("--config 'runs/a run/config.yaml'")
    assert shown(LocalLauncher(Path("/elsewhere/train.py")).command(run)).count("/elsewhere/train.py") == 1
    assert relative("/elsewhere") == "/elsewhere"


def test_no_token_is_in_the_command_or_the_folder(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    seen: dict[str, Any] = {}

    class Child:
        pid = note_process()["pid"]

        def __init__(self, command: list[str], env: dict[str, str], **_: Any) -> None:
            seen.update(command=command, env=env, events=[e["type"] for e in run.events()[0]], note=run.launch())

        def poll(self) -> int:
            return 0

    monkeypatch.setattr(subprocess, "Popen", Child)
    monkeypatch.setattr(Run, "is_alive", lambda self: False)
    LocalLauncher().start(run, processes=2)
    assert seen["env"]["HF_TOKEN"] == "hf_secret"
    assert seen["env"][MARK] == str(run.folder) and seen["env"]["HFTRANSFER_PROCESSES"] == "2"
    assert "launched" in seen["events"] and seen["note"]["pid"]  # both before the process is there
    assert set(json.loads(run.launch_path.read_text())) == {
        "launcher", "processes", "command", "time", "pid", "started", "host", "boot", "ticks",
    }  # fmt: skip
    text = "".join(p.read_text() for p in run.folder.rglob("*") if p.is_file()) + " ".join(seen["command"])
    assert "hf_secret" not in text


def test_a_number_of_processes_that_makes_no_sense(run: Run) -> None:
    with pytest.raises(UserError, match="at least one process"):
        LocalLauncher().start(run, processes=0)
    with pytest.raises(UserError, match="processes are possible on this machine"):
        LocalLauncher().start(run, processes=10**6)
    assert not run.launch_path.exists()


def test_stopping_what_never_ran_is_no_error(run: Run) -> None:
    assert LocalLauncher().stop(run) == "gone"
    assert run.status().state == "created"


def test_the_log_tail_leaves_events_out_and_survives_bytes(run: Run) -> None:
    assert LocalLauncher().log_tail(run) == []
    run.log_path.write_bytes(b"x" * 100_000 + b"\none\n\xff\n" + PREFIX.encode() + b'{"type": "a"}\ntwo\n')
    assert LocalLauncher().log_tail(run, 3) == ["one", "�", "two"]


@pytest.mark.parametrize(
    ("event", "log", "code", "error", "words"),
    [
        ({"type": "done", "seconds": 1}, "", 0, RunFailed, ""),
        ({"type": "stopped", "message": "asked to", "step": 1}, "", 130, RunFailed, "asked to"),
        ({"type": "failed", "message": "boom", "user_error": False}, "trace", 1, RunFailed, "boom\ntrace"),
        ({"type": "failed", "message": "a; b. c", "user_error": True}, "trace", 2, RefusedByTrainer, "a; b. c"),
        ({"type": "phase", "name": "data"}, "trace", 1, RunFailed, "without a word in phase data\ntrace"),
        ({"type": "phase", "name": "data"}, "<Signals.SIGKILL: 9>", 1, RunFailed, "memory ran out"),
        ({"type": "phase", "name": "data"}, "  exitcode  : -9 (pid: 3)", 1, RunFailed, "memory ran out"),
    ],
)
def test_an_outcome_says_how_it_ended(
    run: Run, event: dict[str, Any], log: str, code: int, error: type[Exception], words: str
) -> None:
    run.event("launched", command=[], processes=1)
    run.event(**event)
    run.log_path.write_text(log)
    outcome = LocalLauncher().outcome(run)
    assert outcome.exit_code == code
    assert type(outcome.error()) is error
    assert words in str(outcome.error())


def test_follow_reads_what_was_written_before_the_end(run: Run) -> None:
    class Ending(LocalLauncher):
        def is_alive(self, run: Run) -> bool:
            run.event("done", seconds=1)  # the process writes its last word just as it is looked at
            return False

    assert [event["type"] for event in Ending().follow(run)] == ["created", "done"]


def test_one_signal_to_each_trainer_and_none_to_its_workers(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loader's worker that ends makes its trainer fail in place of saving; a second signal makes it hurry."""
    tree = {10: 1, 11: 10, 12: 10, 13: 11}  # launcher, two trainers, a worker of the first
    signals: list[tuple[int, int]] = []

    class Process:
        def __init__(self, pid: int) -> None:
            self.pid = pid

        def ppid(self) -> int:
            return tree[self.pid]

        def send_signal(self, number: int) -> None:
            signals.append((self.pid, number))

    members = {pid: Process(pid) for pid in tree}
    looks = iter([set(members.values())] * 3 + [{members[10]}, set(), set()])
    monkeypatch.setattr(LocalLauncher, "_members", lambda self, run: next(looks, set()))
    monkeypatch.setattr(Run, "launch", lambda self: {"pid": 10})
    LocalLauncher().stop(run)
    assert sorted(signals[:2]) == [(11, signal.SIGTERM), (12, signal.SIGTERM)]
    assert signals[2:] == [(10, signal.SIGTERM)]  # the launcher, once nobody needs it any more
