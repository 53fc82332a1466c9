"""Faults that a test orders: a status, a dropped connection or a delay, by the name of a route."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.hub_server.log import Record


@dataclass
class Fault:
    """An order: skip `after` requests of this route, then go wrong `times` times (None: for ever).

    `cut` drops the connection hard (the client sees a reset): in the middle of the body that is being uploaded, or of
    the one that is being downloaded; `cut="fin"` closes it in good order there, so that the client sees too few bytes.
    `garble` changes the last byte of what is sent in answer, and nothing else.
    `lost` does the work and drops the connection instead of answering. `when` is asked with the request's record;
    `do` is called with it, the caller being known already: revoke a token there, and its next call is refused.
    """

    name: str
    times: int | None = 1
    after: int = 0
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    message: str | None = None  # in place of what the Hub says with that status
    cut: bool | str = False
    delay: float = 0.0
    lost: bool = False
    garble: bool = False
    when: Callable[[Record], bool] | None = None
    do: Callable[[Record], object] | None = None


@dataclass
class Fired:
    """A fault that happened, and the request it happened to."""

    name: str
    fault: Fault
    record: Record


class Faults:
    """The orders that still stand and what became of the others."""

    def __init__(self, routes: set[str]) -> None:
        self.routes = routes | {"*"}
        self.orders: list[Fault] = []
        self.fired: list[Fired] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> Fault:
        if fault.name not in self.routes:
            raise ValueError(f"no route is named {fault.name}; there are {', '.join(sorted(self.routes))}")
        with self._lock:
            self.orders.append(fault)
        return fault

    def take(self, record: Record) -> Fault | None:
        """The fault that this request meets, if any; the first order that fits counts down."""
        with self._lock:
            for fault in self.orders:
                if fault.name not in ("*", record.route) or fault.times == 0:
                    continue
                if fault.when is not None and not fault.when(record):
                    continue
                if fault.after > 0:
                    fault.after -= 1
                    continue
                if fault.times is not None:
                    fault.times -= 1
                self.fired.append(Fired(record.route, fault, record))
                if fault.do is not None:
                    fault.do(record)
                return fault
        return None
