"""Hugging Face Jobs by the pinned client against a stand-in that runs each job as a process; buckets are a folder."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import constants

from hftransfer.config import build
from hftransfer.errors import UserError
from hftransfer.launchers import _estimate, _job_files, jobs, launcher, of
from hftransfer.launchers._elsewhere import Elsewhere
from hftransfer.launchers.jobs import JobsLauncher
from hftransfer.runs import Run
from tests.jobs_server import ENDED, TOKEN, FolderBucket, JobsServer, stub


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobsServer]:
    """Start the stand-in, and let the launcher find it, its bucket and a trainer without models."""
    folder = tmp_path / "bucket"
    monkeypatch.setenv("PATH", f"{stub(tmp_path / 'bin')}:{os.environ['PATH']}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "is_offline_mode", lambda: False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(jobs, "MOUNT", str(folder))
    monkeypatch.setattr(JobsLauncher, "least", 0.1)
    with JobsServer() as one:
        monkeypatch.setattr(constants, "ENDPOINT", one.endpoint)
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
    server.watched = True
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
    (busy,) = [event for event in seen if event["type"] == "machine"]
    assert busy["gpus"] == [{"percent": 87, "memory_mb": 2000}] and busy["cpu_percent"] == 12
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


def test_a_job_that_is_preempted_says_so_and_goes_on(server: JobsServer, run: Run) -> None:
    start = place()
    start.start(run)
    until(run, server, '"step"')
    next(iter(server.jobs.values())).kill()
    [*start.follow(run)]
    found = start.outcome(run)
    assert found.state == "killed" and found.message == "the job ended: ERROR"
    again = of(run)
    again.start(run, resume=True)
    assert [event["type"] for event in again.follow(run)].count("done") == 1


def test_what_a_configuration_names_goes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that a table names, tables of items, splits beside the source, and runs to be mixed; nothing else."""
    monkeypatch.chdir(tmp_path)
    for name in ("rows/pictures/a b.JPG", "rows/pictures/two.png", "rows/private.png", "rows/notes.jpg.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "rows" / "train.csv").write_text('file;label\n"pictures/a b.JPG";x\nTWO;y\n')
    (tmp_path / "rows" / "held.csv").write_text("file;label\ntwo.png;x\n")
    done = tmp_path / "runs" / "done"
    for name in ("artifact/model.safetensors", "checkpoints/checkpoint-1/weights", "result.json"):
        (done / name).parent.mkdir(parents=True, exist_ok=True)
        (done / name).write_text("{}")
    bucket = FolderBucket(tmp_path / "bucket", "b", "t")

    def sent(tree: dict[str, Any]) -> tuple[dict[str, Any], set[str]]:
        run = Run.create(build({"model": "owner/model", **tree}), tmp_path / "runs" / secrets.token_hex(4))
        _job_files.send(run, bucket, "/there", "label")
        shutil.rmtree(tmp_path / "bucket" / "label.code")
        files = {p.relative_to(bucket.folder).as_posix() for p in bucket.folder.rglob("*") if p.is_file()}
        there = build(yaml.safe_load((bucket.folder / "label" / "config.yaml").read_text()))
        shutil.rmtree(bucket.folder)
        return there.to_dict(), {name.removeprefix("label.inputs/") for name in files if "inputs" in name}

    data = {"source": "rows/train.csv", "test": "held.csv"}
    there, files = sent({"task": "image-classification", "data": data})
    assert there["data"]["source"] == "/there/label.inputs/data.source/train.csv"
    assert there["data"]["test"] == "/there/label.inputs/data.test/held.csv"
    assert files == {
        "data.source/train.csv", "data.source/pictures/a b.JPG", "data.source/pictures/two.png",
        "data.test/held.csv", "data.test/pictures/two.png",
    }  # fmt: skip

    fused = {"name": "fuse", "runs": ["runs/done"], "second": "rows/held.csv"}
    there, files = sent({"task": "text-classification", "data": {"source": "owner/rows"}, "method": fused})
    assert there["method"]["runs"] == ["/there/label.inputs/method.runs/0/done"]
    assert there["method"]["second"] == "/there/label.inputs/method.second/held.csv"
    assert there["data"]["source"] == "owner/rows"
    assert files == {f"method.runs/0/done/{name}" for name in ("artifact/model.safetensors", "result.json")} | {
        "method.second/held.csv"
    }
    with pytest.raises(UserError, match=r"method\.runs names folders of runs"):
        sent({"task": "text-classification", "data": data, "method": {"name": "fuse", "runs": ["runs/none"]}})

    for name in ("ratings.csv", "movies.csv", "other.csv"):
        (tmp_path / "rows" / name).write_text("user,item\n")
    _, files = sent({"task": "recommendation", "data": {"source": "rows/ratings.csv"}})
    assert files == {"data.source/ratings.csv", "data.source/movies.csv"}


def test_a_bucket_that_is_slow_or_fails_is_no_run_without_a_word(
    server: JobsServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def slow(self: FolderBucket, source: Path, prefix: str, without: Any = ()) -> None:
        seen.append(Run(run.folder).status().state)  # as whoever lists the runs meanwhile sees it
        raise TimeoutError("the bucket did not answer")

    monkeypatch.setattr(FolderBucket, "send", slow)
    with pytest.raises(TimeoutError):
        place().start(run)
    assert seen == ["running"] and not server.jobs
    assert (run.status().state, run.status().message) == ("failed", "the bucket did not answer")


def test_several_machines_meet_in_a_network_and_end_together(server: JobsServer, run: Run) -> None:
    start = place(nodes=2, flavor="t4-small")
    assert start.usual_processes == 2 and start.foreseen(600)[1] == "about 10 min, 0.20 USD on 2 x t4-small"
    with pytest.raises(UserError, match="2 machines share evenly"):
        start.start(run, processes=3)
    start.start(run, processes=2)
    first, second = server.jobs.values()
    group = first.spec["network"]["group"]
    assert second.spec["network"] == {"group": group, "aliases": ["machine-1"]} and len(group) <= 46
    for job in server.jobs.values():
        end = time.monotonic() + 20
        while not any('"step"' in line for line in job.lines) and time.monotonic() < end:
            time.sleep(0.05)
        (line,) = [line for line in job.lines if line.startswith("started with")]
        assert "--num_machines 2 --mixed_precision no" in line and "--main_process_ip 127.0.0.1" in line
        assert f"--machine_rank {int(job is second)}" in line and "--num_processes 2" in line
    second.kill()
    began = time.monotonic()
    [*start.follow(run)]
    assert time.monotonic() - began < 60 and first.stage in ENDED
    assert run.status().state == "stopped" and run.checkpoint() is not None


def test_a_machine_that_cannot_be_had_costs_nothing(server: JobsServer, run: Run) -> None:
    server.most, server.patience = 1, 3.0
    with pytest.raises(Exception, match="no machine left"):
        place(nodes=2).start(run, processes=2)
    (job,) = server.jobs.values()
    end = time.monotonic() + 20
    while job.stage not in ENDED and time.monotonic() < end:
        time.sleep(0.05)
    assert job.stage == "CANCELED" and run.status().state == "failed"


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


def test_no_more_is_brought_back_than_there_is_room_for(
    server: JobsServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may write to the bucket decides what lies there; the app of a Space fetches it, unfenced."""
    start = place()
    start.start(run, resume=True)
    left = Path(jobs.MOUNT) / run.launch()["label"] / "artifact"
    left.mkdir(parents=True, exist_ok=True)
    (left / "huge.bin").write_bytes(bytes(100_000))
    with monkeypatch.context() as patch:
        patch.setattr(Elsewhere, "_room", (lambda run, wanted: 50_000.0,))
        events = [*start.follow(run)]
        start.collect(run)
    assert not (run.artifact / "huge.bin").exists() and run.status().state == "done"
    told = [one["message"] for one in run.events()[0] if one["type"] == "warning"]
    assert len(told) == 1 and "not brought back" in told[0] and "room for 0 MB" in told[0], events
    start.collect(run)
    assert (run.artifact / "huge.bin").is_file(), "and what there is room for now comes"


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

    assert cli.main(["where", "c.yaml", "--json"]) == 0
    said = {one["place"]: one for one in map(json.loads, capsys.readouterr().out.splitlines())}
    assert set(said) == {"jobs", "local", "slurm"} and said["local"]["offers"] == ["about 10 min"]
    assert said["jobs"]["offers"] == ["about 10 min, 0.00 USD on cpu-basic", "about 10 min, 0.10 USD on t4-small"]
    assert cli.main(["where", "c.yaml"]) == 0
    assert "local: about 10 min" in capsys.readouterr().out
    one = Run(Path("runs/one").absolute())
    assert _estimate.beside(one) is None and _estimate.foreseen(one)["place"] == "jobs"
    one.result_path.write_text('{"cost": {"total_seconds": 90.0}}')
    assert _estimate.beside(one) == "foreseen: about 10 min, 0.10 USD on t4-small; it took 1.5 min"
