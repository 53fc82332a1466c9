"""What a launcher is: it starts a run's trainer somewhere, ends it, and tells what it wrote."""

from __future__ import annotations

import os
import re
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from hftransfer.config import Section, building
from hftransfer.errors import UserError
from hftransfer.events import PREFIX, Event
from hftransfer.runs import Run, State

Ending = Literal["stopped", "killed", "gone"]  # by itself when asked, by force, or before anyone asked

GRACE = 60.0  # seconds a trainer gets for its checkpoint
POLL = 0.2  # seconds between two looks at the events of a run
TAIL_BYTES = 65536


class RunFailed(RuntimeError):
    """A run ended without a result; the message says why and how its log ends."""


class RefusedByTrainer(UserError):
    """A UserError raised in the trainer's process, in the words that came through the events."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "", "")

    def __str__(self) -> str:
        return self.wanted


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its state, the reason, whether the user can mend it, and the end of its log."""

    state: State
    message: str
    user_error: bool
    log: tuple[str, ...]
    unpublished: str | None = None  # why a run that is done is not on the Hub, where it should be

    @property
    def exit_code(self) -> int:
        """0 done, 1 failed, killed or not published, 2 the user's to mend, 130 stopped."""
        return {"done": int(bool(self.unpublished)), "stopped": 130}.get(
            self.state, UserError.exit_code if self.user_error else 1
        )

    def error(self) -> Exception:
        """Build the exception that says so in Python."""
        if self.user_error:
            return RefusedByTrainer(self.message)
        return RunFailed("\n".join([f"the run {self.state}: {self.message}", *self.log]))


class NoOptions(Section):
    """A place that has to be told nothing."""


class Launcher(ABC):
    """A place where runs happen; the object of a launcher's file is its module's `LAUNCHER`.

    What a place wants to know (a partition, a kind of machine) are its own `Options`: a run's configuration says what
    is computed, never where. They are noted in the run's folder, so that it goes on as it began.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    needs: ClassVar[str] = "nothing"
    Options: ClassVar[type[Section]] = NoOptions

    @property
    def options(self) -> Section:
        """What this place was told; its defaults where nothing was."""
        return self.Options()

    @property
    def usual_processes(self) -> int:
        """How many processes a run has here unless somebody says."""
        return 1

    def told(self, values: Mapping[str, Any]) -> Launcher:
        """Return this place told `values` of its options; ConfigError with everything that is wrong in them."""
        building.build_section(self.Options, values)  # of a place without options every name is wrong
        return self

    def acting_as(self, token: str | None) -> Launcher:
        """Return this place asked by that token of the Hub, where it asks the Hub at all; it stays in memory."""
        return self

    @property
    def estimates(self) -> bool:
        """Whether the time of a run must be known before it starts here."""
        return False

    def foreseen(self, seconds: float) -> tuple[Launcher, str]:
        """Return this place told how long a run takes, and what is to be said of time and cost before it starts."""
        return self, in_words(seconds)

    def offers(self, seconds: float) -> list[str]:
        """Return what a run that takes so long on this machine would take and cost here, a line for each way."""
        return [self.foreseen(seconds)[1]]

    def missing(self) -> list[str]:
        """Return what keeps every run from starting here from this machine, in sentences; empty where nothing does."""
        return []

    @abstractmethod
    def check(self, run: Run, processes: int = 1) -> None:
        """Raise UserError for whatever would keep the run from starting here."""

    @abstractmethod
    def start(
        self, run: Run, resume: bool = False, processes: int = 1, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start the run's trainer and return at once; the run goes on when the caller ends.

        `environment` replaces the caller's own; a token comes through it and through nothing else.
        """

    @abstractmethod
    def stop(self, run: Run, grace: float = GRACE) -> Ending:
        """Ask the run to save a checkpoint and end, then end it by force after `grace` seconds; leave no process."""

    @abstractmethod
    def is_alive(self, run: Run) -> bool:
        """Tell whether any process still works on the run."""

    def events(self, run: Run, cursor: int = 0) -> tuple[list[Event], int]:
        """Return the events behind `cursor` (bytes) and the cursor to go on from."""
        return run.events(cursor)

    def log_tail(self, run: Run, lines: int = 20) -> list[str]:
        """Return the last lines that the run's processes printed, events left out."""
        try:
            with open(run.log_path, "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
                text = file.read().decode(errors="replace")
        except FileNotFoundError:
            return []
        return [line for line in text.splitlines() if not line.startswith(PREFIX)][-lines:]

    def follow(self, run: Run, cursor: int = 0) -> Iterator[Event]:
        """Yield the run's events behind `cursor` as they come, until its processes are gone."""
        while True:
            alive = self.is_alive(run)  # asked first: what a process wrote before it ended is then read below
            events, cursor = self.events(run, cursor)
            yield from events
            if not alive:
                return
            time.sleep(POLL)

    def finish(
        self, run: Run, processes: int = 1, resume: bool = False, follow: Callable[[Event], None] | None = None
    ) -> Outcome:
        """Start a run, call `follow` with every event, tell how it ended; whatever is raised here stops it."""
        cursor = self.events(run)[1] if resume else 0  # the events before a resume were told when they happened
        self.start(run, resume=resume, processes=processes)
        try:
            for event in self.follow(run, cursor):
                if follow is not None:
                    follow(event)
        except BaseException:  # KeyboardInterrupt, or an error in `follow`: nobody waits for the run any more
            self.stop(run)
            raise
        return self.outcome(run)

    def outcome(self, run: Run) -> Outcome:
        """Tell how a run whose processes are gone ended."""
        status, log = run.status(), tuple(self.log_tail(run))
        failed = [event for event in self.events(run)[0] if event["type"] == "failed"]
        user_error = status.state == "failed" and bool(failed[-1].get("user_error"))
        message = status.message or ""
        if (status.state == "killed" or message.startswith(PEER_ENDED)) and any(_KILLED.search(line) for line in log):
            message = OUT_OF_MEMORY
        elif status.state == "killed" and is_full(run.folder):
            message = DISK_FULL
        return Outcome(status.state, message, user_error, log, status.unpublished)


def in_words(seconds: float) -> str:
    """Return a time that was foreseen: `about 27 min`."""
    return "less than a minute" if seconds < 45 else f"about {max(seconds / 60, 1):.0f} min"


def is_full(folder: Path) -> bool:
    """Tell whether nothing more can be written beside `folder`: not even why a run ended."""
    return shutil.disk_usage(folder).free < 2**20


_KILLED = re.compile(r"SIGKILL|[Ee]xit ?code\s*:\s*-9\b")  # as accelerate and torch elastic report it
DISK_FULL = "the disk is full, or a limit on it is reached: make room, then resume"
PEER_ENDED = "another process of the run ended; what it said is in console.log"  # as rank 0 sees it
OUT_OF_MEMORY = (
    "the process was killed (signal 9), most likely because memory ran out. Try a smaller "
    "train.per_device_train_batch_size with train.gradient_accumulation_steps, a smaller data.max_length, or "
    "method.name=lora."
)
