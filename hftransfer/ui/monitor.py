"""What a page shows of a run: a stateless read of its folder, cheap because each byte of its events is read once.

The cache holds nothing that the files do not: it may be lost at any time, and any other process reads the same.
"""

from __future__ import annotations

import copy
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from hftransfer.errors import Damaged
from hftransfer.events import Event
from hftransfer.launchers import of
from hftransfer.launchers.base import Outcome
from hftransfer.runs import Run, Status, read_json, status_of, works_elsewhere
from hftransfer.safety.identity import works
from hftransfer.ui import memory

KEPT = 500  # runs whose reading is kept
STATES = ("queued", "launched", "process", "phase", "done", "failed", "stopped")  # events that decide the state
SAID = (  # events that the page tells in words
    "phase", "columns", "notice", "warning", "tuned", "chosen", "tried", "checkpoint", "checkpoint_pushed",
    "checkpoint_not_pushed", "stopped", "failed", "done",
)  # fmt: skip
MOST_SAID = 60
LOOKS = 5  # looks a second that all pages together may take: training comes first
LONGEST = 15.0  # seconds until a page looks again on which something moves, however many are open
PATIENT = 3.0  # times as long where nothing does
PRESENT = 2 * LONGEST * PATIENT  # seconds after its last look that a page counts as open


@dataclass
class View:
    """What the events of a run say so far; grows by `fold`, one event after the other."""

    folder: Path
    offset: int = 0
    began: float = 0.0  # when it was launched, the last time
    created: Event = field(default_factory=dict)
    launched: Event = field(default_factory=dict)
    process: Event = field(default_factory=dict)
    marks: list[Event] = field(default_factory=list)
    step: Event = field(default_factory=dict)  # the newest that tells step and max_steps
    log: Event = field(default_factory=dict)
    machine: Event = field(default_factory=dict)  # how busy a machine far away was, when it was last asked
    losses: list[tuple[float, float]] = field(default_factory=list)
    rates: list[tuple[float, float]] = field(default_factory=list)
    evaluations: list[tuple[float, dict[str, float]]] = field(default_factory=list)
    trivial: Event = field(default_factory=dict)  # what the trivial answer scores on the validation rows
    probed: Event = field(default_factory=dict)  # what the probe scores on them
    watched: list[Event] = field(default_factory=list)  # the first look at some of them, and the last ones
    trial: Event = field(default_factory=dict)  # the newest of a learning rate that is tried
    trials: dict[str, tuple[int, int]] = field(default_factory=dict)  # steps done and planned, of each
    trial_began: float = 0.0
    updates: int = 0  # planned of the fit, where `auto` says so
    said: list[Event] = field(default_factory=list)
    publishing: list[Event] = field(default_factory=list)  # the last of each try
    last_checkpoint: int | None = None
    damaged: str | None = None  # why its files cannot be read

    def fold(self, event: Event) -> None:
        """Take in one event."""
        kind = event["type"]
        if kind in ("step", "log"):
            self.step = event
        if kind == "log":
            self._log(event)
        elif kind == "evaluation" and "step" in event:
            at = float(event["step"])
            self.evaluations = [e for e in self.evaluations if e[0] < at]
            self.evaluations.append((at, event.get("metrics", {})))
        elif kind == "machine":
            self.machine = event
        elif kind == "trivial":
            self.trivial = event
        elif kind == "probed":
            self.probed = event
        elif kind == "watched":
            self.watched.append(event)
            del self.watched[1:-2]
        elif kind == "trial":
            self._trial(event)
        elif kind == "chosen":
            found = {one["name"]: one["value"] for one in event["settings"]}
            self.updates = int(found.get("updates") or found.get("train.max_steps") or self.updates)
        elif kind == "created":
            self.created = event
        elif kind == "launched":
            self.launched, self.began = event, float(event.get("time", 0))
        elif kind == "process":
            self.process = event
        elif kind in ("publishing", "published", "unpublished"):
            self.publishing.append(event)
            del self.publishing[:-3]
        if kind in STATES:
            self.marks.append(event)
            del self.marks[:-50]
        if kind == "checkpoint":
            self.last_checkpoint = event.get("step")
        if kind in SAID:
            self.said.append(event)
            del self.said[:-MOST_SAID]

    def _trial(self, event: Event) -> None:
        self.trial, self.trial_began = event, self.trial_began or float(event.get("time", 0))
        self.trials = {**self.trials, event["name"]: (event["step"], event["max_steps"])}

    def _log(self, event: Event) -> None:
        self.log = event
        at = float(event.get("step", 0))
        for points, name in ((self.losses, "loss"), (self.rates, "learning_rate")):
            while points and points[-1][0] >= at:  # a resume goes back to its checkpoint: the curve goes on from there
                points.pop()
            value = event.get(name)
            if isinstance(value, int | float):
                points.append((at, float(value)))

    def snapshot(self) -> View:
        """Return a copy that stays as it is while other readers fold on."""
        lists = {item.name: [*getattr(self, item.name)] for item in fields(self) if item.type.startswith("list")}
        found = copy.copy(self)
        vars(found).update(lists)
        return found

    @property
    def run(self) -> Run:
        """The run itself."""
        return Run(self.folder)

    def status(self) -> Status:
        """Say how the run is doing, from the events and from whether its process lives."""
        if self.damaged is not None:
            return Status("damaged", message=self.damaged)
        try:
            note = read_json(self.run.launch_path)
            alive = any(map(works, (note, self.process))) or (not self._ended and works_elsewhere(self.run, note))
        except Damaged as error:
            return Status("damaged", message=str(error))
        return status_of([*self.marks, *([self.step] if self.step else [])], alive)

    @property
    def _ended(self) -> bool:
        """Tell whether a last word was said: a place far away need not be asked then."""
        return bool(self.marks) and self.marks[-1]["type"] in ("done", "failed", "stopped")

    @property
    def queued(self) -> bool:
        """Tell whether the last word is that the run waits for its turn."""
        return bool(self.marks) and self.marks[-1]["type"] == "queued"


