"""A copy of what the code of before left: runs, an artifact and checkpoints of earlier schemas, to go on with."""

from __future__ import annotations

import shutil
from pathlib import Path

from hftransfer.runs import seal

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests" / "data" / "legacy"
TEXTS = (".json", ".jsonl", ".yaml", ".md", ".csv")


def copy(folder: Path) -> Path:
    """Copy tests/data/legacy below `folder`, with paths of this machine in it and whole checkpoints; return where."""
    here = Path(shutil.copytree(DATA, folder / "legacy"))
    for path in here.rglob("*"):
        if path.suffix in TEXTS:
            text = path.read_text(encoding="utf-8")
            path.write_text(text.replace("@HERE@", str(here)).replace("@CODE@", str(ROOT)), encoding="utf-8")
    for run in (here / "runs").iterdir():
        (run / "predictions").mkdir(exist_ok=True)  # of a stopped run it is empty, and no repository holds that
    for checkpoint in here.glob("runs/*/checkpoints/checkpoint-*"):
        seal(checkpoint)  # training_args.bin, which is no part of a repository, stood in the manifest
    return here
