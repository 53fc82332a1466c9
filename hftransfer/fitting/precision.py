"""Whether bfloat16 is in the processor or GPU, and whether its products are quicker here than float32's."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import time

import torch
from accelerate import PartialState

from hftransfer import samples
from hftransfer.fitting.processes import agreed
from hftransfer.runs import write_text
from hftransfer.safety import machine

SHAPE = (1024, 384, 1536)  # rows x hidden x intermediate, of a small model's layer
ROUNDS = 5


def native_bf16() -> bool:
    """Tell whether the processor or GPU that this process computes on multiplies bfloat16 in hardware."""
    kind = PartialState().device.type
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return kind == "cpu" and machine.processor_can("avx512_bf16", "amx_bf16", "bf16")


def quick_bf16() -> bool:
    """Tell whether bfloat16 is worth it; there are processors that have it, and multiply float32 twice as fast.

    Measured once a machine, and kept in the user's cache: the same configuration computes the same way again. All
    processes of a run ask first at the same place (`settle`), and one of them may ask alone from then on.
    """
    return _agreed() if native_bf16() else False


def settle() -> None:
    """Let the processes of a run agree on it, once; each of them must call."""
    if PartialState().num_processes > 1:
        quick_bf16()


@functools.cache
def _agreed_once() -> bool:
    return bool(agreed(_known))


def _agreed() -> bool:
    return _agreed_once() if PartialState().num_processes > 1 else _known()


@functools.cache
def _known() -> bool:
    if PartialState().device.type != "cpu":
        return True
    parts = [machine.processor(), torch.__version__, torch.get_num_threads()]
    path = (
        samples.cache_folder() / "speed" / f"bf16-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]}.json"
    )
    with contextlib.suppress(OSError, ValueError, KeyError):  # none yet, or damaged: measured again
        return bool(json.loads(path.read_text(encoding="utf-8"))["quick"])
    seconds = {kind: float("inf") for kind in (torch.float32, torch.bfloat16)}
    rows, inner, outer = SHAPE
    for _ in range(ROUNDS + 1):  # the first warms up, and is hardly the least
        for kind in seconds:
            left, right = torch.ones(rows, inner, dtype=kind), torch.ones(outer, inner, dtype=kind)
            began = time.perf_counter()
            torch.nn.functional.linear(left, right)
            seconds[kind] = min(seconds[kind], time.perf_counter() - began)
    quick = seconds[torch.bfloat16] < seconds[torch.float32]
    told = {str(kind).removeprefix("torch."): value for kind, value in seconds.items()}
    with contextlib.suppress(OSError):  # a place that is read-only: the next process measures again
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({"quick": quick, "seconds": told}))
    return quick
