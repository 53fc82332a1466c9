"""What a run will need of the Hub, found out before it starts: each thing that is missing, in words, with its page."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.hub.conftest import python
from tests.hub.finished import call
from tests.hub_server import HubServer

ASK = """
import json, os, sys
from hftransfer import catalog
from hftransfer.errors import UserError
from hftransfer.hub import access, retrying

retrying.PAUSES = (0.05, 0.05)

def ask(token, **changes):
    os.environ.pop("HF_TOKEN", None)
    if token:
        os.environ["HF_TOKEN"] = token
    tree = {"task": "text-classification", "model": ".", "data": {"source": "./rows.csv"}, **changes}
    try:
        found = access.require(catalog.build_config(tree))
    except UserError as error:
        return str(error)
    return [found.user, found.repo, found.exists]

def to(repo):
    return {"repo": repo, "push": True}
"""


def answers(hub: HubServer, home: Path, cases: dict[str, str]) -> dict[str, Any]:
    """Ask once for each case, in one process; nothing but the token changes between them."""
    code = textwrap.dedent(ASK) + "print(json.dumps({" + ", ".join(f"{n!r}: {c}" for n, c in cases.items()) + "}))"
    found: dict[str, Any] = json.loads(python(code, hub, None, home).stdout.splitlines()[-1])
    return found


def test_who_may_publish_where(hub: HubServer, tmp_path: Path) -> None:
    hub.add_org("lab", {"alice": "contributor"})
    hub.create_repo("alice/there", files={"hftransfer.json": b"{}", "config.json": b"{}"})
    hub.create_repo("alice/empty", files={"README.md": b"mine"})
    hub.create_repo("alice/other", files={f"{i}.bin": b"x" for i in range(5)})
    hub.create_repo("bob/secret", private=True)
    hub.create_repo("bob/open")
    write, read = hub.token("alice"), hub.token("alice", "read")
    fine = hub.token("alice", "fine", scopes={"alice": ["repo.content.read"], "acme": ["repo.write"]})
    revoked = hub.token("alice", "write")
    spare = hub.token("bob")
    hub.revoke(spare)
    before = hub.repos
    carol = hub.token("carol")
    found = answers(hub, tmp_path / "home", {
        "new": f"ask({write!r}, hub=to('alice/new'))",
        "bare name": f"ask({write!r}, hub=to('new'))",
        "org": f"ask({write!r}, hub=to('acme/new'))",
        "contributor": f"ask({write!r}, hub=to('lab/new'))",
        "ours": f"ask({write!r}, hub=to('alice/there'))",
        "empty": f"ask({write!r}, hub=to('alice/empty'))",
        "not asked": f"ask({write!r})",
        "fine, there": f"ask({fine!r}, hub=to('acme/new'))",
        "other files": f"ask({write!r}, hub=to('alice/other'))",
        "read-only": f"ask({read!r}, hub=to('alice/new'))",
        "nobody": "ask(None, hub=to('alice/new'))",
        "revoked": f"ask({spare!r}, hub=to('bob/new'))",
        "fine, elsewhere": f"ask({fine!r}, hub=to('alice/new'))",
        "stranger": f"ask({write!r}, hub=to('bob/new'))",
        "stranger's repo": f"ask({write!r}, hub=to('bob/open'))",
        "stranger's secret": f"ask({write!r}, hub=to('bob/secret'))",
        "reader in org": f"ask({carol!r}, hub=to('acme/new'))",
        "bad name": f"ask({write!r}, hub=to('a/b/c'))",
        "only checkpoints": f"ask({read!r}, hub={{'repo': 'alice/new', 'checkpoints': True}})",
    })  # fmt: skip
    assert revoked
    assert found["new"] == found["bare name"] == ["alice", "alice/new", False]
    assert found["org"] == ["alice", "acme/new", False]
    assert found["contributor"] == ["alice", "lab/new", False]
    assert found["ours"] == ["alice", "alice/there", True]
    assert found["empty"] == ["alice", "alice/empty", True]
    assert found["not asked"] == [None, None, False]
    assert found["fine, there"] == ["alice", "acme/new", False]
    settings = f"{hub.endpoint}/settings/tokens"
    assert "holds 5 other files (0.bin, 1.bin, 2.bin, ...)" in found["other files"]
    assert f"{hub.endpoint}/alice/other" in found["other files"]
    assert "the token of alice is read-only" in found["read-only"] and settings in found["read-only"]
    assert found["only checkpoints"] == found["read-only"]
    assert "none is set" in found["nobody"] and settings in found["nobody"]
    assert "expired or was revoked" in found["revoked"] and settings in found["revoked"]
    assert "lacks repo.write for alice" in found["fine, elsewhere"] and settings in found["fine, elsewhere"]
    for name in ("stranger", "stranger's repo", "stranger's secret"):
        assert "alice does not belong to bob" in found[name] and f"{hub.endpoint}/bob" in found[name]
    assert "carol has the role read" in found["reader in org"] and f"{hub.endpoint}/acme" in found["reader in org"]
    assert "a repo is named user/name" in found["bad name"]
    assert hub.repos == before, "a check must make nothing"
    assert not [one for one in hub.requests if one.method in ("PUT", "DELETE")] and not hub.leaks


def test_who_may_read_what(hub: HubServer, tmp_path: Path) -> None:
    hub.create_repo("bob/gated", gated="manual")
    hub.create_repo("bob/let-in", gated="auto")
    hub.grant("bob/let-in", "alice")
    hub.create_repo("bob/rows", kind="dataset", private=True)
    hub.create_repo("alice/rows", kind="dataset", private=True)
    hub.create_repo("bob/open")
    alice, expired = hub.token("alice"), hub.token("carol", "read")
    hub.revoke(expired)
    found = answers(hub, tmp_path / "home", {
        "open": "ask(None, model='bob/open')",
        "let in": f"ask({alice!r}, model='bob/let-in', data={{'source': 'alice/rows'}})",
        "gated": f"ask({alice!r}, model='bob/gated')",
        "gated, nobody": "ask(None, model='bob/gated')",
        "private": f"ask({alice!r}, data={{'source': 'bob/rows'}})",
        "missing": f"ask({alice!r}, model='bob/nothing')",
        "all at once": f"ask({alice!r}, model='bob/gated', data={{'source': 'bob/rows'}}, hub=to('bob/new'))",
        "expired": f"ask({expired!r}, model='bob/open')",
    })  # fmt: skip
    assert found["open"] == found["let in"] == [None, None, False]
    for name in ("gated", "gated, nobody"):
        assert "bob/gated is gated" in found[name] and f"{hub.endpoint}/bob/gated" in found[name]
    assert "no access yet" in found["gated"] and "nobody is logged in" in found["gated, nobody"]
    assert "no bob/rows for this token" in found["private"] and f"{hub.endpoint}/datasets/bob/rows" in found["private"]
    assert "no bob/nothing for this token" in found["missing"]
    assert found["all at once"].startswith("3 problems") and found["all at once"].count("\n") == 3
    assert "expired or was revoked" in found["expired"]


@pytest.mark.parametrize(("status", "tries"), [(503, 2), (429, 1)])
def test_a_busy_hub_is_asked_again(hub: HubServer, tmp_path: Path, status: int, tries: int) -> None:
    hub.fault("whoami", status=status, times=tries, headers={"Retry-After": "0"})
    hub.fault("auth-check", status=status, times=tries, headers={"Retry-After": "0"})
    token = hub.token("alice")
    found = answers(hub, tmp_path / "home", {"new": f"ask({token!r}, hub=to('alice/new'))"})
    assert found["new"] == ["alice", "alice/new", False] and len(hub.fired) == 2 * tries


def test_a_hub_that_stays_broken_is_named(hub: HubServer, tmp_path: Path) -> None:
    hub.fault("whoami", status=500, times=None)
    found = answers(hub, tmp_path / "home", {"new": f"ask({hub.token('alice')!r}, hub=to('alice/new'))"})
    assert f"the Hub at {hub.endpoint} must answer; the Hub answers 500" in found["new"]


def test_check_says_it_before_anything_is_loaded(hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "task: text-classification\nmodel: alice/base\ndata: {source: alice/rows}\n"
        "hub: {repo: alice/new, push: true}\n"
    )
    done = call(hub, hub.token("alice", "read"), tmp_path / "home", "check", "c.yaml")
    assert done.returncode == 2 and "read-only" in done.stderr and "Traceback" not in done.stderr
    assert hub.token("alice", "read") not in done.stdout + done.stderr
    started = call(hub, hub.token("alice", "read"), tmp_path / "home", "train", "c.yaml", "output=run", "--json")
    assert started.returncode == 2 and "read-only" in started.stderr
    phases = [json.loads(line)["name"] for line in started.stdout.splitlines() if '"phase"' in line]
    assert phases == ["hub"], "nothing heavy may have been imported yet"


def test_without_the_hub_only_what_must_write_is_refused(hub: HubServer, tmp_path: Path) -> None:
    token = hub.token("alice")
    code = "os.environ['HF_HUB_OFFLINE'] = '1'\n"
    cases = f"print(json.dumps([ask({token!r}, model='bob/open'), ask({token!r}, hub=to('alice/new'))]))"
    out = python(textwrap.dedent(ASK) + code + cases, hub, None, tmp_path / "home").stdout
    reads, writes = json.loads(out.splitlines()[-1])
    assert reads == [None, None, False]
    assert "publish later" in writes and not hub.requests
