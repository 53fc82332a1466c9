"""Workers: one process a visitor for what needs torch or datasets; nothing that happens there ends the app."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import psutil

from hftransfer.errors import UserError
from hftransfer.events import PREFIX
from hftransfer.launchers.local import SCRIPT
from hftransfer.ui import rules, uploads, visitors
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor

FUNCTIONS = ("preview", "model", "estimate", "predict", "examples", "errors", "verdict", "explain")
COUNTED = ("predict", "explain")  # against predictions_per_minute
IN_LINE = {"one visitor": 4, "guests": 8, "all": 24}  # questions that wait; gradio has 40 threads
INPUTS = 2_000  # of one call
CHARACTERS = 100_000  # of one text
LINE = 64 * 2**20  # bytes of one answer
LOG = 2**20  # bytes of a worker's log that are kept when the next one starts
TICK = 0.2  # seconds between two looks at a worker that thinks
ESTIMATE_PATIENCE = 60.0  # seconds that an estimate waits for another one
DISK_POLL = 15.0  # seconds between two looks at a visitor's disk
REAP = 2.0  # seconds between two looks at those that do not


class Workers:
    """The workers of all visitors; each starts on first use and ends when idle, too large or too slow."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._workers: dict[Path, _Worker] = {}
        self._asked: dict[Path, deque[float]] = {}
        self._waiting: dict[Path, int] = {}
        self._looked: dict[Path, float] = {}
        self._lock = threading.Lock()
        self._estimating = threading.BoundedSemaphore(1)  # each is a model in training: two would time each other
        self._closed = threading.Event()
        threading.Thread(target=self._reap, name="workers", daemon=True).start()

    def call(self, visitor: Visitor, function: str, timeout: float | None = None, **arguments: Any) -> Any:
        """Run one function of hftransfer.ui.worker there and return its answer (plain JSON); UserError otherwise.

        preview(tree)                      data section and task: {columns: [{name, type}], choices: [{role, column,
                                           reason}], rows: [{column: {kind, value}}], balance: [{label, count}],
                                           splits: {name: n}, labels, warnings: [..], problem: what keeps the rows
                                           from being used, or null}; kind is text, number, image (value: a data: URL
                                           of a small PNG) or empty
        model(model, revision, task)       {architecture, parameters, size_mb, license, labels, longest, task}
        estimate(tree)                     {seconds, memory_mb, step_seconds, steps, warnings}, from real steps
        predict(where, inputs, top_k)      a list of the Predictor's answers; an input is a text, {role: text},
                                           {"image": path of an upload} or {"table": path of an upload}
        examples(run, n)                   [{row_id, input: {role: {kind, value}}}] of the test rows
        errors(run, n)                     [{row_id, label, prediction, score, input: {...}}], worst first
        verdict(run, others)               {verdict, notes: [..], table: [[cell]]} of finished runs on the same rows
        explain(where, input)              {kind: "tokens", parts: [{text, weight}], label} or {kind: "pixels", image,
                                           weights: [[..]], label}, weight > 0 where it spoke for the answer
        """
        if function not in FUNCTIONS:
            raise ValueError(f"no function {function!r} of a worker")
        limit = timeout or self.settings.worker_seconds or None
        if function in COUNTED:
            self._count(visitor)
        with self._in_line(visitor), self._admitted(visitor, function, arguments) as allowed:
            if function == "estimate":
                if not self._estimating.acquire(timeout=ESTIMATE_PATIENCE):
                    raise UserError("an estimate at a time", "others are being made", "Try again in a moment.")
                try:
                    return estimate(visitor, self.settings, allowed["tree"], limit)
                finally:
                    self._estimating.release()
            self._hold_to_disk(visitor)
            worker = self._worker(visitor)
            try:
                return worker.ask(function, allowed, limit)
            finally:
                if not worker.lives():
                    with self._lock:
                        if self._workers.get(visitor.folder) is worker:
                            del self._workers[visitor.folder]

    def close(self) -> None:
        """End every worker."""
        self._closed.set()
        with self._lock:
            workers, self._workers = list(self._workers.values()), {}
        for worker in workers:
            worker.end()

    # --- what a visitor may ask for ---

    @contextmanager
    def _admitted(self, visitor: Visitor, function: str, arguments: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Check every argument that names something, and lend pictures to the worker for the time of the call."""
        settings, allowed = self.settings, dict(arguments)
        with ExitStack() as lent:
            if function == "preview":
                allowed["tree"] = rules.admit_data(visitor, arguments["tree"], settings)
                if not str(allowed["tree"]["data"]["source"]).startswith("sample:"):
                    visitors.require(visitor)
            elif function == "estimate":
                visitors.require(visitor)
                uploads.require_room(visitor, settings)
                allowed["tree"] = rules.admit(visitor, arguments["tree"], settings).to_dict()
            elif function == "model":
                allowed["model"] = rules.place(visitor, arguments["model"], settings)
                revision = arguments.get("revision")
                if revision is not None and (not rules.REVISION.fullmatch(str(revision)) or ".." in str(revision)):
                    raise UserError("a branch, tag or commit is needed", f"found {str(revision)[:80]!r}", "Mend it.")
            elif function in ("examples", "errors", "verdict"):
                allowed["run"] = str(visitors.find(visitor, arguments["run"]).folder)
                if function == "verdict":
                    allowed["others"] = [str(visitors.find(visitor, name).folder) for name in arguments["others"]]
            else:
                allowed["where"] = rules.place(visitor, arguments["where"], settings)
                if function == "explain":
                    allowed["input"] = self._input(visitor, arguments["input"], lent)
                else:
                    given = arguments["inputs"]
                    if not isinstance(given, list) or len(given) > INPUTS:
                        raise UserError(
                            f"a list of up to {INPUTS:,} inputs is needed", "this is none", "Ask for fewer."
                        )
                    allowed["inputs"] = [self._input(visitor, value, lent) for value in given]
            yield allowed

    def _input(self, visitor: Visitor, value: Any, lent: ExitStack) -> Any:
        if isinstance(value, str):
            value = {"text": value}  # never a path: Predictor would read a table of that name
        if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
            raise UserError("a text or a picture is needed", f"found {type(value).__name__}", "Give one.")
        found: dict[str, Any] = {}
        for name, part in value.items():
            if name in ("image", "table"):
                kinds = uploads.PICTURES if name == "image" else uploads.KINDS[:-1]
                own = isinstance(part, str | Path) and Path(part).is_absolute() and visitor.owns(part)
                if not isinstance(part, str | Path) or (name == "table" and visitor.anonymous):
                    raise UserError("an uploaded file is needed", "this is none", "Upload it.")
                if not own:
                    part = lent.enter_context(uploads.held(visitor, part, self.settings, kinds))
                found[name] = str(part)
            elif _is_text(part):
                found[name] = part
            else:
                raise UserError(f"a text of up to {CHARACTERS:,} characters is needed", "this is none", "Shorten it.")
        return found

    @contextmanager
    def _in_line(self, visitor: Visitor) -> Iterator[None]:
        """Let only so many questions wait at the same time: each holds a thread of the app."""
        own = IN_LINE["guests" if visitor.anonymous else "one visitor"]
        with self._lock:
            waiting = self._waiting.get(visitor.folder, 0)
            if waiting >= own or sum(self._waiting.values()) >= IN_LINE["all"]:
                raise UserError(
                    "an earlier answer is needed first", f"{waiting} are awaited", "Try again in a moment."
                )
            self._waiting[visitor.folder] = waiting + 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting[visitor.folder] -= 1
                if not self._waiting[visitor.folder]:
                    del self._waiting[visitor.folder]

    def _count(self, visitor: Visitor) -> None:
        most, now = self.settings.predictions_per_minute, time.monotonic()
        if not most:
            return
        with self._lock:
            times = self._asked.setdefault(visitor.folder, deque())
            while times and times[0] < now - 60:
                times.popleft()
            if len(times) >= most:
                raise UserError(
                    f"at most {most} predictions a minute are possible here", "you asked for more",
                    "Wait a moment" + (", or sign in." if visitor.anonymous else "."),
                )  # fmt: skip
            times.append(now)

    # --- processes ---

    def _hold_to_disk(self, visitor: Visitor) -> None:
        """Delete the download cache of a visitor, or of all guests, when their share of the disk is used up."""
        now = time.monotonic()
        with self._lock:
            if not self.settings.space or not self.settings.disk_mb or now < self._looked.get(visitor.folder, 0.0):
                return
            self._looked[visitor.folder] = now + DISK_POLL
        if uploads.used_mb(visitor.folder) <= self.settings.disk_mb or not visitor.cache.is_dir():
            return
        with self._lock:
            worker = self._workers.pop(visitor.folder, None)
        if worker is not None:
            worker.end()
        shutil.rmtree(visitor.cache, ignore_errors=True)

    def _worker(self, visitor: Visitor) -> _Worker:
        with self._lock:
            found = self._workers.get(visitor.folder)
            if found is not None and found.lives() and found.token == visitor.token:
                found.used = time.monotonic()
                return found
            if found is not None:  # it died, or it works with a token that the visitor has no more
                del self._workers[visitor.folder]
                found.end()
            self._make_room()
            self._workers[visitor.folder] = _Worker(visitor, self.settings)
            return self._workers[visitor.folder]

    def _make_room(self) -> None:
        most = self.settings.workers
        if not most or len(self._workers) < most:
            return
        idle = [(worker.used, folder) for folder, worker in self._workers.items() if not worker.busy]
        if not idle:
            raise UserError("a free process is needed", f"all {most} are at work for others", "Try again in a moment.")
        self._workers.pop(min(idle)[1]).end()

    def _reap(self) -> None:
        while not self._closed.wait(REAP):
            with self._lock:
                limit = time.monotonic() - (self.settings.worker_idle_seconds or float("inf"))
                for folder, worker in list(self._workers.items()):
                    if not worker.busy and (worker.used < limit or not worker.lives()):
                        del self._workers[folder]
                        worker.end()


class _Worker:
    """One process, and the pipe to it."""

    def __init__(self, visitor: Visitor, settings: Settings) -> None:
        self.settings, self.token = settings, visitor.token
        self.used = time.monotonic()
        self.memory_mb = settings.worker_memory_mb
        self._turn = threading.Lock()
        self._number = 0
        self._answers: queue.Queue[bytes] = queue.Queue()
        environment = visitors.environment(visitor, settings)
        limits = {"memory_mb": settings.worker_memory_mb, "model_mb": settings.model_mb, "inputs": INPUTS}
        log = visitor.home / "worker.log" if settings.space else None
        with open(log, "wb") if log else contextlib.nullcontext(subprocess.DEVNULL) as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hftransfer.ui.worker", json.dumps(limits)],
                env=environment,
                cwd=visitor.folder if settings.space else None,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True).start()

    @property
    def busy(self) -> bool:
        """Tell whether somebody waits for its answer."""
        return self._turn.locked()

    def lives(self) -> bool:
        """Tell whether the process is there."""
        return self._process.poll() is None

    def ask(self, function: str, arguments: Mapping[str, Any], limit: float | None) -> Any:
        """Send one question, wait for its answer and return it; UserError when there is none."""
        if not self._turn.acquire(timeout=-1 if limit is None else limit):
            raise UserError("an answer is needed", "earlier questions are not answered yet", "Try again in a moment.")
        try:
            self._number += 1
            self._send({"id": self._number, "function": function, "arguments": arguments})
            answer = self._wait(limit)
        finally:
            self.used = time.monotonic()
            self._turn.release()
        if "refused" in answer:
            raise UserError(*answer["refused"])
        if "failed" in answer:
            raise UserError("an answer is needed", answer["failed"], "Try another input or model.")
        return answer["answer"]

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

    def _send(self, question: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise _died() from error

    def _wait(self, limit: float | None) -> dict[str, Any]:
        end = float("inf") if limit is None else time.monotonic() + limit
        while True:
            try:
                answer = json.loads(self._answers.get(timeout=TICK))
            except queue.Empty:
                self._hold_to_limits(end, limit)
                continue
            except ValueError as error:
                self.end()
                raise _died() from error
            if isinstance(answer, dict) and answer.get("id") == self._number:
                return answer

    def _hold_to_limits(self, end: float, limit: float | None) -> None:
        if not self.lives() and self._answers.empty():
            raise _died()
        if time.monotonic() > end:
            self.end()
            raise UserError("an answer in time is needed", f"it took more than {limit:,.0f} s", "Ask for less.")
        if self.memory_mb and (used := self._memory()) > self.memory_mb:
            self.end()
            raise UserError(
                f"at most {self.memory_mb:,} MB of memory may be used for an answer", f"this took {used:,.0f} MB",
                "Choose a smaller model or input.",
            )  # fmt: skip

    def _memory(self) -> float:
        try:
            return float(psutil.Process(self._process.pid).memory_info().rss) / 2**20
        except psutil.Error:
            return 0.0

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe:
            while line := pipe.readline(LINE):
                self._answers.put(line if line.endswith(b"\n") else b"no end")


def _is_text(part: Any) -> bool:
    words = [part] if isinstance(part, str) else part
    return isinstance(words, list) and all(isinstance(w, str) for w in words) and sum(map(len, words)) <= CHARACTERS


def _died() -> UserError:
    return UserError(
        "an answer is needed", "the process that computes it ended, most likely because memory ran out",
        "Try a smaller model or input; the next question starts a new process.",
    )  # fmt: skip


def estimate(visitor: Visitor, settings: Settings, tree: Mapping[str, Any], limit: float | None) -> dict[str, Any]:
    """Run `train.py --check` on a configuration and work out what the run takes; UserError when it cannot run."""
    environment = visitors.environment(visitor, settings)
    visitor.temporary.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=visitor.temporary, prefix="estimate-") as place:
        path = Path(place) / "config.yaml"
        path.write_text(json.dumps({**tree, "output": str(Path(place) / "run")}), encoding="utf-8")
        began = time.monotonic()
        lines = _checked(path, environment, settings, limit)
        seconds = time.monotonic() - began
    found = [json.loads(line.removeprefix(PREFIX)) for line in lines if line.startswith(PREFIX)]
    checked = [event for event in found if event["type"] == "checked"]
    if not checked:
        said = [line for line in lines if line.startswith("hftransfer: ")]
        words = said[-1].removeprefix("hftransfer: ") if said else "it ended without a word; memory may have run out"
        raise UserError("a configuration that can run is needed", visitors.redacted(words, visitor), "")
    return _estimate(checked[-1], tree, seconds)


def _checked(path: Path, environment: Mapping[str, str], settings: Settings, limit: float | None) -> list[str]:
    lines: list[str] = []
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), "--config", str(path), "--check"], env=dict(environment), cwd=path.parent,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        reader = threading.Thread(target=lambda pipe: lines.extend(pipe), args=(process.stdout,), daemon=True)
        reader.start()
        end = float("inf") if limit is None else time.monotonic() + limit
        try:
            while process.poll() is None:
                with contextlib.suppress(psutil.Error):
                    used = psutil.Process(process.pid).memory_info().rss / 2**20
                    if settings.run_memory_mb and used > settings.run_memory_mb:
                        raise UserError(
                            f"a run may use {settings.run_memory_mb:,} MB of memory here",
                            f"one batch took {used:,.0f}",
                            "Set train.per_device_train_batch_size lower, or choose a smaller model.",
                        )  # fmt: skip
                if time.monotonic() > end:
                    raise UserError("an estimate in time is needed", f"it took more than {limit:,.0f} s", "Try less.")
                time.sleep(TICK / 2)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        reader.join(timeout=5)
    return [line.rstrip("\n") for line in lines]


def _estimate(checked: Mapping[str, Any], tree: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    train = tree.get("train") or {}
    batch = int(train.get("per_device_train_batch_size") or 32)
    accumulation = int(train.get("gradient_accumulation_steps") or 1)
    epochs = float(train.get("num_train_epochs") or 3)
    splits, parameters = checked["data"]["splits"], checked["parameters"]
    step = float(checked.get("step_seconds") or checked["first_step_seconds"])
    starting = max(0.0, seconds - float(checked["first_step_seconds"]))
    # a forward pass is about a third of a step; validation after each epoch and twice at the end, test once
    looked_at = splits["validation"] * (epochs + 1) + splits["test"]
    total = starting + checked["updates"] * accumulation * step + looked_at / batch * step / 3
    adam = 8 * parameters["trainable"] / 2**20  # two float32 a weight, made at the first update
    return {
        "seconds": round(total, 1),
        "memory_mb": round(checked["peak_memory_mb"] + adam),
        "step_seconds": round(step, 4),
        "steps": checked["updates"],
        "parameters": parameters,
        "warnings": checked["data"]["warnings"],
    }
