"""The queue of runs: starts what may start, ends what took too long; its state is in the runs' folders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hftransfer.launchers.base import Launcher
from hftransfer.runs import Run
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor


class Queue:
    """Runs of all visitors, first come first served within the limits; one a process of the app."""

    def __init__(self, settings: Settings, launcher: Launcher) -> None:
        raise NotImplementedError

    def start(self) -> None:
        """Start the thread that starts runs; what waited locally when the app ended waits again."""
        raise NotImplementedError

    def close(self) -> None:
        """End the thread; runs go on."""
        raise NotImplementedError

    def submit(self, visitor: Visitor, tree: Mapping[str, Any], processes: int = 1) -> Run:
        """Check the configuration (rules.admit), make the run's folder and queue it; UserError over a limit."""
        raise NotImplementedError

    def resume(self, visitor: Visitor, run: Run | str) -> Run:
        """Queue a run that stopped, was killed, failed, or waited when the app ended."""
        raise NotImplementedError

    def stop(self, visitor: Visitor, run: Run | str) -> None:
        """Take a waiting run out, or ask a running one to save a checkpoint and end; returns at once."""
        raise NotImplementedError

    def place(self, run: Run) -> int | None:
        """Return the run's place among those that wait (1 is next), or None when it does not wait."""
        raise NotImplementedError

    def runs(self, visitor: Visitor) -> list[Run]:
        """Return the visitor's runs, newest first."""
        raise NotImplementedError

    def unfinished(self, visitor: Visitor) -> list[Run]:
        """Return runs that a restart cut off: killed, or waiting without a place; one `resume` each goes on."""
        raise NotImplementedError
