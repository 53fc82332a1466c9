"""Runs on this machine: in a session of their own, so that they outlive whoever started them."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil

from hftransfer.errors import UserError
from hftransfer.launchers.base import GRACE, Ending, Launcher
from hftransfer.runs import MARK, Run, called, write_text
from hftransfer.safety import machine
from hftransfer.safety.identity import note_process

SCRIPT = Path(__file__).parents[1] / "train.py"
ALONE = Path(__file__).with_name("_alone.py")
PROCESSES = "HFTRANSFER_PROCESSES"  # environment variable: how many processes were asked for
# accelerate falls back on the user's default_config.yaml, whose DeepSpeed or FSDP no flag turns off; this file does
NEUTRAL = "compute_environment: LOCAL_MACHINE\ndistributed_type: 'NO'\n"
MOST = 16  # processes for each core: a recipe of another machine may name any number
KILL_WAIT = 10.0  # seconds for the kernel to end what was killed: one that writes to a slow disk takes a while


class LocalLauncher(Launcher):
    """Start `script` (hftransfer/train.py) on this machine: several processes through accelerate, one by itself."""

    name = "local"
    about = "this machine, in a process of its own"
    needs = "accelerate, which comes with hftransfer"

    def __init__(self, script: Path = SCRIPT) -> None:
        self.script = script
        self._children: dict[Path, subprocess.Popen[bytes]] = {}  # only to reap them; the state is in the files

    def check(self, run: Run, processes: int = 1) -> None:
        """Raise UserError when the run goes on already, or accelerate is missing, or the number makes no sense."""
        if processes < 1:
            raise UserError("at least one process is needed", f"found {processes}", "Set --processes 1 or more.")
        if processes > (most := MOST * machine.cores()):
            raise UserError(
                f"at most {most} processes are possible on this machine", f"found {processes}", "Set --processes 1."
            )
        if importlib.util.find_spec("accelerate") is None:
            raise UserError("the package accelerate is needed", "it is not installed", "Run: pip install accelerate")
        if self.is_alive(run):
            raise UserError(
                "a run that nobody works on is needed", f"{run.name} is running", f"Run: hftransfer stop {called(run)}"
            )

    def command(self, run: Run, processes: int = 1, resume: bool = False) -> list[str]:
        """Return the launch command; every setting is spelled out, so that it means the same on every machine."""
        script = [str(self.script), "--config", str(run.config_path), *(["--resume"] if resume else [])]
        if processes == 1:
            return [sys.executable, str(ALONE), *script]
        flags = [*launch_flags(processes, 1, neutral(run)), "--main_process_port", "0"]
        return [sys.executable, "-m", "accelerate.commands.launch", *flags, *script]

    def start(
        self, run: Run, resume: bool = False, processes: int = 1, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start the trainer; the event `launched` is there before it is."""
        self.check(run, processes)
        command = self.command(run, processes, resume)
        if processes > 1:
            write_text(neutral(run), NEUTRAL)
        # until the child is there, this process stands for it: nobody shall read a run without a process as killed
        _note(run, command, processes, os.getpid())
        run.event("launched", command=command, processes=processes)
        given = os.environ if environment is None else environment
        with open(run.log_path, "ab") as log:
            child = subprocess.Popen(
                command,
                env={**given, MARK: os.path.realpath(run.folder), PROCESSES: str(processes)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                **machine.own_session(),
            )
        self._children[run.folder] = child
        _note(run, command, processes, child.pid)

    def stop(self, run: Run, grace: float = GRACE) -> Ending:
        """Send SIGTERM to the trainers, wait for their checkpoint, kill what is left after `grace` seconds."""
        if not self._members(run):
            return "gone"
        asked: set[psutil.Process] = set()
        end = time.monotonic() + grace
        # one on its way out has no environment left to be known by, and is there all the same
        while ((members := self._members(run)) or self.is_alive(run)) and time.monotonic() < end:
            for process in _trainers(members, run) - asked:  # one may appear while the launcher is starting it
                with contextlib.suppress(psutil.NoSuchProcess):
                    machine.ask_to_end(process)
                asked.add(process)
            time.sleep(0.1)
        killed = self._kill(run)
        if run.status().state in ("running", "killed"):
            message = f"killed: it did not end within {grace:.0f} s" if killed else "stopped before it could say more"
            run.event("stopped", message=message, step=run.status().step)
        return "killed" if killed else "stopped"

    def is_alive(self, run: Run) -> bool:
        """Tell whether the launcher or a trainer still works on the run."""
        self._reap(run)
        return run.is_alive()

    def _kill(self, run: Run) -> bool:
        end = time.monotonic() + KILL_WAIT
        killed = False
        while (members := self._members(run)) and time.monotonic() < end:
            for process in members:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            killed = True
            time.sleep(0.05)
        return killed

    def _members(self, run: Run) -> set[psutil.Process]:
        """Find the processes of a run: they carry its mark or descend from its launcher (torch elastic's workers have
        sessions of their own, so the process group is not enough)."""
        self._reap(run)
        mark = os.path.realpath(run.folder)
        found = {process for process in psutil.process_iter() if _mark(process) == mark}
        for process in tuple(found):
            with contextlib.suppress(psutil.NoSuchProcess):
                found.update(process.children(recursive=True))
        return {process for process in found if process.pid != os.getpid() and _lives(process)}

    def _reap(self, run: Run) -> None:
        child = self._children.get(run.folder)
        if child is not None and child.poll() is not None:
            del self._children[run.folder]


def shown(command: Iterable[str]) -> str:
    """Return a launch command as a person types it: `python ...` or `accelerate launch ...`, paths relative where they
    lie below the working folder."""
    words = list(command)
    if words[1:2] == [str(ALONE)]:
        words[:2] = ["python"]
    if words[1:3] == ["-m", "accelerate.commands.launch"]:
        words[:3] = ["accelerate", "launch"]
    return shlex.join(relative(word) if os.path.isabs(word) else word for word in words)


def relative(path: str | Path) -> str:
    """Return a path as seen from the working folder when it lies below, and whole otherwise."""
    return str(Path(path).relative_to(Path.cwd())) if Path(path).is_relative_to(Path.cwd()) else str(path)


def launch_flags(processes: int, machines: int, config: Path) -> list[str]:
    """Return what accelerate is told everywhere: every setting, so that no default of the user's own counts."""
    # `--cpu --num_processes 2` starts one process without a word; `--multi_gpu` starts two, on CPUs too
    flags = [*(["--multi_gpu"] if processes > 1 else []), "--num_processes", str(processes)]
    flags += ["--num_machines", str(machines), "--mixed_precision", "no", "--dynamo_backend", "no"]
    return [*flags, "--config_file", str(config)]


def neutral(run: Run) -> Path:
    """Return the file of launch settings in a run's folder."""
    return run.folder / "accelerate.yaml"


def _note(run: Run, command: list[str], processes: int, pid: int) -> None:
    note = {"launcher": LocalLauncher.name, "processes": processes, "command": command, "time": round(time.time(), 3)}
    write_text(run.launch_path, json.dumps(note | note_process(pid), indent=1))


def _trainers(members: set[psutil.Process], run: Run) -> set[psutil.Process]:
    """Choose whom to ask: the trainers, and the launcher once it is alone. Asked first, it would leave them behind
    (accelerate) or kill them after 30 s (torch elastic). A trainer's own children load data for its last step."""
    launcher = {process for process in members if process.pid == run.launch().get("pid")}
    beneath = {process.pid for process in members - launcher}
    return {process for process in members - launcher if _parent(process) not in beneath} or launcher


def _parent(process: psutil.Process) -> int:
    try:
        parent: int = process.ppid()
    except psutil.NoSuchProcess:
        return 0
    return parent


def _mark(process: psutil.Process) -> str | None:
    try:
        environment: dict[str, str] = process.environ()
    except (psutil.Error, OSError):
        return None  # someone else's process, or one that is just ending
    return environment.get(MARK)


def _lives(process: psutil.Process) -> bool:
    try:
        status: str = process.status()
    except psutil.NoSuchProcess:
        return False
    return status != psutil.STATUS_ZOMBIE


LAUNCHER = LocalLauncher()
