"""The queue: places, limits, stopping, resuming, and what is left after the app or a run ends."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from hftransfer.catalog import build_config
from hftransfer.errors import UserError
from hftransfer.events import Event
from hftransfer.launchers.base import GRACE, Ending, Launcher
from hftransfer.runs import Run, write_text
from hftransfer.safety.identity import note_process
from hftransfer.ui import deleting, disk, queueing, uploads, visitors
from hftransfer.ui.queueing import Queue
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor

TREE = {"task": "text-classification", "model": "owner/model", "data": {"source": "owner/rows"}}


class Pretended(Launcher):
    """Starts nothing; a test says how each run goes on."""

    name, about = "pretended", ""

    def __init__(self) -> None:
        self.alive: set[Path] = set()
        self.started: list[tuple[str, bool, int, dict[str, str]]] = []
        self.stopped: list[tuple[str, float]] = []
        self.refuses: Exception | None = None

    def check(self, run: Run, processes: int = 1) -> None:
        pass

    def start(
        self, run: Run, resume: bool = False, processes: int = 1, environment: Mapping[str, str] | None = None
    ) -> None:
        if self.refuses:
            raise self.refuses
        self.alive.add(run.folder)
        write_text(run.launch_path, json.dumps({"processes": processes} | note_process()))
        run.event("launched", command=["train"], processes=processes)
        run.event("process", pid=0)
        self.started.append((run.name, resume, processes, dict(environment or {})))

    def stop(self, run: Run, grace: float = GRACE) -> Ending:
        if run.status().state in ("running", "killed"):
            run.event("stopped", message="stopped", step=3)
        self.gone(run)
        self.stopped.append((run.name, grace))  # last: tests wait for it
        return "stopped"

    def is_alive(self, run: Run) -> bool:
        return run.folder in self.alive

    def events(self, run: Run, cursor: int = 0) -> tuple[list[Event], int]:
        return run.events(cursor)

    def log_tail(self, run: Run, lines: int = 20) -> list[str]:
        return []

    def finish(self, run: Run) -> None:
        run.event("done", seconds=1.0)
        self.gone(run)

    def gone(self, run: Run) -> None:
        run.launch_path.unlink()
        self.alive.discard(run.folder)


@pytest.fixture
def place() -> Pretended:
    return Pretended()


@pytest.fixture
def opened(place: Pretended, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Settings], Queue]]:
    monkeypatch.setattr(queueing, "POLL", 0.02)
    queues = []

    def open_one(settings: Settings, start: bool = True) -> Queue:
        queues.append(Queue(settings, place))
        if start:
            queues[-1].start()
        return queues[-1]

    yield open_one
    for queue in queues:
        queue.close()


def until(happened: Callable[[], Any]) -> None:
    end = time.monotonic() + 5
    while not happened():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_runs_start_in_order_one_at_a_time(
    space: Settings, alice: Visitor, bob: Visitor, place: Pretended, opened: Any
) -> None:
    queue = opened(space)
    first, second, third = (queue.submit(visitor, TREE) for visitor in (alice, bob, alice))
    until(lambda: place.started)

    assert [queue.place(run) for run in (first, second, third)] == [None, 1, 2]
    assert first.status().state == "running"
    place.finish(first)
    until(lambda: len(place.started) == 2)
    assert [queue.place(run) for run in (second, third)] == [None, 1]
    assert {run.name for run in queue.runs(alice)} == {third.name, first.name}
    assert third.name != first.name, "two runs of the same second share no folder"


def test_one_visitor_does_not_take_every_place(
    space: Settings, alice: Visitor, bob: Visitor, place: Pretended, opened: Any
) -> None:
    queue = opened(replace(space, runs_at_once=2))
    queue.submit(alice, TREE)
    waiting = queue.submit(alice, TREE)
    other = queue.submit(bob, TREE)
    until(lambda: len(place.started) == 2)

    assert queue.place(waiting) == 1
    assert queue.place(other) is None


def test_the_limits_of_the_queue(space: Settings, alice: Visitor, bob: Visitor, guest: Visitor, opened: Any) -> None:
    queue = opened(replace(space, queued_per_user=2, queued=3), start=False)
    queue.submit(alice, TREE)
    queue.submit(alice, TREE)
    with pytest.raises(UserError, match="2 of your runs may wait"):
        queue.submit(alice, TREE)
    queue.submit(bob, TREE)
    with pytest.raises(UserError, match="the queue is full"):
        queue.submit(bob, TREE)
    with pytest.raises(UserError, match="Sign in"):
        queue.submit(guest, TREE)
    with pytest.raises(UserError, match="1 to 1 processes"):
        queue.submit(alice, TREE, processes=64)
    assert len(queue.runs(alice)) == 2, "what is refused leaves no folder"


def test_a_full_share_of_the_disk_frees_the_cache_first(space: Settings, alice: Visitor, opened: Any) -> None:
    queue = opened(replace(space, disk_mb=1), start=False)
    alice.cache.mkdir(parents=True)
    (alice.cache / "model").write_bytes(bytes(2 * 2**20))
    queue.submit(alice, TREE)
    assert not alice.cache.exists()

    (alice.folder / "uploads").mkdir()
    (alice.uploads / "rows.csv").write_bytes(bytes(2 * 2**20))
    with pytest.raises(UserError, match="Delete uploads or runs"):
        queue.submit(alice, TREE)


def a_run(visitor: Visitor, name: str) -> Run:
    """Return a run that is not at work."""
    return Run.create(build_config(TREE), visitor.runs / name)


def test_a_deleted_run_makes_room(space: Settings, alice: Visitor, received: Path, opened: Any) -> None:
    settings = replace(space, disk_mb=4)
    queue = opened(settings, start=False)

    def full(name: str) -> None:
        (a_run(alice, name).folder / "weights").write_bytes(bytes(3 * 2**20))

    def bring() -> None:
        (received / "rows.csv").write_bytes(b"text,label\n" + b"a,1\n" * 2**19)  # 2 MB
        uploads.accept(alice, received / "rows.csv", settings)

    full("one")
    with pytest.raises(UserError, match="Delete uploads or runs"):
        bring()
    deleting.remove(queue, alice, "one")
    assert deleting.last(alice) == "one"
    bring()
    assert deleting.last(alice) is None and [path.name for path in uploads.listing(alice)] == ["rows.csv"]
    with pytest.raises(UserError, match="to bring back"):
        deleting.restore(alice)
    assert not list(alice.folder.glob(".deleted*"))

    uploads.remove(alice, "rows.csv")
    full("two")
    deleting.remove(queue, alice, "two")
    queue.submit(alice, TREE)
    assert deleting.last(alice) == "two", "as long as there is room, it can be had back"
    full("three")
    queue.submit(alice, TREE)
    assert deleting.last(alice) is None
    deleting.remove(queue, alice, "three")
    with pytest.raises(UserError, match="Delete uploads or runs"):
        uploads.require_room(alice, settings, 5.0)
    assert deleting.last(alice) == "three", "it stays where its room is not enough"
    assert uploads.left_for(settings, queue.runs(alice)[0], 2.0 * 2**20) > 2 * 2**20
    assert deleting.last(alice) is None


def test_a_deleted_run_makes_room_on_a_full_disk(
    space: Settings, alice: Visitor, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (a_run(alice, "one").folder / "weights").write_bytes(bytes(3 * 2**20))
    deleting.remove(opened(space, start=False), alice, "one")

    def usage(place: Path) -> Any:
        return SimpleNamespace(free=(uploads.SPARE_MB + 3) * 2**20 - disk.used_mb(alice.folder) * 2**20)

    monkeypatch.setattr(disk.shutil, "disk_usage", usage)
    uploads.require_room(alice, space, 1.0)
    assert deleting.last(alice) is None
    with pytest.raises(UserError, match="it is full"):
        uploads.require_room(alice, space, 4.0)


def test_the_token_goes_through_the_environment_and_nowhere_else(
    space: Settings, alice: Visitor, place: Pretended, opened: Any
) -> None:
    run = opened(space).submit(alice, TREE)
    until(lambda: place.started)

    environment = place.started[0][3]
    assert environment["HF_TOKEN"] == alice.token
    assert not [name for name in environment if name in ("OAUTH_CLIENT_SECRET", "WANDB_API_KEY")]
    written = b"".join(path.read_bytes() for path in run.folder.rglob("*") if path.is_file())
    assert alice.token and alice.token.encode() not in written


def test_a_waiting_run_is_taken_out_and_comes_back(
    space: Settings, alice: Visitor, place: Pretended, opened: Any
) -> None:
    queue = opened(space)
    first, second = queue.submit(alice, TREE), queue.submit(alice, TREE)
    until(lambda: place.started)

    queue.stop(alice, second)
    assert queue.place(second) is None
    assert second.status().state == "stopped"
    queue.resume(alice, second.name)
    assert queue.place(second) == 1
    with pytest.raises(UserError, match="goes on"):
        queue.resume(alice, second)
    place.finish(first)
    until(lambda: len(place.started) == 2)
    assert place.started[1][:2] == (second.name, False), "it never started, so it starts from the beginning"


def test_a_running_one_stops_with_its_checkpoint_and_resumes(
    space: Settings, alice: Visitor, place: Pretended, opened: Any
) -> None:
    queue = opened(space)
    run = queue.submit(alice, TREE)
    until(lambda: place.started)

    queue.stop(alice, run)
    until(lambda: place.stopped == [(run.name, GRACE)])
    until(lambda: run.status().state == "stopped")
    queue.resume(alice, run)
    until(lambda: len(place.started) == 2)
    assert place.started[1][:2] == (run.name, True)


def test_a_run_that_is_being_started_is_not_taken_up_once_more(
    space: Settings, alice: Visitor, place: Pretended, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two pages, one click each: the second one would begin the run again behind the first."""
    queue = opened(space)
    run = queue.submit(alice, TREE)
    until(lambda: place.started)
    queue.stop(alice, run)
    until(lambda: run.status().state == "stopped")
    begun, go_on, start = threading.Event(), threading.Event(), place.start

    def slowly(*asked: Any) -> Any:
        begun.set()
        assert go_on.wait(20)
        return start(*asked)

    monkeypatch.setattr(place, "start", slowly)
    queue.resume(alice, run)
    assert begun.wait(20)
    with pytest.raises(UserError, match="goes on"):
        queue.resume(alice, run)
    go_on.set()
    until(lambda: len(place.started) == 2)


