"""Pulling a model: by Hub id, at a commit, from the cache, never past the access rules, never running its code."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest

from hftransfer import catalog
from hftransfer.data import sources
from hftransfer.errors import UserError
from hftransfer.modeling import problems
from hftransfer.runs import Run
from tests import tiny
from tests.hub.conftest import python
from tests.hub.finished import call
from tests.hub_server import HubServer

pytestmark = pytest.mark.slow

ASK = """
import json, os
from hftransfer import Predictor
from hftransfer.errors import UserError

def ask(token, *where, **named):
    os.environ.pop("HF_TOKEN", None)
    if token:
        os.environ["HF_TOKEN"] = token
    try:
        return Predictor(*where, **named)("a lovely film")["label"]
    except UserError as error:
        return str(error)
"""


def answers(hub: HubServer, home: Path, cases: list[str], **env: str) -> list[Any]:
    """Evaluate each case in one process."""
    code = textwrap.dedent(ASK) + f"print(json.dumps([{', '.join(cases)}]))"
    found: list[Any] = json.loads(python(code, hub, None, home, **env).stdout.splitlines()[-1])
    return found


def test_training_runs_no_code_from_the_hub(hub: HubServer, tmp_path: Path) -> None:
    config = json.dumps({"model_type": "evil", "auto_map": {"AutoConfig": "trap.Config", "AutoModel": "trap.Model"}})
    trap = b"open('sprung', 'w')"
    hub.create_repo("bob/code", files={"config.json": config.encode(), "trap.py": trap})
    hub.create_repo("bob/script", kind="dataset", files={"script.py": trap})
    rows = tiny.text_csv(tmp_path / "rows.csv", 40)
    base = tiny.text_model(tmp_path / "model")
    tree = {"task": "text-classification", "model": str(base), "data": {"source": str(rows)}}
    (tmp_path / "c.yaml").write_text(json.dumps(tree))
    found = call(hub, "alice", tmp_path / "home", "check", "c.yaml", "model=bob/code")
    assert found.returncode == 2 and "bob/code asks to run its own code (trap.py)" in found.stderr
    found = call(hub, "alice", tmp_path / "home", "check", "c.yaml", "data.source=bob/script")
    assert found.returncode == 2 and "it is a script (script.py), which would run someone's code" in found.stderr
    assert not list(tmp_path.rglob("sprung"))


def test_a_download_that_breaks_is_taken_up_again(hub: HubServer, run: Run, tmp_path: Path) -> None:
    files = {p.relative_to(run.artifact).as_posix(): p.read_bytes() for p in run.artifact.rglob("*") if p.is_file()}
    hub.create_repo("alice/open", files=files)
    for fault in ({"cut": True}, {"cut": "fin"}, {"status": 503}, {"delay": 1.0}):
        hub.fault("cdn-get", **fault)
    assert answers(hub, tmp_path / "home", ["ask(None, 'alice/open')"]) == ["positive"]
    assert len(hub.fired) == 4


def test_wrong_bytes_of_the_right_length_are_told(hub: HubServer, run: Run, tmp_path: Path) -> None:
    files = {p.relative_to(run.artifact).as_posix(): p.read_bytes() for p in run.artifact.rglob("*") if p.is_file()}
    hub.create_repo("alice/open", files=files)
    hub.create_repo(
        "alice/rows", kind="dataset", files={"data.csv": tiny.text_csv(tmp_path / "r.csv", 40).read_bytes()}
    )
    hub.fault("cdn-get", garble=True)  # the weights: they load, and answer otherwise
    hub.fault("resolve", garble=True, when=lambda one: one.method == "GET" and one.path.endswith("/data.csv"))
    rows = """
def rows():
    from hftransfer.config import DataConfig
    from hftransfer.data.sources import open_source
    try:
        return open_source(DataConfig(source="alice/rows"), None).splits["train"].num_rows
    except UserError as error:
        return str(error)
