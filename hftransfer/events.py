"""The events of a run: one JSON line each, appended by rank 0, read by anyone from any byte offset."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, TextIO

PREFIX = "@@hftransfer "  # marks an event among the other lines of a log: some launchers only give a log back

RANKED_BY = ("knn", "probe")  # the figures that the models of a "ranked" event can be in the order of

Event = dict[str, Any]  # always has `type` (str) and `time` (seconds since the epoch)


class EventWriter:
    """Append events to a file, and mirror them to a stream with PREFIX in front; silent on every rank but 0."""

    def __init__(self, path: str | Path, mirror: TextIO | None = None) -> None:
        self.path, self.mirror = Path(path), mirror
        self.silent = os.environ.get("RANK", "0") != "0"

    def write(self, type: str, **fields: Any) -> None:
        """Append one event; on disk before the call returns control to a reader."""
        if self.silent:
            return
        line = json.dumps({"type": type, "time": round(time.time(), 3), **fields}, default=_scalar)
        # one O_APPEND write a line: whoever else appends (the launcher's first event) cannot cut it in two
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, (_mend(descriptor) + line + "\n").encode())
        finally:
            os.close(descriptor)
        if self.mirror is not None:
            print(PREFIX + line, file=self.mirror, flush=True)


def read_events(path: str | Path, offset: int = 0) -> tuple[list[Event], int]:
    """Return the whole events behind `offset` (bytes) and the offset to go on from; a half-written line waits."""
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    end = data.rfind(b"\n") + 1
    return [event for line in data[:end].splitlines() if (event := _event(line)) is not None], offset + end


def _event(line: bytes) -> Event | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None  # the torn line of a writer that was killed: the lines around it still count
    return event if isinstance(event, dict) and "type" in event else None


def _mend(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    return "\n" if size and os.pread(descriptor, 1, size - 1) != b"\n" else ""


def _scalar(value: Any) -> Any:
    return value.item() if type(value).__module__ in ("numpy", "torch") else str(value)