def test_nobody_touches_anothers_run(
    space: Settings, alice: Visitor, bob: Visitor, guest: Visitor, opened: Any
) -> None:
    queue = opened(space, start=False)
    run = queue.submit(bob, TREE)

    for theirs in (run, run.name, str(run.folder), f"../../{bob.folder.name}/runs/{run.name}"):
        for act in (queue.stop, queue.resume, queue.remove):
            for visitor in (alice, guest):
                with pytest.raises(UserError):
                    act(visitor, theirs)
    assert queue.place(run) == 1
    assert queue.runs(alice) == queue.unfinished(alice) == []


def test_only_its_owner_names_a_run_and_not_at_any_length(
    space: Settings, alice: Visitor, bob: Visitor, opened: Any
) -> None:
    queue = opened(space, start=False)
    run = queue.submit(alice, TREE)
    queue.entitle(alice, run, "Mine", "")
    assert run.title() == ("Mine", "")
    with pytest.raises(UserError, match="a name of 80 characters"):
        queue.entitle(alice, run, "x" * 81, "")
    with pytest.raises(UserError):
        queue.entitle(bob, run, "Theirs", "")
    assert run.title() == ("Mine", "")


def test_a_run_over_its_time_is_stopped_with_a_checkpoint(
    space: Settings, alice: Visitor, place: Pretended, opened: Any
) -> None:
    queue = opened(replace(space, run_seconds=1))
    run = queue.submit(alice, TREE)
    until(lambda: place.stopped)

    assert place.stopped == [(run.name, GRACE)]
    said = [event["message"] for event in run.events()[0] if event["type"] == "warning"]
    assert said == ["a run may take 1 s here: it is stopped with a checkpoint, and can be resumed"]
    assert run.status().state == "stopped"


