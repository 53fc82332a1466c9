"""What a job is sent and what comes back: files of the run, this package, what it installs, log and use."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hftransfer
from hftransfer import catalog
from hftransfer.config import RunConfig
from hftransfer.errors import UserError
from hftransfer.launchers import _beside
from hftransfer.launchers._buckets import Bucket
from hftransfer.runs import Run, write_text

SEEN = "jobs.json"  # in a run's folder: how much of the log was read, and whether the rest was brought back
OWN = ("config.yaml", "launch.json", "events.jsonl", "console.log", SEEN, "accelerate.yaml", ".writer.lock")
INPUTS = (
    "model", "data.source", "data.train", "data.validation", "data.test", "data.unlabelled", "data.corrections",
    "data.added", "train.deepspeed", "train.fsdp_config", "train.accelerator_config",
)  # fmt: skip
TABLES = (
    "data.source", "data.train", "data.validation", "data.test", "data.unlabelled", "data.added", "method.second",
)  # fmt: skip
NOT_OF_RUNS = ["checkpoints/*", "console.log", "launch.json", ".writer.lock"]  # of finished runs that are read
NOT_NEEDED = re.compile(r"extra == .(ui|mcp|test|dev|onnx|quantized).")
DISTRIBUTION = "hftransfer-learning"
MOST_LOG = 64 * 2**20  # bytes of a log that are kept here: what else a job prints stays where it is
MOST_LINE = 2**20  # bytes of one line of it: read as an event, it takes many times as many


def send(run: Run, bucket: Bucket, mount: str, label: str) -> None:
    """Send a run's folder with its configuration as it is there, the inputs that it names, and this package."""
    tree = run.config().to_dict()
    tree["output"] = f"{mount}/{label}"
    sending = _Sending(bucket, mount, label)
    config = run.config()
    named = list(_settings(tree, config))
    for name, holder, key in named:
        if isinstance(holder.get(key), list | tuple):
            _require_folders(name, holder[key])
    for name, holder, key in named:
        value = holder.get(key)
        if isinstance(value, str):
            holder[key] = sending.file(name, value, config)
        elif isinstance(value, list | tuple):
            holder[key] = [sending.folder(f"{name}/{number}", folder) for number, folder in enumerate(value)]
    bucket.send(Path(hftransfer.__file__).parent, f"{label}.code/hftransfer", ["*.pyc"])
    bucket.send(run.folder, label, ["config.yaml", "launch.json", SEEN, "console.log", ".writer.lock"])
    folder = run.folder / ".there"
    folder.mkdir(exist_ok=True)
    write_text(folder / "config.yaml", RunConfig.model_validate(tree).to_yaml())
    bucket.send(folder / "config.yaml", label)
    (folder / "config.yaml").unlink()
    folder.rmdir()


def _settings(tree: dict[str, Any], config: RunConfig) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield what may name something of this machine: its whole name, its section, and its name there."""
    for name in (*INPUTS, *(f"method.{key}" for key in catalog.method(config.method.name).inputs)):
        section, _, key = name.rpartition(".")
        yield name, tree.get(section, {}) if section else tree, key


def _require_folders(name: str, values: Sequence[str]) -> None:
    for value in values:
        if not Path(value).expanduser().is_dir():
            raise UserError(f"{name} names folders of runs", f"there is no {Path(value).absolute()}", "Mend it.")


@dataclass(frozen=True)
class _Sending:
    """Sends what a configuration names, and tells where it lies in the job."""

    bucket: Bucket
    mount: str
    label: str

    def file(self, name: str, value: str, config: RunConfig) -> str:
        """Send a file or a folder of this machine, a table with what is read beside it; return any other as it is."""
        source = Path(value).expanduser()
        if name in ("data.train", "data.validation", "data.test") and not source.exists():  # beside the source
            source = Path(config.data.source).expanduser().parent / value
        if value.startswith("sample:") or not source.exists():
            return value
        source, there = source.absolute(), f"{self.label}.inputs/{name}"
        self.bucket.send(source, f"{there}/{source.name}" if source.is_dir() else there)
        if name in TABLES and source.is_file() and config.task in catalog.tasks():
            task = catalog.task(config.task)
            beside = _beside.tables(source, task.tables_beside) if task.tables_beside else []
            files = {path for table in (source, *beside) for path in _beside.named(table, task.suffixes)}
            needed = sorted({*beside, *files} - {source})
            self.bucket.send_files(
                [(path, f"{there}/{path.relative_to(source.parent).as_posix()}") for path in needed]
            )
        return f"{self.mount}/{there}/{source.name}"

    def folder(self, name: str, value: str) -> str:
        """Send a finished run of this machine."""
        source = Path(value).expanduser().absolute()
        there = f"{self.label}.inputs/{name}/{source.name}"
        self.bucket.send(source, there, NOT_OF_RUNS)
        return f"{self.mount}/{there}"


def pins() -> list[str]:
    """Return what a job installs: what this package needs, in the versions of this machine."""
    try:
        needed = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError(
            "an installed hftransfer is needed, to tell what a job installs", "this one runs from a folder",
            "Run: pip install -e . in it; or say how: --place setup=...",
        ) from error  # fmt: skip
    found = []
    for requirement in needed:
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            if not NOT_NEEDED.search(requirement) and name != DISTRIBUTION:
                found.append(f"{name}=={importlib.metadata.version(name).partition('+')[0]}")
    return sorted(set(found))


def append(path: Path, line: str) -> None:
    """Append a line of a job's log to a file here, as long as that is of a size to be kept."""
    data = f"{line.rstrip()}\n".encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        if len(data) <= MOST_LINE and os.fstat(descriptor).st_size < MOST_LOG:
            os.write(descriptor, data)
    finally:
        os.close(descriptor)


def use_of(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return how busy a machine is, by what the Hub measures of a job: percent, and memory in MB."""
    gpus = [
        {"percent": one.get("utilization"), "memory_mb": round(one.get("memory_used_bytes", 0) / 1e6)}
        for one in (metrics.get("gpus") or {}).values()
    ]
    memory = round(metrics.get("memory_used_bytes", 0) / 1e6)
    return {"cpu_percent": metrics.get("cpu_usage_pct"), "memory_mb": memory, "gpus": gpus}


def network_of(label: str) -> str:
    """Return the name of a run's network, of small letters, digits and dashes, 46 at most."""
    return re.sub(r"[^a-z0-9-]+", "-", label.lower())[-46:].strip("-")
