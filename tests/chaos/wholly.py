"""A share of the engine's faults without any shortcut: `hftransfer train` and `resume`, whose processes are ended.

The other tries fork trainers from a process that has imported everything. Here each command starts as a person starts
it, the trainer below its launcher; what comes of it is compared with the quiet run of the forked ones.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from hftransfer.runs import MARK, Run
from tests.chaos.engine import RANKS, Engine
from tests.chaos.report import Tries

LONG = 300.0  # seconds for all processes of a run to end
STRIKES = {
    "the trainer": ("SIGKILL", "SIGTERM", "SIGHUP"), "the launcher": ("SIGKILL", "SIGTERM"),
    "the command": ("SIGKILL", "SIGHUP", "SIGINT"), "everything": ("SIGKILL",),
}  # fmt: skip


class Command:
    """A command as a process, asked as a forked child is."""

    def __init__(self, words: list[str], folder: Path) -> None:
        with open(folder / "command.log", "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hftransfer.cli", *words], cwd=folder, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True,
            )  # fmt: skip
        self.pid = self._process.pid

    def wait(self, seconds: float) -> int | None:
        try:
            return self._process.wait(max(seconds, 0.0))
        except subprocess.TimeoutExpired:
            return None


class Wholly:
    """Runs by whole commands, on the materials of the forked ones."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        self.folder, self.engine, self.number = folder, engine, 0
        folder.mkdir()

    def attempt(self, random: random.Random, tries: Tries) -> None:
        """Train by the command, end something of it, resume by the command, compare."""
        variant = random.choice(["full", "lora", "early stopping", "two processes"])
        if variant not in self.engine.quiet:
            self.engine.undisturbed(variant)
        self.number += 1
        place = self.folder / f"try {self.number}"
        place.mkdir()
        run = self.engine.config(place / "run", variant)
        who = random.choice([*STRIKES])
        number = random.choice(STRIKES[who])
        try:
            child = Command(["train", "run.yaml", "--processes", str(RANKS.get(variant, 1))], place)
            struck = self.engine.moments[variant].wait(random, run, [child])
            if struck is not None and self._strike(random, run, child, who, getattr(signal, number)):
                tries.add(f"engine: {number} of {who}, by command", struck)
            child.wait(LONG)
            self._require_ended(run)
            if not run.config_path.exists():
                assert Command(["train", "run.yaml"], place).wait(LONG) == 0, log_of(place)
            elif run.status().state != "done":
                code = Command(["resume", "run"], place).wait(LONG)
                assert code == 0, f"resume ends with {code}: {log_of(place)}"
            self.engine.require(run, variant)
        except AssertionError as error:
            tries.broke("engine", f"by command, {variant}, {number} of {who}: {error}", place)
        else:
            shutil.rmtree(place)
        finally:
            for process in _marked(run):
                with contextlib.suppress(psutil.Error):
                    process.kill()

    def _strike(self, random: random.Random, run: Run, child: Command, who: str, number: int) -> bool:
        """Send the signal; False where nobody was there to get it."""
        launcher = run.launch().get("pid")
        chosen = {
            "the trainer": [process for process in _marked(run) if process.pid != launcher],
            "the launcher": [process for process in _marked(run) if process.pid == launcher],
            "the command": [psutil.Process(child.pid)] if child.wait(0) is None else [],
            "everything": _marked(run),
        }[who]
        struck = False
        for process in chosen if who == "everything" else chosen and [random.choice(chosen)]:
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)
                struck = True
        if who == "everything" and child.wait(0) is None:
            os.kill(child.pid, number)
        return struck

    def _require_ended(self, run: Run) -> None:
        """Require that no process of the run is left; one whose command alone was ended goes on to its end."""
        end = time.monotonic() + LONG
        while _marked(run):
            assert time.monotonic() < end, f"still there: {[process.cmdline() for process in _marked(run)]}"
            time.sleep(0.1)


def log_of(place: Path) -> str:
    return (place / "command.log").read_text(errors="replace")[-600:]


def _marked(run: Run) -> list[psutil.Process]:
    mark, found = os.path.realpath(run.folder), []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
