"""The line of those who wait for what takes seconds: each holds a thread of the app, which has so many."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hftransfer.errors import UserError
from hftransfer.ui.visitors import Visitor

THREADS = 64  # of the app, for what pages ask
MOST = {"one visitor": 4, "guests": 8, "all": 32}  # that wait; the other threads are for looks and clicks


class Line:
    """How many wait, by visitor: for workers, for files that are looked at, for samples that are fetched."""

    def __init__(self) -> None:
        self._waiting: dict[Path, int] = {}
        self._lock = threading.Lock()

    @contextmanager
    def turn(self, visitor: Visitor) -> Iterator[None]:
        """Wait here, or UserError where a visitor, or all together, wait for as much as they may."""
        own = MOST["guests" if visitor.anonymous else "one visitor"]
        with self._lock:
            waiting = self._waiting.get(visitor.folder, 0)
            if waiting >= own or sum(self._waiting.values()) >= MOST["all"]:
                raise UserError(
                    "an earlier answer is needed first", f"{waiting} are awaited", "Try again in a moment."
                )
            self._waiting[visitor.folder] = waiting + 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting[visitor.folder] -= 1
                if not self._waiting[visitor.folder]:
                    del self._waiting[visitor.folder]

    def __len__(self) -> int:
        """Return how many wait."""
        return sum(self._waiting.values())


LINE = Line()
