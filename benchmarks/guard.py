"""A guard against slower steps: the engine against a loop and a bare Trainer, and against an earlier hftransfer.

`python -m benchmarks.run guard [--against PYTHON]` ends with 1 where a ratio is worse than it may be by more than the
noise of its rounds: where the whole 95 % interval of its mean lies beyond the limit.
"""

from __future__ import annotations

import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks import figures, page
from benchmarks.measuring import ROOT, TWEETS, UNLOOKED, Sizes, command, module
from hftransfer.runs import Run

LIMITS = {"loop": 0.03, "trainer": 0.02}  # of its seconds, that the engine may take more
EARLIER = 0.03  # of an earlier version's seconds an example, likewise
ROUNDS = 4  # at least: fewer have no interval to speak of


def measure(folder: Path, sizes: Sizes) -> str:
    """Return the ratios; SystemExit where one is beyond its limit."""
    rounds = max(ROUNDS, sizes.rounds)
    seconds = module("benchmarks.overhead", rounds)["seconds"]
    found = {name: (ratios(seconds["hftransfer"], seconds[name]), limit) for name, limit in LIMITS.items()}
    if sizes.against:
        now, before = rates(folder, sizes, rounds)
        found[f"hftransfer of {sizes.against}"] = (
            ratios([1 / rate for rate in now], [1 / rate for rate in before]),
            EARLIER,
        )
    text = told(found)
    if not sizes.against:
        text += "\n\nNot compared with an earlier hftransfer: `--against PYTHON` names the Python of one."
    worse = [name for name, (values, limit) in found.items() if beyond(values, limit)]
    if worse:
        raise SystemExit(f"{text}\n\nslower than allowed, beyond the noise: {', '.join(worse)}")
    return text


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return by how much more ours takes, round by round."""
    return [one / other - 1 for one, other in zip(ours, theirs, strict=True)]


def beyond(values: Sequence[float], limit: float) -> bool:
    """Tell whether the whole interval of the mean lies above a limit."""
    return statistics.mean(values) - figures.half_width(values) > limit


def verdict(values: Sequence[float], limit: float) -> str:
    """Return what rounds say of a limit: the interval of their mean lies beyond it, below it, or on both sides."""
    if beyond(values, limit):
        return "slower"
    within = statistics.mean(values) + figures.half_width(values) <= limit
    return "holds" if within else "cannot be told by these rounds"


def told(found: dict[str, tuple[list[float], float]]) -> str:
    """Return the ratios as a table."""
    rows: page.Table = [("engine against", "more seconds, mean and 95 % interval", "at most", "")]
    for name, (values, limit) in found.items():
        rows.append((name, f"{figures.mean(values, 1, 100, '+')} %", f"+{limit:.0%}", verdict(values, limit)))
    return page.table(rows)


def rates(folder: Path, sizes: Sizes, rounds: int) -> tuple[list[float], list[float]]:
    """Return the examples a second of this version, and of the one in another environment, in turn."""
    sides = command(), str(Path(sizes.against).parent / "hftransfer")
    own = ["train.max_steps=60", "train.eval_strategy=no", "train.save_strategy=no", "speed.tune=false", *UNLOOKED]
    found: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        for side, script in enumerate(sides):
            place = folder / f"{side}-{number}"
            words = [script, "train", str(TWEETS), *own, *sizes.cap, f"output={place}"]
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
            found[side].append(Run(place).result()["cost"]["examples_per_second"])
    return found
