"""Where the processors' time goes while a run trains and others use the app: by kind of process, from /proc."""

from __future__ import annotations

import contextlib
import time
from collections import Counter

import psutil

KINDS = {  # words of a command line, and what such a process does
    "ui.worker": "workers: answers, previews",
    "ui.inspection": "looks at uploaded files",
    "_alone": "the trainer",
    "train.py": "the trainer",
    "accelerate": "the trainer",
}
APP, PEOPLE, OTHERS = "the app itself", "who asks, and the Hub's stand-in: this command", "others"


class Spent:
    """Seconds of processor time since it was made, of an app and all that it starts, and of this process."""

    def __init__(self, app: psutil.Process) -> None:
        self._app, self._began = app, time.monotonic()
        self._kinds = {app: APP, psutil.Process(): PEOPLE}
        self._before = {process: taken(process) for process in self._kinds}
        self._latest = dict(self._before)
        self._idle = psutil.cpu_times()
        for process in app.children(recursive=True):
            self._before[process] = self._latest[process] = taken(process)

    def look(self) -> list[psutil.Process]:
        """Look at all of them, so that what ends soon counts as well; return what the app has started."""
        found: list[psutil.Process] = []
        with contextlib.suppress(psutil.Error):
            found = self._app.children(recursive=True)
        for process in (*list(self._kinds), *found):
            with contextlib.suppress(psutil.Error):
                if self._kinds.get(process, OTHERS) == OTHERS:
                    self._kinds[process] = kind(process)  # of one that was just forked it is not known yet
                self._latest[process] = taken(process)
        return found

    def shares(self, cores: int) -> tuple[Counter[str], float]:
        """Return the seconds by kind, those that nobody used too, and all there are."""
        self.look()
        seconds: Counter[str] = Counter()
        for process, latest in self._latest.items():
            seconds[self._kinds.get(process, OTHERS)] += latest - self._before.get(process, 0.0)
        now, before = psutil.cpu_times(), self._idle
        seconds["idle"] = now.idle + now.iowait - before.idle - before.iowait
        whole = cores * (time.monotonic() - self._began)
        seconds[OTHERS] += max(0.0, whole - seconds.total())
        return seconds, whole


def taken(process: psutil.Process) -> float:
    """Return the processor time of a process so far, in seconds."""
    times = process.cpu_times()
    return float(times.user + times.system)


def kind(process: psutil.Process) -> str:
    """Return what a process does, by its command line."""
    words = " ".join(process.cmdline())
    return next((called for word, called in KINDS.items() if word in words), OTHERS)