class Monitor:
    """Views of run folders, read on from where the last reader stopped."""

    def __init__(self) -> None:
        self._views: OrderedDict[Path, View] = OrderedDict()
        self._endings: dict[Path, tuple[int, Outcome]] = {}
        self._memory: dict[Path, tuple[float, float]] = {}
        self._results: dict[Path, tuple[int, dict[str, Any]]] = {}
        self._looks: dict[str, float] = {}
        self._lock = threading.Lock()

    def view(self, folder: Path) -> View:
        """Return what the run's events say by now."""
        with self._lock:
            found = self._views.get(folder)
            if found is None or found.offset > _size(folder / "events.jsonl"):  # a folder made anew
                found = self._views[folder] = View(folder)
            self._views.move_to_end(folder)
            if len(self._views) > KEPT:
                self._views.popitem(last=False)
            try:
                events, found.offset = Run(folder).events(found.offset)
                for event in events:
                    found.fold(event)
            except Damaged as error:
                found.damaged = str(error)
            except (LookupError, TypeError, ValueError):  # lines of JSON that no run wrote
                found.damaged = f"events.jsonl must be what a run wrote; one of its lines is not: {folder}"
            return found.snapshot()

    def outcome(self, view: View) -> Outcome:
        """Tell how a finished run ended, in the launcher's words; asked again only after new events."""
        known = self._endings.get(view.folder)
        if known is None or known[0] != view.offset:
            known = self._endings[view.folder] = (view.offset, of(view.run).outcome(view.run))
        return known[1]

    def result(self, folder: Path) -> dict[str, Any]:
        """Return result.json, read again only when the file is another."""
        path = folder / "result.json"
        try:
            stamp = path.stat().st_mtime_ns
        except FileNotFoundError:
            return {}
        known = self._results.get(folder)
        if known is None or known[0] != stamp:
            try:
                found = read_json(path)
            except Damaged:  # the run is shown without its scores
                found = {}
            known = self._results[folder] = (stamp, found)
        return known[1]

    def memory_mb(self, view: View, now: float | None = None) -> float | None:
        """Return what the run's processes hold in memory; measured at most once a second."""
        now = time.monotonic() if now is None else now
        known = self._memory.get(view.folder)
        if known is None or now - known[0] >= 1:
            found = memory.resident(view.run.launch().get("pid")) if view.status().state == "running" else 0
            if not found:
                return None
            known = self._memory[view.folder] = (now, found / 1e6)
        return known[1]

    def pause(self, who: str, wanted: float, now: float | None = None) -> float:
        """Return the seconds until a page may look again: what it wants, longer the more pages look.

        One that wants to look rarely, as nothing moves on it, is made to wait in proportion.
        """
        now = time.monotonic() if now is None else now
        with self._lock:
            self._looks[who] = now
            for gone in [one for one, at in self._looks.items() if now - at > PRESENT]:
                del self._looks[gone]
            longest = LONGEST if wanted <= 1 else PATIENT * LONGEST
            return float(max(wanted, min(math.ceil(len(self._looks) / LOOKS) * wanted, longest)))


def plots(folder: Path) -> list[dict[str, Any]]:
    """Return the data of the run's plots, each with the chart that draws it; one that cannot be read is left out."""
    found = []
    for path in sorted((folder / "plots").glob("*.json")):
        try:
            plot = read_json(path)
        except Damaged:
            continue
        # runs of before results of schema 3 did not say which chart it is
        chart = next((chart for held, chart in HELD.items() if held in plot), "")
        found.append({"chart": chart, **plot})
    return found


HELD = {"counts": "matrix", "labels": "bars", "bins": "reliability", "residual_histogram": "scatter"}


def curves(view: View) -> dict[str, list[tuple[float, float]]]:
    """Return the validation metrics over the steps, by name."""
    found: dict[str, list[tuple[float, float]]] = {}
    for at, metrics in view.evaluations:
        for name, value in metrics.items():
            found.setdefault(name, []).append((at, value))
    return found


def main_curve(names: Iterable[str]) -> str | None:
    """Return the metric that a curve is drawn of: the first that is no loss."""
    return next((name for name in names if "loss" not in name), None)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
