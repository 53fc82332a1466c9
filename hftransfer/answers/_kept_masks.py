"""Masks of many pictures in the memory of few: what a model answers lies on disk, the rest is made when asked for."""

from __future__ import annotations

import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any


class Shelf:
    """A file without a name that contents are put into as they come; it goes with the last that is kept in it."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="hftransfer-")  # noqa: SIM115
        self._lock = threading.Lock()
        self._end = 0
        weakref.finalize(self, self._file.close)

    def put(self, content: bytes) -> Kept:
        """Write a content behind the others."""
        with self._lock:
            self._file.seek(self._end)
            self._file.write(content)
            kept = Kept(self, self._end, len(content))
            self._end += len(content)
        return kept

    def read(self, start: int, length: int) -> bytes:
        """Return what was put at a place."""
        with self._lock:
            self._file.seek(start)
            return self._file.read(length)


class Kept:
    """A content on a shelf; what another process is sent is the content itself."""

    __slots__ = ("length", "shelf", "start")

    def __init__(self, shelf: Shelf, start: int, length: int) -> None:
        self.shelf, self.start, self.length = shelf, start, length

    def __bytes__(self) -> bytes:
        return self.shelf.read(self.start, self.length)

    def __reduce__(self) -> tuple[Any, ...]:
        return bytes, (bytes(self),)


_last: weakref.ref[Shelf] | None = None


def keep(content: bytes) -> Kept:
    """Put a content on the shelf that others stand on, or on a new one where nothing is kept any more."""
    global _last
    shelf = None if _last is None else _last()
    if shelf is None:
        shelf = Shelf()
        _last = weakref.ref(shelf)
    return shelf.put(content)


class Lazy(Sequence[bytes]):
    """Rows that are made, or read, each time when they are asked for: `of` gives that of each of `places`."""

    def __init__(self, places: Sequence[Any], of: Callable[[Any], bytes] = bytes) -> None:
        self.places, self.of = places, of

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, place: Any) -> Any:
        return Lazy(self.places[place], self.of) if isinstance(place, slice) else self.of(self.places[place])

    def __iter__(self) -> Iterator[bytes]:
        return map(self.of, self.places)
