"""Hugging Face Jobs by the pinned client against a stand-in that runs each job as a process; buckets are a folder."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, constants

import hftransfer
from hftransfer.config import build
from hftransfer.errors import UserError
from hftransfer.launchers import jobs, launcher, of
from hftransfer.launchers.jobs import JobsLauncher
from hftransfer.runs import Run
from tests.jobs_server import TOKEN, FolderBucket, JobsServer

# what stands for `python -m accelerate.commands.launch ... train.py --config PATH [--resume]` in a job
TRAINER = """#!{python}
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from hftransfer.runs import Run, seal
from dataclasses import replace
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
words = sys.argv
run = replace(Run(Path(words[words.index("--config") + 1]).parent), mirror=sys.stdout)
config = run.config()
assert Path(config.data.source).read_text() == "text,label\\n"
print("a line of the log", flush=True)
run.event("process", world_size=1, token=os.environ.get("HF_TOKEN", "")[:3])
for step in range(1, 4 if "--resume" in words else int(os.environ.get("STEPS", "2000"))):
    run.event("step", step=step, max_steps=2000)
    time.sleep(0.02)
    if asked:
        folder = run.checkpoints / f"checkpoint-{{step}}"
        folder.mkdir(parents=True)
        (folder / "weights").write_text("w")
        seal(folder)
        run.event("stopped", message="asked to", step=step)
        sys.exit(143)
