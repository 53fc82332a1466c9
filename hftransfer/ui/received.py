"""Files that arrived and were not taken yet: where they lie, what they take of the disk, and when they are deleted."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
import threading
import time
from pathlib import Path

from hftransfer.errors import UserError
from hftransfer.ui import disk
from hftransfer.ui.settings import Settings
from hftransfer.ui.shares import Shares
from hftransfer.ui.visitors import Visitor

STALE = 3600.0  # seconds after which a file that nobody took is deleted
EVERY = 300.0  # seconds between two looks for such
SHARES = Shares(STALE)  # of them, by whose they are
MADE = 60.0  # seconds in which a new folder gets its file


def folder() -> Path:
    """Return the folder that gradio keeps files in that arrived, and that we lend ours from."""
    return Path(os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir()) / "gradio")


def place(name: str) -> Path:
    """Return a path of that name in a new folder, for a file that a page hands out; it is deleted within the hour."""
    own = folder() / f"lent-{secrets.token_hex(8)}"
    own.mkdir(parents=True)
    return own / name


def lend(visitor: Visitor, settings: Settings, name: str, mb: float) -> Path:
    """Return a place for a file of that size that a page hands out; UserError where too much of such lies here.

    One visitor has a half, as of what arrives: whoever asks for the same again and again fills no disk of all.
    """
    room = settings.received_mb
    if room and not (SHARES.take(visitor.folder.name, mb, max(room / 2, mb)) and has_room(settings, mb)):
        raise UserError(
            "room for files on their way is needed", f"this one takes {mb:,.0f} MB, and others lie here",
            "Try again within the hour.",
        )  # fmt: skip
    return place(name)


def has_room(settings: Settings, more_mb: float) -> bool:
    """Tell whether so much more may lie here, what is old deleted first."""
    most = max(settings.received_mb, more_mb)
    if used_mb() + more_mb <= most:
        return True
    sweep()
    return used_mb() + more_mb <= most


def forget(path: str | Path) -> None:
    """Delete a file that arrived and is not needed any more; what lies elsewhere is left alone."""
    if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder())):
        with contextlib.suppress(OSError):
            Path(path).unlink()


def used_mb() -> float:
    """Return what files that arrived take of the disk."""
    return disk.used_mb(folder())


def sweep(now: float | None = None) -> None:
    """Delete what is older than an hour, and the folders that it leaves empty."""
    limit, top = (time.time() if now is None else now) - STALE, folder()
    for at, _, names in os.walk(top, topdown=False):
        for name in names:
            path = Path(at) / name
            with contextlib.suppress(OSError):
                if path.lstat().st_mtime < limit:
                    path.unlink()
        with contextlib.suppress(OSError):  # one that is not empty stays, and so does one that was just made
            if Path(at) != top and Path(at).stat().st_mtime < limit + STALE - MADE:
                Path(at).rmdir()


def keep_swept() -> None:
    """Look for such files every few minutes, as long as the app runs."""

    def work() -> None:
        while True:
            sweep()
            time.sleep(EVERY)

    threading.Thread(target=work, name="sweep", daemon=True).start()
