"""A trainer that is killed, stopped, frozen, starved of disk and taken up again ends as one that was left alone."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import resource
import shutil
import signal
import socket
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import yaml

from hftransfer.runs import Run
from tests import tiny
from tests.chaos.moments import Moments, doing
from tests.chaos.report import Tries
from tests.chaos.surroundings import disk, filled, memory
from tests.chaos.zygote import Child, Zygote

LONG = 180.0  # seconds: nothing here takes a tenth of it
GRACE = 30.0  # seconds that torch's launcher gives the processes of a run once one of them has ended
VARIANTS: dict[str, dict[str, Any]] = {
    "full": {"method": {"name": "full"}, "data": {"label_issues": True}},
    "lora": {"method": {"name": "lora", "r": 4}},
    "accumulated": {"train": {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 4}},
    "ending each epoch": {"train": {"eval_strategy": "epoch", "save_strategy": "epoch", "max_steps": -1}},
    "early stopping": {"train": {"early_stopping_patience": 1, "early_stopping_threshold": 0.5,
                                 "load_best_model_at_end": True}},
    "streamed": {"data": {"streaming": True}},
    "two processes": {"train": {"per_device_train_batch_size": 4}},
}  # fmt: skip
RANKS = {"two processes": 2}
KILLS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGHUP": signal.SIGHUP}
OTHERS = ("frozen", "file limit", "full disk", "no memory", "moved", "torn", "data changed")
PLACES = ("run", "ein Lauf mit Läuten", "走る run", "-run", "run'; echo $HOME")


class Engine:
    """The materials, and for each variant the run that nobody disturbed."""

    def __init__(self, folder: Path, zygote: Zygote) -> None:
        self.folder, self.zygote = folder, zygote
        folder.mkdir()
        tiny.text_model(folder / "model")
        tiny.text_csv(folder / "rows.csv", 60)
        self.quiet: dict[str, tuple[str, str]] = {}
        self.moments: dict[str, Moments] = {}

    def attempt(self, random: random.Random, tries: Tries) -> None:
        """Run one variant through a few faults and compare it with the quiet run."""
        variant = random.choice([*VARIANTS])
        if variant not in self.quiet:
            self.undisturbed(variant)
        with disk(self.folder / f"try {tries.count}") as own:
            place = self.folder / f"try {tries.count}"
            run = self.config(place / random.choice(PLACES), variant)
            faults: list[str] = []
            try:
                for _ in range(random.randint(1, 5)):
                    fault = random.choice([*KILLS, *KILLS, "SIGKILL", *OTHERS])
                    fault = "file limit" if fault == "full disk" and not own else fault
                    run, struck = self._fault(random, run, fault, variant)
                    if struck is not None:  # else the run had ended before
                        faults.append(f"{fault} while {struck}")
                        tries.add(f"engine: {fault}{' of one of two' if variant in RANKS else ''}", struck)
                    if _state(run) == "done":  # `hftransfer resume` would say so
                        break
                if _state(run) != "done":
                    codes = _wait(self._train(run, variant), LONG)
                    assert not any(codes), f"ends with {codes}: {log_of(run)}"
                self.require(run, variant)
            except AssertionError as error:
                tries.broke("engine", f"{variant}, {', '.join(faults)}: {error}", place)
                shutil.copytree(place, self.folder / f"broke {tries.count}", ignore_dangling_symlinks=True)
            else:
                shutil.rmtree(place, ignore_errors=own)  # of a disk its top stays
        with contextlib.suppress(OSError):
            place.rmdir()

    def undisturbed(self, variant: str) -> None:
        """Train a variant that nobody strikes, for the others to be compared with."""
        run, began = self.config(self.folder / f"quiet {variant}", variant), time.monotonic()
        modules = self.folder / "modules"
        codes = _wait(self._train(run, variant, modules=modules), LONG)
        assert not any(codes), log_of(run)
        self.zygote.imports(modules)
        self.moments[variant] = Moments(run.events()[0], time.monotonic() - began)
        self.quiet[variant] = outcome(run)

    def _fault(self, random: random.Random, run: Run, fault: str, variant: str) -> tuple[Run, str | None]:
        """Start or resume a run and let a fault strike it; return the run, and what it did then, None for nothing."""
        if fault == "full disk":
            run.folder.mkdir(exist_ok=True)
            with filled(run.folder.parent, random.choice([0, 4096, 100_000, 400_000, 1_000_000])):
                codes = self._end(random, self._train(run, variant), "a trainer on a full disk hangs")
            return run, doing(run) if any(codes) else None
        children = self._train(run, variant, umask=random.choice([0o022, 0o077]))
        one = random.choice(children)
        if fault == "no memory":
            with memory(one.pid, random.randint(2, 120) << 20) as bounded:
                one.wait(LONG if bounded else random.uniform(0.05, 4.0))
                struck = doing(run) if one.signal(signal.SIGKILL) or one.wait(0) else None
                self._end(random, children, "a trainer without memory does not end")
            return run, struck
        struck = self.moments[variant].wait(random, run, children)
        if fault in KILLS:
            one.signal(KILLS[fault])
        elif fault == "frozen":
            if one.signal(signal.SIGSTOP):
                one.wait(random.uniform(0, 0.5))
                one.signal(signal.SIGCONT)
            one.wait(random.uniform(0, 1))
            one.signal(signal.SIGKILL)
        elif fault == "file limit":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                most = random.choice([0, 1000, 50_000])
                resource.prlimit(children[0].pid, resource.RLIMIT_FSIZE, (most, most))
            if len(children) > 1:
                children[0].wait(LONG)
        else:
            one.signal(signal.SIGKILL)
        self._end(random, children, f"{fault}: it does not end")
        if struck is None:
            return run, None
        run, done = self._between(random, run, fault, variant)
        return run, struck if done else None

    def _end(self, random: random.Random, children: list[Child], else_: str) -> list[int | None]:
        """Wait for the end of all, and return their exit codes: where one of several has ended, a launcher asks the
        others to end too.
        """
        end = time.monotonic() + LONG
        while len(children) > 1 and all(child.wait(0) is None for child in children) and time.monotonic() < end:
            time.sleep(0.02)
        codes = [child.wait(0) for child in children]
        if len(children) > 1 and any(codes):
            time.sleep(random.uniform(0, 1))
            for child in children:
                child.signal(signal.SIGTERM)
            if None in _wait(children, GRACE):  # one that waits for a peer within C++ hears no signal but the last
                for child in children:
                    child.signal(signal.SIGKILL)
        codes = _wait(children, LONG)
        if None in codes:
            for child in children:
                child.signal(signal.SIGKILL)
            _wait(children, LONG)
            raise AssertionError(else_)
        _require_no_orphan(children)
        return codes

    def _between(self, random: random.Random, run: Run, fault: str, variant: str) -> tuple[Run, bool]:
        """Change what a person or a machine may change while nothing runs; return the run, and whether it was done."""
        if fault == "moved":
            if not run.events_path.exists():
                return run, False
            place = run.folder.with_name(f"{run.folder.name} moved")
            run.folder.rename(place)
            return Run(place), True
        if fault == "torn":
            checkpoints = sorted((run.folder / "checkpoints").glob("checkpoint-*"), key=lambda p: p.stat().st_mtime)
            files = [path for path in checkpoints[-1].rglob("*") if path.is_file()] if checkpoints else []
            if not files:
                return run, False
            torn = random.choice(sorted(files))
            held = bytearray(torn.read_bytes())
            if held and random.random() < 0.5:  # one bit is another one: the length tells nothing
                held[random.randrange(len(held))] ^= 1 << random.randrange(8)
                torn.write_bytes(held)
            else:
                os.truncate(torn, random.randint(0, max(0, len(held) - 1)))
        if fault == "data changed":
            begun = run.events_path.exists() and any(event["type"] == "step" for event in run.events()[0])
            if not begun or _state(run) == "done":
                return run, False
            rows = self.folder / "rows.csv"
            before = rows.read_bytes()
            try:
                rows.write_bytes(before + b"another good film,negative\n")
                codes = _wait(self._train(run, variant), LONG)
                assert set(codes) == {2}, f"goes on over other data and ends with {codes}"
            finally:
                rows.write_bytes(before)
        return run, True

    def config(self, place: Path, variant: str) -> Run:
        """Write the configuration of a run beside its folder, which the run makes."""
        given = VARIANTS[variant]
        tree = {
            "task": "text-classification", "model": str(self.folder / "model"),
            "data": {"source": str(self.folder / "rows.csv"), "label_issues": False, **given.get("data", {})},
            "train": {
                "learning_rate": 1e-3, "max_steps": 12, "num_train_epochs": 2, "per_device_train_batch_size": 8,
                "use_cpu": True, "bf16": False, "eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps",
                "save_steps": 2, "save_total_limit": 2, **given.get("train", {}),
            },
            "method": given.get("method", {"name": "full"}),
            "evaluation": {"resamples": 100}, "speed": {"tune": False, "threads": 1}, "output": str(place),
        }  # fmt: skip
        if tree["train"]["max_steps"] < 0:
            del tree["train"]["max_steps"], tree["train"]["eval_steps"], tree["train"]["save_steps"]
        path = place.with_suffix(".yaml")
        path.write_text(yaml.safe_dump(tree))
        return Run(place)

    def _train(self, run: Run, variant: str, umask: int = 0o022, modules: Path | None = None) -> list[Child]:
        """Start a run, or go on with one that has begun, in one process or several."""
        own, given = run.folder / "config.yaml", next(run.folder.parent.glob("*.yaml"))
        if run.folder.name.startswith("quiet"):
            given = run.folder.with_suffix(".yaml")
        place = own if own.exists() else given
        more = ["--resume"] if run.events_path.exists() and own.exists() else []
        ranks = RANKS.get(variant, 1)
        meeting = {} if ranks == 1 else {
            "WORLD_SIZE": f"{ranks}", "LOCAL_WORLD_SIZE": f"{ranks}", "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": f"{_free_port()}",
        }  # fmt: skip
        return [
            self.zygote.start(
                "train", "--config", place, *more, cwd=run.folder.parent, umask=umask,
                modules=None if rank else modules,
                **({**meeting, "RANK": f"{rank}", "LOCAL_RANK": f"{rank}"} if meeting else {}),
            )
            for rank in range(ranks)
        ]  # fmt: skip

    def require(self, run: Run, variant: str) -> None:
        """Require that a run is done, once, with what the undisturbed one has."""
        events = run.events()[0]
        assert run.status().state == "done", run.status()
        assert outcome(run) == self.quiet[variant], "other weights or answers than the quiet run's"
        assert sum(event["type"] == "done" for event in events) == 1, "done more than once"
        assert (run.folder / "result.json").is_file()


def _wait(children: list[Child], seconds: float) -> list[int | None]:
    end = time.monotonic() + seconds
    return [child.wait(max(0.0, end - time.monotonic())) for child in children]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def outcome(run: Run) -> tuple[str, str]:
    """Return the weights and the stored answers of a run, as hashes."""
    weights = hashlib.sha256((run.artifact / "model.safetensors").read_bytes()).hexdigest()
    rows = pq.read_table(run.folder / "predictions" / "test.parquet").to_pylist()
    return weights, hashlib.sha256(repr(rows).encode()).hexdigest()


def _require_no_orphan(children: list[Child]) -> None:
    left, sessions = [], {child.pid for child in children}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE:
                left.append(process.pid)
    assert not left, f"left behind: {left}"


def _state(run: Run) -> str:
    return run.status().state if run.events_path.exists() else "created"


def log_of(run: Run) -> str:
    path = run.folder.parent / "train.log"
    return path.read_text(errors="replace")[-800:] if path.exists() else ""
