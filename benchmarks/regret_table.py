"""What is said of the runs that `benchmarks.regret` made: differences by data set and number of rows, over seeds."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.figures import mean
from benchmarks.page import Table, table

TITLE = "The defaults"
AIM = 1.5  # points from the grid's best, as a mean

Block = tuple[str, int, int]  # data set, rows, seed
Ways = Mapping[str, "Outcome"]


@dataclass(frozen=True)
class Outcome:
    """One run: its metrics on test and validation rows, the seconds of training, or the error that ended it."""

    name: str
    rows: int
    seed: int
    way: str
    metric: str = ""
    test: dict[str, float] = field(default_factory=dict)
    validation: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    wall: float = 0.0  # of all of it: data, model, training, answers
    splits: dict[str, int] = field(default_factory=dict)
    auto: dict[str, Any] | None = None
    error: str = ""

    @property
    def score(self) -> float:
        """The main metric on test rows."""
        return self.test[self.metric]

    @property
    def judged(self) -> float:
        """The main metric on validation rows."""
        return self.validation[self.metric]


@dataclass(frozen=True)
class Settings:
    """Where and how runs were made."""

    workers: int
    minutes: float | None
    machine: str
    versions: dict[str, str]
    day: str

    @classmethod
    def here(cls, workers: int = 1, minutes: float | None = None) -> Settings:
        """Return those of this machine."""
        import torch

        from benchmarks.page import processor
        from benchmarks.run import versions

        card = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
        where = f"{processor()}, {os.cpu_count()} cores{card}"
        return cls(workers, minutes, where, versions(), time.strftime("%Y-%m-%d"))


def read(paths: Sequence[Path]) -> tuple[list[Outcome], Settings]:
    """Return the outcomes of files, the last where a run was made twice, and the settings of all."""
    notes = [json.loads(line) for path in paths for line in path.read_text(encoding="utf-8").splitlines() if line]
    found = [Outcome(**note) for note in notes if "settings" not in note]
    last = {(one.name, one.rows, one.seed, one.way): one for one in found}
    told = [Settings(**note["settings"]) for note in notes if "settings" in note]
    machines = " and ".join(dict.fromkeys(one.machine for one in told))
    return list(last.values()), replace(
        told[0], machine=machines, day=told[-1].day, workers=max(one.workers for one in told)
    )


def made(path: Path) -> set[tuple[str, int, int, str]]:
    """Return what a file holds: data set, rows, seed and way of the runs that came to an end, none without a file."""
    found = read([path])[0] if path.is_file() else []
    return {(one.name, one.rows, one.seed, one.way) for one in found if not one.error}


def section(paths: Sequence[Path]) -> str:
    """Return the section of files: the command, where it ran, the table."""
    found, settings = read(paths)
    seeds, rates = len({one.seed for one in found}), len({one.way for one in found if one.way.startswith("full")})
    named = ", ".join(f"{name} {version}" for name, version in settings.versions.items())
    words = f"python -m benchmarks.run regret --seeds {seeds} --rates {rates}"
    from benchmarks import regret

    whole = len(list(regret.cells(regret.SETS, regret.ROWS, range(seeds), rates)))
    part = f" Stopped after {len(found)} of its {whole} runs." if len(found) < whole else ""
    stamp = f"`{words}`, {settings.day}. {settings.machine}. {named}.{part}"
    return f"{stamp}\n\n{told(found, settings)}"


def told(found: Sequence[Outcome], settings: Settings) -> str:
    """Return the regret by data set and number of rows, and over all of them."""
    blocks = whole(found)
    if not blocks:
        return "No block of runs was made whole."
    head: Table = [
        ("data", "rows", "seeds", "auto", "best of the grid", "probe", "auto less the best", "auto less the probe")
    ]
    sets = dict.fromkeys(name for name, _, _ in blocks)
    for name, count in [
        (name, count) for name in sets for count in sorted({n for one, n, _ in blocks if one == name})
    ]:
        head.append(
            (name, f"{count:,}", *row([ways for (one, n, _), ways in blocks.items() if (one, n) == (name, count)]))
        )
    every = list(blocks.values())
    return "\n\n".join([about(found, blocks, settings), table(head), sums(blocks), seconds(every), kept(every)])


def whole(found: Sequence[Outcome]) -> dict[Block, dict[str, Outcome]]:
    """Return the blocks of which no run is missing: as many as the fullest block of that data set has."""
    blocks: dict[Block, dict[str, Outcome]] = {}
    for one in found:
        blocks.setdefault((one.name, one.rows, one.seed), {})[one.way] = one
    most = {name: max(len(ways) for (one, _, _), ways in blocks.items() if one == name) for name, _, _ in blocks}
    return {
        block: ways
        for block, ways in blocks.items()
        if len(ways) == most[block[0]] and not {"auto", "probe"} - ways.keys() and grid(ways)
        and not ways["auto"].error and not ways["probe"].error
    }  # fmt: skip


def grid(ways: Ways) -> dict[str, Outcome]:
    """Return the runs at given rates that came to an end."""
    return {name: one for name, one in ways.items() if name not in ("auto", "probe") and not one.error}


def best_of(ways: Ways) -> Outcome:
    """Return the run of the grid that validates best: what somebody who tried all of it would have kept.

    On a hundred validation rows several often have the same score: of those, the one with the least log loss there.
    """
    tried = grid(ways)
    return max(tried.values(), key=lambda one: (one.judged, -one.validation.get("log_loss", 0.0)))


def ahead(ways: Ways) -> tuple[float, float]:
    """Return the score of `auto` less that of the grid's best, and less that of the probe."""
    return ways["auto"].score - best_of(ways).score, ways["auto"].score - ways["probe"].score


