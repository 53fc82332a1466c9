"""Turns of a run: when it waited, was launched and ended, by its events; and its turn elsewhere."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hftransfer.errors import UserError
from hftransfer.launchers.base import Launcher
from hftransfer.runs import Run
from hftransfer.ui import visitors

TURNS = ("queued", "launched", "process", "done", "failed", "stopped")  # events that say where a run stands

log = logging.getLogger(__name__)


def follow(
    run: Run, place: Launcher, resume: bool, processes: int, environment: Mapping[str, str] | None,
    ending: Callable[[], bool],
) -> None:  # fmt: skip
    """Bring what happens elsewhere into a run's folder until it ends; with an `environment`, start it there first."""
    try:
        if environment is not None:
            place.start(run, resume, processes, environment)
            if ending():  # stopped while it was being sent
                place.stop(run)
        for _ in place.follow(run, run.events()[1]):
            pass
    except Exception as error:  # of networks, of the place: the run says so, and the queue goes on
        message = visitors.redacted(str(error) or type(error).__name__)
        with contextlib.suppress(OSError):
            if environment is not None and run.status().state not in ("failed", "running"):
                run.event("failed", message=message, user_error=isinstance(error, UserError))
                return
        log.warning("a run elsewhere is not followed any more: %s", message)


def marks(run: Run) -> list[dict[str, Any]]:
    """Return the events that say where a run stands."""
    return [event for event in run.events()[0] if event["type"] in TURNS]


def waits(run: Run) -> bool:
    """Tell whether the last that was said of a run is that it waits."""
    found = marks(run)
    return bool(found) and found[-1]["type"] == "queued"


def queued(run: Run) -> float:
    """Return when a run that waits was queued, in seconds since the epoch."""
    return float(marks(run)[-1]["time"])


def launched(run: Run) -> float:
    """Return when a run was launched the last time, in seconds since the epoch."""
    times = [event["time"] for event in marks(run) if event["type"] == "launched"]
    return float(times[-1]) if times else time.time()


def asked(run: Run) -> int:
    """Return how many processes were asked for when a run was queued."""
    found = [event.get("processes", 1) for event in marks(run) if event["type"] == "queued"]
    return int(found[-1]) if found else 1


def free(folder: Path) -> Path:
    """Return a folder's name, with a number behind it where it is taken."""
    number, found = 1, folder
    while found.exists():
        number += 1
        found = folder.with_name(f"{folder.name}-{number}")
    return found
