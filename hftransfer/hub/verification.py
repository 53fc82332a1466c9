"""Proof that a published repo answers as the trained model does: a fresh process, an empty cache, stored test rows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hftransfer
from hftransfer.artifact import read_notes
from hftransfer.errors import UserError
from hftransfer.runs import Run

EXAMPLES = "examples.parquet"  # test rows that a run keeps for this
# Probabilities of one model differ by float32 rounding: in the 6th digit between batch sizes and thread counts, in the
# 4th between a GPU's kernels and the CPU's. A wrong label order or a random head moves them by tenths.
TOLERANCE = 1e-3
SECONDS = 1800.0  # for a large model over a slow line
# what would let the process find something that was not just published, or keep it from looking
UNSET = re.compile(r"(HF_|HUGGINGFACE_|TRANSFORMERS_).*(CACHE|OFFLINE)|HF_HOME")


def require_examples(run: Run) -> None:
    """Raise UserError for a run that kept no test rows to be asked about."""
    if not (run.predictions / EXAMPLES).is_file():
        raise UserError(
            "test rows are needed to verify", f"{run.name} kept none (an older version made it)",
            "Publish with --no-verify.",
        )  # fmt: skip


def differences(run: Run, repo: str, revision: str) -> list[str]:
    """Pull `repo` as a stranger would and return, in words, where its answers differ from those of the run's model."""
    stored = _stored(run)
    answers = _ask(repo, revision, run.predictions / EXAMPLES)
    if "error" in answers:
        return [answers["error"]]
    labels = read_notes(run.artifact)["labels"]
    wanted = labels["names"]
    found = [
        f"{who} has the labels {_few(names)} in place of {_few(wanted)}"
        for who, names in answers["labels"].items()
        if names is not None and names != wanted
    ]
    if found:
        return found
    for who, limit in (("Predictor", TOLERANCE), ("pipeline()", answers["pipeline_tolerance"])):
        rows = answers["scores"][who]
        if rows is not None:
            found += _apart(who, [stored[row] for row in answers["row_ids"]], rows, limit)
    return found


def _stored(run: Run) -> dict[str, Any]:
    import pyarrow.parquet as pq

    table = pq.read_table(run.predictions / "test.parquet")
    column = "scores" if "scores" in table.column_names and table["scores"].null_count < len(table) else "prediction"
    return dict(zip(table["row_id"].to_pylist(), table[column].to_pylist(), strict=True))


def _apart(who: str, wanted: Sequence[Any], found: Sequence[Any], limit: float) -> list[str]:
    import numpy as np

    worst = 0.0
    for one, other in zip(wanted, found, strict=True):
        left, right = (np.atleast_1d(np.asarray(part, np.float64)) for part in (one, other))
        if left.shape != right.shape:
            return [f"{who} gives {right.shape} numbers for a row in place of {left.shape}"]
        worst = max(worst, float(np.max(np.abs(left - right) / np.maximum(1, np.abs(left)), initial=0.0)))
    if worst <= limit:
        return []
    return [f"{who} gives probabilities that are up to {worst:.2g} off, where {limit:g} can be rounding"]


def _ask(repo: str, revision: str, examples: Path) -> dict[str, Any]:
    from huggingface_hub import get_token

    with tempfile.TemporaryDirectory(prefix="hftransfer-verify-") as folder:
        environment = {name: value for name, value in os.environ.items() if not UNSET.fullmatch(name)}
        environment |= {
            "HF_HOME": f"{folder}/cache",
            "HF_TOKEN": get_token() or "",
            "CUDA_VISIBLE_DEVICES": "",  # the GPU may still be full of the model that was trained
            "PYTHONPATH": os.pathsep.join(
                [str(Path(hftransfer.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
            ),
        }
        command = [sys.executable, "-m", "hftransfer.hub.outsider", repo, revision, str(examples)]
        try:
            done = subprocess.run(
                command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                timeout=SECONDS,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return {"error": f"it could not be pulled and asked within {SECONDS / 60:.0f} minutes"}
    if done.returncode != 0:
        return {"error": f"it cannot be loaded: {' '.join(done.stderr.split()[-60:])}"}
    answers: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answers


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
