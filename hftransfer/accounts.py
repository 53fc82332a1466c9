"""What a run took and what it ran on: seconds, memory, rows a second, machine, versions."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate import PartialState

import hftransfer
from hftransfer.fitting import memory, speed
from hftransfer.fitting.base import Fitted
from hftransfer.methods import _kin, fuse
from hftransfer.runs import ESTIMATE, Run, read_json
from hftransfer.safety import machine

PACKAGES = ("torch", "transformers", "datasets", "accelerate", "peft", "evaluate", "huggingface_hub", "numpy")


def seconds_before(events: Sequence[Mapping[str, Any]]) -> float:
    """Return what the earlier processes of a resumed run took, each from reading the data to its last word."""
    total, began, last = 0.0, None, 0.0
    for event in events:
        if event["type"] in ("launched", "process"):
            total += 0.0 if began is None else last - began
            began = None
        elif began is None and event["type"] == "phase" and event["name"] == "data":  # libraries are not counted
            began = event["time"]
        last = event["time"]
    return total


def alone(events: Sequence[Mapping[str, Any]]) -> float:
    """Return what to add to a run's seconds to compare it with others, which may be negative.

    Looking for copies and wrong labels is the same for all methods; folds make no model that is kept; features that
    an earlier run had left on disk would have had to be computed.
    """
    spared = sum(event["spared"] for event in events if event["type"] == "features")
    return float(spared - sum(event["seconds"] for event in events if event["type"] in ("looked", "fold")))


def taken(run: Run, began: float) -> dict[str, float]:
    """Return the seconds of a run so far: of all its processes, alone (see there), and of the runs it was fused of."""
    events = run.events()[0]
    total = seconds_before(events) + time.perf_counter() - began
    parts = {name: value for name, value in read_json(run.folder / fuse.FILE).items() if name == _kin.PARTS}
    foreseen = read_json(run.folder / ESTIMATE).get("seconds")
    told = {} if foreseen is None else {"foreseen_seconds": float(foreseen)}
    return {"total_seconds": round(total, 2), "alone_seconds": round(total + alone(events), 2), **parts, **told}


def cost(fitted: Fitted) -> dict[str, Any]:
    """Return what the fit took, and where: seconds, MB, parameters."""
    return {
        "train_seconds": round(fitted.train_seconds, 2),
        "examples_per_second": round(fitted.examples_per_second, 2),
        "peak_memory_mb": peak_memory(),
        "trainable_parameters": fitted.trainable_parameters,
        "total_parameters": fitted.total_parameters,
        "steps": fitted.steps,
        "best_step": fitted.best_step,
        "waiting_for_data": round(fitted.waiting_share, 4),
        "processes": PartialState().num_processes,
        "device": torch.cuda.get_device_name() if _on_gpu() else platform.machine(),
        "hardware": hardware(),
    }


def hardware() -> str:
    """Return what the run computed on, in words."""
    if _on_gpu():
        return f"{PartialState().num_processes} x {torch.cuda.get_device_name()}"
    threads = torch.get_num_threads()
    return f"{speed.processor()}, {threads} thread{'s' if threads > 1 else ''} a process"


def speed_notes(run: Run, fitted: Fitted) -> dict[str, Any]:
    """Return the settings that were chosen for this machine."""
    choice = speed.recorded(run)
    return {} if choice is None else dataclasses.asdict(choice)


def peak_memory() -> int:
    """Return the largest memory of this process, in MB.

    On a GPU it is that of tensors, since the last fit began; on the processor all that was held, libraries included.
    """
    return round((memory.peak(PartialState().device) if _on_gpu() else machine.peak_memory()) / 2**20)


def _on_gpu() -> bool:
    """Tell whether this process computes on a GPU, which it may have been told not to."""
    return PartialState().device.type == "cuda"


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"hftransfer": hftransfer.__version__, "python": platform.python_version(), **found}
