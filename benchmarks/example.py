"""The quickstart against transformers' text-classification example at its defaults, on all rows, over seeds."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.figures import mean, paired
from benchmarks.measuring import MODEL, TWEETS, Sizes, export, module, train
from benchmarks.page import Table, numbers, table
from hftransfer import samples

WAYS = ("hftransfer, quickstart", "transformers' example")


def measure(folder: Path, sizes: Sizes) -> str:
    """Train both on the same rows with each seed, in turn, and compare accuracy and seconds."""
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for seed in range(sizes.seeds):
        overrides = [*sizes.cap, f"seed={seed}"]
        place = export(folder / f"rows-{seed}", overrides)
        found[WAYS[1]].append(theirs(place, seed, sizes))
        found[WAYS[0]].append(ours(folder / f"ours-{seed}", overrides, sizes))
    rows: Table = [("", "test accuracy, mean of the seeds", "each seed", "training, s", "whole command, s")]
    for way, runs in found.items():
        scores = column(runs, "accuracy")
        rows.append(
            (way, mean(scores), numbers(scores, 3), mean(column(runs, "seconds"), 1), mean(column(runs, "whole"), 1))
        )
    one, other = (column(found[way], "accuracy") for way in WAYS)
    seconds = {way: column(found[way], "seconds") for way in WAYS}
    ratio = [b / a for a, b in zip(*seconds.values(), strict=True)]
    return "\n\n".join(
        [
            f"MiniLM on the VADER tweets, {len(ratio)} seeds, {sizes.epochs:g} epoch(s) for both (the example's own "
            "number is 3, the quickstart's 2). Each seed cuts other splits, which both sides share, and draws head "
            "and order. The example at its other defaults: batches of 8 padded to 128 tokens, float32, 5e-5. The "
            "quickstart: batches of 32, 3e-4, what timing chose for this machine; its training seconds do not "
            "count that timing, the whole command does, and a validation and intervals too. In brackets 95 % "
            "intervals of the mean over the seeds (Student's t).",
            table(rows),
            f"Accuracy of the quickstart less the example's, seed by seed: **{paired(one, other)} points**. The "
            f"example trains **{statistics.median(ratio):.1f}** times as long (median; {numbers(ratio)}).",
        ]
    )


def ours(folder: Path, overrides: list[str], sizes: Sizes) -> dict[str, Any]:
    """Return accuracy and seconds of the quickstart."""
    began = time.perf_counter()
    result = train(folder, TWEETS, *overrides, f"train.num_train_epochs={sizes.epochs}").result()
    whole = time.perf_counter() - began
    score = result["test"]["metrics"]["accuracy"]["value"]
    return {"accuracy": score, "seconds": result["cost"]["train_seconds"], "whole": whole}


def theirs(rows: Path, seed: int, sizes: Sizes) -> dict[str, Any]:
    """Return accuracy and seconds of the example."""
    began = time.perf_counter()
    found = module("benchmarks.example_defaults", rows, samples.resolve(MODEL), sizes.epochs, seed)
    return {**found, "whole": time.perf_counter() - began}


def column(runs: list[dict[str, float]], name: str) -> list[float]:
    """Return one figure of every run."""
    return [run[name] for run in runs]
