"""Measure everything in docs/benchmarks.md, side by side in one run: python -m benchmarks.run [--rounds N] [NAME ...]

Needs the samples `text` and `image` (hftransfer samples text image) and a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from hftransfer import catalog, data, samples, training
from hftransfer.runs import Run

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
QUICKSTART = ROOT / "configs" / "quickstart.yaml"
IMAGES = ROOT / "configs" / "image-classification" / "full.yaml"
BODY = 10_646_784  # parameters of MiniLM's six layers: those that a token is multiplied with

Table = list[Sequence[object]]


def main() -> None:
    """Run the benchmarks named, or all, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--rounds", type=int, default=2, help="pairs of the throughput comparison")
    options = parser.parse_args()
    sections = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.names or BENCHMARKS:
            began = time.perf_counter()
            sections.append(BENCHMARKS[name](Path(folder), options.rounds))
            print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    text = "\n\n".join([heading(), *sections]) + "\n"
    if options.names:
        print(text)
    else:
        PAGE.write_text(text, encoding="utf-8")
        print(f"wrote {PAGE.relative_to(ROOT)}")


def throughput(folder: Path, rounds: int) -> str:
    """Compare with the example script's defaults on the same rows, in turn."""
    rows, mean_tokens = export(folder / "rows")
    ours, theirs = [], []
    for number in range(rounds):
        theirs.append(module("benchmarks.example_defaults", rows, samples.resolve("sample:all-minilm-l6-v2"), 1))
        ours.append(train(folder / f"ours-{number}", QUICKSTART, "train.num_train_epochs=1"))
    peak = module("benchmarks.matmul_peak")
    rate = [run.result()["cost"]["examples_per_second"] for run in ours]
    base = [run["examples_per_second"] for run in theirs]
    score = [run.result()["test"]["metrics"]["accuracy"] for run in ours]
    choice = ours[-1].result()["speed"]
    useful = statistics.median(rate) * mean_tokens * 6 * BODY / 1e9
    best = max(peak.values())
    table: Table = [
        ("", "examples/s, each round", "test accuracy, each round"),
        ("hftransfer, quickstart, 1 epoch", numbers(rate), ", ".join(f"{s['value']:.3f}" for s in score)),
        ("example's defaults, 1 epoch", numbers(base), ", ".join(f"{t['accuracy']:.3f}" for t in theirs)),
        ("ratio of the medians", f"**{statistics.median(rate) / statistics.median(base):.1f}**", ""),
    ]
    low, high = score[-1]["low"], score[-1]["high"]
    return "\n\n".join(
        [
            "## Throughput on text",
            "MiniLM on the VADER tweets (`configs/quickstart.yaml`). The other side is transformers' "
            "text-classification example at its defaults: batches of 8 padded to 128 tokens, float32, its own rate.",
            markdown(table),
            f"A row has {mean_tokens:.1f} tokens on average, so padding to 128 alone costs a factor of "
            f"{128 / mean_tokens:.1f}. The accuracy's 95 % interval in the last round is {low:.3f} to {high:.3f}.",
            f"Chosen by timing on this machine: {choice['attention']} attention, "
            f"{'bf16' if choice['bf16'] else 'float32'}; what was timed, in examples/s of forward and backward: "
            + "; ".join(f"{name} {value}" for name, value in choice["timings"].items())
            + ".",
            f"Useful work (6 x {BODY / 1e6:.1f} M parameters x real tokens): {useful:.0f} GFLOP/s, "
            f"**{useful / best:.0%}** of the best matrix product measured at the model's own shape in the same run "
            f"(float32 {peak['float32']:.0f}, bf16 {peak['bfloat16']:.0f} GFLOP/s).",
        ]
    )


def overhead(folder: Path, rounds: int) -> str:
    """Compare the engine with a bare Trainer and a hand-written loop."""
    found = module("benchmarks.overhead", max(3, rounds))
    table: Table = [("", "seconds for 35 steps, each round")]
    table += [(name, numbers(seconds, 2)) for name, seconds in found["seconds"].items()]
    return "\n\n".join(
        [
            "## Overhead",
            "The same weights, batches and settings through the engine, a bare `Trainer` and a hand-written loop.",
            markdown(table),
            f"Medians: engine over loop **{found['over_loop'] - 1:+.1%}**, over bare Trainer "
            f"**{found['over_trainer'] - 1:+.1%}**.",
        ]
    )


