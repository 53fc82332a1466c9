"""What a run will take, by what a check of it measured here: for every place before Start."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hftransfer.errors import Damaged
from hftransfer.launchers.base import in_words
from hftransfer.runs import ESTIMATE, Run, read_json, write_text


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


def note(run: Run, place: str, found: Mapping[str, Any]) -> None:
    """Write down what was foreseen of a run at a place (`seconds`, `words`, more), to stand beside what it takes."""
    write_text(run.folder / ESTIMATE, json.dumps({**found, "place": place}))


def foreseen(run: Run) -> dict[str, Any]:
    """Return what was foreseen of a run; nothing where nobody measured it."""
    try:
        return read_json(run.folder / ESTIMATE)
    except Damaged:
        return {}


def beside(run: Run) -> str | None:
    """Return in words what was foreseen of a run and what it took; None where one of the two is not known."""
    found, cost = foreseen(run), run.result().get("cost", {})
    if not found.get("seconds") or "total_seconds" not in cost:
        return None
    words = found.get("words") or in_words(found["seconds"])
    return f"foreseen: {words}; it took {cost['total_seconds'] / 60:.1f} min"
