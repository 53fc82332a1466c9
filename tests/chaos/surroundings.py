"""A small disk and a small memory of one's own, where the machine lets this process make them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

DISK_MB = 48  # of a try's disk
GROUPS = Path("/sys/fs/cgroup")


@contextlib.contextmanager
def disk(folder: Path) -> Iterator[bool]:
    """Make a folder that is a disk of its own, and tell whether it is one."""
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    try:
        yield made.returncode == 0
    finally:
        if made.returncode == 0:
            subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


@contextlib.contextmanager
def filled(folder: Path, left: int) -> Iterator[None]:
    """Fill a disk up to so many bytes."""
    filler = folder / "filler"
    room = os.statvfs(folder)
    with open(filler, "wb") as file, contextlib.suppress(OSError):
        os.posix_fallocate(file.fileno(), 0, max(1, room.f_bavail * room.f_frsize - left))
    try:
        yield
    finally:
        filler.unlink()


@contextlib.contextmanager
def memory(pid: int, left: int) -> Iterator[bool]:
    """Let a process take so many bytes more, beyond which the kernel ends it; tell whether that could be done."""
    group, most = _group(pid)
    try:
        group.mkdir()
        (group / most).write_text(str(left))
        (group / "cgroup.procs").write_text(str(pid))
    except OSError:
        yield False
    else:
        yield True
    for _ in range(50):  # it is empty when the process is gone
        with contextlib.suppress(OSError):
            group.rmdir()
        if not group.exists():
            return
        time.sleep(0.1)


def _group(pid: int) -> tuple[Path, str]:
    first = GROUPS / "memory"
    if first.is_dir():
        return first / f"chaos-{pid}", "memory.limit_in_bytes"
    return GROUPS / f"chaos-{pid}", "memory.max"
