"""What was tried, what broke, and the page that says so."""

from __future__ import annotations

import datetime
import os
import platform
from collections import Counter
from pathlib import Path


class Tries:
    """Counts by class of fault, and what broke with where to look."""

    def __init__(self, say: bool = True) -> None:
        self.counts: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.breaks: list[tuple[str, str]] = []
        self.say = say

    @property
    def count(self) -> int:
        """All tries so far, one for each fault."""
        return sum(self.counts.values()) + len(self.breaks)

    def add(self, kind: str) -> None:
        self.counts[kind] += 1

    def broke(self, kind: str, words: str, where: Path) -> None:
        self.breaks.append((kind, words))
        if self.say:
            print(f"BROKE {kind}: {words}\n    {where}", flush=True)


GOALS = {"engine": 500, "hub": 200, "inputs": 300, "app": 0}
WHAT = {
    "engine": "a trainer is killed, stopped, frozen, starved of disk, moved, a checkpoint torn; it is taken up again",
    "hub": "publishing meets errors, cut and slow connections, lost answers and its own end",
    "inputs": "a file that is hostile or damaged is uploaded and, if let in, shown",
    "app": "visitors and a guest upload, start, stop, ask and pry, while workers, trainers and the queue are ended",
}
HOLDS = {
    "engine": "the run ends done, once, with the weights and answers of the undisturbed run; no process is left",
    "hub": "the repo is whole when the run says so, and after another try; no commit twice; no file holds the token",
    "inputs": "it is shown or refused, within its time and memory, and nothing is written elsewhere",
    "app": "every accepted upload and run is there, whole, once, and its owner's alone",
}


def page(tries: Tries, minutes: float, seed: int) -> str:
    """Return docs/reliability.md."""
    lines = [
        "# Reliability", "",
        "Faults drawn at random over the engine, a stand-in of the Hub and the app, and what must hold all the same.",
        "Written by the command that did it:", "",
        "```", f"python -m tests.chaos --minutes {minutes:g} --seed {seed} --write docs/reliability.md", "```", "",
        f"{datetime.date.today()}, {os.cpu_count()} cores of {platform.machine()}, which others shared. A seed draws"
        " the same faults; when they strike depends on the machine.", "",
        "| class | what happens | what must hold | faults | broke | goal |", "| --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for kind, what in WHAT.items():
        count = sum(n for name, n in tries.counts.items() if name.startswith(f"{kind}:"))
        broke = sum(name == kind for name, _ in tries.breaks)
        goal = f"{GOALS[kind]}" if GOALS[kind] else ""
        lines.append(f"| {kind} | {what} | {HOLDS[kind]} | {count} | {broke} | {goal} |")
    lines += ["", "## By fault", "", "| fault | times |", "| --- | --- |"]
    lines += [f"| {name} | {count} |" for name, count in sorted(tries.counts.items())]
    if tries.outcomes:
        lines += ["", "## What became of hostile files", "", "| | times |", "| --- | --- |"]
        lines += [f"| {name} | {count} |" for name, count in sorted(tries.outcomes.items())]
    lines += ["", "## What broke", ""]
    lines += [f"* {kind}: {' '.join(words.split())[:400]}" for kind, words in tries.breaks] or ["Nothing."]
    lines += [
        "", "## What this does not show", "",
        "* A disk that is full, a machine that is gone, memory that runs out under a cgroup: a limit on the size of",
        "  files and SIGKILL stand for them.",
        "* The load of a hundred visitors while a run trains: [the app's figures](app.md#figures) are of twenty.",
        "* What [the fence](space.md#the-fence) holds and what not: its table is tried by a test, row by row.", "",
    ]  # fmt: skip
    return "\n".join(lines)
