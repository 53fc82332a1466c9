"""What `auto` costs against hindsight: its test score less that of the best rate of a grid, and of the probe."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import statistics
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import mean
from benchmarks.measuring import MODEL, UNLOOKED, Sizes
from benchmarks.page import Table, table
from hftransfer import catalog, training
from hftransfer.config import build
from hftransfer.fitting.interruption import Interruption
from hftransfer.runs import Run

PICTURES = "sample:mobilenet-v2"
SETS = {  # each with what a model is needed for, and the columns where they are not found by name
    "vader-tweets": MODEL, "vader-movie": MODEL, "vader-amazon": MODEL,
    "emoji": PICTURES, "mnist": PICTURES, "digits": PICTURES,
}  # fmt: skip
ROWS = (200, 500, 2000)
RATES = {  # seven for each way, a factor of the square root of ten apart
    "full": (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
    "lora": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
}
TEST = 600  # rows that are kept apart, where there are as many


@dataclass(frozen=True)
class Outcome:
    """A run's main metric on test and validation rows, and the seconds of training."""

    test: float
    validation: float
    seconds: float


def measure(folder: Path, sizes: Sizes) -> str:
    """Return the regret of `auto` over data sets, numbers of rows and seeds, as a table and in a sentence."""
    found: list[tuple[str, int, int, dict[str, Outcome]]] = []
    rows = [sizes.rows] if sizes.rows else list(ROWS)
    for name, count, seed in itertools.product(sizes.names or SETS, rows, range(sizes.seeds)):
        ways = {way: run(folder, name, count, seed, settings) for way, settings in settings_of(name, sizes.rates)}
        found.append((name, count, seed, ways))
        print(f"regret: {name}, {count} rows, seed {seed}: {told(ways)}", file=sys.stderr, flush=True)
    return told_of(found)


def settings_of(name: str, rates: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each way with its sections of the configuration."""
    yield "auto", {"method": {"name": "auto"}}
    yield "probe", {"method": {"name": "probe"}}
    for method, tried in RATES.items():
        if method == "lora" and SETS[name] == PICTURES:
            continue  # its layers are convolutions, which read each other's attributes
        step = max(1, len(tried) // rates)
        for rate in tried[::step]:
            yield f"{method} {rate:g}", {"method": {"name": method}, "train": {"learning_rate": rate}}


def run(folder: Path, name: str, rows: int, seed: int, sections: Mapping[str, Any]) -> Outcome:
    """Train one configuration; `rows` are those of train and validation together."""
    held_out = TEST if rows >= TEST else rows
    tree = {
        "task": "image-classification" if SETS[name] == PICTURES else "text-classification",
        "model": SETS[name], "seed": seed,
        "data": {"source": f"sample:{name}", "max_rows": rows + held_out, "test_size": held_out,
                 "validation_size": max(0.1, min(0.3, 100 / rows))},
        "evaluation": {"resamples": 200}, **sections,
    }  # fmt: skip
    settings = catalog.build_config(tree)
    words = [word.removeprefix("data.").split("=") for word in UNLOOKED]
    settings = build({**settings.to_dict(), "data": settings.to_dict()["data"] | {k: v == "true" for k, v in words}})
    shutil.rmtree(folder / "run", ignore_errors=True)
    with Interruption() as interruption, contextlib.redirect_stdout(sys.stderr):
        result = training.run(settings, Run.create(settings, folder / "run"), interruption)
    main = result["main_metric"]
    test, validation = (result[split]["metrics"][main]["value"] for split in ("test", "validation"))
    return Outcome(test, validation, result["cost"]["train_seconds"])


def best_of(ways: Mapping[str, Outcome]) -> Outcome:
    """Return the run of the grid that validates best: what somebody who tried all of it would have kept."""
    grid = {name: one for name, one in ways.items() if name not in ("auto", "probe")}
    return grid[max(grid, key=lambda name: grid[name].validation)]


def told(ways: Mapping[str, Outcome]) -> str:
    """Return the scores of one cell, in words."""
    best = best_of(ways)
    return f"auto {ways['auto'].test:.3f}, best of the grid {best.test:.3f}, probe {ways['probe'].test:.3f}"


def told_of(found: list[tuple[str, int, int, dict[str, Outcome]]]) -> str:
    """Return the regret by data set and number of rows, and over all of them."""
    rows: Table = [("data", "rows", "auto", "best of the grid", "probe", "auto less the best", "auto less the probe")]
    less_best: list[float] = []
    less_probe: list[float] = []
    times: list[float] = []
    for name, count in dict.fromkeys((name, count) for name, count, _, _ in found):
        cells = [ways for one, n, _, ways in found if (one, n) == (name, count)]
        autos, probes = [ways["auto"].test for ways in cells], [ways["probe"].test for ways in cells]
        bests = [best_of(ways) for ways in cells]
        ahead = [one - other.test for one, other in zip(autos, bests, strict=True)]
        above = [one - other for one, other in zip(autos, probes, strict=True)]
        less_best, less_probe = [*less_best, *ahead], [*less_probe, *above]
        times += [ways["auto"].seconds / max(one.seconds, 1e-9) for ways, one in zip(cells, bests, strict=True)]
        shown = [f"{statistics.mean(values):.3f}" for values in (autos, [one.test for one in bests], probes)]
        rows.append((name, f"{count:,}", *shown, mean(ahead, 1, 100, "+"), mean(above, 1, 100, "+")))
    return "\n\n".join([
        f"Test scores, means over the seeds; the grid is {' and '.join(RATES)} at the rates of the command, its best "
        "chosen on validation rows. Differences in points, with 95 % intervals of the mean (Student's t).",
        table(rows),
        f"Over {len(found)} cells `auto` is **{mean(less_best, 1, 100, '+')}** points from the grid's best and "
        f"**{mean(less_probe, 1, 100, '+')}** from the probe. It takes {statistics.median(times):.1f} times as long "
        "as the one run of the grid that was best (median); aimed at: within 1.5 points of the grid, never below the "
        "probe by more than noise, twice the time.",
    ])  # fmt: skip
