"""Training on a model and rows of a Hub that answers with errors, half, otherwise, or moves on meanwhile."""

from __future__ import annotations

import random
import shutil
import signal
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from safetensors.numpy import load_file, save_file

from hftransfer.runs import Run, read_json
from tests import tiny
from tests.chaos.engine import log_of, outcome
from tests.chaos.orders import Orders
from tests.chaos.report import Tries
from tests.chaos.zygote import Zygote
from tests.hub_server import HubServer
from tests.hub_server.log import Record

LONG = 180.0
ROUTES = ("resolve", "resolve", "cdn-get", "cdn-get", "info", "tree", "paths-info", "auth-check", "*")
FAULTS: dict[str, dict[str, Any]] = {
    "429": {"status": 429, "headers": {"Retry-After": "1"}}, "500": {"status": 500}, "503": {"status": 503},
    "504": {"status": 504}, "401": {"status": 401}, "403": {"status": 403}, "404": {"status": 404},
    "connection reset": {"cut": True}, "connection closed early": {"cut": "fin"}, "answer lost": {"lost": True},
    "slow": {"delay": 0.7}, "wrong bytes": {"garble": True, "when": lambda record: record.method == "GET"},
}  # fmt: skip
MOVES = ("model moved on", "data moved on")  # by somebody who commits, in the middle
BODIES = ("resolve", "cdn-get")  # routes that answer with files


class Pulls:
    """A base model and rows in two states each, and the run that nobody disturbed on each of them."""

    def __init__(self, folder: Path, zygote: Zygote, server: HubServer, caches: Path) -> None:
        self.folder, self.zygote, self.server, self.caches = folder, zygote, server, caches
        folder.mkdir()
        self.models, self.rows = [], []
        for number in range(2):
            tiny.text_model(folder / f"model-{number}")
            weights = folder / f"model-{number}" / "model.safetensors"
            save_file(
                {name: value + number / 64 for name, value in load_file(weights).items()}, weights, {"format": "pt"}
            )
            tiny.text_csv(folder / f"rows-{number}.csv", 60, seed=number)
            self.models.append({p.name: p.read_bytes() for p in (folder / f"model-{number}").iterdir()})
            self.rows.append({"data.csv": (folder / f"rows-{number}.csv").read_bytes()})
        self.quiet: dict[tuple[int, int], tuple[str, str]] = {}
        self.number = 0

    def attempt(self, random: random.Random, tries: Tries) -> None:
        """Train under faults, then go on without, and compare with the quiet run on the same commits."""
        self.number += 1
        model, data = f"acme/base-{self.number}", f"acme/rows-{self.number}"
        for state in ((s, t) for s in (0, 1) for t in (0, 1)):
            if state not in self.quiet:
                self._undisturbed(state)
        first = self._fill(model, data, 0)
        place = self.folder / f"try {self.number}"
        orders = Orders(
            self.server, random, FAULTS, [*FAULTS, "wrong bytes", *MOVES, *MOVES],
            lambda name: BODIES if name == "wrong bytes" else ROUTES, partial(self._move, model, data), (0, 0, 1, 3),
        )  # fmt: skip
        killed = random.random() < 0.25
        try:
            run = self._config(place, model, data)
            child = self._train(run)
            if killed:
                child.wait(random.uniform(0.1, 4.0))
                if child.signal(random.choice([signal.SIGKILL, signal.SIGTERM])):
                    tries.add("hub: killed, pulling")
            code = child.wait(LONG)
            assert code is not None, "training hangs"
            if code == 0:
                self._require(run, first)
            elif not killed and run.events_path.exists():
                assert run.status().state == "failed" and run.status().message, f"{code}: {run.status()}"
            self.server.clear_faults()
            if code != 0:
                code = self._train(run).wait(LONG)
                assert code == 0, f"and without faults it ends with {code}: {log_of(run)}"
                self._require(run, first)
        except AssertionError as error:
            tries.broke("hub", f"pulling, {', '.join(orders.words)}{', killed' if killed else ''}: {error}", place)
        else:
            shutil.rmtree(place)
        finally:
            orders.settle(tries, lambda name: f"{name}, pulling" if name in FAULTS else name)

    def _undisturbed(self, state: tuple[int, int]) -> None:
        model, data = (f"acme/{kind}-quiet-{state[0]}{state[1]}" for kind in ("base", "rows"))
        self.server.create_repo(model, files=self.models[state[0]])
        self.server.create_repo(data, kind="dataset", files=self.rows[state[1]])
        run = self._config(self.folder / f"quiet {state[0]}{state[1]}", model, data)
        modules = self.folder / "modules"
        assert self._train(run, modules).wait(LONG) == 0, log_of(run)
        self.zygote.imports(modules)
        self.quiet[state] = outcome(run)

    def _fill(self, model: str, data: str, state: int) -> tuple[str, str]:
        """Make both repos; return their first commits."""
        one = self.server.create_repo(model, files=self.models[state])
        other = self.server.create_repo(data, kind="dataset", files=self.rows[state])
        return one.branches["main"], other.branches["main"]

    def _move(self, model: str, data: str, what: str, record: Record) -> None:
        """Commit the other state, as somebody does between a check and a run, or in the middle of one."""
        if what == MOVES[0]:
            self.server.commit(model, self.models[1])
        else:
            self.server.commit(data, self.rows[1], kind="dataset")

    def _config(self, place: Path, model: str, data: str) -> Run:
        place.mkdir()
        tree = {
            "task": "text-classification", "model": model, "data": {"source": data, "label_issues": False},
            "method": {"name": "full"}, "evaluation": {"resamples": 100},
            "train": {
                "learning_rate": 1e-3, "max_steps": 4, "per_device_train_batch_size": 8, "use_cpu": True,
                "bf16": False, "eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2,
            },
            "speed": {"tune": False, "threads": 1}, "output": str(place / "run"),
        }  # fmt: skip
        (place / "wanted.yaml").write_text(yaml.safe_dump(tree))
        return Run(place / "run")

    def _train(self, run: Run, modules: Path | None = None) -> Any:
        """Start or go on; a machine that takes a run up again has what the cache holds, a new run has nothing."""
        begun = run.config_path.exists()
        if not begun:
            for cache in ("hub", "datasets"):
                shutil.rmtree(self.caches / cache, ignore_errors=True)
        path = run.config_path if begun else run.folder.parent / "wanted.yaml"
        more = ["--resume"] if begun and run.events_path.exists() else []
        return self.zygote.start("pull", "--config", path, *more, cwd=run.folder.parent, modules=modules)

    def _require(self, run: Run, first: tuple[str, str]) -> None:
        """Require the weights of the commits that the run says it is of."""
        sources = read_json(run.folder / "origins.json")
        state = tuple(
            int(sources[kind]["revision"] != commit) for kind, commit in zip(("model", "data"), first, strict=True)
        )
        assert run.status().state == "done", run.status()
        assert outcome(run) == self.quiet[state], f"other weights than the quiet run's on {state}"  # type: ignore[index]
