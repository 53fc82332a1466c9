"""One visitor's worker as the app's process holds it: asked, waited for, held to its limits, ended."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import IO, Any

import psutil

from hftransfer.errors import UserError
from hftransfer.safety import machine
from hftransfer.ui import disk, visitors
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor

INPUTS = 2_000  # of one call
READY = "ready"  # asked of a new process first
LINE = 64 * 2**20  # bytes of one answer
LOG = 2**20  # bytes of a worker's log that are kept when the next one starts
TICK = 0.2  # seconds between two looks at a worker that thinks
DISK_TICK = 3.0  # seconds between two looks at the disk meanwhile


class WorkerProcess:
    """One process, and the pipe to it."""

    def __init__(self, visitor: Visitor, settings: Settings) -> None:
        self.settings, self.token, self.folder = settings, visitor.token, visitor.folder
        self.used = time.monotonic()
        self.memory_mb, self.disk_mb = settings.worker_memory_mb, settings.disk_mb if settings.space else 0
        self._turn = threading.Lock()
        self._number = 0
        self._disk_due = 0.0
        self._answers: queue.Queue[bytes] = queue.Queue()
        environment = visitors.environment(visitor, settings)
        limits = {
            "memory_mb": settings.worker_memory_mb,
            "model_mb": settings.model_mb,
            "inputs": INPUTS,
            "later": settings.later,
        }
        log = visitor.home / "worker.log" if settings.space else None
        with open(log, "wb") if log else contextlib.nullcontext(subprocess.DEVNULL) as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hftransfer.ui.worker", json.dumps(limits)],
                env=environment,
                cwd=visitor.folder if settings.space else None,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                **machine.own_session(),
            )
        assert self._process.stdout is not None
        threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True).start()

    def lives(self) -> bool:
        """Tell whether the process is there."""
        return self._process.poll() is None

    def ask(self, function: str, arguments: Mapping[str, Any], limit: float | None) -> Any:
        """Send one question, wait for its answer and return it; UserError when there is none."""
        *_, last = self.parts(function, arguments, limit)
        return last["answer"]

    def parts(self, function: str, arguments: Mapping[str, Any], limit: float | None) -> Iterator[dict[str, Any]]:
        """Send one question and yield what there is so far of its answer ({part}), and the answer ({answer})."""
        if not self._turn.acquire(timeout=-1 if limit is None else limit):
            raise UserError("an answer is needed", "earlier questions are not answered yet", "Try again in a moment.")
        try:
            if not self._number and function != READY:  # its imports have seconds of their own beside the answer's
                self._put(READY, {})
                self._wait(limit)
            self._put(function, arguments)
            while "part" in (answer := self._wait(limit)):
                yield answer
        finally:
            self.used = time.monotonic()
            self._turn.release()
        if "refused" in answer:
            raise UserError(*answer["refused"])
        if "failed" in answer:
            raise UserError("an answer is needed", answer["failed"], "Try another input or model.")
        yield answer

    def end(self) -> None:
        """Kill the process and what it started."""
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self._process.pid)
            for child in process.children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    child.kill()
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None and pipe is not self._process.stdout:  # its reader closes that one
                    pipe.close()

    def _put(self, function: str, arguments: Mapping[str, Any]) -> None:
        self._number += 1
        self._send({"id": self._number, "function": function, "arguments": arguments})

    def _send(self, question: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise died() from error

    def _wait(self, limit: float | None) -> dict[str, Any]:
        end = float("inf") if limit is None else time.monotonic() + limit
        self._disk_due = time.monotonic() + DISK_TICK
        while True:
            try:
                answer = json.loads(self._answers.get(timeout=TICK))
            except queue.Empty:
                self._hold_to_limits(end, limit)
                continue
            except ValueError as error:
                self.end()
                raise died() from error
            if isinstance(answer, dict) and answer.get("id") == self._number:
                return answer

    def _hold_to_limits(self, end: float, limit: float | None) -> None:
        if not self.lives() and self._answers.empty():
            raise died()
        if time.monotonic() > end:
            self.end()
            raise UserError("an answer in time is needed", f"it took more than {limit:,.0f} s", "Ask for less.")
        if self.memory_mb and (used := self.memory()) > self.memory_mb:
            self.end()
            raise UserError(
                f"at most {self.memory_mb:,} MB of memory may be used for an answer", f"this took {used:,.0f} MB",
                "Choose a smaller model or input.",
            )  # fmt: skip

        if self.disk_mb and time.monotonic() > self._disk_due:
            self._disk_due = time.monotonic() + DISK_TICK
            if (kept := disk.kept_mb(self.folder, self.disk_mb)) > self.disk_mb:
                self.end()
                raise UserError(
                    f"at most {self.disk_mb:,} MB may be kept here", f"this downloads more; {kept:,.0f} MB are there",
                    "Choose something smaller, or delete uploads or runs.",
                )  # fmt: skip

    def memory(self) -> float:
        """Return what it holds, in MB."""
        try:
            return float(psutil.Process(self._process.pid).memory_info().rss) / 2**20
        except psutil.Error:
            return 0.0

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe:
            while line := pipe.readline(LINE):
                self._answers.put(line if line.endswith(b"\n") else b"no end")


def died() -> UserError:
    return UserError(
        "an answer is needed", "the process that computes it ended, most likely because memory ran out",
        "Try a smaller model or input; the next question starts a new process.",
    )  # fmt: skip
