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
from hftransfer import answers
from hftransfer.answers.base import Answer
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
    answer = answers.of_notes(read_notes(run.artifact))
    stored = _stored(run, answer)
    told = _ask(repo, revision, run.predictions / EXAMPLES)
    if "error" in told:
        return [told["error"]]
    wanted = list(answer.names)
    found = [
        f"{who} has the labels {_few(names)} in place of {_few(wanted)}"
        for who, names in told["labels"].items()
        if names is not None and names != wanted
    ]
    if found:
        return found
    what = "answers" if answer.linear is None else "probabilities"
    for who, rows in told["answers"].items():
        if rows is not None:
            limit = told["tolerance"][who]
            apart = [answer.distance(stored[row], one) for row, one in zip(told["row_ids"], rows, strict=True)]
            off = [distance for distance in apart if not distance <= limit]
            if len(off) > answer.may_differ * len(apart):
                found.append(f"{who} gives {what} that are up to {max(off):.2g} off, where {limit:g} can be rounding")
    return found


def _stored(run: Run, answer: Answer[Any]) -> dict[str, dict[str, Any]]:
    """Return the answers of the run's model to the kept examples, by row id, not calibrated."""
    import pyarrow.parquet as pq

    predictions = pq.read_table(run.predictions / "test.parquet").combine_chunks()
    rows = {row["row_id"]: row for row in pq.read_table(run.predictions / EXAMPLES).to_pylist()}
    _, outputs = answer.from_columns(predictions)
    ids = predictions["row_id"].to_pylist()
    return {
        row_id: answer.plainly(rows[row_id], output)
        for row_id, output in zip(ids, outputs, strict=True)
        if row_id in rows
    }


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
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
