"""The memory of what a process computes on: what is left of it, what a fit takes, what to say of too little."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import TrainingArguments

from hftransfer.errors import UserError
from hftransfer.fitting.base import Setup

MOMENTS = 8  # bytes that AdamW keeps of a trained weight, from the first update on
SHORT = 32  # tokens of a text, below which cutting it is no advice
SPARE = 0.02  # of a GPU's memory, lost between the pieces


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has done all that it was given: before that, no clock tells what it took."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def forget_peak(device: torch.device) -> None:
    """Let the largest memory of a GPU be counted from now on."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak(device: torch.device) -> int:
    """Return the largest memory of this process on a GPU since the count began, in bytes."""
    return torch.cuda.max_memory_allocated(device)


def leaves_room(model: torch.nn.Module, device: torch.device) -> bool:
    """Tell whether what a GPU held at most leaves room for what an optimizer keeps of each trained weight.

    A step that is tried makes no update; the first real one would be the first to find that out.
    """
    if device.type != "cuda":
        return True
    moments = MOMENTS * sum(p.numel() for p in model.parameters() if p.requires_grad)
    free, total = torch.cuda.mem_get_info(device)
    ours = free + torch.cuda.memory_reserved(device)
    return peak(device) + moments <= ours - SPARE * total


@contextmanager
def explained(setup: Setup, model: Any, arguments: TrainingArguments) -> Iterator[None]:
    """Turn memory that ran out in a step into a UserError that says what takes less of it."""
    rows = arguments.train_batch_size
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        found = " ".join(str(error).split(" Of the allocated")[0].split())[:300] or "there is too little"
        raise UserError(
            f"memory for a step of {rows} row{'s' if rows > 1 else ''} is needed", found.rstrip("."),
            advice(setup, model, rows, arguments.gradient_accumulation_steps),
        ) from error  # fmt: skip


def advice(setup: Setup, model: Any, rows: int, times: int) -> str:
    """Say which settings take less memory than steps of so many rows, `times` of which make an update."""
    config, ways = setup.config, []
    if rows > 1 and setup.answer.compares:
        ways.append(f"train.per_device_train_batch_size={rows // 2} (fewer rows are compared)")
    elif rows > 1:
        same = f" and train.gradient_accumulation_steps={2 * times} (as many rows an update)" if rows % 2 == 0 else ""
        ways.append(f"train.per_device_train_batch_size={rows // 2}{same}")
    if not config.train.options.get("gradient_checkpointing") and model.supports_gradient_checkpointing:
        ways.append("train.gradient_checkpointing=true (slower steps)")
    longest = setup.preparation.max_length
    if longest is not None and longest > SHORT:
        ways.append(f"data.max_length below {longest}")
    return f"Set {', or '.join(ways)}." if ways else "Choose a smaller model."
