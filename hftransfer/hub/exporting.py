"""The ONNX form of a model that is published (hub.onnx): made in a process of its own, before anything is sent."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import hftransfer
from hftransfer.artifact import onnx_of
from hftransfer.runs import Run


def add(run: Run, repo: str, say: Callable[..., object]) -> None:
    """Export a run's model where its configuration asks for that and it was not; a model that cannot be is said so.

    The model is published in any case: who has trained it wants that more than its other form.
    """
    if not run.config().hub.onnx or onnx_of(run.artifact):
        return
    say("publishing", repo=repo, stage="exporting")
    paths = [str(Path(hftransfer.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-m", "hftransfer.export", str(run.folder)], stdin=subprocess.DEVNULL, capture_output=True,
        text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["its process ended without a word"])[-1]
        say("warning", message=f"published without ONNX: {why}")
