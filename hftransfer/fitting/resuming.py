"""Going on from the last checkpoint of a fit: Trainer would train one step more than there are.

It looks for the epoch to go on with by the whole number of them, finds one in which nothing is left to do (of 1.5
epochs the second half of the second; `max_steps` in the middle of one), and makes a step before it looks again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from hftransfer.runs import read_json

STATE = "trainer_state.json"  # transformers' own


class NoneLeft:
    """As many rows as were trained on, none of which is read."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        raise LookupError("this fit is finished: no row of it is read again")


def finished_at(checkpoint: Path | None, patience: int | None) -> int | None:
    """Return the last step of a fit whose `checkpoint` is its last; None where there are steps left.

    A fit is finished at its number of steps, and where `patience` ran out (train.early_stopping_patience).
    """
    state = read_json(checkpoint / STATE) if checkpoint is not None else {}
    if not state:
        return None
    stopping = state.get("stateful_callbacks", {}).get("EarlyStoppingCallback", {})
    waited = stopping.get("attributes", {}).get("early_stopping_patience_counter", 0)
    over = state["global_step"] >= state["max_steps"] or (patience is not None and waited >= patience)
    return int(state["global_step"]) if over else None


def none_left(arguments: TrainingArguments, step: int) -> NoneLeft:
    """Return rows that make one epoch of `step` updates, and tell `arguments` so: an epoch that lies behind."""
    arguments.max_steps = step
    arguments.train_sampling_strategy = "sequential"
    return NoneLeft(step * arguments.train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size)