def images(folder: Path, rounds: int) -> str:
    """Measure how long a step waits for pictures."""
    cost = train(folder / "images", IMAGES, "data.max_rows=800", "train.num_train_epochs=1").result()
    choice = cost["speed"]
    layout = ", channels last" if choice["channels_last"] else ""
    return "\n\n".join(
        [
            "## Images",
            f"MobileNetV2 on digits, 800 rows, 1 epoch: {cost['cost']['examples_per_second']:.1f} examples/s, "
            f"**{cost['cost']['waiting_for_data']:.1%}** of the training time spent waiting for data "
            f"({choice['workers']} loader process; {'bf16' if choice['bf16'] else 'float32'}{layout}, by timing).",
            "Timed, in examples/s: " + "; ".join(f"{name} {value}" for name, value in choice["timings"].items()) + ".",
        ]
    )


def processes(folder: Path, rounds: int) -> str:
    """Compare two processes of one thread with one process of two."""
    found = {
        count: train(
            folder / f"processes-{count}", QUICKSTART, "data.max_rows=2000", "train.num_train_epochs=1",
            f"train.per_device_train_batch_size={32 // count}", processes=count,
        ).result()["cost"]["examples_per_second"]
        for count in (1, 2)
    }  # fmt: skip
    table: Table = [
        ("processes (gloo)", "threads each", "examples/s"),
        (1, 2, f"{found[1]:.1f}"),
        (2, 1, f"{found[2]:.1f}"),
    ]
    return "\n\n".join(
        ["## Processes", "The same 32 rows an update.", markdown(table), f"Ratio: **{found[2] / found[1]:.2f}**."]
    )


def memory(folder: Path, rounds: int) -> str:
    """Measure the peak memory of full, LoRA and a frozen lower half."""
    variants = {
        "full": [],
        "lora": ["method.name=lora"],
        "full, embeddings and layers 0 to 3 frozen": ['method.freeze=["*.embeddings", "*.layer.[0-3]"]'],
    }
    table: Table = [("method", "trained parameters", "peak memory, MB")]
    for number, (name, settings) in enumerate(variants.items()):
        cost = train(
            folder / f"memory-{number}", QUICKSTART, "data.max_rows=1000", "train.max_steps=12", "speed.tune=false",
            *settings,
        ).result()["cost"]  # fmt: skip
        table.append((name, f"{cost['trainable_parameters']:,}", f"{cost['peak_memory_mb']:,}"))
    text = "The whole process, libraries included, MiniLM, batches of 32."
    return "\n\n".join(["## Memory", text, markdown(table)])


def start(folder: Path, rounds: int) -> str:
    """Measure how soon something is seen."""
    help_ = statistics.median(timed([command(), "--help"]) for _ in range(5))
    began = time.time()
    run = train(folder / "start", QUICKSTART, "data.max_rows=400", "train.max_steps=2", "speed.tune=false")
    events = run.events()[0]
    first = events[0]["time"] - began
    step = next(e["time"] for e in events if e["type"] == "step" and e["step"] == 1) - began
    table: Table = [
        ("", "seconds"),
        ("`hftransfer --help`, median of 5", f"{help_:.2f}"),
        ("`hftransfer train`: command to first event", f"{first:.2f}"),
        ("`hftransfer train`: command to the end of the first step, settings not timed", f"{step:.1f}"),
    ]
    return "\n\n".join(["## Start", markdown(table)])


