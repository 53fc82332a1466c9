"""The tests' own Hub, shown to be one: unpatched clients upload to it, download from it, and fail as they do there."""

from __future__ import annotations

import hashlib
import io
import json
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request
from http.client import HTTPMessage
from pathlib import Path
from typing import Any

import pandas
import pytest

from tests.hub.conftest import ROOT, python
from tests.hub_server import HubServer

PRELUDE = """
import json, os, pathlib
from huggingface_hub import *

def fails(call, *args, **named):
    try:
        call(*args, **named)
    except Exception as error:
        return [type(error).__name__, getattr(getattr(error, "response", None), "status_code", None), str(error)]

def tell(**found):
    print(json.dumps(found))

api = HfApi()
"""
BYTES = 1_500_000
BIG = 16_000_000  # more than the buffers between two processes hold
METRIC = """
import datasets
import evaluate

class Mine(evaluate.Metric):
    def _info(self):
        features = datasets.Features({"predictions": datasets.Value("int32"), "references": datasets.Value("int32")})
        return evaluate.MetricInfo(description="d", citation="c", inputs_description="i", features=features)

    def _compute(self, predictions, references):
        return {"right": sum(p == r for p, r in zip(predictions, references)) / len(references)}
"""


def told(code: str, hub: HubServer, user: str | None, home: Path, **env: str) -> Any:
    """Run code after the prelude and return what it told."""
    done = python(PRELUDE + textwrap.dedent(code), hub, user, home, **env)
    return json.loads(done.stdout.splitlines()[-1])


def get(
    url: str, token: str | None = None, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, HTTPMessage, bytes]:
    """One request without a client; redirects are not followed."""

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), Stay)
    try:
        with opener.open(urllib.request.Request(url, body, headers, method=method), timeout=20) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def folder_of(path: Path) -> dict[str, bytes]:
    """Write a folder to upload: text, a large file, files in a folder."""
    files = {
        "README.md": b"---\nlicense: mit\n---\n# A model\n",
        "config.json": b'{"model_type": "bert"}',
        "model.safetensors": _noise(BYTES),
        "sub/deep/weights.bin": _noise(40_000, 2),
        "sub/empty.txt": b"",
    }
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return files


