"""What was tried, what broke, and the page that says so: runs add up, and those of one seed count once."""

from __future__ import annotations

import datetime
import fcntl
import json
import os
import platform
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

KEPT = Path(__file__).with_name("tries.json")  # every run's counts, and the last figures under load


class Tries:
    """Counts by class of fault, and what broke with where to look."""

    def __init__(self, say: bool = True) -> None:
        self.counts: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.moments: Counter[str] = Counter()  # what a trainer was doing when it was struck
        self.breaks: list[tuple[str, str]] = []
        self.say = say

    @property
    def count(self) -> int:
        """All tries so far, one for each fault."""
        return sum(self.counts.values()) + len(self.breaks)

    def add(self, kind: str, doing: str = "") -> None:
        self.counts[kind] += 1
        if doing:
            self.moments[doing] += 1

    def broke(self, kind: str, words: str, where: Path) -> None:
        self.breaks.append((kind, " ".join(words.split())[:400]))
        if self.say:
            print(f"BROKE {kind}: {words}\n    {where}", flush=True)


GOALS = {"engine": 500, "hub": 200, "inputs": 300, "app": 60}
WHAT = {
    "engine": "a trainer is killed, stopped, frozen, starved of disk or memory, moved, a checkpoint torn; it is taken"
    " up again",
    "hub": "publishing, and training on what is there, meet errors, cut and slow connections, lost answers, wrong"
    " bytes of the right length, a repo that is deleted, moved, hidden or goes on, and their own end",
    "inputs": "a file that is hostile or damaged is uploaded and, if let in, shown",
    "app": "visitors and a guest upload, start, stop, ask, publish and pry, on several pages and at once, and leave"
    " in the middle, while workers, trainers, pushes and the queue are ended",
}
HOLDS = {
    "engine": "the run ends done, once, with the weights and answers of the undisturbed run; no process is left",
    "hub": "the repo is whole when the run says so, and after another try; no commit twice; no file holds the token;"
    " what trains has the weights of the quiet run on the commits that it names, or says why not",
    "inputs": "it is shown or refused, within its time and memory, and nothing is written elsewhere",
    "app": "every accepted upload, run and publication is there, whole, once, and its owner's alone; no run has two"
    " trainers",
}


# --- several runs ---


