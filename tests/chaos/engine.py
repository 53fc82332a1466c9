"""A trainer that is killed, stopped, frozen, starved of disk and taken up again ends as one that was left alone."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import resource
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import yaml

from hftransfer.runs import Run
from tests import tiny
from tests.chaos.report import Tries
from tests.chaos.surroundings import disk, filled, memory
from tests.chaos.zygote import Child, Zygote

LONG = 180.0  # seconds: nothing here takes a tenth of it
VARIANTS: dict[str, dict[str, Any]] = {
    "full": {"method": {"name": "full"}},
    "lora": {"method": {"name": "lora", "r": 4}},
    "accumulated": {"train": {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 4}},
    "ending each epoch": {"train": {"eval_strategy": "epoch", "save_strategy": "epoch", "max_steps": -1}},
}
KILLS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGHUP": signal.SIGHUP}
OTHERS = ("frozen", "file limit", "full disk", "no memory", "moved", "torn", "data changed")
PLACES = ("run", "ein Lauf mit Läuten", "走る run", "-run", "run'; echo $HOME")


class Engine:
    """The materials, and for each variant the run that nobody disturbed."""

    def __init__(self, folder: Path, zygote: Zygote) -> None:
        self.folder, self.zygote = folder, zygote
        folder.mkdir()
        tiny.text_model(folder / "model")
        tiny.text_csv(folder / "rows.csv", 90)
        self.quiet: dict[str, tuple[str, str]] = {}
        self.seconds = 4.0  # that a run takes here, about

    def attempt(self, random: random.Random, tries: Tries) -> None:
        """Run one variant through a few faults and compare it with the quiet run."""
        variant = random.choice([*VARIANTS])
        if variant not in self.quiet:
            run, began = self._config(self.folder / f"quiet {variant}", variant), time.monotonic()
            assert self._train(run, resume=False).wait(LONG) == 0, _log(run)
            self.seconds = time.monotonic() - began
            self.quiet[variant] = _outcome(run)
        with disk(self.folder / f"try {tries.count}") as own:
            place = self.folder / f"try {tries.count}"
            run = self._config(place / random.choice(PLACES), variant)
            faults: list[str] = []
            try:
                for _ in range(random.randint(1, 5)):
                    fault = random.choice([*KILLS, *KILLS, "SIGKILL", *OTHERS])
                    fault = "file limit" if fault == "full disk" and not own else fault
                    faults.append(fault)
                    run = self._fault(random, run, fault)
                    tries.add(f"engine: {fault}")
                    if _state(run) == "done":  # `hftransfer resume` would say so
                        break
                if _state(run) != "done":
                    code = self._train(run, resume=run.events_path.exists()).wait(LONG)
                    assert code == 0, f"ends with {code}: {_log(run)}"
                self._require(run, variant)
            except AssertionError as error:
                tries.broke("engine", f"{variant}, {', '.join(faults)}: {error}", place)
                shutil.copytree(place, self.folder / f"broke {tries.count}", ignore_dangling_symlinks=True)
            else:
                shutil.rmtree(place, ignore_errors=own)  # of a disk its top stays
        with contextlib.suppress(OSError):
            place.rmdir()

    def _fault(self, random: random.Random, run: Run, fault: str) -> Run:
        if fault == "full disk":
            run.folder.mkdir(exist_ok=True)
            with filled(run.folder.parent, random.choice([0, 4096, 100_000, 400_000, 1_000_000])):
                child = self._train(run, resume=run.events_path.exists())
                assert child.wait(LONG) is not None, "a trainer on a full disk hangs"
            _require_no_orphan(child)
            return run
        child = self._train(run, resume=run.events_path.exists(), umask=random.choice([0o022, 0o077]))
        if fault == "no memory":
            with memory(child.pid, random.randint(2, 120) << 20) as bounded:
                child.wait(LONG if bounded else random.uniform(0.05, 4.0))
                child.signal(signal.SIGKILL)
                assert child.wait(LONG) is not None, "a trainer without memory does not end"
            _require_no_orphan(child)
            return run
        child.wait(random.uniform(0.05, self.seconds))
        if fault in KILLS:
            child.signal(KILLS[fault])
        elif fault == "frozen":
            if child.signal(signal.SIGSTOP):
                child.wait(0.3)
                child.signal(signal.SIGCONT)
            child.wait(random.uniform(0, 1))
            child.signal(signal.SIGKILL)
        elif fault == "file limit":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                most = random.choice([0, 1000, 50_000])
                resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (most, most))
            assert child.wait(LONG) is not None, "a trainer without a disk hangs"
        else:
            child.signal(signal.SIGKILL)
        assert child.wait(LONG) is not None, f"{fault}: it does not end"
        _require_no_orphan(child)
        return self._between(random, run, fault)

    def _between(self, random: random.Random, run: Run, fault: str) -> Run:
        """Change what a person or a machine may change while nothing runs."""
        if fault == "moved" and run.events_path.exists():
            place = run.folder.with_name(f"{run.folder.name} moved")
            run.folder.rename(place)
            return Run(place)
        if fault == "torn":
            checkpoints = sorted((run.folder / "checkpoints").glob("checkpoint-*"), key=lambda p: p.stat().st_mtime)
            files = [path for path in checkpoints[-1].rglob("*") if path.is_file()] if checkpoints else []
            if files:
                torn = random.choice(sorted(files))
                os.truncate(torn, random.randint(0, max(0, torn.stat().st_size - 1)))
        begun = run.events_path.exists() and any(event["type"] == "step" for event in run.events()[0])
        if fault == "data changed" and begun and _state(run) != "done":
            rows = self.folder / "rows.csv"
            before = rows.read_bytes()
            try:
                rows.write_bytes(before + b"another good film,negative\n")
                code = self._train(run, resume=True).wait(LONG)
                assert code == 2, f"goes on over other data and ends with {code}"
            finally:
                rows.write_bytes(before)
        return run

    def _config(self, place: Path, variant: str) -> Run:
        given = VARIANTS[variant]
        tree = {
            "task": "text-classification", "model": str(self.folder / "model"),
            "data": {"source": str(self.folder / "rows.csv")},
            "train": {
                "learning_rate": 1e-3, "max_steps": 16, "num_train_epochs": 2, "per_device_train_batch_size": 8,
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

    def _train(self, run: Run, resume: bool, umask: int = 0o022) -> Child:
        own, given = run.folder / "config.yaml", next(run.folder.parent.glob("*.yaml"))
        if run.folder.name.startswith("quiet"):
            given = run.folder.with_suffix(".yaml")
        place = own if own.exists() else given
        more = ["--resume"] if resume and own.exists() else []
        return self.zygote.start("train", "--config", place, *more, cwd=run.folder.parent, umask=umask)

    def _require(self, run: Run, variant: str) -> None:
        events = run.events()[0]
        assert run.status().state == "done", run.status()
        assert _outcome(run) == self.quiet[variant], "other weights or answers than the quiet run's"
        assert sum(event["type"] == "done" for event in events) == 1, "done more than once"
        assert (run.folder / "result.json").is_file()


def _outcome(run: Run) -> tuple[str, str]:
    """Return the weights and the stored answers of a run, as hashes."""
    weights = hashlib.sha256((run.artifact / "model.safetensors").read_bytes()).hexdigest()
    rows = pq.read_table(run.folder / "predictions" / "test.parquet").to_pylist()
    return weights, hashlib.sha256(repr(rows).encode()).hexdigest()


def _require_no_orphan(child: Child) -> None:
    left = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == child.pid and process.status() != psutil.STATUS_ZOMBIE:
                left.append(process.pid)
    assert not left, f"left behind: {left}"


def _state(run: Run) -> str:
    return run.status().state if run.events_path.exists() else "created"


def _log(run: Run) -> str:
    path = run.folder.parent / "train.log"
    return path.read_text(errors="replace")[-800:] if path.exists() else ""
