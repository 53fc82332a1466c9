"""What a run will take, by what a check of it measured here: for every place before Start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def seconds_of(checked: Mapping[str, Any], tree: Mapping[str, Any], seconds: float) -> float:
    """Return the seconds that a run takes on this machine, by the event `checked` of a check that took `seconds`."""
    train = tree.get("train") or {}
    batch = int(checked.get("batch") or train.get("per_device_train_batch_size") or 32)
    accumulation = int(checked.get("steps_an_update") or train.get("gradient_accumulation_steps") or 1)
    splits = checked["data"]["splits"]
    step = float(checked.get("step_seconds") or checked["first_step_seconds"])
    starting = max(0.0, seconds - float(checked["first_step_seconds"]))
    # a forward pass is about a third of a step; validation while training and once at the end, test once
    looked_at = splits["validation"] * (checked["evaluations"] + 1) + splits["test"]
    total = starting + checked["work"] * accumulation * step + looked_at / batch * step / 3
    evaluation = tree.get("evaluation") or {}  # each fold is a training of its own, on nearly as many rows
    return float(total) * (1 + int(evaluation.get("folds") or 0) * int(evaluation.get("repeats") or 1))
