"""From `data.source` to checked, canonical, split rows: `load` is the one way in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hftransfer.config import DataConfig
from hftransfer.data import written_lists
from hftransfer.data.annotations.opening import open_annotated
from hftransfer.data.annotations.outlines import outlined
from hftransfer.data.annotations.placing import placed
from hftransfer.data.arranging import arrange
from hftransfer.data.catalogued import read_catalogued
from hftransfer.data.in_memory import read
from hftransfer.data.named_files import located
from hftransfer.data.named_splits import Picked, named_as_train
from hftransfer.data.nested import opened, unfolded
from hftransfer.data.one_hot import joined, parts_of
from hftransfer.data.owners import told_apart
from hftransfer.data.parts_of_recordings import parted
from hftransfer.data.recordings import undecoded, with_parts
from hftransfer.data.result import Data
from hftransfer.data.sources import open_source, pick_splits
from hftransfer.data.split_column import divided
from hftransfer.data.streaming import stream
from hftransfer.data.unheeded import unheeded
from hftransfer.data.word_rows import grouped
from hftransfer.errors import UserError, brief
from hftransfer.tasks.base import Task

__all__ = ["Data", "load", "pick"]


def load(
    config: DataConfig,
    task: Task,
    seed: int,
    work_dir: Path | None = None,
    *,
    slices: Sequence[str] = (),
    progress: Callable[[str], None] | None = None,
) -> Data:
    """Read the source, find the columns, check every row, cut the splits that are missing, and fingerprint each.

    The same input gives the same rows, whatever the number of processes. Files of ours (what a zip held, the spooled
    splits of a stream) go to `work_dir`, else under the datasets cache. The values of `slices`, columns that no role
    has, are kept beside the rows. Raises UserError for what the user can mend.
    """
    say = progress or (lambda phase: None)
    if config.streaming and config.corrections:
        raise UserError(
            "data.corrections needs rows in memory",
            "data.streaming is true",
            "Mend the files, or drop one of them.",
        )
    if config.added and (config.streaming or task.gathers or task.reads is not None):
        raise UserError(
            "data.added needs rows in memory, each for itself",
            "data.streaming is true" if config.streaming else f"those of {task.name} belong together",
            "Add the rows to the source itself.",
        )
    say("reading the data")
    if task.reads is not None:
        picked, catalogue, read_by = read_catalogued(config, task, work_dir)
        data = read(picked, read_by, task, seed, say, slices, catalogue)
        return replace(data, warnings=(*data.warnings, *unheeded(config, task, data.answer)))
    given, parts = config, parts_of(config, task)
    picked = pick(config, work_dir, task)
    config = config.model_copy(update=_unsaid(picked.settings, config))
    splits = {use: replace(split, rows=joined(split.rows, parts, use)) for use, split in picked.splits.items()}
    picked = located(replace(picked, splits=splits), task, config.column_names)
    picked = replace(picked, splits={u: replace(s, rows=with_parts(s.rows)) for u, s in picked.splits.items()})
    picked = parted(picked, task, config.column_names)
    picked = placed(picked, config, task)
    picked, names = outlined(picked, config, task)
    config = config.model_copy(update=names)
    picked, config, owned = told_apart(picked, task, config)
    picked, config, settled = arrange(picked, config, task)
    settled |= owned
    try:
        if config.streaming:
            data = stream(picked, config, task, seed, work_dir, say)
        else:
            data = read(picked, config, task, seed, say, slices)
    except UserError as error:
        # what was left out may be why; what a source offers comes first
        found = "; ".join([error.found, *map(brief, picked.asides)])
        raise error.amended(found, " ".join([*picked.offers, error.action])) from error.__cause__
    warnings = (*data.warnings, *unheeded(given, task, data.answer))
    return replace(data, warnings=warnings, settled={**settled, **data.settled})


def _unsaid(settings: Mapping[str, Any], config: DataConfig) -> dict[str, Any]:
    """Return the settings that lie beside the rows, where the user set none of them."""
    return {} if any(getattr(config, name) is not None for name in settings) else dict(settings)


def pick(config: DataConfig, work_dir: Path | None = None, task: Task | None = None) -> Picked:
    """Return the splits of a source that are used, as train, validation and test, and what there is to say of them.

    What their columns hold in other words is opened: fields inside fields, lists as texts, and a word a row, where the
    task reads lists.
    """
    source = divided(open_annotated(config, work_dir, task) or open_source(config, work_dir), config)
    picked = pick_splits(source, config, work_dir)
    guesses = [*picked.guesses]
    splits = {}
    for use, split in picked.splits.items():
        rows, lists = written_lists.opened(opened(unfolded(undecoded(split.rows))), config)
        rows, sentences = grouped(rows, task, config) if task is not None else (rows, [])
        splits[use] = replace(split, rows=rows)
        guesses += [*lists, *sentences]
    splits, renamed = named_as_train(splits)
    return replace(picked, splits=splits, guesses=tuple(dict.fromkeys([*guesses, *renamed])))
