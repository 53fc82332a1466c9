"""The events of a run: one JSON line each, appended by rank 0, read by anyone from any byte offset."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, TextIO

from hftransfer.errors import Damaged
from hftransfer.safety import machine

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
    """Return the whole events behind `offset` (bytes) and the offset to go on from; a half-written line waits.

    Raises Damaged for what is no file, or none that may be read.
    """
    data = _whole_lines(path, offset)
    return [event for line in data.splitlines() if (event := _event(line)) is not None], offset + len(data)


def latest_events(path: str | Path) -> list[Event]:
    """Return the whole events, but of those that come at every step or so the last one of each type alone."""
    kept: list[bytes] = []
    last: dict[bytes, bytes] = {}
    for line in _whole_lines(path, 0).splitlines():
        if line.startswith(OFTEN):
            kind = line[:SHORT]
            last.pop(kind, None)  # the latest of all comes last
            last[kind] = line
        else:
            kept.append(line)
    return [event for line in (*kept, *last.values()) if (event := _event(line)) is not None]


# as EventWriter begins their lines; they say nothing but how far a run has come
OFTEN = tuple(f'{{"type": "{name}"'.encode() for name in ("step", "log", "evaluation"))
SHORT = len('{"type": "log')


def _whole_lines(path: str | Path, offset: int) -> bytes:
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return b""
    except OSError as error:  # a folder in its place, or no right to read it
        raise Damaged(path, error) from error
    return data[: data.rfind(b"\n") + 1]


def _event(line: bytes) -> Event | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None  # the torn line of a writer that was killed, or no event at all: those around it still count
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        return None
    if not isinstance(event.get("time"), int | float):
        event["time"] = 0.0
    return event


def _mend(descriptor: int) -> str:
    return "" if machine.last_byte(descriptor) in (b"", b"\n") else "\n"


def _scalar(value: Any) -> Any:
    return value.item() if type(value).__module__ in ("numpy", "torch") else str(value)
