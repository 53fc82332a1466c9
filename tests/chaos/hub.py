"""Publishing to a Hub that answers with errors, late, half or not at all, by a command that may be killed."""

from __future__ import annotations

import random
import shutil
import signal
from functools import partial
from pathlib import Path
from typing import Any

from hftransfer.runs import Run
from tests.chaos.orders import Orders
from tests.chaos.report import Tries
from tests.chaos.zygote import Zygote
from tests.hub import finished
from tests.hub_server import HubServer
from tests.hub_server.log import Record

LONG = 120.0
ROUTES = (
    "whoami", "create", "preupload", "lfs-batch", "lfs-put", "lfs-verify", "commit", "tree", "paths-info", "info",
    "auth-check", "resolve", "validate", "*",
)  # fmt: skip
FAULTS: dict[str, dict[str, Any]] = {
    "429": {"status": 429, "headers": {"Retry-After": "1"}},
    "500": {"status": 500}, "502": {"status": 502}, "503": {"status": 503}, "504": {"status": 504},
    "connection reset": {"cut": True}, "connection closed early": {"cut": "fin"}, "answer lost": {"lost": True},
    "slow": {"delay": 0.7}, "403": {"status": 403}, "401": {"status": 401}, "404": {"status": 404},
    "quota": {"status": 403, "message": "Private repository storage limit reached, please upgrade your plan"},
}  # fmt: skip
MEANWHILE = ("deleted", "moved", "hidden", "token revoked")  # by somebody, in the middle of publishing


class Hub:
    """A finished run, published again and again."""

    def __init__(self, folder: Path, zygote: Zygote, server: HubServer) -> None:
        self.folder, self.zygote, self.server = folder, zygote, server
        folder.mkdir()
        self.run = finished.train(folder)
        self.token = server.token("alice")
        self.number = 0
        self.moved: dict[str, str] = {}

    def attempt(self, random: random.Random, tries: Tries) -> None:
        """Publish under faults, then without, and look at the repo both times."""
        place = self.folder / f"try {self.number}"
        place.mkdir()
        run = finished.copy(self.run, place)
        self.number += 1
        repo = f"alice/try-{self.number}"
        orders = Orders(
            self.server, random, FAULTS, [*FAULTS, *MEANWHILE], lambda _: ROUTES, partial(self._meanwhile, repo),
            (0, 0, 1, 2),
        )  # fmt: skip
        killed = random.random() < 0.3
        try:
            child = self.zygote.start("command", *_publish(run, repo), cwd=place)
            if killed:
                child.wait(random.uniform(0.1, 3.0))
                if child.signal(random.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])):
                    tries.add("hub: killed")
            code = child.wait(LONG)
            assert code is not None, "publishing hangs"
            said = [event["type"] for event in run.events()[0]]
            assert run.status().state == "done", "a failed upload is no failed training"
            if code == 0:
                assert said[-1] == "published", said[-1]
                if not {"deleted", "moved"} & orders.names:
                    self._require_whole(repo, run)
            elif not killed:
                assert said[-1] == "unpublished" or "publishing" not in said, f"{code}: {said[-1]}"
            self.server.clear_faults()
            self.server.store.tokens[self.token].revoked = False
            repo = self.moved.pop(repo, repo)
            again = self.zygote.start("command", *_publish(run, repo), cwd=place)
            code = again.wait(LONG)
            assert code == 0, f"and without faults it ends with {code}: {_log(place)}"
            self._require_whole(repo, run)
            found = self.server.repo(repo)
            assert found is not None
            trees = [repr(sorted(commit.tree.items())) for commit in found.commits]
            assert len(trees) == len(set(trees)), f"{len(trees) - len(set(trees))} commits change nothing"
            self._require_secret(place)
        except AssertionError as error:
            tries.broke("hub", f"{', '.join(orders.words)}{', killed' if killed else ''}: {error}", place)
        else:
            shutil.rmtree(place)
        finally:
            orders.settle(tries, str)
            self.server.store.tokens[self.token].revoked = False

    def _meanwhile(self, repo: str, what: str, record: Record) -> None:
        """Do what somebody does to a repo while it is published."""
        there = self.server.repo(repo)
        if what == "token revoked":
            self.server.revoke(self.token)
        elif there is None:
            return
        elif what == "deleted":
            self.server.store.repos.pop(("model", repo), None)
        elif what == "hidden":
            there.private = True
        else:
            self.moved[repo] = f"{repo}-moved"
            self.server.store.move(there, self.moved[repo])

    def _require_whole(self, repo: str, run: Run) -> None:
        there = self.server.files(repo)
        for path in run.artifact.rglob("*"):
            name = path.relative_to(run.artifact).as_posix()
            if path.is_file() and path.suffix in (".safetensors", ".json") and name != "hftransfer.json":
                assert there.get(name) == path.read_bytes(), f"{name} is not what the run made"

    def _require_secret(self, place: Path) -> None:
        assert not self.server.leaks, f"the token went to {self.server.leaks[:1]}"
        for path in place.rglob("*"):
            assert not path.is_file() or self.token.encode() not in path.read_bytes(), f"the token is in {path.name}"


def _publish(run: Run, repo: str) -> list[str]:
    return ["publish", str(run.folder), repo, "--no-verify", "--json"]


def _log(place: Path) -> str:
    return (place / "command.log").read_text(errors="replace")[-600:]
