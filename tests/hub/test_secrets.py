"""A token that is marked, and every command that may hold it: it is in no command line, file, message or repo."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from hftransfer.runs import Run
from tests import tiny
from tests.hub.conftest import ROOT, SECONDS, environment
from tests.hub_server import HubServer
from tests.launch.conftest import write


@contextlib.contextmanager
def watched(folder: Path) -> Iterator[set[str]]:
    """Collect the command lines of all processes below this one."""
    seen: set[str] = set()
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.02):
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    seen.add(" ".join(process.cmdline()))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


@pytest.mark.long
def test_no_command_leaves_the_token_anywhere(hub: HubServer, tmp_path: Path) -> None:
    token = hub.token("alice")
    places = {name: tmp_path / name for name in ("home", "work", "temporary")}
    for place in places.values():
        place.mkdir()
    tiny.text_model(tmp_path / "model")
    rows = tiny.text_csv(tmp_path / "rows.csv", 90)
    model = {p.name: p.read_bytes() for p in (tmp_path / "model").iterdir()}
    hub.create_repo("alice/base", private=True, files=model)
    hub.create_repo("alice/rows", "dataset", private=True, files={"train.csv": rows.read_bytes()})
    env = environment(
        hub, "alice", places["home"] / "huggingface", HOME=str(places["home"]), TMPDIR=str(places["temporary"]),
        HFTRANSFER_CACHE=str(places["home"] / "cache"), PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1",
    )  # fmt: skip
    said: list[str] = []

    def call(*words: str | Path, code: int | None = 0, **more: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "hftransfer.cli", *map(str, words)], env={**env, **more}, cwd=places["work"],
            capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        assert code in (None, done.returncode), (words, done.stdout[-2000:] + done.stderr[-2000:])
        said.extend((done.stdout, done.stderr))
        return done.stdout

    sections = {"model": "alice/base", "data": {"source": "alice/rows"}, "output": "run"}
    path = write(tmp_path, tmp_path, {"save_strategy": "steps", "save_steps": 10, "max_steps": 20}, **sections)
    hub_section = ["hub.repo=alice/tuned", "hub.push=true", "hub.checkpoints=true"]
    with watched(tmp_path) as commands:
        call("check", path, *hub_section)
        call("train", path, *hub_section)
        call("runs", "--json")
        call("predict", "alice/tuned", "a good film", "--json", code=None)
        call("publish", "run", "alice/again", "--no-verify", "--json")
        call("compare", "run", "alice/tuned", code=None)
        call("reproduce", "alice/tuned", "output=repeated", "--json", code=None)
        call("rank", path, "alice/base", code=None)
        call("resume", "alice/tuned", code=None)
        hub.fault("commit", status=500, times=None)
        call(
            "train",
            path,
            "output=second",
            "hub.repo=alice/other",
            "hub.checkpoints=true",
            "train.max_steps=10",
            code=None,
        )
        hub.clear_faults()
        # a crash, and what it writes on its way out
        call(
            "train", path, "output=third", "train.max_steps=5", f"data.source={rows}", code=None, HFTRANSFER_FENCE="{"
        )
    assert Run(places["work"] / "run").status().publication == "published" and len(commands) > 10
    assert not [words for words in commands if token in words], "a command line is everybody's to read"
    assert not [text for text in said if token in text]
    for path in (*tmp_path.rglob("*"), *Path("/dev/shm").glob("*")):
        if path.is_file() and not path.is_symlink() and "hub-server" not in path.parts:
            with contextlib.suppress(PermissionError):
                assert token.encode() not in path.read_bytes(), path
    for kind, repo in hub.repos:
        for branch in hub.repo(repo, kind).branches:
            for name, content in hub.files(repo, branch, kind).items():
                assert token.encode() not in content, f"{repo}, {branch}: {name}"
        told = json.dumps([(one.title, one.message) for one in hub.repo(repo, kind).commits])
        assert token not in told
    assert not hub.leaks and "HF_TOKEN" not in os.environ
