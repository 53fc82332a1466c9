"""`few_shot` against the SetFit package on the same few rows a class, over seeds."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import numpy as np

from benchmarks.figures import mean, paired
from benchmarks.measuring import (
    MODEL,
    QUICKSTART,
    ROOT,
    SPLITS,
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
OURS, THEIRS, PROBE = "few_shot", "SetFit", "probe"


def measure(folder: Path, sizes: Sizes) -> str:
    """Train every way on each draw of rows, and compare on the same test rows."""
    python = environment(REQUIREMENTS)
    rows: Table = [("rows a class", "", "test accuracy, mean of the seeds", "each seed", "training, s", "whole, s")]
    differences: Table = [("rows a class", "few_shot less SetFit, points", "SetFit's training over few_shot's")]
    bounds = []
    for shots in SHOTS:
        scores: dict[str, list[float]] = {OURS: [], THEIRS: [], PROBE: []}
        seconds: dict[str, list[float]] = {name: [] for name in scores}
        wholes: dict[str, list[float]] = {name: [] for name in scores}
        for seed in range(sizes.seeds):
            source = drawn(folder / f"{shots}-{seed}", shots, seed, sizes)
            for name, (score, trained, whole) in {
                OURS: ours(source, seed),
                PROBE: probe(source, seed),
                THEIRS: (their := setfit(source, seed, sizes, python))[:3],
            }.items():
                scores[name].append(score)
                seconds[name].append(trained)
                wholes[name].append(whole)
        bounds.append(f"{their[3]} of {their[4]} at {shots}")
        for name in scores:
            whole = "" if name == PROBE else mean(wholes[name], 1)
            rows.append((shots, name, mean(scores[name]), numbers(scores[name], 3), mean(seconds[name], 1), whole))
        ratio = statistics.median(b / a for a, b in zip(seconds[OURS], seconds[THEIRS], strict=True))
        differences.append((shots, f"**{paired(scores[OURS], scores[THEIRS])}**", f"{ratio:.1f}"))
    text = (
        "MiniLM on VADER tweets of three classes. Each seed draws other rows and splits, which all ways share. SetFit "
        "is the package of `benchmarks/setfit-requirements.txt` at its defaults: one epoch of oversampled pairs, "
        "batches of 16 pairs, 2e-5, a logistic head; the encoder with the mean of its tokens, normalised, as it is "
        f"published. Steps it took, of those that its default epoch has: {', '.join(bounds)} rows a class"
        f"{bounded(sizes)}. In brackets 95 % intervals of the mean over {sizes.seeds} seeds (Student's t). Whole is a "
        "process of its own, libraries and answers to the test rows included; few_shot's also measures intervals, "
        "saves the model and writes its card."
    )
    return "\n\n".join([text, table(rows), "Differences seed by seed, on the same rows:", table(differences)])


def bounded(sizes: Sizes) -> str:
    """Say what was cut of SetFit's default."""
    if not sizes.setfit_steps:
        return ""
    return (
        f": the benchmark stops it at {sizes.setfit_steps} steps, its learning rate falling to zero by then, because "
        "the whole epoch takes many minutes a seed on two cores (`--setfit-steps 0` runs it)"
    )


def ours(source: Path, seed: int) -> tuple[float, float, float]:
    """Return accuracy, seconds of training and of the whole command of few_shot."""
    began = time.perf_counter()
    result = train(source / OURS, QUICKSTART, *overrides(source, seed), "method.name=few_shot").result()
    whole = time.perf_counter() - began
    return result["test"]["metrics"]["accuracy"]["value"], result["cost"]["train_seconds"], whole


def probe(source: Path, seed: int) -> tuple[float, float, float]:
    """Return accuracy and seconds of training of a probe, and of the run in this process."""
    result = here(source / PROBE, *overrides(source, seed), "method.name=probe").result()
    cost = result["cost"]
    return result["test"]["metrics"]["accuracy"]["value"], cost["train_seconds"], cost["total_seconds"]


def overrides(source: Path, seed: int) -> list[str]:
    """Return what the ways of ours share: the drawn rows, defaults of the method, no timing of settings."""
    return [
        f"data.source={source}", f"seed={seed}", f"data.max_length={LENGTH}", "data.max_rows=null",
        "data.label_issues=false", "speed.tune=false", "train={}",
    ]  # fmt: skip


def setfit(source: Path, seed: int, sizes: Sizes, python: str) -> tuple[float, float, float, int, int]:
    """Return accuracy, seconds of training and of the whole process of SetFit, steps taken and steps by default."""
    began = time.perf_counter()
    model = samples.resolve(MODEL)
    found = module("benchmarks.setfit_defaults", source, model, seed, LENGTH, sizes.setfit_steps, python=python)
    whole = time.perf_counter() - began
    return found["accuracy"], found["seconds"], whole, found["steps"], found["default_steps"]


def drawn(folder: Path, shots: int, seed: int, sizes: Sizes) -> Path:
    """Write a train of so many rows a class, few validation rows, and the test as it is."""
    whole = export(folder / "whole", [*sizes.cap, f"seed={seed}"])
    rng = np.random.default_rng(seed)
    for split in SPLITS:
        texts, labels = read_rows(whole / f"{split}.jsonl")
        kept = range(len(texts))
        if split == "train":
            given = np.asarray(labels)
            places = [rng.permutation(np.flatnonzero(given == label))[:shots] for label in np.unique(given)]
            kept = np.sort(np.concatenate(places)).tolist()
        elif split == "validation":
            kept = kept[:VALIDATION]
        write_rows(folder / f"{split}.jsonl", [texts[i] for i in kept], [labels[i] for i in kept])
    return folder
