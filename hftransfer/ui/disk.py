"""What a folder takes of the disk: bytes, and the places of its files, which run out as well."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from pathlib import Path

DELETED = ".deleted"  # of a visitor's folder: the run that can be had back
GONE = ".deleted.gone-"  # and one that cannot any more, on its way out
INODE = 2**14  # bytes that a file or folder counts at least: ext4 makes one inode for so many


def used_mb(folder: Path) -> float:
    """Return what a folder and everything below it take on the disk, links not followed."""
    total, waiting = 0, [folder]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
                        total += INODE
                    else:
                        total += max(entry.stat(follow_symlinks=False).st_size, INODE)
        except OSError:
            continue  # deleted meanwhile
    return total / 2**20


def kept_mb(folder: Path, most_mb: float) -> float:
    """Return what a visitor keeps; where that is more than they may, a deleted run makes room first, if it suffices.

    Who is told to delete runs does so, and must not be told again: then it cannot be had back.
    """
    used = used_mb(folder)
    if used > most_mb and used - used_mb(folder / DELETED) <= most_mb:
        empty(folder)
        used = used_mb(folder)
    return used


def free_mb(folder: Path, wanted_mb: float) -> float:
    """Return what is free of the disk that a visitor's folder lies on; a deleted run makes room as in `kept_mb`."""
    place = next(one for one in (folder, *folder.parents) if one.exists())
    free = shutil.disk_usage(place).free / 2**20
    if free < wanted_mb <= free + used_mb(folder / DELETED):
        empty(folder)
        free = shutil.disk_usage(place).free / 2**20
    return free


def empty(folder: Path) -> None:
    """Delete what was put aside of a visitor's runs for good."""
    with contextlib.suppress(OSError):  # there is none
        # first out of the way of who brings it back: its files would be deleted wherever it was moved meanwhile
        (folder / DELETED).rename(folder / f"{GONE}{secrets.token_hex(8)}")
    for gone in folder.glob(f"{GONE}*"):
        shutil.rmtree(gone, ignore_errors=True)