def read(path: Path = KEPT) -> dict[str, Any]:
    """Return what earlier runs left: `tries`, a list of runs, and `load`, the last figures under load or None."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {"tries": found.get("tries", []), "load": found.get("load")}


def free_seed(kept: Mapping[str, Any]) -> int:
    """Return a seed that no run has had."""
    return 1 + max((run["seed"] for run in kept["tries"]), default=0)


def entry(tries: Tries, minutes: float, seed: int, only: str | None) -> dict[str, Any]:
    """Return one run as it is kept."""
    return {
        "date": str(datetime.date.today()), "seed": seed, "only": only, "minutes": minutes, "commit": commit(),
        "machine": machine(), "counts": dict(sorted(tries.counts.items())),
        "outcomes": dict(sorted(tries.outcomes.items())), "moments": dict(sorted(tries.moments.items())),
        "breaks": [list(found) for found in tries.breaks],
    }  # fmt: skip


def keep(found: Mapping[str, Any], page_at: Path, path: Path = KEPT) -> str:
    """Add a run, {"load": ...} or one of `entry`, to what is kept, write the page of all and return it.

    A run of a seed and class that there is already stands in its place: it draws the same faults.
    """
    held = os.open(path.parent, os.O_RDONLY)  # a folder can be locked, and no file of locks is left behind
    try:
        fcntl.flock(held, fcntl.LOCK_EX)  # several may run side by side
        kept = read(path)
        if "load" in found:
            kept["load"] = found["load"]
        else:
            same = (found["seed"], found["only"])
            kept["tries"] = [run for run in kept["tries"] if (run["seed"], run["only"]) != same] + [dict(found)]
        path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        text = page(kept)
        page_at.write_text(text, encoding="utf-8")
    finally:
        os.close(held)
    return text


def machine() -> str:
    """Return what this ran on, in a few words."""
    return f"{os.cpu_count()} cores of {platform.machine()}"


def commit() -> str:
    """Return which commit this is."""
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=KEPT.parent, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


# --- the page ---


def page(kept: Mapping[str, Any]) -> str:
    """Return docs/reliability.md."""
    runs: list[dict[str, Any]] = kept["tries"]
    counts, outcomes, moments = (_sum(run.get(what, {}) for run in runs) for what in ("counts", "outcomes", "moments"))
    breaks = [(*found, run["seed"]) for run in runs for found in run["breaks"]]
    lines = [
        "# Reliability", "",
        "Faults drawn at random over the engine, a stand-in of the Hub and the app, and what must hold all the same.",
        "Written by the command that did it:", "",
        "```", "python -m tests.chaos --minutes 10 --write docs/reliability.md", "```", "",
        "Its runs add up in `tests/chaos/tries.json`, each with a seed of its own: a seed draws the same faults again,"
        " so that it counts once", "(`--seed` repeats one; when the faults strike depends on the machine).", "",
        "| class | what happens | what must hold | faults | broke | goal |", "| --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for kind, what in WHAT.items():
        count = sum(n for name, n in counts.items() if name.startswith(f"{kind}:"))
        broke = sum(found[0] == kind for found in breaks)
        lines.append(f"| {kind} | {what} | {HOLDS[kind]} | {count} | {broke} | {GOALS[kind] or ''} |")
    lines += ["", "## By run", "", "| date | seed | class | minutes | faults | broke | code | on |",
              "| --- | --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    lines += [
        f"| {run['date']} | {run['seed']} | {run['only'] or 'all'} | {run['minutes']:g} "
        f"| {sum(run['counts'].values())} | {len(run['breaks'])} | {run['commit']} | {run['machine']} |"
        for run in runs
    ]
    lines += ["", "## By fault", "", "| fault | times |", "| --- | --- |"]
    lines += [f"| {name} | {count} |" for name, count in sorted(counts.items())]
    if moments:
        lines += ["", "## What trainers were doing when they were struck", "", "| | times |", "| --- | --- |"]
        lines += [f"| {name} | {count} |" for name, count in sorted(moments.items())]
    if outcomes:
        lines += ["", "## What became of hostile files", "", "| | times |", "| --- | --- |"]
        lines += [f"| {name} | {count} |" for name, count in sorted(outcomes.items())]
    lines += ["", "## What broke", ""]
    lines += [f"* {kind}, seed {seed}: {words}" for kind, words, seed in breaks] or ["Nothing."]
    lines += _load(kept["load"])
    lines += [
        "", "## What this does not show", "",
        "* Most trainers are forks of a process that has imported everything before, and draw plots with few dots:",
        "  they start in no time, so that hundreds fit. They are processes of their own; signals, disks, memory are",
        "  real. What a start from nothing and the launcher add is tried by the share called `by command`, compared",
        "  with the same undisturbed run. `of one of two`: two processes that train together, and one is struck.",
        "* Full disks and memory that runs out are a small disk and a memory cgroup of their own, where the machine",
        "  lets the command make them; elsewhere a limit on the size of files and SIGKILL stand for them.",
        "* What [the fence](space.md#the-fence) holds and what not: its table is tried by a test, row by row.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _load(load: Mapping[str, Any] | None) -> list[str]:
    if load is None:
        return []
    code = f", {load['code']}" if "code" in load else ""
    lines = ["", "## Under load", "", "```", load["command"], "```", "", f"{load['date']}{code}, {load['machine']}."]
    lines += ["", "| what | measured |", "| --- | --- |", *(f"| {what} | {value} |" for what, value in load["rows"])]
    if not code:  # of before: who answers did not give way as told below
        return lines
    return [
        *lines, "",
        "Whoever trains comes first: what answers and looks at uploads has a low priority, the app's threads and",
        "those who ask (this command, whose people are elsewhere in truth) one in the middle. Outside of",
        "containers some kernels share out processors by session first (`sysctl kernel.sched_autogroup_enabled`):",
        "there the app, whose session is that of its terminal, takes as much as a trainer, and slows it far more.",
    ]  # fmt: skip


def _sum(found: Iterable[Mapping[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for one in found:
        total.update(one)
    return total
