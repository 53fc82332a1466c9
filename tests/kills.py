"""Kill runs at random moments, evaluation and saving among them, and count how many end with the quiet run's weights.

python -m tests.kills --n 30 --seed 0
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hftransfer.events import Event
from hftransfer.runs import Run

ROWS = 60
MEASURED = 240  # of a run that measures its learning rate, 100 of them for validation
PATIENCE = 300.0  # seconds for which a run may say nothing
LATE = 0.5  # share of the kills that are aimed at validation, checkpoints and what comes after training
MOST = 4  # kills of one run, before it is left alone
# a constant rate and dropout: a step more, or another random number, shows in the weights
RUNS: dict[str, dict[str, Any]] = {
    "1.5 epochs": {"train": {"num_train_epochs": 1.5}},
    "max_steps": {"train": {"max_steps": 8}},
    "by steps": {"train": {"max_steps": 9, "save_steps": 2}},
    "early stopping": {"train": {"num_train_epochs": 6, "early_stopping_patience": 1,
                                 "early_stopping_threshold": 0.5}},
    "lora": {"train": {"num_train_epochs": 2}, "method": {"name": "lora", "r": 4}},
    "auto": {"train": {"max_steps": 64}, "method": {"name": "auto"}},
}  # fmt: skip


@dataclass(frozen=True)
class Moment:
    """When a run is killed: so many seconds after an event, which tells what it is doing then."""

    after: tuple[str, int | str]
    before: str
    delay: float
    number: int  # of the signal

    def __str__(self) -> str:
        return f"{signal.Signals(self.number).name} {self.delay:.3f} s after {self.after[0]} {self.after[1]}"


def key(event: Event) -> tuple[str, int | str]:
    """Return what is the same of an event in the quiet run and in the killed one."""
    return event["type"], event.get("step", event.get("name", ""))


def moments(events: list[Event]) -> list[tuple[tuple[str, int | str], str, float]]:
    """Return the events that every quiet run has, each with the type of the next one and the seconds between."""
    kept = [
        event for event in events if event["type"] in ("phase", "tried", "log", "evaluation", "checkpoint", "result")
    ]
    return [(key(one), next_["type"], next_["time"] - one["time"]) for one, next_ in itertools.pairwise(kept)]


def start(arguments: list[str], log: Path) -> int:
    """Start the script of a run in a process of its own, which has everything imported already; return its number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with open(log, "ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        from hftransfer import train

        code = train.main(arguments)
    finally:
        os._exit(code)


def wait(child: int, until: Callable[[], bool] = lambda: False) -> int | None:
    """Return a process's exit code, or None as soon as `until` is true and it goes on."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if until():
            return None
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise TimeoutError(f"a run said nothing for {PATIENCE:.0f} s")


def kill_once(run: Run, resume: bool, moment: Moment) -> str:
    """Start or resume a run and kill it at a moment; return what it was doing, or how it ended before."""
    seen = len(run.events()[0])
    child = start(["--config", str(run.config_path), *(["--resume"] if resume else [])], run.log_path)
    code = wait(child, lambda: any(key(event) == moment.after for event in run.events()[0][seen:]))
    if code is None:
        until = time.monotonic() + moment.delay
        code = wait(child, lambda: time.monotonic() >= until)
    if code is not None:
        return f"ended before ({code})"
    os.kill(child, moment.number)
    code = wait(child)
    if code == 0:
        return "ended before (0)"
    return doing(moment)


def doing(moment: Moment) -> str:
    """Return what a run does at a moment."""
    if moment.before in ("evaluation", "checkpoint"):
        return {"evaluation": "validating", "checkpoint": "writing a checkpoint"}[moment.before]
    if moment.before == "tried":
        return "trying a rate"
    phases = {
        "evaluation": "evaluating the trained model", "labels": "looking at rows", "copies": "looking at rows",
        "intervals": "measuring scores", "saving": "saving the model",
    }  # fmt: skip
    return phases.get(str(moment.after[1]), "loading" if moment.after[0] == "phase" else "training")


def same_weights(one: Run, other: Run) -> bool:
    """Tell whether two runs left the same weights, bit for bit."""
    from safetensors.numpy import load_file

    left, right = (load_file(run.artifact / "model.safetensors") for run in (one, other))
    return left.keys() == right.keys() and all((left[name] == right[name]).all() for name in left)


def made(name: str, folder: Path, at: Path) -> Run:
    """Make the folder of a run of one of RUNS."""
    from hftransfer import catalog
    from tests import tiny
    from tests.options_alone import tree_of

    tree = tree_of(folder)
    train = {key: value for key, value in tree["train"].items() if key != "num_train_epochs"}
    usual: dict[str, Any] = {
        "learning_rate": 1e-3, "lr_scheduler_type": "constant", "warmup_steps": 0, "logging_steps": 1,
    }  # fmt: skip
    if name == "auto":
        usual, rows = {}, folder / "measured.csv"
        tree["data"] |= {"source": str(rows), "validation_size": 100, "test_size": 40}
        if not rows.exists():
            tiny.text_csv(rows, MEASURED)
    changed = {**tree, **RUNS[name], "train": {**train, **usual, **RUNS[name]["train"]}}
    return Run.create(catalog.build_config(changed), at)


def main(arguments: list[str] | None = None) -> int:
    """Kill `--n` times, say where, and return 1 when a run did not end as the quiet one."""
    parser = argparse.ArgumentParser(prog="tests.kills", description=__doc__)
    parser.add_argument("--n", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(RUNS), help="one kind of run")
    options = parser.parse_args(arguments)
    from hftransfer import training  # noqa: F401  # children are forks of this process: they import nothing again

    rng, where = random.Random(options.seed), Counter[str]()
    runs = same = kills = 0
    with tempfile.TemporaryDirectory(prefix="hftransfer-kills-") as place:
        folder, quiet = Path(place), dict[str, Run]()
        while kills < options.n:
            name = options.only or list(RUNS)[runs % len(RUNS)]
            if name not in quiet:
                quiet[name] = made(name, folder / "made", folder / f"quiet {name}")
                child = start(["--config", str(quiet[name].config_path)], quiet[name].log_path)
                if wait(child) != 0:
                    print(quiet[name].log_path.read_text(), file=sys.stderr)
                    return 1
            run = made(name, folder / "made", folder / f"{runs}")
            known = moments(quiet[name].events()[0])
            resume, alone = False, rng.randint(1, MOST)
            while run.status().state != "done":
                seen = run.events()[0]
                if alone and kills < options.n:
                    late = [
                        m for m in known if m[1] in ("evaluation", "checkpoint") or m[0][1] in ("evaluation", "saving")
                    ]
                    after, before, gap = rng.choice(late if rng.random() < LATE else known)
                    alone -= 1
                    number = rng.choice((signal.SIGKILL, signal.SIGTERM))
                    moment = Moment(after, before, rng.uniform(0, gap), number)
                    how = kill_once(run, resume, moment)
                    if not how.startswith("ended"):
                        kills += 1
                        where[f"{signal.Signals(number).name} while {how}"] += 1
                        print(f"{name}: {moment}: {how}", flush=True)
                else:
                    code = wait(start(["--config", str(run.config_path), "--resume"], run.log_path))
                    if code != 0:
                        print(run.log_path.read_text()[-3000:], file=sys.stderr)
                        break
                resume = resume or len(run.events()[0]) > len(seen)
            runs += 1
            identical = run.status().state == "done" and same_weights(quiet[name], run)
            same += identical
            print(f"{name}: run {runs} {'ends as the quiet one' if identical else 'DIFFERS'}", flush=True)
    for how, count in sorted(where.items()):
        print(f"{count:4} {how}")
    print(f"{kills} kills of {runs} runs: {same} of {runs} end with the weights of the quiet run")
    return int(same < runs)


if __name__ == "__main__":
    sys.exit(main())
