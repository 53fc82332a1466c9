"""Whole runs that begin and end on the Hub, and go on from it on another machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.numpy import load, load_file

from hftransfer.runs import Run
from tests import tiny
from tests.hub.finished import call, events, last, start
from tests.hub_server import HubServer

pytestmark = pytest.mark.slow

METRIC = """
import datasets
import evaluate


class Doubled(evaluate.Metric):
    def _info(self):
        features = datasets.Features({"predictions": datasets.Value("int32"), "references": datasets.Value("int32")})
        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=features)

    def _compute(self, predictions, references):
        return {"doubled": 2 * sum(p == r for p, r in zip(predictions, references)) / len(references)}
"""


def configuration(folder: Path, **sections: Any) -> Path:
    """Write a configuration of a run of a few seconds."""
    tree = {
        "task": "text-classification",
        "model": "bob/base",
        "data": {"source": "alice/rows"},
        "method": {"name": "full"},
        "train": {
            "auto": False,
            "learning_rate": 1e-3,
            "num_train_epochs": 2,
            "per_device_train_batch_size": 16,
            "use_cpu": True,
        },
        "evaluation": {"resamples": 100},
        "speed": {"tune": False, "threads": 1},
        "hub": {"repo": "alice/tuned", "push": True},
        "output": str(folder / "run"),
    }
    path = folder / "wanted.yaml"
    path.write_text(yaml.safe_dump({**tree, **sections}))
    return path


def fill(hub: HubServer, folder: Path) -> None:
    """Put a base model and a private data set on the Hub."""
    base = tiny.text_model(folder / "base")
    card = b"---\nlicense: apache-2.0\nlanguage: fr\n---\n# Base\n"
    hub.create_repo("bob/base", files={p.name: p.read_bytes() for p in base.iterdir()} | {"README.md": card})
    rows = tiny.text_csv(folder / "rows.csv", 120).read_bytes()
    hub.create_repo("alice/rows", kind="dataset", private=True, files={"data.csv": rows})


def notes_of(run: Run) -> dict[str, str]:
    """Return where a run's model and data lie."""
    return {"model": run.config().model, "data.source": run.config().data.source}


def held(folder: Path) -> str:
    """Return all that the files of a folder say."""
    return "".join(path.read_bytes().decode(errors="replace") for path in folder.rglob("*") if path.is_file())


