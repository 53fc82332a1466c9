"""What a process and those below it hold in memory: as fast as can be, and exactly where that decides."""

from __future__ import annotations

import contextlib
from typing import Any

import psutil


def resident(pid: Any) -> int:
    """Return the bytes of a process and those below it, shared pages counted for each; 0 of one that ended."""
    return sum(_bytes(process, whole=False) for process in _below(pid))


def held_mb(pid: Any, most: float) -> float:
    """Return the MB of a process and those below it; shared pages are counted once where it may be over `most`.

    To count those the kernel walks all of their memory, and holds up meanwhile whoever trains in it.
    """
    total = resident(pid) / 2**20
    return total if total <= most else sum(_bytes(process, whole=True) for process in _below(pid)) / 2**20


def _below(pid: Any) -> list[psutil.Process]:
    if isinstance(pid, int):
        with contextlib.suppress(psutil.Error):
            first = psutil.Process(pid)
            return [first, *first.children(recursive=True)]
    return []


def _bytes(process: psutil.Process, whole: bool) -> int:
    with contextlib.suppress(psutil.Error):
        found = process.memory_full_info() if whole else process.memory_info()
        return int(getattr(found, "pss", found.rss))
    return 0
