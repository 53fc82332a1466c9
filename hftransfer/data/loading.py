"""From `data.source` to checked, canonical, split rows: `load` is the one way in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hftransfer.config import DataConfig
from hftransfer.data.in_memory import read
from hftransfer.data.result import Data
from hftransfer.data.sources import open_source, pick_splits
from hftransfer.data.streaming import stream
from hftransfer.tasks.base import Task

__all__ = ["Data", "load"]


def load(
    config: DataConfig,
    task: Task,
    seed: int,
    work_dir: Path | None = None,
    *,
    progress: Callable[[str], None] | None = None,
) -> Data:
    """Read the source, find the columns, check every row, cut the splits that are missing, and fingerprint each.

    The same input gives the same rows, whatever the number of processes. Files of ours (what a zip held, the spooled
    splits of a stream) go to `work_dir`, else under the datasets cache. Raises UserError for what the user can mend.
    """
    say = progress or (lambda phase: None)
    say("reading the data")
    source = open_source(config, work_dir)
    picked, warnings = pick_splits(source, config, work_dir)
    warnings = [*source.warnings, *warnings]
    if config.streaming:
        return stream(picked, config, task, seed, work_dir, warnings, say)
    return read(picked, config, task, seed, warnings, say)