"""
    code = (
        textwrap.dedent(ASK) + rows + "print(json.dumps([f() for f in (lambda: ask(None, 'alice/open'), rows) * 2]))"
    )
    found = json.loads(python(code, hub, None, tmp_path / "home").stdout.splitlines()[-1])
    assert len(hub.fired) == 2
    assert "alice/open must be here as the Hub has it; model.safetensors came with other bytes" in found[0]
    assert "alice/rows must be here as the Hub has it; data.csv came with other bytes" in found[1]
    assert found[2:] == ["positive", 40], "and what is fetched again is used"


@pytest.mark.parametrize("error", [OSError("no JSON"), ValueError("header"), UserError("a", "b", "c"), RuntimeError()])
def test_what_cannot_be_read_is_told_as_wrong_bytes_where_it_is(monkeypatch, error: Exception) -> None:
    """A configuration that is no JSON any more would stay in the cache for good, and the repo be blamed."""
    asked: list[Any] = []

    def bad(*found: Any) -> None:
        asked.append(found)
        raise UserError("acme/base must be here as the Hub has it", "config.json came with other bytes", "Try again.")

    config = catalog.build_config(
        {"task": "text-classification", "model": "acme/base", "data": {"source": "acme/rows"}}
    )
    with monkeypatch.context() as patched, pytest.raises(UserError, match="other bytes"):
        patched.setattr(problems.intact, "require", bad)
        with problems.explained(config, catalog.task("text-classification"), "acme/base"):
            raise error

    def unreadable(*_: Any) -> None:
        raise error

    with monkeypatch.context() as patched, pytest.raises(UserError, match="other bytes"):
        patched.setattr(sources.intact, "require", bad)
        patched.setattr(sources, "_open_hub", unreadable)
        sources.open_source(config.data, None)
    assert [found[1] for found in asked] == ["acme/base", "acme/rows"]


def test_pulling(hub: HubServer, run: Run, tmp_path: Path) -> None:
    files = {p.relative_to(run.artifact).as_posix(): p.read_bytes() for p in run.artifact.rglob("*") if p.is_file()}
    notes = json.loads(files["hftransfer.json"])
    first = hub.create_repo("alice/private", private=True, files=files).branches["main"]
    swapped = json.dumps(notes | {"answer": {"kind": "single_label", "names": ["positive", "negative"]}}).encode()
    hub.commit("alice/private", {"hftransfer.json": swapped})
    hub.create_repo("alice/newer", files=files | {"hftransfer.json": json.dumps(notes | {"schema": 99}).encode()})
    older = {name: notes[name] for name in ("task", "max_length", "columns", "config", "test")}
    older["labels"] = {name: notes["answer"][name] for name in ("kind", "names")}
    older["temperature"] = notes["answer"]["temperature"]
    hub.create_repo("alice/older", files=files | {"hftransfer.json": json.dumps(older | {"schema": 1}).encode()})
    remote = json.loads(files["config.json"]) | {"model_type": "evil", "auto_map": {"AutoConfig": "trap.Config"}}
    trap = b"open('sprung', 'w')"
    hub.create_repo(
        "alice/code", files={"config.json": json.dumps(remote).encode(), "trap.py": trap, "model.safetensors": b""}
    )
    gated = hub.create_repo("bob/gated", gated="manual", files=files)
    assert gated.gated
    alice, bob = hub.token("alice"), hub.token("bob")
    home = tmp_path / "home"
    found = answers(hub, home, [
        f"ask({alice!r}, 'alice/private', revision={first!r})",
        f"ask({alice!r}, 'alice/private')",
        f"ask({bob!r}, 'alice/private')",  # it is in this cache by now
        "ask(None, 'alice/private')",
        f"ask({alice!r}, 'bob/gated')",
        f"ask({bob!r}, 'bob/gated')",
        "ask(None, 'alice/newer')",
        "ask(None, 'alice/older')",
        "ask(None, 'alice/code')",
    ])  # fmt: skip
    assert found[:2] == ["positive", "negative"], "the revision decides"
    for refused in found[2:4]:
        assert "no alice/private for this token" in refused and f"{hub.endpoint}/alice/private" in refused
    assert "bob/gated is gated" in found[4] and found[5] == "positive"
    assert "schema 3 or older is needed; this one has schema 99. Upgrade" in found[6]
    assert found[7] == "positive"
    assert "alice/code asks to run its own code (trap.py)" in found[8]
    assert not list(tmp_path.rglob("sprung")) and not list(home.rglob("trap.py")), "not even fetched"

    # offline, and with a Hub that is gone: what is in the cache is used, at once
    hub.clear_log()
    case = f"ask(None, 'alice/private', revision={first!r})"
    assert answers(hub, home, [case], HF_HUB_OFFLINE="1") == ["positive"] and not hub.requests
    gone = answers(hub, home, [case, "ask(None, 'alice/never-pulled')"], HF_ENDPOINT="http://localhost:9")
    assert gone[0] == "positive" and "the Hub cannot be reached" in gone[1]
    assert not hub.leaks
