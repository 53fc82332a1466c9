"""Comparing a local run with models of the Hub: asked about the run's test rows, never trained again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hftransfer.runs import Run
from tests.hub.finished import call, events
from tests.hub_server import HubServer

pytestmark = pytest.mark.slow


def files_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_published_run_is_compared_with_a_local_one(hub: HubServer, run: Run, tmp_path: Path) -> None:
    home = tmp_path / "home"
    published = call(hub, "alice", home, "publish", run.folder, "alice/model", "--no-verify", "--license", "mit")
    assert published.returncode == 0, published.stderr
    done = call(hub, "alice", home, "compare", run.folder, "alice/model", "output=out", "--json")
    assert done.returncode == 0, done.stderr
    (found,) = events(done.stdout)
    ours, theirs = (next(one for one in found["models"] if one["name"] == name) for name in ("lora", "alice/model"))
    assert theirs["value"] == ours["value"] and theirs["method"] == "lora"
    assert theirs["trainable_parameters"] == ours["trainable_parameters"] and theirs["seconds"] > 0
    notes = json.loads(hub.files("alice/model")["hftransfer.json"])["cost"]
    assert theirs["seconds"] == notes["alone_seconds"] <= ours["seconds"], "but for the time of saving it, the same"
    assert "Their answers are the same on all" in found["verdict"]
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["verdict"] == found["verdict"]
    assert not list((tmp_path / "out").glob("run*"))


def test_models_from_elsewhere(hub: HubServer, run: Run, tmp_path: Path) -> None:
    """One without hftransfer.json whose labels match, and what is refused: other labels, no access, no head."""
    files = files_of(run.artifact)
    foreign = {name: body for name, body in files.items() if "/" not in name and name != "hftransfer.json"}
    hub.create_repo("bob/foreign", files=foreign)
    settings = json.loads(foreign["config.json"])
    joyful = {"id2label": {"0": "negative", "1": "joyful"}, "label2id": {"negative": 0, "joyful": 1}}
    hub.create_repo("bob/joyful", files=foreign | {"config.json": json.dumps(settings | joyful).encode()})
    hub.create_repo("bob/private", private=True, files=files)
    hub.create_repo("bob/gated", gated="manual", files=files)
    bare = {name: body for name, body in settings.items() if name not in ("architectures", "id2label", "label2id")}
    hub.create_repo(
        "bob/bare", files=foreign | {"config.json": json.dumps(bare | {"architectures": ["BertModel"]}).encode()}
    )
    home = tmp_path / "home"
    done = call(hub, None, home, "compare", run.folder, "bob/foreign", "--json")
    assert done.returncode == 0, done.stderr
    (found,) = events(done.stdout)
    assert {one["method"] for one in found["models"]} == {"lora", "as it is"}
    assert found["models"][0]["value"] == found["models"][1]["value"]
    assert any("What it took to make bob/foreign is not known" in note for note in found["notes"])
    for name, said in (
        ("bob/joyful", "a model with the labels negative, positive is needed; bob/joyful has negative, joyful"),
        ("bob/private", "no bob/private for this token"),
        ("bob/gated", "bob/gated is gated"),
        ("bob/none", "no bob/none for this token"),
        ("bob/bare", "a model with a task head is needed"),
    ):
        refused = call(hub, None, home, "compare", run.folder, name)
        assert refused.returncode == 2 and said in refused.stderr, (name, refused.stderr)
        assert "Traceback" not in refused.stderr and refused.stderr.count("\n") == 1, refused.stderr