def row(cells: Sequence[Ways]) -> list[object]:
    """Return the figures of one data set and number of rows: `cells` are its seeds."""
    scores = [[ways[name].score for ways in cells] for name in ("auto", "probe")]
    bests = [best_of(ways).score for ways in cells]
    shown = [f"{statistics.mean(values):.3f}" for values in (scores[0], bests, scores[1])]
    best, probe = zip(*map(ahead, cells), strict=True)
    return [len(cells), *shown, mean(best, 1, 100, "+"), mean(probe, 1, 100, "+")]


def about(found: Sequence[Outcome], blocks: Mapping[Block, Ways], settings: Settings) -> str:
    """Return what was run, and what the columns are."""
    grid_size = {name: len(grid(ways)) for (name, _, _), ways in blocks.items()}
    failed = sum(bool(one.error) for one in found)
    part = len({(one.name, one.rows, one.seed) for one in found}) - len(blocks)
    lines = [
        f"{len(found)} runs, up to {settings.workers} at a time. Rows are those of train and validation together, 600 "
        "others are the test; accuracy there, means over the seeds. The grid: "
        + ", ".join(f"{count} rates on {name}" for name, count in grid_size.items())
        + " (`full`, and `lora` where there are linear layers), its best chosen on validation rows, "
        "by accuracy, then by log loss. "
        "Differences in points, with 95 % intervals of the mean over seeds (Student's t)."
    ]
    if part:
        lines.append(f"{part} blocks that the time did not suffice for are left out.")
    if failed:
        lines.append(f"{failed} runs ended in an error.")
    return " ".join(lines)


def sums(blocks: Mapping[Block, Ways]) -> str:
    """Return the differences over all blocks: a data set at a number of rows is one value, the mean of its seeds."""
    pairs: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for (name, count, _), ways in blocks.items():
        pairs.setdefault((name, count), []).append(ahead(ways))
    means = [tuple(map(statistics.mean, zip(*values, strict=True))) for values in pairs.values()]
    less_best, less_probe = ([one[side] for one in means] for side in (0, 1))
    each = []
    for count in sorted({count for _, count in pairs}):
        some = [one for (_, n), one in zip(pairs, means, strict=True) if n == count]
        each.append(
            f"{count:,} rows {mean([a for a, _ in some], 1, 100, '+')} and {mean([b for _, b in some], 1, 100, '+')}"
        )
    seeds: dict[int, list[tuple[float, float]]] = {}
    for (_, _, seed), ways in blocks.items():
        seeds.setdefault(seed, []).append(ahead(ways))
    apart = [
        f"seed {seed} ({len(some)} blocks) {mean([a for a, _ in some], 1, 100, '+')} and "
        f"{mean([b for _, b in some], 1, 100, '+')}"
        for seed, some in sorted(seeds.items())
    ]
    by_seed = f" By seed: {'; '.join(apart)}." if len(apart) > 1 else ""
    below = [f"{name} at {count:,}" for (name, count), one in zip(pairs, means, strict=True) if one[0] < -AIM / 100]
    worst = f" More than {AIM:g} points behind the grid: {', '.join(below)}." if below else ""
    return (
        f"Over {len(means)} data sets and sizes ({len(blocks)} blocks) `auto` is **{mean(less_best, 1, 100, '+')}** "
        f"points from the grid's best and **{mean(less_probe, 1, 100, '+')}** from the probe; by size, likewise: "
        f"{'; '.join(each)}.{by_seed}{worst} Aimed at: within {AIM:g} points of the grid on average, "
        "never below the probe by more than noise."
    )


def seconds(every: Sequence[Ways]) -> str:
    """Return how long `auto` took, in full runs at one rate."""
    times = []
    for ways in every:
        full = [one.seconds for name, one in grid(ways).items() if name.startswith("full")]
        if full and ways["auto"].seconds:
            times.append(ways["auto"].seconds / statistics.median(full))
    if not times:
        return "No full run stands beside `auto`."
    low, high = min(times), max(times)
    return (
        f"Its training takes {statistics.median(times):.1f} times the seconds of one full run (median of "
        f"{len(times)}; {low:.1f} to {high:.1f}), its probe and its trials counted in; aimed at: 2."
    )


def kept(every: Sequence[Ways]) -> str:
    """Return what `auto` kept, and how often its guard began anew."""
    records = [ways["auto"].auto or {} for ways in every]
    methods = [str(record.get("final", {}).get("method", "?")) for record in records]
    counted = ", ".join(f"{name} {methods.count(name)}" for name in dict.fromkeys(methods))
    again = sum(bool(record.get("again")) for record in records)
    return f"It kept: {counted} times. Its guard stepped in in {again} of {len(records)} runs."
