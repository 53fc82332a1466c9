"""What a run hands on, as one file: the model with its card, answers to the test rows, result and configuration."""

from __future__ import annotations

import os
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path

from hftransfer.errors import UserError
from hftransfer.runs import Run
from hftransfer.ui import received, uploads, visitors
from hftransfer.ui.line import LINE
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor

KEPT = 1000  # files that are known to be there
_PACKED: OrderedDict[Path, tuple[list[tuple[str, int, int]], Path]] = OrderedDict()  # the last one of each run
_PACKING = threading.Lock()
BESIDE = ("result.json", "config.yaml", "label_issues.csv", "likely_copies.csv", "predictions/test.parquet")


def packed(visitor: Visitor, run: Run, settings: Settings) -> Path:
    """Return a zip of a finished run without its checkpoints; UserError where there is no model, or no room for it."""
    visitors.require(visitor)
    found = dict(_parts(run))
    if not run.artifact.is_dir() or not found:
        raise UserError("a run with a trained model is needed", f"{run.name} has none", "Wait for it, or train again.")
    with LINE.turn(visitor), _PACKING:
        made = [(name, path.stat().st_size, path.stat().st_mtime_ns) for name, path in found.items()]
        known, target = _PACKED.get(run.folder, ([], None))
        if target is None or known != made or not target.is_file():
            size = sum(size for _, size, _ in made) / 2**20
            uploads.require_room(visitor, settings, size)
            target = _zipped(run, found, received.lend(visitor, settings, f"{run.name}.zip", size))
            _PACKED[run.folder] = (made, target)
            while len(_PACKED) > KEPT:
                _PACKED.popitem(last=False)
        os.utime(target)  # it is swept an hour after it was asked for last
        return target


def _zipped(run: Run, found: Mapping[str, Path], target: Path) -> Path:
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
