"""What a folder takes of the disk: bytes, and the places of its files, which run out as well."""

from __future__ import annotations

import os
from pathlib import Path

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
