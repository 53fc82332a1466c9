"""Runs: folders, and a status that comes from their files alone."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hftransfer import runs
from hftransfer.config import RunConfig, build
from hftransfer.errors import Damaged, UserError
from hftransfer.events import latest_events
from hftransfer.launchers import _job_files
from hftransfer.runs import (
    MANIFEST,
    Run,
    called,
    default_name,
    everywhere,
    find,
    is_hub_id,
    is_whole,
    listing,
    seal,
    status_of,
    write_text,
)
from hftransfer.safety.identity import note_process, works
from hftransfer.train import discard_torn


def _config(**more: Any) -> RunConfig:
    return build({"task": "text-classification", "model": "org/Some Model", "data": {"source": "x.csv"}, **more})


def _dead() -> dict[str, Any]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        note = note_process(child.pid)
        child.kill()
    return note


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(_config(), tmp_path / "runs" / "one")


def test_create_makes_the_folder_with_its_config(run: Run) -> None:
    config = run.config()
    assert config.output == str(run.folder)
    assert config.model_copy(update={"output": None}) == _config()
    (event,) = run.events()[0]
    assert (event["type"], event["task"], event["method"]) == ("created", "text-classification", "auto")
    assert run.status().state == "created"
    assert run.result() == {} and run.launch() == {}


@pytest.mark.parametrize("state", ["created", "done", "stopped"])
def test_a_folder_with_a_run_is_taken(run: Run, state: str) -> None:
    if state != "created":
        run.event(state, seconds=1)
    with pytest.raises(UserError, match=rf"holds a run \({state}\)"):
        Run.create(_config(), run.folder)


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something else"):
        Run.create(_config(), tmp_path)
    with pytest.raises(UserError, match="holds something else"):
        Run.create(_config(), tmp_path / "notes.txt")


def test_a_folder_that_was_being_made_when_everything_ended_is_taken_up(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "predictions").mkdir()
    (tmp_path / ".config.yaml.abc123").write_text("task: te")
    assert Run.create(_config(), tmp_path).status().state == "created"
    other = tmp_path / "other"
    (other / "checkpoints" / "checkpoint-2").mkdir(parents=True)
    with pytest.raises(UserError, match="holds something else"):
        Run.create(_config(), other)


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="a folder to write to"):
        Run.create(_config(), tmp_path / "file" / "run")


def test_the_default_name_fits_any_system() -> None:
    name = default_name(_config(method={"name": "lora"}), moment=0)
    assert name.endswith("-text-classification-Some-Model-lora")
    assert not set(name) & set('/\\:*?"<>| ')


@pytest.mark.parametrize(
    ("last", "state"), [("done", "done"), ("failed", "failed"), ("stopped", "stopped"), (None, "running")]
)
def test_the_last_word_is_the_state(run: Run, last: str | None, state: str) -> None:
    run.event("launched", command=[], processes=1)
    run.event("process", **note_process(os.getpid()), world_size=1)
    run.event("phase", name="training")
    run.event("step", step=3, max_steps=9)
    if last:
        run.event(last, message="m")
    status = run.status()
    assert (status.state, status.phase, status.step, status.max_steps) == (state, "training", 3, 9)
    assert status.finished == (last is not None)


def test_a_process_that_is_gone_without_a_word_was_killed(run: Run) -> None:
    run.event("process", **_dead(), world_size=1)
    run.event("phase", name="data")
    assert run.status().state == "killed"
    assert "in phase data" in str(run.status().message)


def test_a_number_used_again_is_another_process(run: Run) -> None:
    run.event("process", **{**note_process(), "started": 1.0, "ticks": 1}, world_size=1)
    assert not run.is_alive()


def test_a_process_of_another_host_is_not_ours(run: Run) -> None:
    run.event("process", **{**note_process(), "host": "elsewhere"}, world_size=1)
    assert not run.is_alive()


def test_a_resumed_run_runs_again() -> None:
    events = [{"type": "stopped", "message": "x"}, {"type": "launched"}, {"type": "phase", "name": "start"}]
    status = status_of(events, alive=True)
    assert (status.state, status.message) == ("running", None)
    assert status_of(events, alive=False).state == "killed"


def test_a_failed_publication_changes_no_state() -> None:
    done = [{"type": "done", "seconds": 1.0}]
    going = [*done, {"type": "publishing", "stage": "uploading"}]
    assert status_of(done, alive=False).publication is None
    assert (status_of(going, alive=True).state, status_of(going, alive=True).publication) == ("done", "publishing")
    killed = status_of(going, alive=False)
    assert (killed.state, killed.publication) == ("done", "unpublished") and "before everything" in killed.unpublished
    failed = status_of([*going, {"type": "unpublished", "message": "no right"}], alive=False)
    assert (failed.state, failed.unpublished) == ("done", "no right")
    later = status_of([*going, {"type": "unpublished", "message": "x"}, {"type": "published"}], alive=False)
    assert (later.publication, later.unpublished) == ("published", None)


@pytest.mark.parametrize(
    ("name", "hub"),
    [("user/model", True), ("bert-base-uncased", True), ("a/b.v1.5", True), ("rows.csv", False), ("sample:x", False),
     ("./model", False), ("a/b/c", False), ("x" * 5000, True), ("user/", False), ("~/x", False)],
)  # fmt: skip
def test_what_has_the_form_of_a_hub_id(name: str, hub: bool) -> None:
    assert is_hub_id(name) is hub
    Path(name[:200].partition("/")[0] or "x").mkdir(exist_ok=True)
    if name == "bert-base-uncased":
        assert not is_hub_id(name), "a folder of that name is meant"


def _checkpoint(run: Run, step: int) -> Path:
    folder: Path = run.checkpoints / f"checkpoint-{step}"
    (folder / "sub").mkdir(parents=True)
    (folder / "weights").write_bytes(b"12345")
    (folder / "sub" / "state").write_bytes(b"1")
    return folder


def test_the_newest_whole_checkpoint_counts(run: Run) -> None:
    assert run.checkpoint() is None
    for step in (2, 10, 9):
        seal(_checkpoint(run, step))
    _checkpoint(run, 20)  # its writer was killed before the manifest
    assert run.checkpoint() == run.checkpoints / "checkpoint-10"


@pytest.mark.parametrize("damage", ["short", "missing", "no manifest", "half a manifest", "name"])
def test_a_torn_checkpoint_is_not_whole(run: Run, damage: str) -> None:
    folder = _checkpoint(run, 5)
    seal(folder)
    assert is_whole(folder)
    assert set(json.loads((folder / MANIFEST).read_text())["files"]) == {"weights", "sub/state"}
    if damage == "short":
        (folder / "weights").write_bytes(b"12")
    elif damage == "missing":
        (folder / "sub" / "state").unlink()
    elif damage == "no manifest":
        (folder / MANIFEST).unlink()
    elif damage == "half a manifest":
        (folder / MANIFEST).write_text('{"files": {"wei')
    else:
        folder = folder.rename(run.checkpoints / "tmp-checkpoint-5")
    assert not is_whole(folder)
    assert run.checkpoint() is None


def test_a_resume_goes_on_from_the_newest_checkpoint_with_the_bytes_that_were_written(run: Run) -> None:
    for step in (2, 4, 6):
        seal(_checkpoint(run, step))
    note = json.loads((run.checkpoints / "checkpoint-2" / MANIFEST).read_text())
    (run.checkpoints / "checkpoint-2" / MANIFEST).write_text(json.dumps({"files": note["files"]}))  # of before sums
    (run.checkpoints / "checkpoint-6" / "weights").write_bytes(b"12355")  # as long as it was
    (run.checkpoints / "checkpoint-4" / "sub" / "state").write_bytes(b"0")
    discard_torn(run)
    assert run.checkpoint() == run.checkpoints / "checkpoint-2"
    aside = sorted(path.name[:20] for path in run.checkpoints.glob("damaged-*"))
    assert aside == ["damaged-checkpoint-4", "damaged-checkpoint-6"], "nothing is deleted"
    told = [event["message"] for event in run.events()[0] if event["type"] == "warning"]
    assert len(told) == 2 and "checkpoint-6 is not as it was written (weights)" in told[0]


def test_runs_inside_a_ladder_are_listed_by_a_name_that_find_takes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    root = run.folder.parent
    Run.create(_config(), root / "ladder" / "probe")
    Run.create(_config(), root / "other" / "deeper")  # of no ladder
    (root / "ladder" / "ladder.json").write_text("{}")
    names = {called(one, root) for one in everywhere(root)}
    assert names == {"one", "ladder/probe"} and [one.name for one in listing(root)] == ["one"]
    assert all(called(find(name, root), root) == name for name in names)
    with pytest.raises(UserError, match="Did you mean 'ladder/probe'"):
        find("ladder/prob", root)
    monkeypatch.chdir(root.parent)
    assert called(run) == "one" and called(run, root / "other") == "runs/one"
    monkeypatch.chdir(root / "other")
    assert called(run, Path("nowhere")) == str(run.folder)


def test_find_takes_a_name_or_a_folder(run: Run) -> None:
    root = run.folder.parent
    assert find("one", root) == find(run.folder, root) == run
    assert [r.name for r in listing(root)] == ["one"]
    with pytest.raises(UserError, match="Did you mean 'one'"):
        find("onne", root)
    with pytest.raises(UserError, match="hftransfer train CONFIG"):
        find("one", root / "nowhere")


# --- a clock that is set, a second writer, and files that are damaged ---


def test_a_step_of_the_clock_changes_nothing(run: Run) -> None:
    run.event("process", **{**note_process(), "started": note_process()["started"] + 7200}, world_size=1)
    assert run.is_alive() and run.status().state == "running"


def test_another_boot_is_another_machine(run: Run) -> None:
    run.event("process", **{**note_process(), "boot": "another"}, world_size=1)
    assert not run.is_alive()


def test_notes_of_older_versions_go_by_the_clock() -> None:
    known = {name: value for name, value in note_process().items() if name not in ("boot", "ticks")}
    assert works(known) and not works({**known, "started": 1.0})


@pytest.mark.parametrize("note", [{}, {"pid": "1"}, {"pid": [], "host": socket.gethostname()}])
def test_a_note_that_is_none_means_no_process(note: dict[str, Any]) -> None:
    assert not works(note)


HOLD = """
import sys, time
from pathlib import Path
from hftransfer.safety import identity
identity.HEARING = 0.3
identity.hold(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_a_folder_has_one_writer(run: Run) -> None:
    def writer() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLD, str(run.folder)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    first = writer()
    try:
        assert first.stdout is not None and first.stdout.readline() == "held\n"
        second = writer().communicate()
        assert "another process writes to" in second[1] and not second[0]
    finally:
        first.kill()
        first.communicate()
    third = writer()
    try:
        assert third.stdout is not None and third.stdout.readline() == "held\n"  # the lock went with its process
    finally:
        third.kill()
        third.communicate()


def _folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


@pytest.mark.parametrize("name", ["launch.json", "result.json", "events.jsonl"])
@pytest.mark.parametrize(
    "break_it",
    [
        lambda path: path.write_text(""),
        lambda path: path.write_text("[" * 100_000),
        lambda path: path.write_bytes(b"\xff\x00\x80"),
        lambda path: path.write_text('{"type": ["x"], "time": "y"}\n{"type": "phase"}\n{"pid": {}}\n'),
        _folder,
    ],
    ids=["empty", "deep", "binary", "odd", "a folder"],
)  # fmt: skip
def test_a_broken_file_costs_its_run_alone(run: Run, capsys, name: str, break_it: Any) -> None:
    from hftransfer.cli import main

    whole = Run.create(run.config(), run.folder.parent / "whole")
    run.event("done")
    break_it(run.folder / name)
    assert run.status().state in ("done", "created", "damaged", "killed")
    assert main(["runs"]) == 0
    shown = capsys.readouterr().out
    assert "whole" in shown and whole.status().state == "created"
    if name != "events.jsonl" and break_it is _folder:
        assert "damaged" in shown and name in shown


def test_a_listing_reads_the_last_step_alone(run: Run) -> None:
    for step in range(1, 50):
        run.event("step", step=step, max_steps=50)
        run.event("log", step=step, max_steps=50, loss=1.0)
    run.event("phase", name="saving")
    assert len(latest_events(run.events_path)) < 6
    known, all_of_them = run.status(), status_of(run.events()[0], alive=False)
    assert (known.step, known.max_steps, known.phase) == (all_of_them.step, 50, "saving")


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o022, 0o644)])
def test_what_is_written_is_as_private_as_the_umask_says(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "result.json", "{}")
        write_text(tmp_path / "result.json", "{} ")
    finally:
        os.umask(before)
    assert (tmp_path / "result.json").stat().st_mode & 0o777 == mode
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_json_beyond_any_of_ours_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a job brings back is whatever lies in the bucket: each byte of `[{},{},...]` takes many in memory."""
    monkeypatch.setattr(runs, "MOST_JSON", 1000)
    path = tmp_path / "result.json"
    path.write_text('{"a": "' + "x" * 900 + '"}')
    assert runs.read_json(path)["a"] == "x" * 900
    path.write_text("[" + "{}," * 400 + "{}]")
    with pytest.raises(Damaged, match="larger than"):
        runs.read_json(path)


def test_a_line_of_a_job_that_is_no_event_of_ours_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_job_files, "MOST_LINE", 100)
    path = tmp_path / "events.jsonl"
    for line in ('{"type": "step"}', '{"type": "' + "x" * 200 + '"}', '{"type": "done"}'):
        _job_files.append(path, line)
    assert path.read_text() == '{"type": "step"}\n{"type": "done"}\n'