run.result_path.write_text("{{}}")
run.event("done", seconds=1.0)
"""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobsServer]:
    """Start the stand-in, and let the launcher find it, its bucket and a trainer without models."""
    folder = tmp_path / "bucket"
    root = str(Path(hftransfer.__file__).parents[1])
    stub = tmp_path / "bin" / "python"
    stub.parent.mkdir()
    stub.write_text(TRAINER.format(python=sys.executable, root=root))
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stub.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "is_offline_mode", lambda: False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(jobs, "MOUNT", str(folder))
    monkeypatch.setattr(JobsLauncher, "least", 0.1)
    with JobsServer() as one:
        monkeypatch.setattr(JobsLauncher, "_api", lambda self, _=None: HfApi(endpoint=one.endpoint, token=TOKEN))
        monkeypatch.setattr(JobsLauncher, "_bucket", lambda self, name, token: FolderBucket(folder, name, token))
        yield one


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "rows.csv").write_text("text,label\n")
    tree = {"task": "t", "model": "m", "data": {"source": "rows.csv"}}
    return Run.create(build(tree), tmp_path / "runs" / "a run")


def place(**options: Any) -> JobsLauncher:
    found = launcher("jobs", {"minutes": 5, "setup": ":", **options})
    assert isinstance(found, JobsLauncher)
    return found


def until(run: Run, server: JobsServer, words: str) -> None:
    end = time.monotonic() + 20
    while not any(words in line for job in server.jobs.values() for line in job.lines):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_run_goes_to_a_job_and_comes_back(server: JobsServer, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    server.full.set()
    start = place()
    start.start(run, resume=True)
    (job,) = server.jobs.values()
    assert job.spec["secrets"] == {"HF_TOKEN": TOKEN} and TOKEN not in json.dumps({**job.spec, "secrets": 0})
    assert job.spec["timeoutSeconds"] == 300 and job.spec["labels"]["app"] == "hftransfer"
    assert job.spec["volumes"] == [{"type": "bucket", "source": "me/hftransfer-runs", "mountPath": jobs.MOUNT}]
    assert not any(TOKEN in path.read_text() for path in run.folder.rglob("*") if path.is_file())
    assert run.status().state == "running" and of(run).options == start.options
    with pytest.raises(UserError, match="is running"):
        start.start(run)
    seen = []
    for event in start.follow(run):
        seen.append(event)
        if event.get("message") == "waiting: SCHEDULING":
            server.full.clear()
    kinds = [event["type"] for event in seen]
    assert kinds.count("done") == 1 and kinds.count("step") == 3 and kinds[-1] == "notice"
    assert "the job took" in seen[-1]["message"] and "USD" in seen[-1]["message"]
    assert start.outcome(run).exit_code == 0 and run.result_path.is_file()
    assert start.log_tail(run) == ["a line of the log"]
    assert run.config().data.source == "rows.csv"  # as it is here, not as it was there


def test_a_log_that_is_cut_is_read_on(server: JobsServer, run: Run) -> None:
    server.cut = 3
    start = place()
    start.start(run, resume=True)
    kinds = [event["type"] for event in start.follow(run)]
    assert kinds.count("process") == 1 and kinds.count("step") == 3 and kinds.count("done") == 1


def test_a_stopped_job_leaves_its_checkpoint_here_and_goes_on(server: JobsServer, run: Run) -> None:
    start = place()
    start.start(run)
    until(run, server, '"step"')
    assert start.stop(run) == "stopped" and run.status().message == "asked to"
    assert run.checkpoint() is not None
    again = of(run)
    again.start(run, resume=True)
    assert [event["type"] for event in again.follow(run)].count("done") == 1
    assert run.status().state == "done" and len(server.jobs) == 2


def test_a_job_in_the_queue_is_taken_out(server: JobsServer, run: Run) -> None:
    server.full.set()
    start = place()
    start.start(run)
    assert start.stop(run) == "stopped" and run.status().message == "taken out of the queue"


def test_a_job_that_nobody_followed_is_found_done_by_another_process(server: JobsServer, run: Run) -> None:
    place().start(run, resume=True)
    until(run, server, '"done"')
    end = time.monotonic() + 20
    while run.status().state != "done" and time.monotonic() < end:  # as `hftransfer runs` asks
        jobs.LAUNCHER.forget(run)
        time.sleep(0.1)
    assert run.status().state == "done" and run.result_path.is_file()


def test_a_job_is_found_by_its_label_where_its_number_was_not_noted(server: JobsServer, run: Run) -> None:
    server.full.set()
    place().start(run)
    note = run.launch()
    note.pop("job")
    run.launch_path.write_text(json.dumps(note))
    assert JobsLauncher().standing(run).alive


def test_a_job_whose_time_is_over_says_so(server: JobsServer, run: Run) -> None:
    server.limit = 1.0
    start = place()
    start.start(run)
    [*start.follow(run)]
    found = start.outcome(run)
    assert found.state == "killed" and found.message == "the job ended: ERROR (Job timeout)"


def test_time_and_price_are_said_before_the_start(server: JobsServer) -> None:
    start = launcher("jobs", ["flavor=t4-small"])
    assert start.estimates and not place().estimates
    placed, said = start.foreseen(27 * 60)
    assert said == "about 27 min, 0.27 USD on t4-small" and placed.options.model_dump()["minutes"] == 54
    with pytest.raises(UserError, match="Did you mean 't4-small'"):
        launcher("jobs", ["flavor=t4-smal"]).foreseen(60)
    assert launcher("jobs", ["flavor=h200x8"]).usual_processes == 8


def test_what_is_missing_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)  # another test's app may be running with its owner's
    with pytest.raises(UserError, match="no token"):
        place().check(run)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(UserError, match="--place minutes="):
        launcher("jobs").check(run)


def test_a_job_installs_what_this_machine_has() -> None:
    found = dict(pin.split("==") for pin in jobs.pins())
    assert {"torch", "transformers", "accelerate"} <= set(found) and "gradio" not in found
    assert not any("+" in version for version in found.values())


def test_the_command_line_says_time_and_price_first(
    server: JobsServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Twice what a check foresees is the job's longest time."""
    from hftransfer import api, cli

    (tmp_path / "rows.csv").write_text("text,label\n")
    Path("c.yaml").write_text("task: text-classification\nmodel: m\ndata: {source: rows.csv}\noutput: runs/one\n")
    checked = {
        "type": "checked", "first_step_seconds": 0.0, "step_seconds": 6.0, "work": 100, "evaluations": 0, "batch": 32,
        "data": {"splits": {"validation": 0, "test": 0}},
    }  # fmt: skip
    monkeypatch.setattr(api, "ask", lambda tree, question: (0, checked))
    words = ["--on", "jobs", "--place", "flavor=t4-small", "--place", "setup=:", "--no-follow"]
    assert cli.main(["train", "c.yaml", *words]) == 0
    assert "about 10 min, 0.10 USD on t4-small, by a check on this machine" in capsys.readouterr().out
    (job,) = server.jobs.values()
    assert job.spec["timeoutSeconds"] == pytest.approx(1200, abs=1)
