"""Recipes and notes of somebody else, taken up by `resume` and `reproduce`: what they may not decide, and lies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.hub.conftest import python
from tests.hub_server import HubServer

FROM = {"kind": "hub", "license": None, "languages": []}
SOURCES = {
    "model": {"name": "alice/base", "revision": "a" * 40, **FROM},
    "data": {"name": "alice/rows", "revision": "b" * 40, **FROM},
}
RECIPE = """
schema: 2
task: text-classification
model: alice/base
data: {source: alice/rows}
hub: {checkpoints: true, push: true, repo: victim/model}
"""
TUNED = {
    "attention": "sdpa", "bf16": False, "micro_batch": 8, "accumulation": 1, "workers": 0, "threads": 1,
    "channels_last": False, "origin": "timed",
}  # fmt: skip
NOTES: dict[str, Any] = {
    "schema": 1, "run": "r", "checkpoint": "checkpoint-5", "processes": 1, "tuned": TUNED, "lengths": {"tokens": 9},
    "data": {"type": "a type of its own", "rows": 3}, "sources": SOURCES,
}  # fmt: skip
PUBLISHED: dict[str, Any] = {
    "schema": 3, "run": "r", "task": "text-classification", "sources": SOURCES, "speed": TUNED,
    "config": {"schema": 2, "task": "text-classification", "model": "alice/base", "data": {"source": "alice/rows"}},
    "cost": {"processes": 2},
}  # fmt: skip
PREAMBLE = """
import json
from pathlib import Path
from hftransfer.errors import UserError
from hftransfer.hub import checkpoints, reproduction

def fetch(repo, *words):
    try:
        run = checkpoints.fetch(repo, list(words), Path(f"{repo.replace('/', '-')}-{len(words)}"))
    except UserError as error:
        return str(error)
    events = {event["type"]: event for event in run.events()[0]}
    return {"repo": run.config().hub.repo, "tuned": events["tuned"], "data": events["data"]["rows"]}

def prepare(repo, *words):
    try:
        run, processes = reproduction.prepare(repo, None, [*words, f"output={repo.replace('/', '-')}"])
    except UserError as error:
        return str(error)
    return {"processes": processes, "revision": run.config().revision}

"""


def asked(hub: HubServer, home: Path, *calls: str) -> list[Any]:
    """Evaluate calls in one process of an unpatched client."""
    done = python(PREAMBLE + f"print(json.dumps([{', '.join(calls)}]))", hub, "alice", home)
    found: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_checkpoints_of_somebody_else(hub: HubServer, tmp_path: Path) -> None:
    def put(name: str, recipe: str = RECIPE, **notes: Any) -> None:
        hub.create_repo(name, files={"README.md": "x"})
        there = hub.repo(name)
        assert there is not None
        there.branches["checkpoints"] = there.branches["main"]
        state = json.dumps({"best_model_checkpoint": "checkpoint-5"})
        held = {"checkpoints.json": json.dumps({**NOTES, **notes}), "run.yaml": recipe}
        hub.commit(name, {**held, "checkpoints/checkpoint-5/trainer_state.json": state}, branch="checkpoints")

    put("bob/good")
    put("bob/metric", RECIPE + "evaluation: {metrics: [bob/metric]}\n")
    put("bob/kernel", tuned={**TUNED, "attention": "bob/kernel"})
    put("bob/many", processes="many")
    put("bob/none", sources=3)
    put("bob/yaml", "a: [")
    put("bob/bytes")
    hub.fault("resolve", garble=True, when=lambda one: one.method == "GET" and "/bob/bytes/" in one.path)
    names = ("good", "metric", "kernel", "many", "none", "yaml", "bytes", "bytes")
    good, metric, kernel, many, none, yaml, garbled, again, trusted = asked(
        hub, tmp_path / "home", *(f"fetch('bob/{name}')" for name in names),
        "fetch('bob/metric', 'evaluation.metrics=[bob/metric]')",
    )  # fmt: skip
    assert good["repo"] == "bob/good", "it writes where it came from, whatever it says"
    assert good["data"] == 3 and good["tuned"]["micro_batch"] == 8
    assert "its evaluation.metrics is 'bob/metric', which runs somebody's code" in metric
    assert "hftransfer resume bob/metric evaluation.metrics=" in metric and trusted["repo"] == "bob/metric"
    assert "a kernel of transformers is needed in the notes; they say 'bob/kernel'" in kernel
    assert "a number of processes is needed in the notes; they say 'many'" in many
    for words in (none, yaml):
        assert "must hold what hftransfer writes" in words and "made by something else, or is damaged" in words
    assert "bob/bytes must be here as the Hub has it" in garbled and "came with other bytes" in garbled
    assert again["repo"] == "bob/bytes", "what is fetched again is used"


def test_notes_of_somebody_else(hub: HubServer, tmp_path: Path) -> None:
    cases: dict[str, dict[str, Any]] = {
        "good": {}, "pickle": {"config": {**PUBLISHED["config"], "allow_pickle": True}},
        "kernel": {"speed": {**TUNED, "attention": "bob/kernel"}}, "none": {"config": 7},
        "place": {"config": {**PUBLISHED["config"], "data": {"source": "alice/rows", "validation": "/etc/passwd"}}},
    }  # fmt: skip
    for name, more in cases.items():
        hub.create_repo(f"bob/{name}", files={"hftransfer.json": json.dumps({**PUBLISHED, **more})})
    good, pickle, kernel, none, place = asked(
        hub, tmp_path / "home", *(f"prepare('bob/{name}')" for name in cases)
    )  # fmt: skip
    assert good == {"processes": 2, "revision": "a" * 40}
    assert "its allow_pickle is true, which reads pickled weights" in pickle
    assert "a kernel of transformers is needed" in kernel and "must hold what hftransfer writes" in none
    assert "its data.validation is '/etc/passwd', which is a place on the machine of whoever runs it" in place


pytestmark = pytest.mark.slow
