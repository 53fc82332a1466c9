"""Which process a note means, by the boot and the ticks of its start, which no clock changes; one writer a folder."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from hftransfer.errors import UserError
from hftransfer.safety import machine

LOCK = ".writer.lock"  # in a run's folder, held by its trainer as long as it lives
HEARING = 5.0  # seconds for which a new trainer waits for one that is ending
_held: list[int] = []  # descriptors: a lock goes when its file is closed


def note_process(pid: int | None = None) -> dict[str, Any]:
    """Return what identifies a process beyond its number, which is used again after it ends."""
    process = psutil.Process(pid)
    note = {"pid": process.pid, "started": process.create_time(), "host": socket.gethostname()}
    return note | machine.born(process.pid)


def works(note: Mapping[str, Any]) -> bool:
    """Tell whether the process of a note is still there; one of another machine is not."""
    pid = note.get("pid")
    if not isinstance(pid, int) or note.get("host") != socket.gethostname():
        return False
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        now = machine.born(pid)
        if now and "ticks" in note:
            return all(note.get(name) == value for name, value in now.items())
        return bool(abs(process.create_time() - note["started"]) < 1)  # of older versions, and other systems
    except (psutil.Error, KeyError, TypeError, ValueError):
        return False


def hold(folder: Path) -> None:
    """Make this process the one writer of a run's folder until it ends; UserError while another one is.

    The lock is the process's own: children do not keep it, and it goes with the process whatever ends that.
    """
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)  # children do not inherit it
    end = time.monotonic() + HEARING
    while True:
        with contextlib.suppress(OSError):  # a file system without locks: notes must do
            if not machine.lock(descriptor):
                if time.monotonic() > end:
                    os.close(descriptor)
                    raise UserError(
                        "a run that nobody works on is needed", f"another process writes to {folder}",
                        f"Wait for it, or run: hftransfer stop {folder}",
                    )  # fmt: skip
                time.sleep(0.1)
                continue
        break
    _held.append(descriptor)
