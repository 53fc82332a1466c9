"""Files of a run that spare it work and may be lost: as many as the disk bears, each whole or not there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from pathlib import Path

DISK_SHARE = 0.2  # of what is free when a process writes its first file: what its files may take
SPARE = 2**30  # bytes that stay free
MOST = 2**31  # bytes of one process


class Shelf:
    """What is kept by a key in a folder; processes may share it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._left: float | None = None  # bytes that this process may still write

    def get(self, key: str) -> bytes | None:
        """Return what was kept under a key; None where nothing was, or it is gone."""
        try:
            return self._path(key).read_bytes()
        except OSError:
            return None

    def put(self, key: str, content: bytes) -> None:
        """Keep some bytes under a key, unless the disk is too full for them."""
        with contextlib.suppress(OSError):
            if self._left is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                free = shutil.disk_usage(self.folder).free
                self._left = min(DISK_SHARE * free, free - SPARE, MOST)
            if len(content) > self._left:
                return
            self._left -= len(content)
            path = self._path(key)
            part = path.with_suffix(f".{os.getpid()}.part")
            part.write_bytes(content)
            part.replace(path)

    def _path(self, key: str) -> Path:
        return self.folder / hashlib.blake2b(key.encode(), digest_size=20).hexdigest()
