"""Rows that are answered with entries of a catalogue: the rows, and the catalogue beside them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from hftransfer.answers._catalogue import Catalogue
from hftransfer.config import DataConfig
from hftransfer.data import collections, interactions
from hftransfer.data.archives import unpack
from hftransfer.data.named_splits import Picked
from hftransfer.data.one_hot import parts_of
from hftransfer.data.sources import open_source, pick_splits
from hftransfer.data.split_column import divided
from hftransfer.data.tree import walk
from hftransfer.errors import UserError, unknown
from hftransfer.tasks.base import Task


def read_catalogued(config: DataConfig, task: Task, work_dir: Path | None) -> tuple[Picked, Catalogue, DataConfig]:
    """Return the splits with a task's own columns, the catalogue, and the section that says so."""
    if config.streaming:
        raise UserError(
            f"{task.name} needs its rows on disk: a catalogue is searched whole", "data.streaming is true",
            "Set data.streaming=false.",
        )  # fmt: skip
    if task.reads == "interactions":
        if config.group is not None:
            raise UserError(
                "interactions are cut by time or by people", f"data.group is {config.group}",
                "Drop it; data.cut=user divides people.",
            )  # fmt: skip
        return (*interactions.read_interactions(_place(config, work_dir), task, config), _own(config))
    known = [role.name for role in task.roles]
    for role in config.columns:
        if role not in known:
            raise unknown("role in data.columns", role, known)
    parts_of(config, task)
    folder = folder_of(config, work_dir)
    if folder is not None and collections.is_collection(folder):
        picked, catalogue = collections.of_folder(folder, task, config)
    else:
        picked = _tables(config, work_dir)
        picked, catalogue, said = collections.of_tables(picked, task, config)
        picked = replace(picked, guesses=(*picked.guesses, *said))
    return picked, catalogue, _own(config)


def _own(config: DataConfig) -> DataConfig:
    """Return the section for rows that have the task's own columns."""
    return config.model_copy(update={"columns": {}})


def _place(config: DataConfig, work_dir: Path | None) -> Path:
    """Return the file or folder of interactions on this machine."""
    if config.source.startswith("sample:"):
        from hftransfer.samples import resolve_data

        return resolve_data(config.source.removeprefix("sample:"))
    path = Path(config.source).expanduser()
    if not path.exists():
        raise UserError(
            "data.source must name a file or a folder of interactions", f"there is no {path.absolute()}",
            "Check the path; of a data set of the Hub, fetch the files first: hf download --repo-type dataset.",
        )  # fmt: skip
    return folder_of(config, work_dir) or path.absolute()


def folder_of(config: DataConfig, work_dir: Path | None) -> Path | None:
    """Return the folder that a source is, or that a zip file holds; None for any other source."""
    path = Path(config.source).expanduser()
    if path.suffix.lower() == ".zip" and path.is_file():
        path = unpack(path.absolute(), work_dir)
        return path if collections.is_collection(path) else _innermost(path)
    return path.absolute() if path.is_dir() else None


def _innermost(folder: Path) -> Path:
    """Return the folder below which all files of an archive lie, but for what a system put into it."""
    tree = walk(folder)
    folders = [tree.path(parts).parent for parts in tree.files]
    return Path(os.path.commonpath(folders)) if folders else folder


def _tables(config: DataConfig, work_dir: Path | None) -> Picked:
    from hftransfer.data.nested import opened, unfolded

    picked = pick_splits(divided(open_source(config, work_dir), config), config, work_dir)
    splits = {use: replace(split, rows=opened(unfolded(split.rows))) for use, split in picked.splits.items()}
    return replace(picked, splits=splits)
