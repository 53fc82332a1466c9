"""Faults that a try orders of the Hub's stand-in: drawn, told in words, and counted where one struck."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from tests.chaos.report import Tries
from tests.hub_server import HubServer
from tests.hub_server.log import Record


class Orders:
    """One to three faults of a server, in force from when they were drawn until they are settled."""

    def __init__(
        self, server: HubServer, random: random.Random, faults: Mapping[str, Mapping[str, Any]], names: Sequence[str],
        routes: Callable[[str], Sequence[str]], happens: Callable[[str, Record], None], late: Sequence[int],
    ) -> None:  # fmt: skip
        """Draw among `names`: one of `faults`, or what `happens` once, in the middle, at one of the `routes` for it.

        `late`: after how many requests, each as likely.
        """
        self.server, self.words, self._ordered = server, list[str](), list[tuple[str, Any]]()
        for _ in range(random.randint(1, 3)):
            name = random.choice(names)
            route = random.choice(routes(name))
            times = random.choice([1, 1, 2, 4, None]) if name in faults else 1
            fault = faults.get(name) or {"do": partial(happens, name)}
            self._ordered.append((name, server.fault(route, times=times, after=random.choice(late), **fault)))
            self.words.append(f"{name} at {route} x {times}")

    @property
    def names(self) -> set[str]:
        """What was drawn."""
        return {name for name, _ in self._ordered}

    def settle(self, tries: Tries, called: Callable[[str], str]) -> None:
        """End them all, and count those that struck: others waited for a request that never came."""
        self.server.clear_faults()
        for name, order in self._ordered:
            if any(one.fault is order for one in self.server.fired):
                tries.add(f"hub: {called(name)}")
