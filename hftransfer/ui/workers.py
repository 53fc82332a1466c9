"""Workers: one process a visitor for what needs torch or datasets; nothing that happens there ends the app."""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from hftransfer import catalog
from hftransfer.errors import UserError
from hftransfer.ui import disk, rules, uploads, visitors
from hftransfer.ui.asking import PLAIN
from hftransfer.ui.estimating import ESTIMATE_PATIENCE, estimate
from hftransfer.ui.line import LINE
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor
from hftransfer.ui.worker_process import INPUTS, WorkerProcess

FUNCTIONS = ("preview", "tasks_for", "taught", "revision", "pushed", "model", "settings", "estimate", "predict",
             "examples", "watched", "errors", "verdict", "explain")  # fmt: skip
COUNTED = ("predict", "explain", "settings", "model")  # against predictions_per_minute
CHARACTERS = 100_000  # of one text
FILES = {
    "image": uploads.PICTURES,
    "audio": uploads.RECORDINGS,
    "table": uploads.ASKED,
}  # inputs that are uploads, and what those may be
DISK_POLL = 15.0  # seconds between two looks at a visitor's disk when they ask
PATIENCE = 30.0  # seconds that a question waits while others are at work
REAP = 2.0  # seconds between two looks at those that do not


class Workers:
    """The workers of all visitors; each starts on first use and ends when idle, too large or too slow."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._workers: dict[Path, WorkerProcess] = {}
        self._asked: dict[Path, deque[float]] = {}
        self._looked: dict[Path, float] = {}
        self._busy: Counter[Path] = Counter()  # questions that are being answered, by whose they are
        self._lock = threading.Condition(threading.RLock())
        self._estimating = threading.BoundedSemaphore(1)  # each is a model in training: two would time each other
        self._closed = threading.Event()
        threading.Thread(target=self._reap, name="workers", daemon=True).start()

    def call(self, visitor: Visitor, function: str, timeout: float | None = None, **arguments: Any) -> Any:
        """Run one function of hftransfer.ui.worker there and return its answer (plain JSON); UserError otherwise.

        preview(tree)                      data section and task: {columns: [{name, type}], choices: [{role, column,
                                           reason}], rows: [{column: {form, value}}], balance: [{label, count}],
                                           splits: {name: n}, answers (their kind), warnings: [..], problem: what
                                           keeps the rows from being used, or null}; form is text, number, picture
                                           (value: a data: URL of a small PNG) or empty
        model(model, revision, task)       {architecture, parameters, size_mb, license, labels, longest, task}
        settings(repo)                     the configuration that a model of the Hub was published with, as a tree
        estimate(tree)                     {seconds, memory_mb, step_seconds, steps, warnings}, from real steps
        predict(where, inputs, top_k)      a list of the Predictor's answers, each with its `view`; an input is a text,
                                           {role: text}, {"image": path of an upload} or {"table": path of an upload}
        tasks_for(tree)                    [{task, speaks, choices: [..]}], the likeliest first
        examples(run, n)                   [{row_id, input: {role: {form, value}}}] of the test rows
        taught(task, model, rows, asked, folder)  {counts, right, answer: [[label, share]]} of examples
        revision(tree, form, target)       {rows} of the rows as they are now, written to `target`
        pushed(tree, repo)                 {rows, url} of the same rows, committed as a data set of the Hub
        watched(run)                       the same of the validation rows that are asked again in training
        errors(run, n)                     [{row_id, label, prediction, score, input: {...}}], worst first
        verdict(run, others)               {verdict, notes: [..], table: [[cell]]} of finished runs on the same rows
        explain(where, input)              {form: "tokens", parts: [{text, weight}], label} or {form: "pixels", image,
                                           weights: [[..]], label}, weight > 0 where it spoke for the answer
        """
        if function not in FUNCTIONS:
            raise ValueError(f"no function {function!r} of a worker")
        limit = timeout or self.settings.worker_seconds or None
        if function in COUNTED:
            self._count(visitor)
        with LINE.turn(visitor), self._admitted(visitor, function, arguments) as allowed:
            if function == "estimate":
                if not self._estimating.acquire(timeout=ESTIMATE_PATIENCE):
                    raise UserError("an estimate at a time", "others are being made", "Try again in a moment.")
                try:
                    return estimate(visitor, self.settings, allowed["tree"], limit)
                finally:
                    self._estimating.release()
            with self._at_work(visitor) as worker:
                return worker.ask(function, allowed, limit)

    def grow(self, visitor: Visitor, where: str, input: Any) -> Iterator[str]:
        """Yield the text that a model writes about an input as it grows, the whole of it last; see `call`."""
        self._count(visitor)
        arguments = {"where": where, "input": input}
        with (
            LINE.turn(visitor),
            self._admitted(visitor, "write", arguments) as allowed,
            self._at_work(visitor) as worker,
        ):
            for found in worker.parts("write", allowed, self.settings.worker_seconds or None):
                yield found.get("part") or found.get("answer") or ""

    @contextmanager
    def _at_work(self, visitor: Visitor) -> Iterator[WorkerProcess]:
        """Give a visitor's worker, and forget it where it did not outlive the question."""
        self._hold_to_disk(visitor)
        with self._place(visitor):
            worker = self._worker(visitor)
            try:
                yield worker
            finally:
                if not worker.lives():
                    with self._lock:
                        if self._workers.get(visitor.folder) is worker:
                            del self._workers[visitor.folder]

    @contextmanager
    def _place(self, visitor: Visitor) -> Iterator[None]:
        """Wait until one more process may be at work; questions of one visitor are answered by one."""
        most = self.settings.workers or float("inf")

        def is_free() -> bool:
            return self._busy[visitor.folder] > 0 or len(+self._busy) < most

        with self._lock:
            if not self._lock.wait_for(is_free, PATIENCE):
                found = f"all {most} are at work for others"
                raise UserError("a free process is needed", found, "Try again in a moment.")
            self._busy[visitor.folder] += 1
        try:
            yield
        finally:
            with self._lock:
                self._busy[visitor.folder] -= 1
                self._busy = +self._busy
                self._lock.notify_all()

    def prepare(self, visitor: Visitor) -> None:
        """Start the worker of who has the machine alone: it imports what it needs while a file is chosen."""
        if not visitor.local:
            return  # where many look, most bring nothing
        with self._lock:
            if visitor.folder in self._workers:
                return
        threading.Thread(target=self._ready, args=(visitor,), name="prepare", daemon=True).start()

    def _ready(self, visitor: Visitor) -> None:
        with suppress(UserError), self._at_work(visitor) as worker:
            worker.ask("ready", {}, self.settings.worker_seconds or None)

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
            if function in ("preview", "tasks_for"):
                allowed["tree"] = rules.admit_data(visitor, arguments["tree"], settings)
                if not str(allowed["tree"]["data"]["source"]).startswith("sample:"):
                    visitors.require(visitor)
            elif function in ("revision", "pushed"):
                visitors.require(visitor)
                uploads.require_room(visitor, settings)
                allowed["tree"] = rules.admit(visitor, arguments["tree"], settings).to_dict()
                if function == "revision" and not visitor.local and not visitor.owns(arguments["target"]):
                    raise UserError("a place of yours is needed", "this is none", "Try again.")
            elif function == "taught":
                allowed |= self._lesson(visitor, arguments, lent)
            elif function == "estimate":
                visitors.require(visitor)
                uploads.require_room(visitor, settings)
                allowed["tree"] = rules.admit(visitor, arguments["tree"], settings).to_dict()
            elif function == "model":
                allowed["model"] = rules.place(visitor, arguments["model"], settings)
                revision = arguments.get("revision")
                if revision is not None and (not rules.REVISION.fullmatch(str(revision)) or ".." in str(revision)):
                    raise UserError("a branch, tag or commit is needed", f"found {str(revision)[:80]!r}", "Mend it.")
            elif function == "settings":
                allowed["repo"] = rules.hub_model(arguments["repo"])
            elif function in ("examples", "watched", "errors", "verdict"):
                allowed["run"] = str(visitors.find(visitor, arguments["run"]).folder)
                if function == "verdict":
                    allowed["others"] = [str(visitors.find(visitor, name).folder) for name in arguments["others"]]
            else:
                allowed["where"] = rules.place(visitor, arguments["where"], settings)
                if function in ("explain", "write"):
                    allowed["input"] = self._input(visitor, arguments["input"], lent)
                else:
                    given = arguments["inputs"]
                    if not isinstance(given, list) or len(given) > INPUTS:
                        raise UserError(
                            f"a list of up to {INPUTS:,} inputs is needed", "this is none", "Ask for fewer."
                        )
                    allowed["inputs"] = [self._input(visitor, value, lent) for value in given]
            yield allowed

    def _lesson(self, visitor: Visitor, given: Mapping[str, Any], lent: ExitStack) -> dict[str, Any]:
        """Return a lesson's arguments as a worker takes them: its files lie in a folder of the visitor's own."""
        visitors.require(visitor)
        folder, asked = given["folder"], given["asked"]
        if folder is not None and not visitor.owns(folder):
            raise UserError("a lesson of yours is needed", "this is none", "Begin a new one.")
        if folder is not None and asked:
            kinds = uploads.kinds_of(catalog.task(given["task"]).suffixes)
            asked = str(lent.enter_context(uploads.held(visitor, asked, self.settings, kinds)))
        for row in given["rows"]:
            if folder is not None and (Path(row["value"]).is_absolute() or ".." in Path(row["value"]).parts):
                raise UserError("files of the lesson are needed", "one lies elsewhere", "Begin a new one.")
        return {"model": rules.place(visitor, given["model"], self.settings), "asked": asked}

    def _input(self, visitor: Visitor, value: Any, lent: ExitStack) -> Any:
        if isinstance(value, str):
            value = {PLAIN: value}  # never a path: Predictor would read a table of that name
        if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
            raise UserError("a text or a file is needed", f"found {type(value).__name__}", "Give one.")
        found: dict[str, Any] = {}
        for name, part in value.items():
            if name in FILES:
                kinds = FILES[name]
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
        if disk.kept_mb(visitor.folder, self.settings.disk_mb) <= self.settings.disk_mb or not visitor.cache.is_dir():
            return
        with self._lock:
            worker = self._workers.pop(visitor.folder, None)
        if worker is not None:
            worker.end()
        shutil.rmtree(visitor.cache, ignore_errors=True)

    def _worker(self, visitor: Visitor) -> WorkerProcess:
        with self._lock:
            found = self._workers.get(visitor.folder)
            if found is not None and found.lives() and found.token == visitor.token:
                found.used = time.monotonic()
                return found
            if found is not None:  # it died, or it works with a token that the visitor has no more
                del self._workers[visitor.folder]
                found.end()
            self._make_room()
            self._workers[visitor.folder] = WorkerProcess(visitor, self.settings)
            return self._workers[visitor.folder]

    def _make_room(self, for_one: bool = True) -> None:
        """End those that are idle the longest, until one more has its memory, or there are as many as may be.

        To start one takes seconds of every core: whoever comes back within minutes finds theirs again.
        """
        most, each = self.settings.workers, self.settings.worker_memory_mb
        idle = sorted((w.used, folder) for folder, w in self._workers.items() if folder not in self._busy)
        while most and idle:
            if each:
                full = sum(w.memory() for w in self._workers.values()) > each * (most - for_one)
            else:
                full = len(self._workers) + for_one > most
            if not full:
                return
            self._workers.pop(idle.pop(0)[1]).end()

    def _reap(self) -> None:
        while not self._closed.wait(REAP):
            with self._lock:
                limit = time.monotonic() - (self.settings.worker_idle_seconds or float("inf"))
                for folder, worker in list(self._workers.items()):
                    if folder not in self._busy and (worker.used < limit or not worker.lives()):
                        del self._workers[folder]
                        worker.end()
                self._make_room(for_one=False)


def _is_text(part: Any) -> bool:
    words = [part] if isinstance(part, str) else part
    return isinstance(words, list) and all(isinstance(w, str) for w in words) and sum(map(len, words)) <= CHARACTERS