@pytest.mark.parametrize("limit", ["run_memory_mb", "disk_mb"])
def test_a_run_over_memory_or_disk_is_ended_in_words(
    limit: str, space: Settings, alice: Visitor, place: Pretended, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = opened(replace(space, **{limit: 50}))
    run = queue.submit(alice, TREE)
    until(lambda: place.started)
    monkeypatch.setattr(queueing.memory, "held_mb", lambda pid, most: 60.0)
    monkeypatch.setattr(disk, "used_mb", lambda folder: 60.0)
    monkeypatch.setattr(queueing, "DISK_POLL", 0.0)
    until(lambda: place.stopped)

    assert place.stopped == [(run.name, 0)]
    assert run.status().state == "failed"
    assert "50 MB" in str(run.status().message)


def test_a_launcher_that_refuses_is_a_failed_run_and_the_next_one_starts(
    space: Settings, alice: Visitor, place: Pretended, opened: Any
) -> None:
    queue = opened(space)
    place.refuses = OSError("no more processes")
    run = queue.submit(alice, TREE)
    until(lambda: run.status().state == "failed")
    place.refuses = None
    queue.submit(alice, TREE)
    until(lambda: place.started)
    assert run.status().message == "no more processes"


def test_a_folder_that_goes_away_does_not_end_the_queue(
    space: Settings, alice: Visitor, place: Pretended, opened: Any
) -> None:
    queue = opened(replace(space, runs_at_once=1))
    queue.submit(alice, TREE)
    lost = queue.submit(alice, TREE)
    until(lambda: place.started)
    shutil.rmtree(lost.folder)
    place.refuses = OSError("gone")
    place.finish(queue.runs(alice)[0])
    until(lambda: queue.place(lost) is None)
    place.refuses = None
    last = queue.submit(alice, TREE)
    until(lambda: place.started[-1][0] == last.name)


def test_after_a_restart_a_spaces_runs_are_offered_and_a_laptops_wait_again(
    space: Settings, alice: Visitor, bob: Visitor, place: Pretended, opened: Any, tmp_path: Path
) -> None:
    laptop = Settings.read({"HFTRANSFER_ROOT": str(tmp_path / "laptop")})
    local = visitors.of(None, None, None, laptop)
    for settings, visitor in ((space, alice), (laptop, local)):
        before = opened(settings)
        running, waiting = before.submit(visitor, TREE), before.submit(visitor, TREE)
        until(lambda running=running: place.is_alive(running))
        before.close()
        place.gone(running)

        after = opened(settings, start=False)
        after._adopt()
        if settings.space:
            assert after.place(waiting) is None
            assert {run.name for run in after.unfinished(alice)} == {running.name, waiting.name}
            assert after.unfinished(bob) == []
            after.resume(alice, running)
            assert [run.name for run in after.unfinished(alice)] == [waiting.name]
        else:
            assert after.place(waiting) == 1
            assert [run.name for run in after.unfinished(local)] == [running.name]
            second = opened(settings, start=False)
            second._adopt()
            assert second.place(waiting) is None, "two apps must not both start it"


def test_a_run_that_its_last_process_ended_is_not_started_again(
    space: Settings, alice: Visitor, place: Pretended, opened: Any
) -> None:
    """The launcher was killed and its trainer was not yet: the run looks killed, and is done a moment later."""
    queue = opened(space)
    run = queue.submit(alice, TREE)
    until(lambda: place.started)
    run.launch_path.unlink()  # whoever asks finds nobody
    queue.resume(alice, run)
    run.event("done", seconds=1.0)
    place.alive.discard(run.folder)
    until(lambda: queue.place(run) is None and not queue._working)
    assert len(place.started) == 1 and run.status().state == "done"


def test_a_finished_run_is_not_resumed_and_can_be_removed(
    space: Settings, alice: Visitor, place: Pretended, opened: Any
) -> None:
    queue = opened(space)
    run = queue.submit(alice, TREE)
    until(lambda: place.started)
    with pytest.raises(UserError, match="goes on"):
        queue.remove(alice, run)
    place.finish(run)
    with pytest.raises(UserError, match="is done"):
        queue.resume(alice, run)
    queue.remove(alice, run)
    assert not run.folder.exists()
    assert alice.runs.is_dir()


def test_a_broken_run_does_not_keep_the_app_from_starting(tmp_path: Path, opened: Any) -> None:
    laptop = Settings.read({"HFTRANSFER_ROOT": str(tmp_path / "laptop")})
    local = visitors.of(None, None, None, laptop)
    before = opened(laptop, start=False)
    broken, waiting = before.submit(local, TREE), before.submit(local, TREE)
    before.close()
    broken.launch_path.write_text("")
    broken.events_path.unlink()
    broken.events_path.mkdir()
    after = opened(laptop, start=False)
    after._adopt()
    assert after.place(waiting) == 1
    assert broken.folder not in [run.folder for run in after.unfinished(local)]


def test_memory_is_counted_exactly_where_it_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    whole = psutil.Process.memory_full_info
    monkeypatch.setattr(psutil.Process, "memory_full_info", lambda one: asked.append(one.pid) or whole(one))
    plain = queueing.memory.held_mb(os.getpid(), 10**6)
    assert plain == pytest.approx(queueing.memory.resident(os.getpid()) / 2**20, rel=0.2) and plain > 10 and not asked
    assert 1 < queueing.memory.held_mb(os.getpid(), 1) <= plain * 1.2 and asked[0] == os.getpid()
    assert queueing.memory.held_mb(None, 1) == queueing.memory.held_mb(2**30, 1) == 0
