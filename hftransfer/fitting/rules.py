"""What is not set, by rule: how many updates, of how many rows, at which learning rate; docs/defaults.md says why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

SMALL, FULL = 16, 32  # rows of an update: up to FEW training rows, and beyond
FEW = 2000
UPDATES = (250, 320)  # at least, and at most, for up to FEW rows; so many epochs lie between
EPOCHS = 20
MOST_EPOCHS = 40  # of fewer rows than the least updates need
LARGE = ((200_000, 1), (20_000, 2), (FEW, 3))  # rows from which on a number of epochs is enough, the most rows first
EVALUATIONS = 10  # of a run
WARM = 0.1  # of the updates, in which the rate rises
REFERENCE = 110e6  # weights of the model that a method's own rate is meant for: BERT base
SLOPE = 0.75  # a rate falls with so much of a power of the weights
LIMITS = (1e-5, 1e-3)  # of the rates of all weights
ADAPTER_LIMITS = (2e-4, 2e-3)  # of those of added matrices
LENGTHS = frozenset({"num_train_epochs", "max_steps"})  # who says one of these says how long a fit is
LOW_RANK = ("lora", "dora", "rslora", "pissa", "olora", "qlora", "adalora", "loha", "lokr")
HIGHER = {"t5": 4.0, "mt5": 4.0, "umt5": 4.0, "longt5": 4.0}  # families whose weights are scaled otherwise

Origin = Literal["given", "rule", "measured"]


@dataclass(frozen=True)
class Chosen:
    """One setting of a run: its value, who chose it, and why."""

    name: str
    value: Any
    origin: Origin
    reason: str


def batch(rows: int) -> int:
    """Return the rows of an update of one process."""
    return SMALL if rows <= FEW else FULL


def updates(rows: int, size: int) -> int:
    """Return the updates of a whole fit on `rows` training rows, `size` of which make an update."""
    epoch = math.ceil(rows / size)
    for least, epochs in LARGE:
        if rows > least:
            return max(UPDATES[1], epochs * epoch)
    return max(1, min(MOST_EPOCHS * epoch, UPDATES[1], max(UPDATES[0], EPOCHS * epoch)))


def rate(method: str, own: float, weights: int, family: str) -> float:
    """Return a learning rate for a model of `weights` parameters, from the one that a method has for BERT base.

    `family` is the model_type of its config. Two digits: a rule knows no more.
    """
    if method != "full" and method not in LOW_RANK:
        return own
    least, most = LIMITS if method == "full" else ADAPTER_LIMITS
    found = own * HIGHER.get(family, 1.0) * (REFERENCE / max(weights, 1)) ** SLOPE
    return float(f"{min(most, max(least, found)):.1e}")


def schedule(options: Mapping[str, Any], rows: int, size: int) -> dict[str, Any]:
    """Return the TrainingArguments that follow from the number of rows, where `options`, the user's, say nothing.

    `size`: the rows of an update of all processes. Whoever says how long a fit is, or when it is evaluated, is asked
    about nothing else here: by steps or by epochs is then theirs.
    """
    if options.keys() & LENGTHS:
        return {}
    every = math.ceil(updates(rows, size) / EVALUATIONS)
    return of_steps(options, every * EVALUATIONS)  # the last evaluation is of the last step


def of_steps(options: Mapping[str, Any], total: int) -> dict[str, Any]:
    """Return the TrainingArguments of `total` updates, evaluated at even distances unless `options` say when."""
    found: dict[str, Any] = {"max_steps": total}
    if not options.keys() & {"eval_strategy", "save_strategy", "eval_steps", "save_steps"}:
        every = max(1, total // EVALUATIONS)
        found |= {"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": every, "save_steps": every}
    return found


def explained(options: Mapping[str, Any], arguments: Any, rows: int, size: int, why: str) -> list[Chosen]:
    """Return what `arguments` (TrainingArguments) came to be, setting by setting; `why`: the reason of the rate."""
    said = {
        "learning_rate": why,
        "max_steps": f"{rows:,} training rows, {size} in an update: {_epochs(rows, size, arguments.max_steps)}",
        "per_device_train_batch_size": f"{rows:,} training rows, {size} in an update",
        "eval_steps": f"{EVALUATIONS} evaluations a run",
    }
    found = []
    for name, reason in said.items():
        value = getattr(arguments, name)
        if name in options:
            found.append(Chosen(f"train.{name}", value, "given", "set by you"))
        elif name == "max_steps" and (value <= 0 or "num_train_epochs" in options):
            continue
        elif name != "eval_steps" or arguments.eval_strategy == "steps":
            found.append(Chosen(f"train.{name}", value, "rule", reason))
    return found


def _epochs(rows: int, size: int, total: int) -> str:
    return f"{total * size / rows:.1f} epochs" if rows else "of no rows"