def _noise(count: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(count)


# up and down


@pytest.mark.parametrize("xet", [False, True], ids=["lfs", "xet"])
def test_a_folder_goes_up_and_comes_back(xet: bool, tmp_path: Path) -> None:
    files = folder_of(tmp_path / "folder")
    upload = f"""
        api.create_repo("alice/x", private=True, exist_ok=True)
        made = api.upload_folder(repo_id="alice/x", folder_path={str(tmp_path / "folder")!r}, commit_message="first")
        """
    with HubServer(xet=xet) as hub:
        first = told(f"{upload}\n        tell(oid=made.oid)", hub, "alice", tmp_path / "one")
        repo = hub.repo("alice/x")
        assert repo is not None and repo.private
        assert [commit.title for commit in repo.commits] == ["initial commit", "first"]
        assert repo.commits[-1].oid == first["oid"] and repo.commits[-1].author == "alice"
        held = hub.files("alice/x")
        assert {name: held[name] for name in files} == files
        assert set(held) - set(files) == {".gitattributes"}
        large = len(files["model.safetensors"]) + len(files["sub/deep/weights.bin"])
        small = sum(map(len, files.values())) - large
        assert large + small <= hub.uploaded_bytes <= 1.01 * large + small
        assert ("xet-token" in {one.route for one in hub.requests}) == xet
        assert bool([one for one in hub.requests if one.route == "lfs-put"]) != xet

        hub.clear_log()
        code = f"""{upload}
        pulled = pathlib.Path(snapshot_download("alice/x"))
        path = hf_hub_download("alice/x", "model.safetensors", revision=made.oid[:12], local_dir="elsewhere")
        found = {{str(one.relative_to(pulled)): one.read_bytes().hex() for one in pulled.rglob("*") if one.is_file()}}
        tell(oid=made.oid, pulled=found, same=open(path, "rb").read().hex() == found["model.safetensors"])
        """
        again = told(code, hub, "alice", tmp_path / "two")
        assert again["oid"] == first["oid"] and again["same"]
        assert hub.uploaded_bytes == 0 and "commit" not in {one.route for one in hub.requests}
        assert {name: bytes.fromhex(content) for name, content in again["pulled"].items()} == held
        assert bool([one for one in hub.requests if one.route == "cdn-get"]) != xet
        assert not hub.leaks and not [one for one in hub.requests if one.server == "cdn" and one.authorized]


def test_xet_clients_that_live_at_the_same_time_do_not_lock_each_other_out(xet_hub: HubServer, tmp_path: Path) -> None:
    hub = xet_hub
    code = """
    import time
    api.create_repo("alice/NAME")
    api.upload_file(repo_id="alice/NAME", path_in_repo="a.bin", path_or_fileobj=CONTENT)
    pathlib.Path("up").touch()
    while not all(pathlib.Path(f"../{one}/up").exists() for one in ("a", "b")):
        time.sleep(0.02)
    shared = hf_hub_download("alice/NAME", "a.bin")
    tell(same=open(shared, "rb").read() == CONTENT, bytes=len(CONTENT))
    """
    code = "import random\nCONTENT = random.Random(1).randbytes(300_000)\n" + textwrap.dedent(code)
    answers: dict[str, Any] = {}

    def client(name: str) -> None:
        answers[name] = told(code.replace("NAME", name), hub, "alice", tmp_path / name)

    threads = [threading.Thread(target=client, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {name: {"same": True, "bytes": 300_000} for name in ("a", "b")}
    assert hub.files("alice/a")["a.bin"] == hub.files("alice/b")["a.bin"]
    hub.create_repo("alice/c")  # where nothing was sent, a hash alone brings nothing
    pointer = {"path": "a.bin", "algo": "sha256", "oid": hashlib.sha256(_noise(300_000)).hexdigest(), "size": 300_000}
    lines = [{"key": "header", "value": {"summary": "a"}}, {"key": "lfsFile", "value": pointer}]
    body = "\n".join(map(json.dumps, lines)).encode()
    taken = {
        name: get(f"{hub.endpoint}/api/models/alice/{name}/commit/main", hub.token("alice"), "POST", body)[0]
        for name in "ac"
    }
    assert taken == {"a": 200, "c": 400}


def test_large_files_go_up_in_parts_and_many_files_in_batches(tmp_path: Path) -> None:
    (tmp_path / "many" / "skip").mkdir(parents=True)
    for number in range(258):
        (tmp_path / "many" / f"{number}.txt").write_text(str(number))
    (tmp_path / "many" / "skip" / "no.txt").write_text("no")
    (tmp_path / "many" / ".gitignore").write_text("skip/\n")
    with HubServer(multipart=200_000, lfs_threshold=100_000) as hub:
        hub.create_repo("alice/x")
        code = f"""
        api.upload_file(repo_id="alice/x", path_in_repo="a.bin", path_or_fileobj=bytes(range(256)) * 3000)
        api.upload_file(repo_id="alice/x", path_in_repo="long.txt", path_or_fileobj=b"word " * 30000)
        api.upload_file(repo_id="alice/x", path_in_repo="odd.xyz", path_or_fileobj=b"binary\\0")
        api.upload_file(repo_id="alice/x", path_in_repo="latin.xyz", path_or_fileobj=b"caf\\xe9 au lait")
        api.upload_folder(repo_id="alice/x", folder_path={str(tmp_path / "many")!r})
        names = ["a.bin", "long.txt", "odd.xyz", "latin.xyz", "1.txt"]
        tell(mode=[one.lfs is not None for one in api.get_paths_info("alice/x", names)])
        """
        assert told(code, hub, "alice", tmp_path)["mode"] == [True, True, True, True, False]
        held = hub.files("alice/x")
        assert held["a.bin"] == bytes(range(256)) * 3000 and held["long.txt"] == b"word " * 30000
        assert len([one for one in hub.requests if one.route == "lfs-put"]) == 7
        assert "long.txt filter=lfs" in held[".gitattributes"].decode()  # a clone must know that it is a pointer
        assert held["257.txt"] == b"257" and ".gitignore" in held and "skip/no.txt" not in held
        assert len([one for one in hub.requests if one.route == "preupload"]) == 6
        assert hub.uploaded_bytes == sum(map(len, held.values())) - len(held[".gitattributes"])


def test_commits_copy_delete_and_rename(hub: HubServer, tmp_path: Path) -> None:
    hub.create_repo(
        "alice/x", files={"a.txt": "one", "big.bin": b"\0" * 100, "old/b.txt": "two", "old/c.txt": "three"}
    )
    code = """
    api.create_commit("alice/x", [
        CommitOperationCopy("big.bin", "copy/big.bin"), CommitOperationCopy("a.txt", "copy/a.txt"),
        CommitOperationDelete("old/"), CommitOperationAdd("new.txt", b"four"),
    ], commit_message="many things", commit_description="and why")
    gone = fails(api.delete_file, "nothing.txt", "alice/x")
    nothing = {"folder_path": ".", "path_in_repo": "copy", "allow_patterns": "none"}
    api.upload_folder(repo_id="alice/x", **nothing, delete_patterns="*.txt")
    first, *_ = api.list_repo_commits("alice/x")
    tell(gone=gone, files=api.list_repo_files("alice/x"), title=first.title, authors=first.authors,
         titles=[one.title for one in api.list_repo_commits("alice/x")])
    """
    found = told(code, hub, "alice", tmp_path)
    assert found["files"] == [".gitattributes", "a.txt", "big.bin", "copy/big.bin", "new.txt"]
    assert (
        found["gone"][:2] == ["RemoteEntryNotFoundError", 404]
        and "A file with this name doesn't exist" in found["gone"][2]
    )
    assert found["titles"][1:] == ["many things", "Upload files", "initial commit"] and found["authors"] == ["alice"]
    assert hub.files("alice/x")["copy/big.bin"] == b"\0" * 100
    repo = hub.repo("alice/x")
    assert repo is not None and repo.commits[2].message == "and why"


# who may do what


def test_who_may_do_what(hub: HubServer, tmp_path: Path) -> None:
    for name, options in {"public": {}, "private": {"private": True}, "gated": {"gated": "manual"}}.items():
        hub.create_repo(f"alice/{name}", files={"config.json": "{}"}, **options)
        hub.create_repo(f"acme/{name}", files={"config.json": "{}"}, **options)
    hub.grant("alice/gated", "carol")
    tokens = {
        "nobody": False,
        "bad": "hf_" + "x" * 34,
        "alice": hub.token("alice"),
        "reading": hub.token("alice", "read"),
        "fine": hub.token("alice", "fine", scopes={"alice/public": ["repo.write"]}),
        "own": hub.token("alice", "fine", scopes={"alice": ["repo.content.read", "repo.write"]}),
        "open": hub.token("carol", "fine", gated_repos=True),
        "shut": hub.token("carol", "fine"),
        "bob": hub.token("bob"),
        "carol": hub.token("carol"),
    }
    code = f"""
    tokens = {tokens!r}
    found = {{}}
    for name, token in tokens.items():
        can = HfApi(token=token)
        for owner in ("alice", "acme"):
            for kind in ("public", "private", "gated"):
                repo = f"{{owner}}/{{kind}}"
                found[f"{{name}} info {{repo}}"] = fails(can.model_info, repo)
                found[f"{{name}} check {{repo}}"] = fails(can.auth_check, repo)
                found[f"{{name}} read {{repo}}"] = fails(
                    can.hf_hub_download, repo, "config.json", local_dir=f"{{name}}/{{repo}}")
                found[f"{{name}} write {{repo}}"] = fails(
                    can.upload_file, repo_id=repo, path_in_repo="a.txt", path_or_fileobj=name.encode() + repo.encode())
                found[f"{{name}} checked {{repo}}"] = fails(can.auth_check, repo, write=True)
            found[f"{{name}} create {{owner}}"] = fails(can.create_repo, f"{{owner}}/new-{{name}}")
    who = {{name: HfApi(token=tokens[name]).whoami() for name in ("reading", "alice", "fine", "carol")}}
    tell(found={{name: error and error[:2] for name, error in found.items()}}, text=found,
         roles={{name: who[name]["auth"]["accessToken"]["role"] for name in ("reading", "alice")}},
         fine=who["fine"]["auth"]["accessToken"]["fineGrained"],
         orgs=[[one["name"], one["roleInOrg"]] for one in who["carol"]["orgs"]],
         hidden=[one.id for one in HfApi(token=tokens["bob"]).list_models(author="alice")],
         shown=sorted(one.id for one in HfApi(token=tokens["alice"]).list_models(author="acme")))
    """
    answer = told(code, hub, "alice", tmp_path)
    found = answer["found"]

    def all_of(name: str, calls: str, repos: str) -> list[Any]:
        wanted = [f"{name} {call} {repo}" for call in calls.split() for repo in repos.split()]
        return [found[one] for one in wanted]

    def same(answers: list[Any]) -> Any:
        assert all(one == answers[0] for one in answers), answers
        return answers[0]

    everything = "alice/public alice/private alice/gated"
    private, gated, missing = "alice/private acme/private", "alice/gated acme/gated", ["RepositoryNotFoundError", 404]
    assert same(all_of("nobody", "info check read", "alice/public acme/public")) is None
    assert same(all_of("nobody", "info check read", private)) == ["RepositoryNotFoundError", 401]
    assert same(all_of("nobody", "check read", gated)) == ["GatedRepoError", 401]
    assert same(all_of("nobody", "info", gated)) is None  # what a gate protects is the files
    assert same(all_of("nobody", "write checked", "alice/public acme/public")) == ["HfHubHTTPError", 401]
    assert same(all_of("bad", "info check read write", everything)) == ["HfHubHTTPError", 401]
    assert same(all_of("alice", "info check read write checked", everything + " acme/public acme/private")) is None
    assert same(all_of("reading", "info check read", everything + " acme/private")) is None
    assert same(all_of("reading", "write checked", everything)) == ["HfHubHTTPError", 403]
    assert same(all_of("bob", "info check read write checked", private)) == missing
    assert same(all_of("bob", "check read", gated)) == ["GatedRepoError", 403]
    assert same(all_of("bob", "write checked", "alice/public acme/public")) == ["HfHubHTTPError", 403]
    assert same(all_of("carol", "info check read", "alice/gated acme/private acme/gated")) is None  # granted; a member
    assert same(all_of("carol", "write checked", "acme/public acme/private acme/gated")) == ["HfHubHTTPError", 403]
    assert same(all_of("carol", "info check read write", "alice/private")) == missing
    assert same(all_of("fine", "read write checked", "alice/public")) is None
    assert same(all_of("fine", "info read write", private)) == missing
    assert same(all_of("fine", "write checked", "acme/public")) == ["HfHubHTTPError", 403]
    assert same(all_of("own", "info check read write checked", everything)) is None
    assert same(all_of("own", "info read write", "acme/private")) == missing
    assert same(all_of("open", "check read", "alice/gated")) is None
    assert same(all_of("shut", "check read", "alice/gated")) == ["GatedRepoError", 403]
    creates = {name: (found[f"{name} create alice"], found[f"{name} create acme"]) for name in tokens}
    no, unknown = ["HfHubHTTPError", 403], ["HfHubHTTPError", 401]
    assert creates == {
        "nobody": (unknown, unknown), "bad": (unknown, unknown), "alice": (None, None), "reading": (no, no),
        "fine": (no, no), "own": (None, no), "open": (no, no), "shut": (no, no), "bob": (no, no), "carol": (no, no),
    }  # fmt: skip
    assert "Invalid credentials in Authorization header" in answer["text"]["bad info alice/public"][2]
    assert "you must use a write token" in answer["text"]["reading write alice/public"][2]
    assert "create_pr=1" in answer["text"]["bob write alice/public"][2]
    assert "rights to create a model" in answer["text"]["bob create alice"][2]
    assert answer["roles"] == {"reading": "read", "alice": "write"}
    scope = answer["fine"]["scoped"][0]
    assert answer["fine"]["canReadGatedRepos"] is False and scope["permissions"] == ["repo.write"]
    assert scope["entity"]["type"] == "model" and scope["entity"]["name"] == "alice/public"
    assert answer["orgs"] == [["acme", "read"]]
    assert "alice/private" not in answer["hidden"] and "alice/gated" in answer["hidden"]
    assert "acme/private" in answer["shown"]
    assert {one.user for one in hub.requests} == {None, "alice", "bob", "carol"} and not hub.leaks


def test_gates_open_and_repos_change_hands(hub: HubServer, tmp_path: Path) -> None:
    token = hub.token("bob")
    code = f"""
    bob = HfApi(token={token!r})
    api.create_repo("alice/x")
    api.upload_file(repo_id="alice/x", path_in_repo="a.txt", path_or_fileobj=b"a")
    api.update_repo_settings("alice/x", gated="manual", private=False)
    before = fails(bob.auth_check, "alice/x")
    api.grant_access("alice/x", "bob")
    twice = fails(api.grant_access, "alice/x", "bob")
    after = fails(bob.auth_check, "alice/x")
    listed = [one.username for one in api.list_accepted_access_requests("alice/x")]
    api.update_repo_settings("alice/x", private=True)
    hidden = fails(bob.model_info, "alice/x")
    api.move_repo("alice/x", "acme/y")
    moved = api.model_info("alice/x").id
    there = open(api.hf_hub_download("alice/x", "a.txt")).read()
    taken = fails(api.move_repo, "acme/y", "bob/y")
    api.delete_repo("acme/y")
    again = fails(api.delete_repo, "acme/y")
    api.delete_repo("acme/y", missing_ok=True)
    api.create_repo("alice/app", repo_type="space", space_sdk="gradio")
    api.upload_file(repo_id="alice/app", repo_type="space", path_in_repo="app.py", path_or_fileobj=b"1")
    space = api.space_info("alice/app")
    tell(before=before[:2], after=after, twice=twice[:2], listed=listed, hidden=hidden[:2], moved=moved, there=there,
         taken=taken[:2], again=again[:2], space=[space.sdk, space.runtime.stage, len(space.siblings)])
    """
    assert told(code, hub, "alice", tmp_path) == {
        "before": ["GatedRepoError", 403],
        "after": None,
        "twice": ["BadRequestError", 400],
        "listed": ["bob"],
        "hidden": ["RepositoryNotFoundError", 404],
        "moved": "acme/y",
        "there": "a",
        "taken": ["HfHubHTTPError", 403],
        "again": ["RepositoryNotFoundError", 404],
        "space": ["gradio", "RUNNING", 2],
    }
    assert hub.repos == [("space", "alice/app")] and hub.files("alice/app", kind="space")["app.py"] == b"1"


# history


def test_branches_tags_pull_requests_and_stale_parents(hub: HubServer, tmp_path: Path) -> None:
    first = hub.create_repo("alice/x", files={"a.txt": "one"}).commits[-1].oid
    code = f"""
    def put(content, **more):
        return api.upload_file(repo_id="alice/x", path_in_repo="a.txt", path_or_fileobj=content.encode(), **more)
    def read(revision):
        return open(hf_hub_download("alice/x", "a.txt", revision=revision)).read()
    bob = HfApi(token={hub.token("bob")!r})
    api.create_branch("alice/x", branch="try/this")
    api.create_branch("alice/x", branch="try/this", exist_ok=True)
    put("branch", revision="try/this")
    api.create_tag("alice/x", tag="v1", revision={first!r})
    ok = put("two", parent_commit={first!r})
    stale = fails(put, "three", parent_commit={first!r})
    missing = fails(put, "four", revision="nowhere")
    pull = bob.create_commit("alice/x", [CommitOperationAdd("b.txt", b"b")], commit_message="mine", create_pr=True)
    draft = bob.create_pull_request("alice/x", "a draft")
    more = [CommitOperationAdd("c.txt", b"c")]
    bob.create_commit("alice/x", more, commit_message="more", revision=draft.git_reference)
    refs = api.list_repo_refs("alice/x", include_pull_requests=True)
    tell(stale=stale, missing=missing[:2], pull=[pull.pr_revision, pull.pr_num], draft=draft.git_reference,
         content=[read(one) for one in ("main", "try/this", "v1", {first!r})],
         names=[[one.name for one in group] for group in (refs.branches, refs.tags, refs.pull_requests)],
         pulled=[open(hf_hub_download("alice/x", f"{{n}}.txt", revision=r)).read() for n, r in
                 (("b", pull.pr_revision), ("c", draft.git_reference))],
         titles=[one.title for one in api.get_repo_discussions("alice/x")],
         absent=fails(hf_hub_download, "alice/x", "b.txt")[:2], unknown=fails(hf_hub_download, "alice/x", "a.txt",
         revision="v9")[:2], twice=fails(api.create_tag, "alice/x", tag="v1")[:2])
    api.super_squash_history("alice/x", branch="main")
    api.delete_tag("alice/x", tag="v1")
    api.delete_branch("alice/x", branch="try/this")
    """
    found = json.loads(python(PRELUDE + textwrap.dedent(code), hub, "alice", tmp_path).stdout.splitlines()[-1])
    assert found["stale"][1] == 412 and "A commit has happened since" in found["stale"][2]
    assert found["missing"] == ["RevisionNotFoundError", 404]
    assert found["pull"] == ["refs/pr/1", 1] and found["draft"] == "refs/pr/2"
    assert found["content"] == ["two", "branch", "one", "one"]
    assert found["names"] == [["main", "try/this"], ["v1"], ["1", "2"]]
    assert found["pulled"] == ["b", "c"] and found["titles"] == ["a draft", "mine"]
    assert found["absent"] == ["RemoteEntryNotFoundError", 404]
    assert found["unknown"] == ["RevisionNotFoundError", 404]
    assert found["twice"] == ["HfHubHTTPError", 409]
    repo = hub.repo("alice/x")
    assert repo is not None and [one.parent for one in repo.commits] == [None]
    assert list(repo.branches) == ["main"] and not repo.tags
    assert hub.files("alice/x", revision="refs/pr/1")["b.txt"] == b"b"


def test_a_pull_request_through_xet(xet_hub: HubServer, tmp_path: Path) -> None:
    folder_of(tmp_path / "folder")
    xet_hub.create_repo("alice/x")
    code = f"""
    made = api.upload_folder(repo_id="alice/x", folder_path={str(tmp_path / "folder")!r}, create_pr=True)
    more = {{"repo_id": "alice/x", "path_in_repo": "more.bin", "path_or_fileobj": b"\\0" * 1000}}
    api.upload_file(**more, revision=made.pr_revision)
    tell(ref=made.pr_revision, main=fails(api.upload_file, **more)[:2])
    """
    answer = told(code, xet_hub, "bob", tmp_path / "home")
    assert answer == {"ref": "refs/pr/1", "main": ["HfHubHTTPError", 403]}
    assert xet_hub.files("alice/x", revision="refs/pr/1")["more.bin"] == bytes(1000)
    assert xet_hub.files("alice/x", revision="refs/pr/1")["model.safetensors"] == _noise(BYTES)
    assert list(xet_hub.files("alice/x")) == [".gitattributes"]
    code = """
    path = hf_hub_download("alice/x", "model.safetensors", revision="refs/pr/1")
    tell(size=os.path.getsize(path))
    """
    plain = told(code, xet_hub, None, tmp_path / "plain", HF_HUB_DISABLE_XET="1")  # such clients are served too
    assert plain["size"] == BYTES and [one.bytes_out for one in xet_hub.requests if one.server == "cdn"] == [BYTES]


# what is told about repos


def test_repos_are_listed_and_described(tmp_path: Path) -> None:
    card = "---\nlicense: mit\npipeline_tag: text-classification\nbase_model: acme/base\ntags: [films]\n---\n"
    weights = b'{"w":{"dtype":"F32","shape":[3,4],"data_offsets":[0,48]}}'
    weights = len(weights).to_bytes(8, "little") + weights + bytes(48)
    files = {"README.md": card, "model.safetensors": weights, "config.json": '{"model_type":"bert"}'}
    with HubServer(page_size=3) as hub:
        hub.create_repo("acme/base", likes=5, downloads=7)
        hub.create_repo("alice/films", files=files, likes=9, downloads=2)
        for number in range(5):
            hub.create_repo(
                f"bob/many-{number}", files={f"{n}/{n}.txt": "x" for n in "abcde"}, gated=number == 4 and "auto"
            )
        data = "---\nlanguage: [en]\ntask_categories: [text-classification]\n---\n"
        hub.create_repo("alice/reviews", kind="dataset", files={"README.md": data, "train.csv": "a\n1\n"})
        code = """
        def ids(found):
            return [one.id for one in found]
        info = api.model_info("alice/films")
        part = api.model_info("alice/films", expand=["safetensors", "cardData", "gated"])
        full = list(api.list_models(author="alice", full=True))[0]
        tell(
            many=ids(api.list_models(search="many", sort="created_at")),
            tagged=ids(api.list_models(filter="films")),
            task=ids(api.list_models(pipeline_tag="text-classification")),
            liked=ids(api.list_models(sort="likes", limit=2)),
            gated=ids(api.list_models(gated=True)),
            size=ids(api.list_models(num_parameters="min:1,max:1K")),
            data=ids(api.list_datasets(language="en", search="rev")),
            task_data=ids(api.list_datasets(task_categories="x")),
            tree=[one.path for one in api.list_repo_tree("bob/many-0", recursive=True)],
            folder=[[one.path, one.last_commit.title] for one in api.list_repo_tree("bob/many-0", "a", expand=True)],
            nothing=fails(lambda: list(api.list_repo_tree("bob/many-0", "z")))[:2],
            info=[info.pipeline_tag, info.library_name, info.card_data.license, info.safetensors.total, info.tags,
                  info.sha, info.likes, info.downloads, info.gated, info.private, info.author],
            part=[part.safetensors.parameters, part.card_data.base_model, part.gated, part.sha, part.siblings],
            full=[full.card_data.license, [one.rfilename for one in full.siblings]],
            paths=[one.path for one in api.get_paths_info("bob/many-0", ["a", "a/a.txt", "none"], expand=True)],
            exists=[api.repo_exists("alice/films"), api.repo_exists("alice/none"),
                    api.file_exists("alice/films", "x"), api.revision_exists("alice/films", "v3")],
            streamed=HfFileSystem().read_text("datasets/alice/reviews/train.csv"),
        )
        """
        found = told(code, hub, "alice", tmp_path)
        repo = hub.repo("alice/films")
    assert repo is not None
    assert found["many"] == [f"bob/many-{number}" for number in (4, 3, 2, 1, 0)]
    assert found["tagged"] == found["task"] == found["size"] == ["alice/films"]
    assert found["liked"] == ["alice/films", "acme/base"] and found["gated"] == ["bob/many-4"]
    assert found["data"] == ["alice/reviews"] and found["task_data"] == []
    assert sorted(found["tree"]) == sorted([".gitattributes", *"abcde", *(f"{n}/{n}.txt" for n in "abcde")])
    assert found["folder"] == [["a/a.txt", "Upload files"]] and found["nothing"] == ["RemoteEntryNotFoundError", 404]
    task, library, license_, total, tags, *rest = found["info"]
    assert (task, library, license_, total) == ("text-classification", "transformers", "mit", 12)
    assert {"films", "license:mit", "base_model:acme/base", "safetensors", "bert", "text-classification"} <= set(tags)
    assert rest == [repo.commits[-1].oid, 9, 2, False, False, "alice"]
    assert found["part"] == [{"F32": 12}, "acme/base", False, None, None]
    assert found["full"] == ["mit", [".gitattributes", "README.md", "config.json", "model.safetensors"]]
    assert found["paths"] == ["a", "a/a.txt"] and found["exists"] == [True, False, False, False]
    assert found["streamed"] == "a\n1\n"
    assert any("cursor" in one.query for one in hub.requests if one.route == "list")
    assert any("cursor" in one.query for one in hub.requests if one.route == "tree")


def test_cards_are_checked(hub: HubServer, tmp_path: Path) -> None:
    result = (
        "{task: {type: text-classification}, dataset: {type: imdb, name: IMDb}, metrics: [{type: accuracy, value: 1}]}"
    )
    good = (
        "license: mit\nlanguage: [en, deu]\npipeline_tag: fill-mask\nbase_model: acme/base\n"
        f"model-index: [{{name: x, results: [{result}]}}]"
    )
    bad = {
        "license: wtf": '"license" must be one of [apache-2.0, mit',
        "pipeline_tag: fly": 'The pipeline tag "fly" is not in the official list',
        "language: english": '"language" with value "english" is not valid',
        "base_model: ./local/folder": '"base_model" with value "./local/folder" is not valid',
        "base_model: /abs/olute": "is not valid. Use a model id",
        "tags: films": '"tags" must be an array',
        "model-index: [{results: []}]": '"model-index[0].name" is required',
        f"model-index: [{{name: x, results: [{result.replace('name: IMDb', 'more: 1')}]}}]": "results[0].dataset.name",
        f"model-index: [{{name: x, results: [{result.replace('value: 1', 'value: .nan')}]}}]": "metrics[0].value",
        "model-index: {name: x}": '"model-index" must be an array',
        "- a\n- list": '"metadata" must be of type object',
        "license: [mit": "expected",
    }
    hub.create_repo("alice/x")
    code = f"""
    import warnings
    good, bad = {good!r}, {list(bad)!r}
    def wrap(text):
        return f"---\\n{{text}}\\n---\\n# Title\\n"
    def put(text, **more):
        return api.upload_file(repo_id="alice/x", path_in_repo="README.md", path_or_fileobj=text.encode(), **more)
    put(wrap(good))
    card = ModelCard.load("alice/x")
    card.text = "changed"
    card.push_to_hub("alice/x")
    wrong = [fails(put, wrap(text)) for text in bad]
    pushed = fails(ModelCard("---\\nlicense: wtf\\n---\\n").push_to_hub, "alice/x")
    api._validate_yaml = lambda *args, **more: None  # a client that does not ask first
    slipped = fails(put, wrap("license: wtf"))
    with warnings.catch_warnings(record=True) as warned:
        HfApi().upload_file(repo_id="alice/x", path_in_repo="README.md", path_or_fileobj=b"# no metadata")
    tell(wrong=wrong, pushed=pushed, slipped=slipped, warned=[str(one.message) for one in warned])
    """
    found = told(code, hub, "alice", tmp_path)
    for text, answer in zip(bad.items(), found["wrong"], strict=True):
        assert answer[0] == "ValueError" and "Invalid metadata in README.md" in answer[2] and text[1] in answer[2], (
            text
        )
    assert found["pushed"][0] == "ValueError" and '- Error: "license" must be one of' in found["pushed"][2]
    assert found["slipped"][:2] == ["BadRequestError", 400] and "YAML metadata verification" in found["slipped"][2]
    assert any("empty or missing yaml metadata" in one for one in found["warned"])
    repo = hub.repo("alice/x")
    assert repo is not None and len(repo.commits) == 4  # the initial one, two good cards, the one without metadata


# bytes on the wire


def test_downloads_know_ranges_etags_and_two_origins(hub: HubServer) -> None:
    repo = hub.create_repo("alice/x", private=True, files={"a.txt": "0123456789", "b.bin": bytes(range(100))})
    token, base = hub.token("alice"), f"{hub.endpoint}/alice/x/resolve/main"
    status, headers, body = get(f"{base}/a.txt", token)
    assert status == 200 and body == b"0123456789" and headers["X-Repo-Commit"] == repo.commits[-1].oid
    assert headers["X-Request-Id"] and headers["ETag"].strip('"') == repo.commits[-1].tree["a.txt"].oid
    assert get(f"{base}/a.txt", token, If_None_Match=headers["ETag"])[0] == 304
    for wanted, content in {"bytes=2-4": b"234", "bytes=7-": b"789", "bytes=-2": b"89", "bytes=8-99": b"89"}.items():
        status, headers, body = get(f"{base}/a.txt", token, Range=wanted)
        assert (status, body) == (206, content) and headers["Content-Range"].endswith("/10")
    assert get(f"{base}/a.txt", token, Range="bytes=10-")[0] == 416
    status, headers, body = get(f"{base}/a.txt", token, method="HEAD")
    assert (status, headers["Content-Length"], body) == (200, "10", b"")

    status, headers, _ = get(f"{base}/b.bin", token)
    place = headers["Location"]
    assert status == 302 and place.startswith("http://127.0.0.1:") and hub.endpoint.startswith("http://localhost:")
    assert headers["X-Linked-Size"] == "100" and len(headers["X-Linked-Etag"].strip('"')) == 64
    assert get(place, Range="bytes=5-6")[2] == bytes([5, 6]) and get(place)[2] == bytes(range(100))
    assert get(place.partition("?")[0])[0] == 403  # without its signature
    assert get(place, method="PUT")[0] == 403 and not hub.leaks
    assert get(place, token)[0] == 400 and len(hub.leaks) == 1
    assert get(f"{place}&more={token}")[0] == 400 and len(hub.leaks) == 2
    assert get(place, "of-somebody-else")[0] == 400 and len(hub.leaks) == 3
    assert get(f"{hub.endpoint}/api/nothing")[0] == 404
    assert [one.bytes_out for one in hub.requests if one.path.endswith("a.txt")][:2] == [10, 0]


def test_large_file_storage_takes_only_what_was_promised(hub: HubServer, tmp_path: Path) -> None:
    hub.create_repo("alice/x")
    hub.create_repo("alice/y", files={"b.bin": b"\0secret"})
    code = """
    import hashlib
    import httpx2
    def batch(repo, oid, size):
        body = {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": oid, "size": size}]}
        headers = {"Authorization": f"Bearer {os.environ['HF_TOKEN']}"}
        url = f"{os.environ['HF_ENDPOINT']}/{repo}.git/info/lfs/objects/batch"
        return httpx2.post(url, json=body, headers=headers).json()["objects"][0].get("actions")
    def preupload(count):
        files = [{"path": f"{number}.txt", "size": 1, "sample": ""} for number in range(count)]
        url = f"{os.environ['HF_ENDPOINT']}/api/models/alice/x/preupload/main"
        headers = {"Authorization": f"Bearer {os.environ['HF_TOKEN']}"}
        return httpx2.post(url, json={"files": files}, headers=headers).status_code
    def commit(repo, oid, size):
        item = CommitOperationAdd("b.bin", b"x")
        item._upload_mode, item._is_uploaded, item._remote_oid, item._should_ignore = "lfs", True, None, False
        item.upload_info.sha256, item.upload_info.size = bytes.fromhex(oid), size
        return api.create_commit(repo, [item], commit_message="b")
    secret = hashlib.sha256(b"\\0secret").hexdigest()
    actions = batch("alice/x", secret, 7)
    wrong = httpx2.put(actions["upload"]["href"], content=b"something else").status_code
    tell(known=batch("alice/y", secret, 7), wrong=wrong, early=fails(commit, "alice/x", secret, 7),
         late=httpx2.put(actions["upload"]["href"], content=b"\\0secret").status_code,
         then=fails(commit, "alice/x", secret, 7), counts=[preupload(256), preupload(257)])
    """
    found = told(code, hub, "alice", tmp_path)
    assert found["known"] is None and found["wrong"] == 400
    # the hash of another repo's file does not give its content away
    assert found["early"][1] == 400 and "LFS pointer pointed to a file that does not exist" in found["early"][2]
    assert found["late"] == 200 and found["then"] is None and found["counts"] == [200, 400]
    assert hub.files("alice/x")["b.bin"] == b"\0secret"


def test_a_token_inside_an_uploaded_file_is_a_leak(hub: HubServer, tmp_path: Path) -> None:
    hub.create_repo("alice/x")
    code = """
    content = b"\\0" + os.environ["HF_TOKEN"].encode()
    api.upload_file(repo_id="alice/x", path_in_repo="args.bin", path_or_fileobj=content)
    tell()
    """
    told(code, hub, "alice", tmp_path)
    assert [one.route for one in hub.leaks] == ["lfs-put"]


# the libraries on top


@pytest.mark.slow
def test_transformers_and_evaluate_load_what_the_hub_has(hub: HubServer, tmp_path: Path) -> None:
    code = f"""
    import evaluate
    from tests import tiny
    from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, pipeline
    tiny.text_model(pathlib.Path("model"))
    model = AutoModelForSequenceClassification.from_pretrained("model", num_labels=2)
    model.push_to_hub("alice/tiny", private=True)
    AutoTokenizer.from_pretrained("model").push_to_hub("alice/tiny")
    loaded = AutoModel.from_pretrained("alice/tiny")
    metrics = [evaluate.load(name) for name in ("right_x", "alice/m")]
    scores = pipeline("text-classification", "alice/tiny")("the film was good")
    guessed = pipeline(model="alice/tiny").task
    def refused(token, repo="alice/tiny"):
        try:
            AutoModel.from_pretrained(repo, token=token, cache_dir="fresh")
        except OSError as error:
            return [type(error.__cause__).__name__, error.__cause__.response.status_code]
    tell(same=bool((loaded.embeddings.word_embeddings.weight == model.bert.embeddings.word_embeddings.weight).all()),
         label=scores[0]["label"], guessed=guessed, bob=refused({hub.token("bob")!r}), nobody=refused(False),
         gated=refused({hub.token("bob")!r}, "alice/gated"),
         metrics=[one.compute(predictions=[1, 0], references=[1, 1]) for one in metrics])
    """
    hub.create_repo("alice/gated", gated="manual", files={"config.json": "{}"})
    hub.create_repo("evaluate-metric/right_x", kind="space", files={"right_x.py": METRIC})
    hub.create_repo("alice/m", kind="space", files={"m.py": METRIC})
    found = told(code, hub, "alice", tmp_path / "home")
    assert found["same"] and found["label"] in ("LABEL_0", "LABEL_1") and found["guessed"] == "text-classification"
    assert found["bob"] == ["RepositoryNotFoundError", 404] and found["nobody"] == ["RepositoryNotFoundError", 401]
    assert found["gated"] == ["GatedRepoError", 403]
    assert found["metrics"] == [{"right": 0.5}, {"right": 0.5}]
    repo = hub.repo("alice/tiny")
    assert repo is not None and repo.private and "model.safetensors" in hub.files("alice/tiny") and not hub.leaks


@pytest.mark.slow
def test_a_checkpoint_push_that_fails_in_the_background_is_only_logged(hub: HubServer, tmp_path: Path) -> None:
    hub.fault("commit", status=500, times=None)
    code = """
    import torch
    from tests import tiny
    from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments
    tiny.text_model(pathlib.Path("model"))
    model = AutoModelForSequenceClassification.from_pretrained("model", num_labels=2)
    rows = [dict(input_ids=torch.tensor([2, 5, 3]), labels=torch.tensor(0)) for _ in range(4)]
    args = TrainingArguments("out", max_steps=2, save_steps=2, push_to_hub=True, hub_model_id="alice/run",
                             hub_always_push=True, use_cpu=True, report_to="none", disable_tqdm=True)
    trainer = Trainer(model, args, train_dataset=rows)
    trainer.train()
    last = trainer.push_in_progress
    tell(steps=trainer.state.global_step, failed=[type(one.exception()).__name__ for one in last.jobs if one.done()])
    """
    found = told(code, hub, "alice", tmp_path / "home")
    assert found["steps"] == 2 and "HfHubHTTPError" in found["failed"]
    assert "commit" in {one.name for one in hub.fired}
    repo = hub.repo("alice/run")
    assert repo is not None and [one.title for one in repo.commits] == ["initial commit"]


def test_datasets_loads_private_and_gated_data(hub: HubServer, tmp_path: Path) -> None:
    rows = pandas.DataFrame({"text": ["good", "bad"], "label": [1, 0]})
    buffer = io.BytesIO()
    rows.to_parquet(buffer)
    hub.create_repo("alice/csv", kind="dataset", private=True, files={"train.csv": rows.to_csv(index=False)})
    hub.create_repo("alice/parquet", kind="dataset", private=True, files={"data/test.parquet": buffer.getvalue()})
    hub.create_repo("alice/gated", kind="dataset", gated="auto", files={"train.csv": rows.to_csv(index=False)})
    code = f"""
    from datasets import Dataset, load_dataset
    bob = {hub.token("bob")!r}
    csv = load_dataset("alice/csv", split="train")
    parquet = load_dataset("alice/parquet", split="test")
    streamed = list(load_dataset("alice/csv", split="train", streaming=True))
    csv.push_to_hub("alice/pushed", private=True)
    back = load_dataset("alice/pushed", split="train")
    tell(csv=csv["text"][:], parquet=parquet["label"][:], streamed=len(streamed), back=back["label"][:],
         bob=fails(load_dataset, "alice/csv", token=bob, cache_dir="one"),
         nobody=fails(load_dataset, "alice/csv", token=False, cache_dir="two"),
         gated=fails(load_dataset, "alice/gated", token=bob, cache_dir="three"),
         closed=fails(load_dataset, "alice/gated", token=False, cache_dir="four"))
    """
    found = told(code, hub, "alice", tmp_path)
    assert found["csv"] == ["good", "bad"] and found["parquet"] == [1, 0]
    assert found["streamed"] == 2 and found["back"] == [1, 0]
    assert [found[name][0] for name in ("bob", "nobody", "gated", "closed")] == ["DatasetNotFoundError"] * 4
    assert "cannot be accessed" in found["bob"][2] and "cannot be accessed" in found["nobody"][2]
    assert "ask for access" in found["gated"][2] and "must be authenticated" in found["closed"][2]
    assert any(path.endswith(".parquet") for path in hub.files("alice/pushed", kind="dataset")) and not hub.leaks


# what goes wrong


def test_every_fault_is_met_by_a_client(hub: HubServer, tmp_path: Path) -> None:
    token, doomed = hub.token("alice"), hub.token("alice", "fine", scopes={"alice": ["repo.write"]})
    names = ("busy", "slow", "cut", "lost", "stale", "expired", "forbidden", "broken", "begun", "ended", "limited")
    for name in names:
        hub.create_repo(f"alice/{name}", files={"big.bin": b"\0" + _noise(200_000)})

    def on(name: str) -> Any:
        repo = hub.repo(f"alice/{name}")
        assert repo is not None
        return lambda record: name in record.path.split("/") or repo.key in record.path

    hub.fault("commit", status=503, when=on("busy"))
    hub.fault("preupload", status=429, headers={"Retry-After": "0"}, when=on("limited"))
    hub.fault("lfs-put", cut=True, when=on("cut"))
    hub.fault("commit", lost=True, when=on("lost"))
    hub.fault("commit", status=412, when=on("stale"))
    hub.fault("preupload", do=lambda _: hub.revoke(doomed), when=on("expired"))
    hub.fault("commit", status=403, when=on("forbidden"))
    hub.fault("tree", delay=0.4, when=on("slow"))
    hub.fault("info", status=500, times=None, when=on("broken"))
    hub.fault("cdn-get", cut=True, when=on("begun"))
    hub.fault("cdn-get", cut="fin", when=on("ended"))
    for name, status in {
        "whoami": 429,
        "validate": 502,
        "create": 500,
        "list": 503,
        "branch": 500,
        "refs": 500,
    }.items():
        hub.fault(name, status=status)
    hub.fault("auth-check", status=500, after=1)
    code = f"""
    import time
    from concurrent.futures import ThreadPoolExecutor
    def put(name, token=None, size=1000):
        return fails(HfApi(token=token).upload_file, repo_id=f"alice/{{name}}", path_in_repo="new.bin",
                     path_or_fileobj=b"\\0" * size)
    def pull(name):
        return fails(hf_hub_download, f"alice/{{name}}", "big.bin")
    def timed(call, *args):
        start = time.time()
        call(*args)
        return time.time() - start
    puts = ("busy", "limited", "lost", "stale", "forbidden")
    with ThreadPoolExecutor(12) as pool:  # clients wait a second before they try again: at the same time
        found = {{name: pool.submit(put, name) for name in puts}}
        found["cut"] = pool.submit(put, "cut", size={BIG})
        found["expired"] = pool.submit(put, "expired", {doomed!r})
        found |= {{name: pool.submit(pull, name) for name in ("begun", "ended")}}
        found["broken"] = pool.submit(fails, api.model_info, "alice/broken")
        found["slow"] = pool.submit(timed, lambda: list(api.list_repo_tree("alice/slow")))
        found["whoami"] = pool.submit(fails, api.whoami)
        found["validate"] = pool.submit(fails, ModelCard("---\\nlicense: mit\\n---\\n").validate)
        found["create"] = pool.submit(fails, api.create_repo, "alice/new")
        found["list"] = pool.submit(fails, lambda: list(api.list_models()))
        found["branch"] = pool.submit(fails, api.create_branch, "alice/slow", branch="b")
        found["refs"] = pool.submit(fails, api.list_repo_refs, "alice/slow")
    checks = [fails(api.auth_check, "alice/slow") for _ in range(3)]
    tell(checks=[one and one[1] for one in checks], **{{name: one.result() for name, one in found.items()}})
    """
    found = told(code, hub, token, tmp_path)
    first = {name: answer[:2] if isinstance(answer, list) else answer for name, answer in found.items()}
    assert first["busy"] == ["HfHubHTTPError", 503]  # a commit by hand is not tried again
    assert first["limited"] is None and first["cut"] is None  # these are
    assert first["lost"][0] == "RemoteProtocolError" or first["lost"][0] == "ReadError"
    assert first["stale"] == ["HfHubHTTPError", 412] and first["forbidden"] == ["HfHubHTTPError", 403]
    assert first["expired"] == ["HfHubHTTPError", 401] and first["broken"] == ["HfHubHTTPError", 500]
    assert first["begun"][0] == "ReadError" and first["ended"] is None
    assert 0.4 <= first["slow"] < 5
    assert first["whoami"] == ["HfHubHTTPError", 429] and first["validate"] == ["HfHubHTTPError", 502]
    assert first["create"] == first["branch"] == first["refs"] == ["HfHubHTTPError", 500] and first["list"] is None
    assert found["checks"] == [None, 500, None]
    assert "new.bin" in hub.files("alice/cut") and "new.bin" in hub.files("alice/lost")
    assert not any("new.bin" in hub.files(f"alice/{name}") for name in ("busy", "stale", "expired", "forbidden"))
    cut = [one for one in hub.requests if one.route == "lfs-put" and on("cut")(one)]
    assert [one.status for one in cut] == [0, 200] and BIG / 2 <= cut[0].bytes_in < BIG == cut[1].bytes_in
    assert {one.record.path for one in hub.fired if one.name == "preupload"} == {
        f"/api/models/alice/{name}/preupload/main" for name in ("limited", "expired")
    }
    assert len(hub.fired) == 18
    with pytest.raises(ValueError, match="no route is named comit"):
        hub.fault("comit")


def test_faults_on_the_way_through_xet(xet_hub: HubServer, tmp_path: Path) -> None:
    hub = xet_hub
    folder_of(tmp_path / "folder")
    for name in ("token", "busy", "denied"):
        hub.create_repo(f"alice/{name}")
    hub.fault("xet-token", status=503, when=lambda record: "/token/" in record.path)
    hub.fault("commit", status=503, when=lambda record: "/busy/" in record.path)
    hub.fault("xet-token", status=403, times=None, when=lambda record: "/denied/" in record.path)
    code = f"""
    def put(name):
        return fails(api.upload_folder, repo_id=f"alice/{{name}}", folder_path={str(tmp_path / "folder")!r})
    tell(**{{name: put(name) for name in ("busy", "token", "denied")}})
    """
    found = told(code, hub, "alice", tmp_path / "home")
    assert found["busy"] is None and found["token"] is None and found["denied"] is not None
    assert (
        hub.files("alice/busy")["model.safetensors"] == hub.files("alice/token")["model.safetensors"] == _noise(BYTES)
    )
    assert "model.safetensors" not in hub.files("alice/denied")
    assert [one.name for one in hub.fired][:2] == ["commit", "xet-token"]


# the server itself


def test_it_starts_and_stops_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    start = time.perf_counter()
    with HubServer() as hub, HubServer(tmp_path / "kept") as other:
        assert hub.endpoint != other.endpoint and get(f"{hub.endpoint}/api/models")[2] == b"[]"
        started = time.perf_counter() - start
        other.create_repo("alice/x", files={"a.txt": "a"})
        hub.fault("list", delay=30)
        ends: list[type] = []

        def wait() -> None:
            try:
                get(f"{hub.endpoint}/api/models")
            except OSError as error:
                ends.append(type(error))

        waiting = threading.Thread(target=wait)
        waiting.start()
        while len(hub.requests) < 2:
            time.sleep(0.01)
        start = time.perf_counter()
    assert started < 2 and time.perf_counter() - start < 2  # far less alone: other tests share the machine
    waiting.join(5)
    assert len(ends) == 1 and not hub.folder.exists() and other.folder.exists()


def test_tokens_look_real_and_can_be_revoked(hub: HubServer) -> None:
    token = hub.token("alice")
    assert len(token) == 37 and token.startswith("hf_") and token[3:].isalnum() and hub.token("alice") == token
    assert hub.token("alice", "read") != token and hub.env("alice")["HF_TOKEN"] == token
    assert "HF_TOKEN" not in hub.env() and hub.env(token="hf_x")["HF_TOKEN"] == "hf_x"
    assert get(f"{hub.endpoint}/api/whoami-v2", token)[0] == 200
    hub.revoke(token)
    status, headers, _ = get(f"{hub.endpoint}/api/whoami-v2", token)
    assert (status, headers["X-Error-Message"]) == (401, "Invalid credentials in Authorization header")
    assert hub.token("alice") != token
    with pytest.raises(ValueError, match="no user zoe"):
        hub.token("zoe")


def test_a_defect_of_the_server_is_not_taken_for_an_answer() -> None:
    with pytest.raises(AssertionError, match="the hub server itself failed"), HubServer() as hub:
        hub.create_repo("alice/x", files={"a.txt": "a"})
        (next((hub.folder / "blobs").iterdir())).unlink()
        for path in (hub.folder / "blobs").iterdir():
            path.unlink()
        assert get(f"{hub.endpoint}/alice/x/resolve/main/a.txt")[0] == 500


def test_it_can_be_started_by_hand(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.hub_server", "--port", "0", "--folder", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        lines = [server.stdout.readline() for _ in range(4)]
        endpoint = lines[0].split("HF_ENDPOINT=")[1].split()[0]
        token = lines[1].split("HF_TOKEN=")[1].split()[0]
        assert json.loads(get(f"{endpoint}/api/whoami-v2", token)[2])["name"] == "alice"
        assert "admin of acme" in lines[1] and "bob" in lines[2]
        server.send_signal(signal.SIGINT)
        try:
            assert server.wait(20) == 0
        finally:
            server.kill()  # whoever was started with SIGINT ignored, as a shell's job in the background, hands that on
