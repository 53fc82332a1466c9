"""`few_shot` against the SetFit package on the same few rows a class, over seeds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.figures import mean, paired
from benchmarks.measuring import (
    MODEL,
    ROOT,
    SPLITS,
    TWEETS,
    UNLOOKED,
    Sizes,
    environment,
    export,
    here,
    module,
    read_rows,
    train,
    write_rows,
)
from benchmarks.page import Table, numbers, table
from hftransfer import samples

SHOTS = (8, 16, 64)
VALIDATION = 100  # rows
LENGTH = 128  # tokens, for every way
REQUIREMENTS = ROOT / "benchmarks" / "setfit-requirements.txt"


@dataclass(frozen=True)
class Outcome:
    """What one training gave."""

    accuracy: float  # on the test rows
    seconds: float  # of training
    whole: float  # of the process, or of the run in this one
    steps: str = ""  # taken by SetFit, of those of its default


def measure(folder: Path, sizes: Sizes) -> str:
    """Train every way on each draw of rows, and compare on the same test rows."""
    found = {
        (shots, name): [
            way(drawn(folder / f"{shots}-{seed}", shots, seed, sizes), seed, sizes) for seed in range(sizes.seeds)
        ]
        for shots in SHOTS
        for name, way in WAYS.items()
    }
    bounds = ", ".join(f"{found[shots, 'SetFit'][0].steps} at {shots}" for shots in SHOTS)
    text = (
        "MiniLM on VADER tweets of three classes. Each seed draws other rows and splits, which all ways share. SetFit "
        "is the package of `benchmarks/setfit-requirements.txt` at its defaults: one epoch of oversampled pairs, "
        "batches of 16 pairs, 2e-5, a logistic head; the encoder with the mean of its tokens, normalised, as it is "
        f"published. Steps it took, of those that its default epoch has: {bounds} rows a class{bounded(sizes)}. In "
        f"brackets 95 % intervals of the mean over {sizes.seeds} seeds (Student's t). Whole is a process of its own, "
        "libraries and answers to the test rows included; few_shot's also measures intervals, saves the model and "
        "writes its card. The probe's is a run in a process that is there."
    )
    return "\n\n".join([text, scores(found), "Differences seed by seed, on the same rows:", differences(found)])


def scores(found: dict[tuple[int, str], list[Outcome]]) -> str:
    """Return the table of every way."""
    rows: Table = [("rows a class", "", "test accuracy, mean of the seeds", "each seed", "training, s", "whole, s")]
    for (shots, name), runs in found.items():
        accuracy = [run.accuracy for run in runs]
        spent = [mean([getattr(run, part) for run in runs], 1) for part in ("seconds", "whole")]
        rows.append((shots, name, mean(accuracy), numbers(accuracy, 3), *spent))
    return table(rows)


def differences(found: dict[tuple[int, str], list[Outcome]]) -> str:
    """Return the table of few_shot against SetFit."""
    rows: Table = [("rows a class", "few_shot less SetFit, points", "SetFit's training over few_shot's, median")]
    for shots in SHOTS:
        one, other = found[shots, "few_shot"], found[shots, "SetFit"]
        points = paired([run.accuracy for run in one], [run.accuracy for run in other])
        ratio = statistics.median(b.seconds / a.seconds for a, b in zip(one, other, strict=True))
        rows.append((shots, f"**{points}**", f"{ratio:.1f}"))
    return table(rows)


def bounded(sizes: Sizes) -> str:
    """Say what was cut of SetFit's default."""
    if not sizes.setfit_steps:
        return ""
    return (
        f": the benchmark stops it at {sizes.setfit_steps} steps, its learning rate falling to zero by then, because "
        "the whole epoch takes many minutes a seed on two cores (`--setfit-steps 0` runs it)"
    )


def few_shot(source: Path, seed: int, sizes: Sizes) -> Outcome:
    """Run few_shot at its defaults by the command line."""
    began = time.perf_counter()
    result = train(source.parent / "few_shot", TWEETS, *overrides(source, seed), "method.name=few_shot").result()
    whole = time.perf_counter() - began
    return Outcome(result["test"]["metrics"]["accuracy"]["value"], result["cost"]["train_seconds"], whole)


def probe(source: Path, seed: int, sizes: Sizes) -> Outcome:
    """Run the probe at its defaults in this process."""
    result = here(source.parent / "probe", *overrides(source, seed), "method.name=probe").result()
    cost = result["cost"]
    return Outcome(result["test"]["metrics"]["accuracy"]["value"], cost["train_seconds"], cost["total_seconds"])


def overrides(source: Path, seed: int) -> list[str]:
    """Return what the ways of ours share: the drawn rows, defaults of the method, nothing of the quickstart's."""
    return [
        f"data.source={source}", f"seed={seed}", f"data.max_length={LENGTH}", "data.max_rows=null",
        *UNLOOKED, "train={}",
    ]  # fmt: skip


def setfit(source: Path, seed: int, sizes: Sizes) -> Outcome:
    """Run SetFit in its own environment."""
    python = environment(REQUIREMENTS)
    began = time.perf_counter()
    model = samples.resolve(MODEL)
    found = module("benchmarks.setfit_defaults", source, model, seed, LENGTH, sizes.setfit_steps, python=python)
    whole = time.perf_counter() - began
    return Outcome(found["accuracy"], found["seconds"], whole, f"{found['steps']} of {found['default_steps']}")


def drawn(folder: Path, shots: int, seed: int, sizes: Sizes) -> Path:
    """Write a train of so many rows a class, few validation rows, and the test as it is; once for all ways."""
    source = folder / "rows"  # apart from the runs, whose pictures would be taken for data
    if source.is_dir():
        return source
    whole = export(folder / "whole", [*sizes.cap, f"seed={seed}"])
    source.mkdir()
    rng = np.random.default_rng(seed)
    for split in SPLITS:
        texts, labels = read_rows(whole / f"{split}.jsonl")
        kept = range(len(texts))
        if split == "train":
            given = np.asarray(labels)
            places = [rng.permutation(np.flatnonzero(given == label))[:shots] for label in np.unique(given)]
            kept = np.sort(np.concatenate(places)).tolist()
        elif split == "validation":
            kept = np.sort(rng.permutation(len(texts))[:VALIDATION]).tolist()
        write_rows(source / f"{split}.jsonl", [texts[i] for i in kept], [labels[i] for i in kept])
    return source


WAYS: dict[str, Callable[[Path, int, Sizes], Outcome]] = {"few_shot": few_shot, "SetFit": setfit, "probe": probe}
