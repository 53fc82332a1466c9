"""The queue of runs: starts what may start, ends what takes too much; its state is in the runs' folders."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

from hftransfer.errors import UserError
from hftransfer.launchers import HERE, _estimate, of
from hftransfer.launchers._elsewhere import Elsewhere
from hftransfer.launchers.base import GRACE, Launcher
from hftransfer.runs import Run, default_name, listing
from hftransfer.safety import machine
from hftransfer.ui import disk, memory, rules, turns, uploads, visitors
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor

QUEUE = "queue"  # the thread that starts runs
# a thread of a trainer that waits for the next piece of work turns for milliseconds; so it does for a tenth of one
# first, and then leaves its core to those who look and ask
SPINS = ("GOMP_SPINCOUNT", "20000")
POLL = 1.0  # seconds between two looks at the runs
DISK_POLL = 15.0  # seconds between two looks at a visitor's disk
TITLE, NOTE = 80, 1000  # characters of what people call a run, and of a note on it

log = logging.getLogger(__name__)


@dataclass
class Ticket:
    """A run in the queue or at work, and for whom: the token lives here, in memory, and nowhere else."""

    run: Run
    visitor: Visitor
    processes: int = 1
    resume: bool = False
    started: float = 0.0  # seconds since the epoch
    ending: bool = False
    launching: bool = False  # taken out of the queue, and not at work yet
    place: Launcher | None = None  # where it happens, asked by the visitor's token; None for this machine
    follower: threading.Thread | None = None  # brings what happens there into the run's folder
    disk_due: float = field(default=0.0, repr=False)


class Queue:
    """Runs of all visitors, first come first served within the limits; one a process of the app."""

    def __init__(self, settings: Settings, launcher: Launcher) -> None:
        self.settings, self.launcher = settings, launcher
        if settings.disk_mb:
            Elsewhere.keep_to(partial(uploads.left_for, settings))
        self._waiting: list[Ticket] = []
        self._working: dict[Path, Ticket] = {}
        self._changed = threading.Condition(threading.RLock())
        self._thread: threading.Thread | None = None
        self._closed = False
        self._mine: IO[str] | None = None

    def start(self) -> None:
        """Start the thread that starts runs; what waited locally when the app ended waits again."""
        self._adopt()
        self._thread = threading.Thread(target=self._work, name=QUEUE, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; runs go on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        if self._mine is not None:
            self._mine.close()

    def submit(
        self, visitor: Visitor, tree: Mapping[str, Any], processes: int = 1, place: Launcher | None = None,
        foreseen: Mapping[str, Any] | None = None,
    ) -> Run:  # fmt: skip
        """Check the configuration (rules.admit), make the run's folder and queue it; UserError over a limit.

        A run with a `place` of its own waits for no other, and takes nothing of this machine but the disk.
        """
        visitors.require(visitor)
        if place is None:
            self._require_processes(processes)
        config = rules.admit(visitor, tree, self.settings)
        self._require_room(visitor)
        with self._changed:
            self._require_place(visitor)
            # `output` gives a name and no more: what lies elsewhere would be in no list
            named = visitor.runs / Path(config.output).name if config.output else None
            run = Run.create(config, named or turns.free(visitor.runs / default_name(config)))
            if foreseen:
                _estimate.note(run, HERE if place is None else place.name, foreseen)
            self._append(Ticket(run, visitor, processes, place=place))
        return run

    def resume(self, visitor: Visitor, run: Run | str, place: Launcher | None = None) -> Run:
        """Queue a run that stopped, was killed, failed, or waited when the app ended; here, or at a `place`."""
        visitors.require(visitor)
        own = self._own(visitor, run)
        with self._changed:
            state, begun = own.status().state, self._working.get(own.folder)
            if self.place(own) is not None or state == "running" or (begun is not None and begun.launching):
                raise UserError("a run that has ended is needed", f"{own.name} goes on", "Stop it first.")
            if state == "done":
                raise UserError("a run that is not done is needed", f"{own.name} is done", "Start another.")
            tree = own.config().to_dict()
            rules.admit(visitor, tree | {"output": None}, self.settings)  # the rules may have changed since
            self._require_room(visitor)
            self._require_place(visitor)
            started = any(event["type"] == "process" for event in own.events()[0])
            processes = int(own.launch().get("processes") or turns.asked(own))
            self._append(Ticket(own, visitor, processes, resume=started, place=place))
        return own

    def stop(self, visitor: Visitor, run: Run | str) -> None:
        """Take a waiting run out, or ask a running one to save a checkpoint and end; returns at once."""
        visitors.require(visitor)
        own = self._own(visitor, run)
        with self._changed:
            for ticket in [ticket for ticket in self._waiting if ticket.run == own]:
                self._waiting.remove(ticket)
                own.event("stopped", message="taken out of the queue", step=own.status().step)
                return
            working = self._working.get(own.folder)
            if working is not None:
                working.ending = True
        place = self._place_of(own, visitor)
        if place.is_alive(own):
            self._end(own, place=place)

    def remove(self, visitor: Visitor, run: Run | str, aside: Path | None = None) -> None:
        """Delete a run that has ended, with its model; or put it into the folder `aside`."""
        visitors.require(visitor)
        own = self._own(visitor, run)
        with self._changed:
            if self.place(own) is not None or self._place_of(own, visitor).is_alive(own):
                raise UserError("a run that has ended is needed", f"{own.name} goes on", "Stop it first.")
            if aside is None:
                shutil.rmtree(own.folder)
            else:
                shutil.move(own.folder, aside / own.name)

    def entitle(self, visitor: Visitor, run: Run | str, name: str, note: str, **more: Any) -> None:
        """Write down what a visitor calls a run of theirs, and a note on it; UserError for more than fits a page."""
        visitors.require(visitor)
        own = self._own(visitor, run)
        if len(name) > TITLE or len(note) > NOTE:
            raise UserError(
                f"a name of {TITLE} characters and a note of {NOTE:,} are the most", "there are more", "Shorten it."
            )
        own.entitle(name, note, **more)

    def place(self, run: Run) -> int | None:
        """Return the run's place among those that wait (1 is next), or None when it does not wait."""
        with self._changed:
            places = [place for place, ticket in enumerate(self._waiting, 1) if ticket.run.folder == run.folder]
        return places[0] if places else None

    def runs(self, visitor: Visitor) -> list[Run]:
        """Return the visitor's runs, newest first; those that go on elsewhere are followed from here on."""
        with self._changed:
            left = [ticket for ticket in self._working.values() if ticket.place is not None and not ticket.follower]
            for ticket in left:  # after a restart: on a Space, with the token of whom they belong to
                if ticket.visitor.folder == visitor.folder and not visitor.anonymous:
                    ticket.place = of(ticket.run).acting_as(visitor.token)
                    self._follow(ticket, start=False)
        return visitors.runs(visitor)

    def unfinished(self, visitor: Visitor) -> list[Run]:
        """Return runs that a restart cut off: killed, or waiting without a place; one `resume` each goes on."""
        with self._changed:
            known = {ticket.run.folder for ticket in (*self._waiting, *self._working.values())}
        left = [run for run in visitors.runs(visitor) if run.folder not in known]
        states = [(run, run.status().state) for run in left]
        return [run for run, state in states if state == "killed" or (state != "damaged" and turns.waits(run))]

    # --- limits ---

    def _require_processes(self, processes: int) -> None:
        most = self.settings.processes_per_run
        if processes < 1 or (most and processes > most):
            raise UserError(f"1 to {most or 'any number of'} processes are possible", f"found {processes}", "Set 1.")

    def _require_place(self, visitor: Visitor) -> None:
        settings, own = self.settings, [t for t in self._waiting if t.visitor.folder == visitor.folder]
        if settings.queued_per_user and len(own) >= settings.queued_per_user:
            raise UserError(
                f"at most {settings.queued_per_user} of your runs may wait", f"{len(own)} do", "Wait, or stop one."
            )
        if settings.queued and len(self._waiting) >= settings.queued:
            raise UserError(
                f"at most {settings.queued} runs may wait here", "the queue is full",
                "Try again later, or duplicate this Space.",
            )  # fmt: skip

    def _require_room(self, visitor: Visitor) -> None:
        try:
            uploads.require_room(visitor, self.settings)
        except UserError:
            with self._changed:
                busy = any(ticket.visitor.folder == visitor.folder for ticket in self._working.values())
            if visitor.local or busy or not visitor.cache.is_dir():
                raise
            shutil.rmtree(visitor.cache)  # what was downloaded is downloaded again
            uploads.require_room(visitor, self.settings)

    def _own(self, visitor: Visitor, run: Run | str) -> Run:
        name = run if isinstance(run, str) else run.name
        own = visitors.find(visitor, name)
        if isinstance(run, Run) and os.path.realpath(run.folder) != os.path.realpath(own.folder):
            raise UserError("one of your runs is needed", "this one is somebody else's", "Choose one of yours.")
        return own

    # --- the thread ---

    def _append(self, ticket: Ticket) -> None:
        self._waiting.append(ticket)
        ticket.run.event("queued", place=len(self._waiting), processes=ticket.processes)
        self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
            try:
                self._watch()
                while (ticket := self._next()) is not None:
                    self._launch(ticket)
                    ticket.launching = False
            except Exception:  # one broken run must not keep the others waiting for ever
                log.exception("the queue goes on after an error")
            with self._changed:
                if not self._closed:
                    self._changed.wait(POLL)

    def _next(self) -> Ticket | None:
        """Take the first run that may start out of those that wait."""
        with self._changed:
            if self._closed:
                return None
            here = [other for other in self._working.values() if other.place is None]
            full = len(here) >= (self.settings.runs_at_once or len(here) + 1)
            for ticket in self._waiting:
                if (full and ticket.place is None) or ticket.run.folder in self._working:
                    continue
                if self._place_of(ticket.run, ticket.visitor).is_alive(ticket.run):
                    continue  # resumed while its last processes are still ending
                beside = here if ticket.place is None else [o for o in self._working.values() if o.place is not None]
                most = self.settings.runs_per_user if ticket.place is None else self.settings.elsewhere_per_user
                busy = sum(other.visitor.folder == ticket.visitor.folder for other in beside)
                if busy < (most or busy + 1):
                    self._waiting.remove(ticket)
                    ticket.started, ticket.launching = time.time(), True
                    self._working[ticket.run.folder] = ticket
                    return ticket
        return None

    def _launch(self, ticket: Ticket) -> None:
        run = ticket.run
        if ticket.place is not None:  # what it needs is sent there first, which may take minutes
            self._follow(ticket, start=True)
            return
        if run.status().state == "done":  # by its last processes, which were still at work when it was asked for
            with self._changed:
                self._working.pop(run.folder, None)
            return
        try:
            environment = visitors.environment(ticket.visitor, self.settings)
            if self.settings.space:
                environment.setdefault(*SPINS)
            self.launcher.start(run, ticket.resume, ticket.processes, environment)
        except (UserError, OSError) as error:
            with self._changed:
                self._working.pop(run.folder, None)
            with contextlib.suppress(OSError):  # its folder may be gone
                run.event("failed", message=str(error), user_error=isinstance(error, UserError))
        if ticket.ending and self.launcher.is_alive(run):  # stopped while it was being started
            self._end(run)

    def _watch(self) -> None:
        with self._changed:
            working = list(self._working.values())
        for ticket in working:
            if ticket.place is not None:
                if ticket.follower is not None and not ticket.follower.is_alive():
                    with self._changed:
                        self._working.pop(ticket.run.folder, None)
            elif not self.launcher.is_alive(ticket.run):
                with self._changed:
                    self._working.pop(ticket.run.folder, None)
            elif not ticket.ending:
                self._hold_to_limits(ticket)

    def _hold_to_limits(self, ticket: Ticket) -> None:
        settings, run = self.settings, ticket.run
        if settings.run_seconds and time.time() - ticket.started > settings.run_seconds:
            ticket.ending = True
            limit = f"a run may take {settings.run_seconds:,} s here"
            run.event("warning", message=f"{limit}: it is stopped with a checkpoint, and can be resumed")
            self._end(run)
        elif (
            settings.run_memory_mb
            and (used := memory.held_mb(run.launch().get("pid"), settings.run_memory_mb)) > settings.run_memory_mb
        ):
            ticket.ending = True
            limit = f"a run may use {settings.run_memory_mb:,} MB of memory here, and this one took {used:,.0f}"
            self._fail(run, f"{limit}: set train.per_device_train_batch_size or data.max_length lower")
        elif settings.disk_mb and time.monotonic() > ticket.disk_due:
            ticket.disk_due = time.monotonic() + DISK_POLL
            if (used := disk.kept_mb(ticket.visitor.folder, settings.disk_mb)) > settings.disk_mb:
                ticket.ending = True
                limit = f"you may keep {settings.disk_mb:,} MB here, and keep {used:,.0f}"
                self._fail(run, f"{limit}: delete uploads or runs, or set train.save_total_limit=1")

    def _fail(self, run: Run, message: str) -> None:
        run.event("failed", message=message, user_error=True)
        self._end(run, grace=0)

    def _end(self, run: Run, grace: float = GRACE, place: Launcher | None = None) -> None:
        stop = (place or self.launcher).stop
        threading.Thread(target=stop, args=(run, grace), name=f"stop {run.name}", daemon=True).start()

    # --- elsewhere ---

    def _place_of(self, run: Run, visitor: Visitor) -> Launcher:
        """Return where a run happens or happened, asked by the visitor's token."""
        return self.launcher if run.launch().get("launcher", HERE) == HERE else of(run).acting_as(visitor.token)

    def _follow(self, ticket: Ticket, start: bool) -> None:
        """Follow a run that goes on elsewhere, in a thread of its own; with `start`, start it there first."""
        environment = visitors.environment(ticket.visitor, self.settings) if start else None
        words = (ticket.run, ticket.place, ticket.resume, ticket.processes, environment, lambda: ticket.ending)
        work = threading.Thread(target=turns.follow, args=words, name=ticket.run.name, daemon=True)
        ticket.follower = work
        work.start()

    # --- after a restart ---

    def _adopt(self) -> None:
        """Count the runs that go on from before, and let local ones that waited wait again, in their order.

        A Space's visitor must ask again: their token went with the app.
        """
        first = self._is_first()
        waiting = []
        for folder in self._folders():
            local = not self.settings.space
            owner = Visitor(visitors.LOCAL if local else folder.name, folder, local=local)
            if local:
                owner = visitors.of(None, None, None, self.settings)
            for run in listing(owner.runs):
                state = run.status().state
                if state == "running":
                    place = None if run.launch().get("launcher", HERE) == HERE else of(run)
                    ticket = Ticket(run, owner, started=turns.launched(run), place=place)
                    self._working[run.folder] = ticket
                    if place is not None and local:
                        self._follow(ticket, start=False)
                elif local and first and state != "damaged" and turns.waits(run):
                    resume = any(event["type"] == "process" for event in run.events()[0])
                    waiting.append((turns.queued(run), Ticket(run, owner, turns.asked(run), resume)))
        self._waiting += [ticket for _, ticket in sorted(waiting, key=lambda pair: pair[0])]

    def _folders(self) -> Iterator[Path]:
        root = self.settings.root.absolute()
        if not self.settings.space:
            yield root
        elif (root / "users").is_dir():
            yield from (folder for folder in (root / "users").iterdir() if folder.is_dir() and not folder.is_symlink())

    def _is_first(self) -> bool:
        """Tell whether no other app serves this root: two must not start the same run."""
        folder = self.settings.root if self.settings.space else self.settings.root / "runs"
        folder.mkdir(parents=True, exist_ok=True)
        self._mine = open(folder / ".queue", "a")  # noqa: SIM115  # held as long as the app lives
        try:
            return machine.lock(self._mine.fileno(), within=True)
        except OSError:
            return False
