"""What a worker may take: memory, and how large what it is asked may be."""

from __future__ import annotations

import functools

from hftransfer.safety import machine

SPARE_MB = 2_000  # of address space that libraries reserve and never use
limits: dict[str, int] = {"memory_mb": 0, "model_mb": 0, "inputs": 1_000}


@functools.cache
def bound_memory() -> None:
    """Let this process run out of memory by itself before its parent has to kill it; a GPU's driver reserves more."""
    import torch

    if limits["memory_mb"] and not torch.cuda.is_available():
        machine.limit("AS", machine.address_space() + (limits["memory_mb"] + SPARE_MB) * 2**20)
