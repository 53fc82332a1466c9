"""When a trainer is struck: at any time, or after something that it says, which tells what it is doing then."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any, Protocol

from hftransfer.events import Event
from hftransfer.runs import Run
from tests import kills


class Waited(Protocol):
    """A process that is waited for, forked or started."""

    def wait(self, seconds: float) -> int | None:
        """Return its exit code, or None when it is still there after the time."""


AT_ANY_TIME = (
    0.2  # share of the strikes that come so many seconds after the start, the time before the first event too
)
STEP = 0.003  # seconds between two looks at the events


class Moments:
    """The events of a run that nobody disturbed, to aim by."""

    def __init__(self, events: Sequence[Event], seconds: float) -> None:
        self.known, self.seconds = kills.moments([*events]), seconds

    def wait(self, random: random.Random, run: Run, children: Sequence[Waited]) -> str | None:
        """Wait for a moment; return what the run does then, or None when its processes ended before it came."""
        if random.random() < AT_ANY_TIME or not self.known:
            if _ended(children, random.uniform(0.02, self.seconds)):
                return None
            return doing(run)
        reached = _reached(run)
        left = [one for one in self.known if not isinstance(one[0][1], int) or one[0][1] > reached] or self.known
        late = [one for one in left if one[1] in ("evaluation", "checkpoint") or one[0][1] in ("evaluation", "saving")]
        after, before, gap = random.choice(late if late and random.random() < kills.LATE else left)
        _, offset = run.events()
        found, end = False, time.monotonic() + 20 * max(1.0, self.seconds)
        while not found:
            if _ended(children, STEP) or time.monotonic() > end:
                return None
            events, offset = run.events(offset)
            found = any(kills.key(event) == after for event in events)
        moment = kills.Moment(after, before, random.uniform(0, gap), 9)
        return None if _ended(children, moment.delay) else kills.doing(moment)


def doing(run: Run) -> str:
    """Return what a run does by the last thing that it said."""
    events = run.events()[0] if run.events_path.exists() else []
    phases = [event for event in events if event["type"] in ("process", "phase")]
    if not phases or phases[-1]["type"] == "process":
        return "starting"
    names = {"evaluation": "evaluating the trained model", "saving": "saving the model", "training": "training"}
    return names.get(str(phases[-1]["name"]), "loading")


def _reached(run: Run) -> int:
    """Return the step from which a run goes on."""
    checkpoint: Any = run.checkpoint()
    return int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0


def _ended(children: Sequence[Waited], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while True:
        if any(child.wait(min(STEP, max(0.0, end - time.monotonic()))) is not None for child in children):
            return True
        if time.monotonic() >= end:
            return False
