"""What a run hands on, as one file: the model with its card, answers to the test rows, result and configuration."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

from hftransfer.errors import UserError
from hftransfer.runs import Run
from hftransfer.ui import received, uploads, visitors
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor

BESIDE = ("result.json", "config.yaml", "label_issues.csv", "likely_copies.csv", "predictions/test.parquet")


def packed(visitor: Visitor, run: Run, settings: Settings) -> Path:
    """Return a zip of a finished run without its checkpoints; UserError where there is no model, or no room for it."""
    visitors.require(visitor)
    found = dict(_parts(run))
    if not run.artifact.is_dir() or not found:
        raise UserError("a run with a trained model is needed", f"{run.name} has none", "Wait for it, or train again.")
    uploads.require_room(visitor, settings, sum(path.stat().st_size for path in found.values()) / 2**20)
    target = received.place(f"{run.name}.zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:  # weights do not get smaller
        for name, path in found.items():
            archive.write(path, f"{run.name}/{name}")
    return target


def _parts(run: Run) -> Iterator[tuple[str, Path]]:
    """Yield the names and places of plain files; a link may lead anywhere, and is left out."""
    if run.artifact.is_dir() and not run.artifact.is_symlink():
        for path in sorted(run.artifact.rglob("*")):
            if path.is_file() and not path.is_symlink():
                yield f"model/{path.relative_to(run.artifact)}", path
    for name in BESIDE:
        path = run.folder / name
        if path.is_file() and not path.is_symlink():
            yield name, path