def hub(folder: Path, rounds: int) -> str:
    """Publish the sample model to the tests' Hub, twice, and measure how soon a token that cannot write is found."""
    from tests.hub_server import HubServer

    run = train(folder / "hub", QUICKSTART, "data.max_rows=400", "train.max_steps=2", "speed.tune=false")
    with HubServer(folder / "hub-server") as server:
        settings = ["hub.repo=alice/new", "hub.push=true"]
        reader = {**os.environ, **server.env(token=server.token("alice", "read"))}
        writer = {**os.environ, **server.env("alice"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        client = statistics.median(timed([sys.executable, "-c", "import huggingface_hub.hf_api"]) for _ in range(5))
        found = [timed([command(), "check", str(QUICKSTART), *settings], reader, 2) for _ in range(5)]
        server.clear_log()
        first = timed([command(), "publish", str(run.folder), "alice/new"], writer)
        sent = server.uploaded_bytes
        server.clear_log()
        second = timed([command(), "publish", str(run.folder), "alice/new", "--no-verify"], writer)
        table: Table = [
            ("", "value"),
            ("`hftransfer check` finds a token that cannot write, median of 5", f"{statistics.median(found):.2f} s"),
            ("the same over importing the Hub's client alone", f"{statistics.median(found) / client:.1f}"),
            ("bytes of files sent by a first publication of MiniLM", f"{sent:,}"),
            ("bytes of files sent by a second one", f"{server.uploaded_bytes:,}"),
            ("first publication, with the proof from a fresh process", f"{first:.1f} s"),
            ("second publication, without the proof", f"{second:.1f} s"),
        ]
    text = "Against the tests' server on this machine: what the network adds is not in it."
    return "\n\n".join(["## The Hub", text, markdown(table)])


def train(folder: Path, config: Path, *overrides: str, processes: int = 1) -> Run:
    """Run the command line and return the finished run."""
    words = [command(), "train", str(config), *overrides, f"output={folder}", "--processes", str(processes)]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    return Run(folder)


def export(folder: Path) -> tuple[Path, float]:
    """Write the quickstart's training and test rows as JSON lines; return the folder and the mean tokens a row."""
    from transformers import AutoTokenizer

    settings = catalog.read_config(QUICKSTART)
    found = data.load(settings.data, catalog.task(settings.task), settings.seed)
    folder.mkdir()
    for split in ("train", "test"):
        found.splits[split].select_columns(["text", "label"]).to_json(str(folder / f"{split}.jsonl"))
    tokenizer = AutoTokenizer.from_pretrained(samples.resolve(settings.model))
    lengths = [len(ids) for ids in tokenizer(list(found.splits["train"]["text"]))["input_ids"]]
    return folder, statistics.mean(lengths)


def module(name: str, *arguments: object) -> Any:
    """Run a module of this package in a process of its own; return the JSON of its last line."""
    words = [sys.executable, "-m", name, *map(str, arguments)]
    done = subprocess.run(words, check=True, capture_output=True, text=True, cwd=ROOT)
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


def heading() -> str:
    """Return the page's first lines: the machine and the versions."""
    versions = ", ".join(f"{name} {version}" for name, version in training.versions().items())
    return "\n\n".join(
        [
            "# Benchmarks",
            "Written by `python -m benchmarks.run` (`make bench`) on a quiet machine; compare ratios, not seconds.",
            f"{time.strftime('%Y-%m-%d')}. {processor()}, {os.cpu_count()} cores, "
            f"{psutil.virtual_memory().total / 2**30:.0f} GiB, {platform.system()}. {versions}.",
        ]
    )


def processor() -> str:
    """Return the processor's name and the instruction sets that matter here."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.is_file() else ""
    name = next((line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line), "processor")
    sets = [s for s in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f" {s}" in text]
    return f"{name} ({', '.join(sets)})"


def numbers(values: Sequence[float], digits: int = 1) -> str:
    """Return numbers as text."""
    return ", ".join(f"{value:.{digits}f}" for value in values)


def markdown(rows: Table) -> str:
    """Return rows as a Markdown table, the first as its head."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


BENCHMARKS: dict[str, Callable[[Path, int], str]] = {
    "throughput": throughput,
    "overhead": overhead,
    "images": images,
    "processes": processes,
    "memory": memory,
    "start": start,
    "hub": hub,
}

if __name__ == "__main__":
    main()
