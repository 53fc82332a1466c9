"""Places: from the start to the first event, how late events come, and a run that moves from one to another."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from benchmarks.measuring import MODEL, UNLOOKED, Sizes
from benchmarks.page import Table, table
from hftransfer import catalog
from hftransfer.launchers import launcher
from hftransfer.runs import Run

STEPS = 60
SETTINGS = (
    *UNLOOKED, "data.max_rows=600", f"train.max_steps={STEPS}", "train.eval_strategy=no", "train.save_strategy=no",
    "speed.tune=false", "speed.threads=1", "train.auto=false", "train.per_device_train_batch_size=8",
    "evaluation.resamples=100", f"model={MODEL}",
)  # fmt: skip


def measure(folder: Path, sizes: Sizes) -> str:
    """Run the same configuration in each place in turn, round by round, and once moved from one to the other."""
    from tests.launch import slurm_here

    found: dict[str, list[dict[str, float]]] = {}
    moved = "SLURM is not installed here: not measured."
    with contextlib.ExitStack() as stack:
        names = ["local", *(["slurm"] if slurm_here.installed() else [])]
        if "slurm" in names:
            cluster = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            os.environ.update(stack.enter_context(slurm_here.cluster(cluster)))
        for number in range(sizes.rounds):
            for name in names:  # both sides in one round: a busy machine is busy for both
                found.setdefault(name, []).append(timed(name, run_in(folder / f"{name}-{number}", sizes)))
        if "slurm" in names:
            moved = moving(folder, sizes)
    rows: Table = [("place", "first event, s", "first step, s", "events' lag, s (median, largest)", "runs")]
    for name, times in found.items():
        first, step, lag, worst = (np.median([one[key] for one in times]) for key in ("event", "step", "lag", "worst"))
        rows.append((name, f"{first:.1f}", f"{step:.1f}", f"{lag:.2f}, {worst:.2f}", len(times)))
    said = (
        f"{STEPS} updates of a text classifier on one core; SLURM of Debian with two nodes on the same machine. The "
        "lag is the time from an event's own time to its arrival at whoever follows. Places take turns in every "
        "round: another load on the machine counts for both (it had one here)."
    )
    return "\n\n".join([said, table(rows), moved])


def run_in(folder: Path, sizes: Sizes, *more: str) -> Run:
    """Make a run of the tweets."""
    from benchmarks.measuring import TWEETS

    settings = catalog.read_config(TWEETS, [*SETTINGS, *sizes.cap, *more, f"output={folder}"])
    return Run.create(settings, folder)


def timed(name: str, run: Run) -> dict[str, float]:
    """Start a run in a place and follow it to its end; return seconds."""
    place, began, lags = launcher(name), time.time(), []
    first = step = 0.0
    place.start(run)
    for event in place.follow(run):
        now = time.time()
        if event["type"] in ("created", "launched", "notice"):  # written here, before the trainer is there
            continue
        first = first or now - began
        step = step or (now - began if event["type"] == "step" else 0.0)
        lags.append(now - event["time"])
    outcome = place.outcome(run)
    if outcome.state != "done":
        raise RuntimeError(f"{name}: {outcome.message}")
    return {"event": first, "step": step, "lag": float(np.median(lags)), "worst": max(lags)}


def moving(folder: Path, sizes: Sizes) -> str:
    """Move a run from here to SLURM and back; say whether its weights are those of one that was never moved."""
    longer = f"train.max_steps={5 * STEPS}"
    whole, moved = run_in(folder / "whole", sizes, longer), run_in(folder / "moved", sizes, longer)
    timed("local", whole)
    stops = [stopped(moved, name, resume=number > 0) for number, name in enumerate(("local", "slurm"))]
    place = launcher("local")
    place.start(moved, resume=True)
    for _ in place.follow(moved):
        pass
    if moved.status().state != "done":
        raise RuntimeError(f"moved: {place.outcome(moved).message}")
    left, right = (load_file(run.artifact / "model.safetensors") for run in (whole, moved))
    apart = max(float(np.abs(left[name] - right[name]).max()) for name in left)
    return (
        f"A run of {5 * STEPS} updates, stopped here at step {stops[0]}, on SLURM at step {stops[1]}, and finished "
        f"here: its weights differ by at most {apart:g} from those of a run that was never moved."
    )


def stopped(run: Run, name: str, resume: bool) -> int:
    """Let a run go on in a place for a while, stop it with a checkpoint, and return the step."""
    place = launcher(name)
    before = run.status().step
    place.start(run, resume=resume)
    for event in steps(place, run):
        if event["step"] >= before + STEPS // 2:
            break
    place.stop(run, grace=120)
    return run.status().step


def steps(place: Any, run: Run) -> Iterator[Any]:
    """Yield the steps that a run makes from now on."""
    for event in place.follow(run, run.events()[1]):
        if event["type"] == "step":
            yield event
