"""What the engine makes of a machine: throughput, overhead, images, processes, memory, start, and the Hub."""

from __future__ import annotations

import os
import statistics
import sys
import time
from pathlib import Path

from transformers import AutoTokenizer

from benchmarks.measuring import (
    MODEL,
    ROOT,
    TWEETS,
    UNLOOKED,
    Sizes,
    command,
    export,
    module,
    read_rows,
    timed,
    train,
)
from benchmarks.page import Table, numbers, table
from hftransfer import samples

IMAGES = ROOT / "configs" / "image-classification" / "full.yaml"
SEED = 42  # the example's own, and the quickstart's
BODY = 10_646_784  # parameters of MiniLM's six layers: those that a token is multiplied with


def throughput(folder: Path, sizes: Sizes) -> str:
    """Compare with the example script's defaults on the same rows, in turn."""
    place = export(folder / "rows", sizes.cap)
    mean_tokens = tokens(place)
    ours, theirs = [], []
    for number in range(sizes.rounds):
        theirs.append(module("benchmarks.example_defaults", place, samples.resolve(MODEL), 1, SEED))
        ours.append(train(folder / f"ours-{number}", TWEETS, *sizes.cap, "train.num_train_epochs=1"))
    peak = module("benchmarks.matmul_peak")
    rate = [run.result()["cost"]["examples_per_second"] for run in ours]
    base = [run["examples_per_second"] for run in theirs]
    score = [run.result()["test"]["metrics"]["accuracy"] for run in ours]
    choice = ours[-1].result()["speed"]
    useful = statistics.median(rate) * mean_tokens * 6 * BODY / 1e9
    best = max(peak.values())
    rows: Table = [
        ("", "examples/s, each round", "test accuracy, each round"),
        ("hftransfer, quickstart, 1 epoch", numbers(rate), ", ".join(f"{s['value']:.3f}" for s in score)),
        ("example's defaults, 1 epoch", numbers(base), ", ".join(f"{t['accuracy']:.3f}" for t in theirs)),
        ("ratio of the medians", f"**{statistics.median(rate) / statistics.median(base):.1f}**", ""),
    ]
    low, high = score[-1]["low"], score[-1]["high"]
    return "\n\n".join(
        [
            "MiniLM on the VADER tweets (`configs/quickstart.yaml`). The other side is transformers' "
            "text-classification example at its defaults: batches of 8 padded to 128 tokens, float32, its own rate.",
            table(rows),
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


def tokens(folder: Path) -> float:
    """Return the mean number of tokens of a training row."""
    tokenizer = AutoTokenizer.from_pretrained(samples.resolve(MODEL))
    texts, _ = read_rows(folder / "train.jsonl")
    return statistics.mean(len(ids) for ids in tokenizer(texts)["input_ids"])


def overhead(folder: Path, sizes: Sizes) -> str:
    """Compare the engine with a bare Trainer and a hand-written loop."""
    found = module("benchmarks.overhead", max(3, sizes.rounds))
    rows: Table = [("", "seconds for 35 steps, each round")]
    rows += [(name, numbers(seconds, 2)) for name, seconds in found["seconds"].items()]
    return "\n\n".join(
        [
            "The same weights, batches, settings and dropout through the engine, a bare `Trainer` and a hand-written "
            "loop, each of which trains the whole embedding: the engine's own gain there has a section of its own.",
            table(rows),
            f"Medians of the rounds' ratios: engine over loop **{found['over_loop'] - 1:+.1%}**, over bare Trainer "
            f"**{found['over_trainer'] - 1:+.1%}**.",
        ]
    )


def images(folder: Path, sizes: Sizes) -> str:
    """Measure how long a step waits for pictures, and compare with the example script's defaults, in turn."""
    rows, ours, theirs = sizes.rows or 800, [], []
    for number in range(sizes.rounds):
        theirs.append(module("benchmarks.pictures_defaults", IMAGES, rows)["examples_per_second"])
        run = train(folder / f"images-{number}", IMAGES, f"data.max_rows={rows}", "train.num_train_epochs=1")
        cost = run.result()
        ours.append(cost["cost"]["examples_per_second"])
    choice, ratio = cost["speed"], statistics.median(ours) / statistics.median(theirs)
    layout = ", channels last" if choice["channels_last"] else ""
    return "\n\n".join(
        [
            f"MobileNetV2 on digits, {rows} rows, 1 epoch: {ours[-1]:.1f} examples/s, "
            f"**{cost['cost']['waiting_for_data']:.1%}** of the training time spent waiting for data "
            f"({choice['workers']} loader process; {'bf16' if choice['bf16'] else 'float32'}{layout}, by timing).",
            f"transformers' example at its defaults (batches of 8, float32, 5e-5, a random part of each picture, one "
            f"process; stated again with Pillow, without torchvision), in turn: {numbers(theirs, 1)} examples/s; ours "
            f"{numbers(ours, 1)}. Ratio of the medians **{ratio:.1f}**.",
            "Timed, in examples/s: " + "; ".join(f"{name} {value}" for name, value in choice["timings"].items()) + ".",
        ]
    )


def processes(folder: Path, sizes: Sizes) -> str:
    """Compare two processes of one thread with one process of two, and say what adding up the gradients costs."""
    costs = {
        count: train(
            folder / f"processes-{count}", TWEETS, *UNLOOKED, f"data.max_rows={sizes.rows or 2000}",
            "train.num_train_epochs=1", f"train.per_device_train_batch_size={32 // count}", processes=count,
        ).result()["cost"]
        for count in (1, 2)
    }  # fmt: skip
    found = {count: cost["examples_per_second"] for count, cost in costs.items()}
    numbers, ratio = costs[2]["trainable_parameters"], found[2] / found[1]
    reduced, update = module("benchmarks.reducing", numbers), 32 / found[2]
    rows: Table = [
        ("processes (gloo)", "threads each", "examples/s"),
        (1, 2, f"{found[1]:.1f}"),
        (2, 1, f"{found[2]:.1f}"),
    ]
    return "\n\n".join(
        [
            "The same 32 rows an update.",
            table(rows),
            f"Ratio: **{ratio:.2f}**. Each update adds up {numbers / 1e6:.1f} M gradients "
            f"({4 * numbers / 1e6:.0f} MB in float32): gloo alone, in two processes that do nothing else, takes "
            f"{1000 * reduced:.0f} ms for that, **{reduced / update:.0%}** of the {1000 * update:.0f} ms of an update "
            f"by two processes; without it the ratio would be at most {ratio / (1 - reduced / update):.2f}. "
            "Each process also runs the optimizer over all weights, which one process does once.",
        ]
    )


def memory(folder: Path, sizes: Sizes) -> str:
    """Measure the peak memory of full, LoRA and a frozen lower half."""
    variants = {
        "full": [],
        "lora": ["method.name=lora"],
        "full, embeddings and layers 0 to 3 frozen": ['method.freeze=["*.embeddings", "*.layer.[0-3]"]'],
    }
    rows: Table = [("method", "trained parameters", "peak memory, MB")]
    for number, (name, settings) in enumerate(variants.items()):
        cost = train(
            folder / f"memory-{number}", TWEETS, "data.max_rows=1000", "train.max_steps=12", "speed.tune=false",
            *settings,
        ).result()["cost"]  # fmt: skip
        rows.append((name, f"{cost['trainable_parameters']:,}", f"{cost['peak_memory_mb']:,}"))
    text = "The whole process, libraries included, MiniLM, batches of 32."
    return "\n\n".join([text, table(rows)])


def start(folder: Path, sizes: Sizes) -> str:
    """Measure how soon something is seen."""
    help_ = statistics.median(timed([command(), "--help"]) for _ in range(5))
    began = time.time()
    run = train(folder / "start", TWEETS, "data.max_rows=400", "train.max_steps=2", "speed.tune=false")
    events = run.events()[0]
    first = events[0]["time"] - began
    step = next(e["time"] for e in events if e["type"] == "step" and e["step"] == 1) - began
    rows: Table = [
        ("", "seconds"),
        ("`hftransfer --help`, median of 5", f"{help_:.2f}"),
        ("`hftransfer train`: command to first event", f"{first:.2f}"),
        ("`hftransfer train`: command to the end of the first step, settings not timed", f"{step:.1f}"),
    ]
    return table(rows)


def hub(folder: Path, sizes: Sizes) -> str:
    """Publish the sample model to the tests' Hub, twice, and measure how soon a token that cannot write is found."""
    from tests.hub_server import HubServer

    run = train(folder / "hub", TWEETS, "data.max_rows=400", "train.max_steps=2", "speed.tune=false")
    with HubServer(folder / "hub-server") as server:
        settings = ["hub.repo=alice/new", "hub.push=true"]
        reader = {**os.environ, **server.env(token=server.token("alice", "read"))}
        writer = {**os.environ, **server.env("alice"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        client = statistics.median(timed([sys.executable, "-c", "import huggingface_hub.hf_api"]) for _ in range(5))
        found = [timed([command(), "check", str(TWEETS), *settings], reader, 2) for _ in range(5)]
        server.clear_log()
        first = timed([command(), "publish", str(run.folder), "alice/new"], writer)
        sent = server.uploaded_bytes
        server.clear_log()
        second = timed([command(), "publish", str(run.folder), "alice/new", "--no-verify"], writer)
        rows: Table = [
            ("", "value"),
            ("`hftransfer check` finds a token that cannot write, median of 5", f"{statistics.median(found):.2f} s"),
            ("the same over importing the Hub's client alone", f"{statistics.median(found) / client:.1f}"),
            ("bytes of files sent by a first publication of MiniLM", f"{sent:,}"),
            ("bytes of files sent by a second one", f"{server.uploaded_bytes:,}"),
            ("first publication, with the proof from a fresh process", f"{first:.1f} s"),
            ("second publication, without the proof", f"{second:.1f} s"),
        ]
    text = "Against the tests' server on this machine: what the network adds is not in it."
    return "\n\n".join([text, table(rows)])
