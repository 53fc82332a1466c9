"""Two visitors and a guest of one Space, whose workers, trainers and queue are ended under them."""

from __future__ import annotations

import contextlib
import hashlib
import random
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import psutil

from hftransfer.errors import UserError
from hftransfer.launchers import launcher
from hftransfer.runs import MARK, Run
from hftransfer.ui import publish_step, received, uploads, visitors
from hftransfer.ui.queueing import Queue
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor
from hftransfer.ui.workers import Workers
from tests.app.conftest import materials, tree_of
from tests.app.test_uploads import HOSTILE, LIMITS
from tests.chaos.report import Tries
from tests.hub_server import HubServer

PUSH = 120.0  # seconds that a push may take
SETTLE = 900.0  # seconds until every run has ended: on a busy machine many wait for few


class App:
    """What was accepted, to be compared with what is there."""

    def __init__(self, folder: Path, server: HubServer) -> None:
        self.folder, self.server = folder, server
        folder.mkdir()
        limits = {"UNPACKED_MB": LIMITS.unpacked >> 20, "PICTURE_MEGAPIXELS": LIMITS.pixels // 10**6, "QUEUED": 6}
        given = {f"HFTRANSFER_{name}": str(value) for name, value in limits.items()}
        self.settings = Settings.read({"SPACE_ID": "a/b", "HFTRANSFER_ROOT": str(folder), **given})
        self.people = [visitors.user(self.settings, n, server.token(n), server.users[n].id) for n in ("alice", "bob")]
        self.guest = visitors.guest(self.settings)
        for visitor in self.people:
            materials(visitor)
        self.files: dict[Path, tuple[Visitor, str]] = {}
        self.runs: dict[Path, Visitor] = {}
        self.stopped: set[Path] = set()
        self.pushed: dict[str, Run] = {}  # repos that were to be published, and of what
        self.workers = Workers(self.settings)
        self.queue = self._queue()

    def attempt(self, random: random.Random, tries: Tries) -> None:
        """Do one thing, and look whether everything is as it was accepted."""
        do = random.choice([
            self.upload, self.upload, self.hostile, self.submit, self.stop, self.resume, self.pry, self.ask,
            self.end_trainer, self.end_worker, self.end_queue, self.two_pages, self.at_once, self.at_once,
            self.publish, self.publish, self.end_push, self.leave_in_upload,
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
        there = marked(self.folder)
        for process in random.sample(there, min(1, len(there))):
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

    def two_pages(self, random: random.Random) -> None:
        """Click the same on two pages of one visitor: two runs, or one that goes on; never two trainers on one."""
        visitor = random.choice(self.people)
        ended = [f for f, owner in self.runs.items() if owner is visitor and _state(owner, f) in ("stopped", "killed")]
        if ended and random.random() < 0.6:
            folder = random.choice(ended)
            taken = _together([lambda: self.queue.resume(visitor, folder.name)] * 2)
            assert len(taken) <= 1, f"{folder.name} is taken up again twice"
            if taken:
                self.stopped.discard(folder)
            return
        tree = tree_of(visitor, max_steps=8, save_strategy="steps", save_steps=2)
        runs = [run.folder for run in _together([lambda: self.queue.submit(visitor, tree)] * 2)]
        assert len(runs) == len({*runs} - self.runs.keys()), "two runs of one name"
        self.runs |= dict.fromkeys(runs, visitor)

    def at_once(self, random: random.Random) -> None:
        """Have several things done by several people at the same moment."""
        acts = random.sample([
            self.upload, self.upload, self.hostile, self.submit, self.stop, self.resume, self.ask, self.publish,
            self.end_trainer, self.end_worker, self.leave_in_upload,
        ], 3)  # fmt: skip
        _together([partial(act, Random(random.random())) for act in acts])

    def leave_in_upload(self, random: random.Random) -> None:
        """Close the page while its file is looked at: what arrived is deleted; it is taken whole, or not at all."""
        visitor, content = random.choice(self.people), b"text,label\n" + b"a good film,1\n" * 20_000
        path = received.place("left.csv")
        path.write_bytes(content)
        left = threading.Timer(random.uniform(0, 1.0), lambda: path.unlink(missing_ok=True))
        left.start()
        try:
            taken = uploads.accept(visitor, path, self.settings)
            self.files[taken] = (visitor, hashlib.sha256(content).hexdigest())
        finally:
            left.join()

    def publish(self, random: random.Random) -> None:
        """Publish a run that is done, and sometimes stop or delete it meanwhile, or end its push."""
        done = [folder for folder, owner in self.runs.items() if _state(owner, folder) == "done"]
        if not done:
            return
        folder = random.choice(done)
        owner, repo = self.runs[folder], f"{self.runs[folder].name}/app-{secrets.token_hex(4)}"
        run = visitors.find(owner, folder.name)
        kept = Run(self.folder / "kept" / repo)
        shutil.copytree(run.artifact, kept.artifact)  # alone: logs of a push that begins at this moment come and go
        try:
            child = publish_step.start(self.settings, owner, run, repo, "", random.random() < 0.5, False)
        except UserError as error:
            assert "push at a time" in str(error) or "published at the same time" in str(error), error
            return
        self.pushed[repo] = kept
        if (meanwhile := random.choice([None, self.queue.stop, self.queue.resume, self.queue.remove])) is not None:
            time.sleep(random.uniform(0, 6))
            with contextlib.suppress(UserError):
                meanwhile(owner, run)
                if meanwhile == self.queue.remove:
                    del self.runs[folder]
        if random.random() < 0.5:
            child.wait(PUSH)

    def end_push(self, random: random.Random) -> None:
        for child in [*publish_step._PUSHING.values()]:
            child.kill()

    def require(self) -> None:
        """Compare what is there with what was accepted."""
        for path, (owner, found) in self.files.items():
            assert path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == found, f"{path.name} is lost"
            assert owner.owns(path) and not any(one.owns(path) for one in self.people if one is not owner)
        for folder, owner in self.runs.items():
            assert folder in [run.folder for run in visitors.runs(owner)], f"{folder.name} is lost"
            done = sum(event["type"] == "done" for event in visitors.find(owner, folder.name).events()[0])
            assert done <= 1, f"{folder.name} is done {done} times"
        for repo, kept in self.pushed.items():
            if self.server.repo(repo) is not None and "model.safetensors" in (there := self.server.files(repo)):
                for path in kept.artifact.glob("*.safetensors"):
                    assert there[path.name] == path.read_bytes(), f"{repo} holds another {path.name}"
                assert "README.md" in there and "config.json" in there, f"{repo} is half there"
        assert not self.server.leaks, f"a token went to {self.server.leaks[:1]}"
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
            copies = [path for visitor in self.people for path in visitor.temporary.glob("upload-*")]
            assert not copies, f"copies of uploads are left behind: {copies}"
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


def _state(visitor: Visitor, folder: Path) -> str:
    return str(visitors.find(visitor, folder.name).status().state)


def _together(acts: Sequence[Callable[[], Any]]) -> list[Any]:
    """Do all at the same moment; return what came of those that were not refused in words, raise what else came."""
    ready, found, odd = threading.Barrier(len(acts)), list[Any](), list[Exception]()

    def do(act: Callable[[], Any]) -> None:
        ready.wait()
        try:
            found.append(act())
        except UserError:
            pass
        except Exception as error:
            odd.append(error)

    threads = [threading.Thread(target=do, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if odd:
        raise odd[0]
    return found


def marked(folder: Path) -> list[psutil.Process]:
    """Return the processes of runs below this folder."""
    return [*_marked(str(folder))]


def _marked(folder: str) -> Iterator[Any]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK, "").startswith(folder) and process.status() != psutil.STATUS_ZOMBIE:
                yield process
