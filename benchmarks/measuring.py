"""What the benchmarks measure with: the command line, a run in this process, other programs in their own."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hftransfer import catalog, data, samples, training
from hftransfer.fitting.interruption import Interruption
from hftransfer.runs import Run

ROOT = Path(__file__).parents[1]
TWEETS = ROOT / "configs" / "text-classification" / "full.yaml"
MODEL = "sample:all-minilm-l6-v2"
UNLOOKED = ("data.label_issues=false", "data.likely_copies=false")  # looks at the rows are not what is measured
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    rounds: int  # pairs of the throughput comparison
    seeds: int
    rows: int | None  # of a data set; all of them in the figures that are quoted
    epochs: float  # of the comparison with transformers' example
    setfit_steps: int  # most steps that SetFit takes; 0: no bound
    rates: int = 7  # of the grid that `auto` is held against
    names: tuple[str, ...] = ()  # of the data sets on which it is; none: all of them
    against: str = ""  # the Python of an environment with an earlier hftransfer; none: there is none

    @property
    def cap(self) -> list[str]:
        """The override that keeps to these rows."""
        return [f"data.max_rows={self.rows}"] if self.rows else []


def train(folder: Path, config: Path, *overrides: str, processes: int = 1) -> Run:
    """Run the command line and return the finished run."""
    words = [command(), "train", str(config), *overrides, f"output={folder}", "--processes", str(processes)]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    return Run(folder)


def here(folder: Path, *overrides: str) -> Run:
    """Run the tweets with overrides in this process; return the finished run."""
    settings = catalog.read_config(TWEETS, [*UNLOOKED, *overrides])
    with Interruption() as interruption, contextlib.redirect_stdout(sys.stderr):  # where the events go
        training.run(settings, Run.create(settings, folder), interruption)
    return Run(folder)


def uncached() -> str:
    """Return an override that keeps features on disk from being taken: a new limit, which cuts nothing."""
    return f"data.max_length={300 + time.time_ns() % 200}"


def export(folder: Path, overrides: list[str]) -> Path:
    """Write the tweets with overrides as JSON lines, a file for each split, labels by name."""
    settings = catalog.read_config(TWEETS, overrides)
    found = data.load(settings.data, catalog.task(settings.task), settings.seed)
    folder.mkdir(parents=True)
    for split in SPLITS:
        rows = found.splits[split]
        names = [found.answer.names[label] for label in rows["label"]]
        write_rows(folder / f"{split}.jsonl", list(rows["text"]), names)
    return folder


def write_rows(path: Path, texts: list[str], labels: list[str]) -> None:
    """Write texts and labels as JSON lines."""
    lines = [json.dumps({"text": text, "label": label}) for text, label in zip(texts, labels, strict=True)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_rows(path: Path) -> tuple[list[str], list[str]]:
    """Return the texts and labels of a file of JSON lines."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row["text"] for row in rows], [row["label"] for row in rows]


def module(name: str, *arguments: object, python: str = sys.executable) -> Any:
    """Run a module of this package in a process of its own; return the JSON of its last line."""
    words = [python, "-m", name, *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def command() -> str:
    """Return the installed `hftransfer` of this environment."""
    return str(Path(sys.executable).parent / "hftransfer")


def timed(words: list[str], environment: dict[str, str] | None = None, code: int = 0) -> float:
    """Return the seconds of a whole process that ends with `code`."""
    began = time.perf_counter()
    done = subprocess.run(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode != code:
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}: {done.stderr}")
    return time.perf_counter() - began


def environment(requirements: Path) -> str:
    """Return the Python of an environment that holds `requirements`, made once and kept in the user's cache."""
    mark = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    folder = samples.cache_folder() / "benchmarks" / f"{requirements.stem}-{mark}"
    python, whole = folder / "bin" / "python", folder / "WHOLE"
    if not whole.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        quiet = ["--quiet", "--disable-pip-version-check"]
        subprocess.run([str(python), "-m", "pip", "install", *quiet, "-r", str(requirements)], check=True)
        whole.touch()
    return str(python)
