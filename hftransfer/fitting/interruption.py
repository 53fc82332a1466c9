"""SIGTERM and SIGINT as a wish: while training, stop after this step with a checkpoint; elsewhere, stop now."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from hftransfer.safety import machine

SIGNALS = machine.wishes()


class Interrupted(Exception):
    """The run was asked to stop; its last checkpoint is of `step`."""

    def __init__(self, step: int = 0) -> None:
        super().__init__(f"stopped at step {step}" if step else "stopped before the first step")
        self.step = step


class Interruption:
    """Catch the first signal; a second one, or one outside `patience()`, raises KeyboardInterrupt at once."""

    def __init__(self) -> None:
        self.requested = False
        self.raised = False  # KeyboardInterrupt, which a library may have caught or turned into its own error
        self._patient = False
        self._owner = os.getpid()
        self._before: dict[int, Any] = {}
        self._ended = threading.Event()

    def __enter__(self) -> Interruption:
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._on_signal)
        threading.Thread(target=self._watch_parent, args=(os.getppid(),), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def patience(self) -> Iterator[None]:
        """Let a signal only set `requested`: whoever runs inside looks at it and stops in good order."""
        if self.raised:
            raise KeyboardInterrupt
        self._patient = True
        try:
            yield
        finally:
            self._patient = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            return  # a data loader's worker: its trainer decides
        again, self.requested = self.requested, True
        if again or not self._patient:
            self.raised = True
            raise KeyboardInterrupt

    def _watch_parent(self, parent: int) -> None:
        # `kill -9` of the launcher reaches no trainer: without this it would train on as an orphan
        while not self._ended.wait(1.0):
            if not machine.has_parent(parent):
                if not self.requested:  # a terminal's Ctrl-C reaches both: a second signal would break the checkpoint
                    machine.ask_self_to_end()
                return
