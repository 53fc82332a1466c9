"""What one visitor may take of what all share: so much in so many seconds, guests together as one."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

GUESTS = ""  # all who have not signed in


class Shares:
    """Amounts that were taken of late, by whom; an amount is free again when its time is over."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self._clock = seconds, clock
        self._taken: dict[str, deque[tuple[float, float]]] = {}
        self._lock = threading.Lock()

    def take(self, who: str, amount: float, own: float, everybody: float = float("inf")) -> bool:
        """Take an amount when it fits into one's own share and into that of all; tell whether it did."""
        with self._lock:
            self._forget()
            mine = sum(part for _, part in self._taken.get(who, ()))
            total = sum(part for taken in self._taken.values() for _, part in taken)
            if mine + amount > own or total + amount > everybody:
                return False
            self._taken.setdefault(who, deque()).append((self._clock(), amount))
            return True

    def give_back(self, who: str) -> None:
        """Free what somebody took last."""
        with self._lock:
            if self._taken.get(who):
                self._taken[who].pop()

    def _forget(self) -> None:
        limit = self._clock() - self.seconds
        for who, taken in list(self._taken.items()):
            while taken and taken[0][0] <= limit:
                taken.popleft()
            if not taken:
                del self._taken[who]
