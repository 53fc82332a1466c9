"""Exported models: how long it takes, how large they are, how near they answer, and how quickly, with their scores."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measuring import Sizes, here
from benchmarks.page import Table, table
from hftransfer.export import onnx
from hftransfer.predictor import Predictor
from hftransfer.runs import Run

THREADS = 2
ASKED = 200  # rows, one at a time


def measure(folder: Path, sizes: Sizes) -> str:
    """Train on some tweets, export the model, and ask the three models the same rows in turn."""
    run = here(folder / "run", "method.name=full", "train.num_train_epochs=1", "data.max_rows=1200", *sizes.cap)
    began = time.perf_counter()
    found = onnx.export(run)
    seconds = time.perf_counter() - began
    times = latencies(run, max(2, sizes.rounds))
    small, whole = found["quantized"], run.result()["test"]["metrics"]
    name = small["metric"]
    beside = {
        "PyTorch, float32": (weights(run.artifact), "0", whole[name]),
        "onnxruntime, float32": (found["files"][onnx.WHOLE], f"{found['largest_difference']:.1g}", None),
        "onnxruntime, 8 bits": (found["files"][onnx.SMALL], "", small),
    }
    rows: Table = [("model", "MB", "largest difference", "one text, ms (fastest, median)", f"{name} (95% interval)")]
    for called, (size, apart, score) in beside.items():
        told = "" if score is None else f"{score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})"
        rows.append(
            (
                called,
                f"{size / 1e6:.1f}",
                apart,
                f"{1000 * min(times[called]):.1f}, {1000 * np.median(times[called]):.1f}",
                told,
            )
        )
    asked = len(times["PyTorch, float32"])
    said = (
        f"A text classifier of `all-minilm-l6-v2` on `vader-tweets`, exported in {seconds:.0f} s with the checks. "
        f"{asked} texts of the test, one at a time, by {THREADS} threads, the three models asked in turn for each "
        "text, so that another load on the machine counts for all (it had one here); scores on "
        f"{small['n']} test rows."
    )
    return "\n\n".join([said, table(rows)])


def weights(folder: Path) -> int:
    """Return the bytes of a model's weights."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def latencies(run: Run, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of a forward pass for each text and model."""
    import onnxruntime

    torch.set_num_threads(THREADS)
    predictor = Predictor(run.artifact)
    rows = onnx.examples_of(run, predictor)
    with onnx.overheard(predictor.model) as calls:
        for row in rows:
            predictor.ask([row])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = THREADS, 3
    sessions = {
        called: onnxruntime.InferenceSession(str(run.artifact / "onnx" / name), options, ["CPUExecutionProvider"])
        for called, name in (("onnxruntime, float32", onnx.WHOLE), ("onnxruntime, 8 bits", onnx.SMALL))
    }
    found: dict[str, list[float]] = {"PyTorch, float32": [], **{called: [] for called in sessions}}
    for number in range(rounds + 1):  # the first warms up
        for inputs, _ in calls[: ASKED // rounds]:
            arrays = {name: value.numpy() for name, value in inputs.items()}
            times: dict[str, float] = {}
            began = time.perf_counter()
            with torch.inference_mode():
                predictor.model(**inputs)
            times["PyTorch, float32"] = time.perf_counter() - began
            for called, session in sessions.items():
                taken: dict[str, Any] = {one.name: arrays[one.name] for one in session.get_inputs()}
                began = time.perf_counter()
                session.run(None, taken)
                times[called] = time.perf_counter() - began
            if number:
                for called, seconds in times.items():
                    found[called].append(seconds)
    return found
