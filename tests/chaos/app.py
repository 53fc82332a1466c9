"""Two visitors and a guest of one Space, whose workers, trainers and queue are ended under them."""

from __future__ import annotations

import contextlib
import hashlib
import random
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from hftransfer.errors import UserError
from hftransfer.launchers import launcher
from hftransfer.runs import MARK
from hftransfer.ui import received, uploads, visitors
from hftransfer.ui.queueing import Queue
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor
from hftransfer.ui.workers import Workers
from tests.app.conftest import materials, tree_of
from tests.app.test_uploads import HOSTILE, LIMITS
from tests.chaos.report import Tries

SETTLE = 240.0  # seconds until every run has ended


class App:
    """What was accepted, to be compared with what is there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        limits = {"UNPACKED_MB": LIMITS.unpacked >> 20, "PICTURE_MEGAPIXELS": LIMITS.pixels // 10**6, "QUEUED": 6}
        given = {f"HFTRANSFER_{name}": str(value) for name, value in limits.items()}
        self.settings = Settings.read({"SPACE_ID": "a/b", "HFTRANSFER_ROOT": str(folder), **given})
        self.people = [visitors.user(self.settings, name, f"hf_{name}" + "x" * 30, f"64{name}") for name in ("a", "b")]
        self.guest = visitors.guest(self.settings)
        for visitor in self.people:
            materials(visitor)
        self.files: dict[Path, tuple[Visitor, str]] = {}
        self.runs: dict[Path, Visitor] = {}
        self.stopped: set[Path] = set()
        self.workers = Workers(self.settings)
        self.queue = self._queue()

    def attempt(self, random: random.Random, tries: Tries) -> None:
        """Do one thing, and look whether everything is as it was accepted."""
        do = random.choice([
            self.upload, self.upload, self.hostile, self.submit, self.stop, self.resume, self.pry, self.ask,
            self.end_trainer, self.end_worker, self.end_queue,
        ])  # fmt: skip
        tries.add(f"app: {do.__name__.replace('_', ' ')}")
        try:
            with contextlib.suppress(UserError):  # what is refused in words is refused
                do(random)
            self.require()
        except Exception as error:  # whatever else is raised is a find
            tries.broke("app", f"{do.__name__}: {type(error).__name__}: {error}", self.folder)

    def upload(self, random: random.Random) -> None:
        visitor, content = random.choice(self.people), b"text,label\n" + secrets.token_hex(64).encode() + b",1\n"
        path = received.place("rows.csv")
        path.write_bytes(content)
        taken = uploads.accept(visitor, path, self.settings)
        self.files[taken] = (visitor, hashlib.sha256(content).hexdigest())

    def hostile(self, random: random.Random) -> None:
        name, build, _ = HOSTILE[random.choice([*HOSTILE])]
        path = received.place(name)
        build(path)
        uploads.accept(random.choice(self.people), path, self.settings)
        raise AssertionError(f"{name} was let in")

    def submit(self, random: random.Random) -> None:
        visitor = random.choice(self.people)
        run = self.queue.submit(visitor, tree_of(visitor, max_steps=8, save_strategy="steps", save_steps=2))
        assert run.folder not in self.runs, "two runs of one name"
        self.runs[run.folder] = visitor

    def stop(self, random: random.Random) -> None:
        for folder, visitor in random.sample([*self.runs.items()], min(1, len(self.runs))):
            self.queue.stop(visitor, folder.name)
            self.stopped.add(folder)

    def resume(self, random: random.Random) -> None:
        for folder, visitor in random.sample([*self.runs.items()], min(1, len(self.runs))):
            self.queue.resume(visitor, folder.name)
            self.stopped.discard(folder)

    def pry(self, random: random.Random) -> None:
        """Name what is somebody else's, in every way there is."""
        for folder, owner in self.runs.items():
            other = next(one for one in (*self.people, self.guest) if one is not owner)
            for name in (folder.name, str(folder), f"../../{owner.folder.name}/runs/{folder.name}"):
                if (other.runs / name).resolve().parent == other.runs.resolve() and (other.runs / name).is_dir():
                    continue  # a run of one's own with the same name
                for act in (visitors.find, self.queue.stop, self.queue.resume, self.queue.remove):
                    try:
                        act(other, name)
                    except UserError:
                        continue
                    raise AssertionError(f"{act.__name__} finds a run of another's as {name}")
        for path, (owner, _) in self.files.items():
            other = next(one for one in self.people if one is not owner)
            for where in (str(path), f"../../{owner.folder.name}/uploads/{path.name}"):
                try:
                    seen = self.workers.call(
                        other, "preview", tree={"task": "text-classification", "data": {"source": where}}
                    )
                except UserError:
                    continue
                raise AssertionError(f"a file of another's is shown: {seen}")
            return  # one is enough: each costs a process

    def ask(self, random: random.Random) -> None:
        visitor = random.choice(self.people)
        path = next(iter([p for p, (owner, _) in self.files.items() if owner is visitor]), None)
        if path is None:
            return
        seen = self.workers.call(
            visitor, "preview", tree={"task": "text-classification", "data": {"source": path.name}}
        )
        assert seen["rows"], "an upload that was accepted is shown"

    def end_trainer(self, random: random.Random) -> None:
        for process in random.sample(marked(self.folder), 1) if marked(self.folder) else []:
            with contextlib.suppress(psutil.Error):
                process.kill()

    def end_worker(self, random: random.Random) -> None:
        for worker in list(self.workers._workers.values()):
            with contextlib.suppress(psutil.Error):
                psutil.Process(worker._process.pid).kill()

    def end_queue(self, random: random.Random) -> None:
        """Restart the app: what waited on a Space waits for its owner, what trained goes on."""
        self.queue.close()
        self.queue = self._queue()

    def require(self) -> None:
        """Compare what is there with what was accepted."""
        for path, (owner, found) in self.files.items():
            assert path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == found, f"{path.name} is lost"
            assert owner.owns(path) and not any(one.owns(path) for one in self.people if one is not owner)
        for folder, owner in self.runs.items():
            assert folder in [run.folder for run in visitors.runs(owner)], f"{folder.name} is lost"
            done = sum(event["type"] == "done" for event in visitors.find(owner, folder.name).events()[0])
            assert done <= 1, f"{folder.name} is done {done} times"
        trainers: dict[str, int] = {}
        for process in marked(self.folder):
            with contextlib.suppress(psutil.Error):
                if "accelerate" in " ".join(process.cmdline()):
                    name = process.environ()[MARK]
                    trainers[name] = trainers.get(name, 0) + 1
        assert all(count == 1 for count in trainers.values()), f"two trainers on one folder: {trainers}"

    def settle(self, tries: Tries) -> None:
        """Let every run end, taken up again where it was cut off; each that nobody stopped must be done."""
        end = time.monotonic() + SETTLE
        try:
            while time.monotonic() < end:
                left = [(f, v) for f, v in self.runs.items() if visitors.find(v, f.name).status().state != "done"]
                if not left:
                    break
                for folder, visitor in left:
                    with contextlib.suppress(UserError):
                        self.queue.resume(visitor, folder.name)
                time.sleep(0.5)
            states = {folder.name: visitors.find(v, folder.name).status() for folder, v in self.runs.items()}
            bad = {name: status for name, status in states.items() if status.state in ("failed", "killed")}
            assert not bad, f"not taken up again: {bad}"
            self.require()
        except Exception as error:
            tries.broke("app", f"at the end: {error}", self.folder)
        finally:
            self.queue.close()
            self.workers.close()
            for process in marked(self.folder):
                with contextlib.suppress(psutil.Error):
                    process.kill()

    def _queue(self) -> Queue:
        queue = Queue(self.settings, launcher("local"))
        queue.start()
        return queue


def marked(folder: Path) -> list[psutil.Process]:
    """Return the processes of runs below this folder."""
    return [*_marked(str(folder))]


def _marked(folder: str) -> Iterator[Any]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK, "").startswith(folder) and process.status() != psutil.STATUS_ZOMBIE:
                yield process
