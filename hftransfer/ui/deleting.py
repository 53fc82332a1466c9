"""A run that was deleted can be had back, until the next one is deleted or its room on the disk is needed."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from hftransfer.errors import UserError
from hftransfer.ui import disk, visitors
from hftransfer.ui.queueing import Queue
from hftransfer.ui.visitors import Visitor


def place_of(visitor: Visitor) -> Path:
    """Return where the last deleted run of a visitor lies."""
    return Path(visitor.folder) / disk.DELETED


def remove(queue: Queue, visitor: Visitor, name: str) -> None:
    """Put a run that has ended aside; the one that was put aside before it is gone for good."""
    visitors.require(visitor)
    kept, new = place_of(visitor), place_of(visitor).with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    queue.remove(visitor, name, new)  # refuses a run that goes on: what was put aside before stays then
    disk.empty(visitor.folder)
    new.rename(kept)


def last(visitor: Visitor) -> str | None:
    """Return the name of the run that can be had back, if there is one."""
    found = [path.name for path in place_of(visitor).glob("*") if path.is_dir() and not path.is_symlink()]
    return found[0] if found else None


def restore(visitor: Visitor) -> str:
    """Bring the run back that was deleted last, and return its name."""
    visitors.require(visitor)
    name = last(visitor)
    if name is not None and not (visitor.runs / name).exists():
        with contextlib.suppress(FileNotFoundError):  # its room was needed just now
            shutil.move(place_of(visitor) / name, visitor.runs / name)
            return name
    raise UserError("a run that was just deleted is needed", "there is none to bring back", "Train again.")