def test_from_the_hub_to_the_hub_and_again(hub: HubServer, tmp_path: Path) -> None:
    fill(hub, tmp_path)
    hub.create_repo("bob/doubled", kind="space", files={"doubled.py": METRIC.encode()})
    base, rows = (hub.repo(*which).branches["main"] for which in (("bob/base",), ("alice/rows", "dataset")))
    evaluation = {"resamples": 100, "metrics": ["bob/doubled"]}
    path = configuration(tmp_path, evaluation=evaluation, method={"name": "lora"})
    done = call(hub, "alice", tmp_path / "home", "train", path, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    run = Run(tmp_path / "run")
    published = last(run, "published")
    assert published["verified"] and run.status().publication == "published" and run.status().state == "done"
    assert hub.repo("alice/tuned").private, "nobody was asked, so only the owner sees it"

    # the commits are fixed, and told
    result, notes = run.result(), json.loads(hub.files("alice/tuned")["hftransfer.json"])
    assert result["revision"] == notes["config"]["revision"] == notes["sources"]["model"]["revision"] == base
    assert notes["config"]["data"]["revision"] == notes["sources"]["data"]["revision"] == rows
    assert notes["sources"]["model"]["license"] == "apache-2.0" and notes["sources"]["model"]["languages"] == ["fr"]
    asked = [one.path for one in hub.requests if "/bob/base/resolve/" in one.path]
    assert asked and [path for path in asked if f"/resolve/{base}/" not in path] == []
    front = yaml.safe_load(hub.files("alice/tuned")["README.md"].decode().split("---")[1])
    assert front["license"] == "apache-2.0" and front["language"] == ["fr"]
    assert front["base_model"] == "bob/base" and front["datasets"] == ["alice/rows"]
    scores = {name: score["value"] for name, score in result["test"]["metrics"].items()}
    assert scores["bob/doubled"] == pytest.approx(2 * scores["accuracy"])

    # nothing secret anywhere, and nothing sent to whom it does not concern
    assert not re.search(r"hf_[A-Za-z0-9]{20,}", held(run.folder) + done.stdout + done.stderr)
    assert str(tmp_path) not in "".join(c.decode(errors="replace") for c in hub.files("alice/tuned").values())
    assert not hub.leaks

    # both branches move on; the recipe does not
    hub.commit("bob/base", {"config.json": b"{}", "model.safetensors": b"broken"})
    hub.commit("alice/rows", {"data.csv": b"text,label\nother,rows\n"}, kind="dataset")
    elsewhere = tmp_path / "elsewhere"
    trusting = "evaluation.metrics=[bob/doubled]"  # code of bob's, which alice's recipe alone does not run
    refused = call(hub, "alice", elsewhere / "home", "reproduce", "alice/tuned", "--json")
    assert refused.returncode == 2 and "evaluation.metrics is 'bob/doubled'" in refused.stderr
    assert not (elsewhere / "runs").exists()
    again = call(hub, "alice", elsewhere / "home", "reproduce", "alice/tuned", trusting, "--json")
    assert again.returncode == 0, again.stdout + again.stderr
    compared = events(again.stdout)[-1]
    assert compared["agrees"] and compared["same_data"] and not compared["versions"]
    assert {line["verdict"] for line in compared["lines"]} == {"identical"}
    repeated = Run(next((elsewhere / "runs").iterdir()))
    weights = load_file(repeated.artifact / "model.safetensors")
    wanted = load(hub.files("alice/tuned")["model.safetensors"])
    assert all((weights[name] == wanted[name]).all() for name in wanted)

    # figures that do not agree are said to: other rows, other scores
    other = tiny.text_csv(tmp_path / "other.csv", 60, seed=5)
    words = [f"data.source={other}", "data.revision=null", "train.max_steps=1", "--json", trusting]
    differs = call(hub, "alice", tmp_path / "third" / "home", "reproduce", "alice/tuned", *words)
    assert differs.returncode == 1 and not events(differs.stdout)[-1]["agrees"]
    assert "other rows in" in events(differs.stdout)[-1]["data"]


def test_another_machine_goes_on_to_the_same_weights(hub: HubServer, tmp_path: Path) -> None:
    fill(hub, tmp_path)
    train = {
        "learning_rate": 1e-3, "max_steps": 400, "per_device_train_batch_size": 8, "use_cpu": True, "bf16": False,
        "eval_strategy": "steps", "eval_steps": 40,
    }  # fmt: skip
    hub_section = {"repo": "alice/tuned", "push": False, "checkpoints": True}
    path = configuration(tmp_path, data={"source": str(tmp_path / "rows.csv")}, train=train, hub=hub_section)
    child = start(hub, "alice", tmp_path / "home", "train", path, "--json")
    run = Run(tmp_path / "run")
    end = time.monotonic() + 60
    while time.monotonic() < end and not any(e["type"] == "checkpoint_pushed" for e in run.events()[0]):
        time.sleep(0.01)
    pid = last(run, "process")["pid"]
    os.kill(pid, signal.SIGKILL)  # the machine is lost
    child.communicate(timeout=300)
    pushed = last(run, "checkpoint_pushed")
    assert 0 < pushed["step"] < 400

    files = hub.files("alice/tuned", revision="checkpoints")
    assert f"checkpoints/{pushed['name']}/optimizer.pt" in files and set(hub.files("alice/tuned")) == {
        ".gitattributes"
    }
    assert not [name for name in files if name.endswith("training_args.bin")]
    said = "".join(content.decode(errors="replace") for content in files.values())
    assert str(tmp_path) not in said and hub.token("alice") not in said
    shutil.rmtree(run.folder)

    elsewhere = tmp_path / "elsewhere"
    lost = call(hub, "alice", elsewhere / "home", "resume", "alice/tuned")
    assert lost.returncode == 2 and "it was called 'rows.csv'" in lost.stderr and "data.source=PATH" in lost.stderr
    other = tiny.text_csv(tmp_path / "other.csv", 120, seed=9)
    wrong = call(hub, "alice", elsewhere / "home", "resume", "alice/tuned", f"data.source={other}")
    assert wrong.returncode == 2 and "the rows that the run began with are needed" in wrong.stderr
    where = [f"data.source={tmp_path / 'rows.csv'}", f"output={elsewhere / 'run'}"]
    done = call(hub, "alice", elsewhere / "home", "resume", "alice/tuned", *where, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    steps = [event["step"] for event in events(done.stdout) if event["type"] == "step"]
    assert min(steps) >= pushed["step"] and Run(elsewhere / "run").result()["cost"]["steps"] == 400

    whole = configuration(tmp_path, data={"source": str(tmp_path / "rows.csv")}, train=train, hub={})
    unbroken = call(hub, "alice", tmp_path / "home", "train", whole, f"output={tmp_path / 'unbroken'}", "--json")
    assert unbroken.returncode == 0, unbroken.stderr
    one, other_one = (
        load_file(f / "artifact" / "model.safetensors") for f in (elsewhere / "run", tmp_path / "unbroken")
    )
    assert all((one[name] == other_one[name]).all() for name in one)
    assert (
        Run(elsewhere / "run").result()["cost"]["best_step"]
        == Run(tmp_path / "unbroken").result()["cost"]["best_step"]
    )


@pytest.mark.long
def test_a_fused_model_is_published_as_any_and_reproduced_from_its_parts(
    hub: HubServer, run: Run, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    hub_section = ["hub.repo=alice/mixed", "hub.push=true"]
    words = [run.folder, "--with", "base", "method.steps=2", f"output={tmp_path / 'mixed'}", *hub_section]
    done = call(hub, "alice", home, "fuse", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert last(Run(tmp_path / "mixed"), "published")["verified"], "pipeline() answers what the fused model did"
    notes = json.loads(hub.files("alice/mixed")["hftransfer.json"])
    assert notes["config"]["method"]["runs"] == [run.name] and not hub.leaks
    assert notes["cost"]["seconds_of_its_runs"] == run.result()["cost"]["alone_seconds"], "compare counts them"
    recipe = ["reproduce", "alice/mixed", *(f"{key}={notes_of(run)[key]}" for key in ("model", "data.source"))]
    lost = call(hub, "alice", home, *recipe)
    assert lost.returncode == 2 and f"not here: {run.name}. Say where they are" in lost.stderr
    again = call(hub, "alice", home, *recipe, f"method.runs=[{run.folder}]", "--json")
    assert again.returncode == 0, again.stdout + again.stderr
    assert {line["verdict"] for line in events(again.stdout)[-1]["lines"]} == {"identical"}


@pytest.mark.long
def test_two_processes_take_the_same_commit(hub: HubServer, tmp_path: Path) -> None:
    fill(hub, tmp_path)
    sections = {"hub": {"repo": "alice/tuned", "push": True, "checkpoints": True}}
    path = configuration(tmp_path, **sections)
    done = call(hub, "alice", tmp_path / "home", "train", path, "--processes", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    run = Run(tmp_path / "run")
    commit = hub.repo("bob/base").branches["main"]
    asked = [one for one in hub.requests if "/bob/base/resolve/" in one.path]
    assert run.result()["revision"] == commit and all(f"/{commit}/" in one.path for one in asked)
    assert last(run, "published")["verified"] and last(run, "checkpoint_pushed")["step"]
    notes = json.loads(hub.files("alice/tuned", revision="checkpoints")["checkpoints.json"])
    assert notes["processes"] == run.result()["cost"]["processes"] == 2
    identified = [one for one in hub.requests if one.route == "whoami"]
    assert len(identified) == 2, "one process asks: before the run, and before it publishes"
    refused = call(
        hub, hub.token("alice", "read"), tmp_path / "home", "train", path, "output=other", "--processes", "2"
    )
    assert refused.returncode == 2 and "read-only" in refused.stderr


def test_a_push_that_fails_is_no_training_that_fails(hub: HubServer, tmp_path: Path) -> None:
    fill(hub, tmp_path)
    hub.fault("commit", status=403, times=None)
    sections = {"hub": {"repo": "alice/tuned", "push": True, "checkpoints": True, "private": False}}
    done = call(hub, "alice", tmp_path / "home", "train", configuration(tmp_path, **sections))
    run = Run(tmp_path / "run")
    assert done.returncode == 1 and "trained and saved, but not published" in done.stderr
    assert "could not be pushed" in done.stdout, "a checkpoint push that fails is reported"
    assert run.status().state == "done" and run.result() and run.status().publication == "unpublished"
    assert last(run, "checkpoint_not_pushed")["step"] and not any(
        e["type"] == "checkpoint_pushed" for e in run.events()[0]
    )
    listed = call(hub, "alice", tmp_path / "home", "runs", "--json")
    assert listed.returncode == 0
    hub.clear_faults()
    later = call(hub, "alice", tmp_path / "home", "publish", run.folder, "--json")
    assert later.returncode == 0 and events(later.stdout)[-1]["verified"], later.stderr
    assert not hub.repo("alice/tuned").private and run.status().publication == "published"
    over = call(hub, "alice", tmp_path / "other" / "home", "resume", "alice/tuned")
    assert over.returncode == 2 and "must hold checkpoints" in over.stderr


def test_a_finished_run_is_not_resumed_from_its_checkpoints(hub: HubServer, tmp_path: Path) -> None:
    fill(hub, tmp_path)
    sections = {"hub": {"repo": "tuned", "push": True, "checkpoints": True}, "method": {"name": "lora"}}
    done = call(hub, "alice", tmp_path / "home", "train", configuration(tmp_path, **sections))
    assert done.returncode == 0 and "checkpoint of step" in done.stdout, done.stderr
    over = call(hub, "alice", tmp_path / "other" / "home", "resume", "alice/tuned")
    assert over.returncode == 2 and "alice/tuned is done, and its model is published" in over.stderr


@pytest.mark.long
def test_a_token_that_ends_in_the_middle_costs_no_training(hub: HubServer, tmp_path: Path) -> None:
    """As that of a sign-in does after hours: checkpoints stay here, and so does the model, to be published later."""
    fill(hub, tmp_path)
    token = hub.token("alice")
    hub.fault("commit", times=1, do=lambda record: hub.revoke(token))
    sections = {"hub": {"repo": "alice/tuned", "push": True, "checkpoints": True}}
    done = call(hub, "alice", tmp_path / "home", "train", configuration(tmp_path, **sections))
    run = Run(tmp_path / "run")
    assert done.returncode == 1 and "expired or was revoked" in done.stderr
    assert run.status().state == "done" and run.artifact.is_dir() and run.checkpoint() is not None
    assert last(run, "checkpoint_not_pushed") and run.status().publication == "unpublished"
    assert token not in held(run.folder) + done.stdout + done.stderr
    hub.store.tokens[token].revoked = False
    later = call(hub, "alice", tmp_path / "home", "publish", run.folder, "--no-verify")
    assert later.returncode == 0, later.stderr
