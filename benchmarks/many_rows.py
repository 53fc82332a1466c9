"""How soon a run of very many rows begins, in how much memory, and how fast a long file is answered."""

from __future__ import annotations

import csv
import random
import statistics
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.machine import IMAGES
from benchmarks.measuring import TWEETS, Sizes, command, module, timed, train
from benchmarks.page import Table, numbers, table

TEXTS, PICTURES = 1_000_000, 100_000
ASKED = 20_000  # rows of the file that is answered
WORDS = 12  # of a text
FEW = ("data.validation_size=200", "data.test_size=200", "train.max_steps=2", "speed.tune=false")


def measure(folder: Path, sizes: Sizes) -> str:
    """Return the seconds to the first step and the memory of both, and the rows a second of a file's answers."""
    count = sizes.rows or TEXTS
    place = texts(folder / "rows.csv", count)
    shown = pictures(folder / "pictures", min(count, PICTURES))
    rows: Table = [("rows", "seconds to the end of the first step", "of them reading the data", "peak memory, MB")]
    cases = {
        f"{min(count, 1_000):,} texts, CSV": (TWEETS, place, [f"data.max_rows={min(count, 1_000)}"]),
        f"{count:,} texts, CSV": (TWEETS, place, []),
        f"{count:,} texts, streamed": (TWEETS, place, ["data.streaming=true"]),
        f"{min(count, PICTURES):,} pictures, a folder a class": (IMAGES, shown, []),
    }
    for number, (name, (config, source, more)) in enumerate(cases.items()):
        began = time.time()
        run = train(folder / f"run-{number}", config, f"data.source={source}", *FEW, *more)
        events = run.events()[0]
        step = next(one["time"] for one in events if one["type"] == "step")
        marks = {str(one["name"]): one["time"] for one in events if one["type"] == "phase"}
        read = marks["model"] - marks["data"]
        rows.append((name, f"{step - began:.1f}", f"{read:.1f}", f"{run.result()['cost']['peak_memory_mb']:,}"))
        if number == 0:
            model = run.artifact
    asked = texts(folder / "asked.csv", min(count, ASKED))
    ask = [command(), "predict", str(model), str(asked), "--json"]
    took, half = ([timed([*ask, *more]) for _ in range(sizes.rounds)] for more in ([], ["--bf16"]))
    ahead = [module("benchmarks.forward", model, asked) for _ in range(sizes.rounds)]
    many = min(count, ASKED)
    return "\n\n".join(
        [
            f"Texts of {WORDS} made-up words, pictures of 32 by 32 pixels; the command to the end of the first step, "
            "its imports among it.",
            table(rows),
            f"`hftransfer predict` on a file of {many:,} such texts, MiniLM: {numbers(took, 1)} s, "
            f"{many / statistics.median(took):.0f} rows/s with its start, in float32, as the model was scored; with "
            f"`--bf16` {numbers(half, 1)} s, {many / statistics.median(half):.0f} rows/s; the forward pass alone on "
            "these rows in training's precision: "
            f"{numbers([one['rows'] / one['seconds'] for one in ahead], 0)} rows/s.",
        ]
    )


def texts(path: Path, count: int) -> Path:
    """Write a CSV file of so many texts of three classes."""
    rng = random.Random(0)
    words = [f"word{number}" for number in range(20_000)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        writer.writerows((" ".join(rng.choices(words, k=WORDS)), rng.choice("abc")) for _ in range(count))
    return path


def pictures(folder: Path, count: int) -> Path:
    """Write so many pictures of noise in a folder for each of two classes."""
    rng = np.random.default_rng(0)
    for name in "ab":
        (folder / name).mkdir(parents=True)
    for number in range(count):
        noise = rng.integers(0, 255, (32, 32, 3), np.uint8)
        Image.fromarray(noise).save(folder / "ab"[number % 2] / f"{number}.png", compress_level=0)
    return folder
