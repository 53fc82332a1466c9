"""Count how many planted copies are found, by words, pixels and features: python -m benchmarks.copies

Needs the samples vader-tweets, all-minilm-l6-v2 and emoji; takes about a minute
on 2 cores. Prints the table of docs/data.md. Features are taken of texts alone.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hftransfer import catalog, data, samples, training
from hftransfer.audit import likely_copies
from hftransfer.config import RunConfig
from hftransfer.fitting.interruption import Interruption
from hftransfer.runs import Run

CONFIGS = Path(__file__).parents[1] / "configs"
EACH = 40  # copies that are planted in each way
WORDS = range(8, 31)  # of a tweet that is copied
HELD_OUT = 300  # pictures of test, and of validation

REWORDED: dict[str, Callable[[list[str], np.ndarray, np.random.Generator], list[str]]] = {
    "a word left out": lambda words, others, rng: np.delete(words, rng.integers(len(words))).tolist(),
    "a quarter of the words others": lambda words, others, rng: _others(words, others, rng),
    "five words before, five behind": lambda words, others, rng: [
        *rng.choice(others, 5),
        *words,
        *rng.choice(others, 5),
    ],
    "words in another order": lambda words, others, rng: rng.permutation(words).tolist(),
}
CHANGED: dict[str, Callable[[Image.Image], Image.Image]] = {
    "turned by 90 degrees": lambda picture: picture.transpose(Image.Transpose.ROTATE_90),
    "mirrored": lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "compressed (JPEG, quality 60)": lambda picture: _compressed(picture, 60),
    "mirrored, twice as large, compressed (75)": lambda picture: _compressed(
        picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((2 * picture.width, 2 * picture.height)), 75
    ),
    "cropped to 80 %": lambda picture: picture.crop(
        (picture.width // 10, picture.height // 10, picture.width * 9 // 10, picture.height * 9 // 10)
    ),
}


def main() -> None:
    """Plant copies, run, and print how many were found."""
    print("| changed | same or near | likely | not found |\n| --- | --- | --- | --- |")
    for task, plant in (("text-classification", texts), ("image-classification", pictures)):
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
            rows = Path(folder) / "rows"
            rows.mkdir()
            planted = plant(rows, np.random.default_rng(0))
            lines = found(task, rows, planted, Path(folder) / "run")
        print("\n".join(lines))


def texts(folder: Path, rng: np.random.Generator) -> dict[str, list[str]]:
    """Write the tweets with reworded ones of train in test; return these by what was done."""
    settings = catalog.read_config(CONFIGS / "text-classification" / "probe.yaml")
    splits = data.load(settings.data, catalog.task(settings.task), settings.seed).splits
    train = [text.split() for text in splits["train"]["text"]]
    others = np.array(sorted({word for words in train for word in words}))
    places = rng.permutation([place for place, words in enumerate(train) if len(words) in WORDS])
    chosen = places[: EACH * len(REWORDED)].reshape(-1, EACH)
    planted = {
        way: [" ".join(change(train[place], others, rng)) for place in some]
        for (way, change), some in zip(REWORDED.items(), chosen, strict=True)
    }
    for split, rows in splits.items():
        known = list(zip(rows["text"], rows["label"], strict=True))
        if split == "test":
            known += [(text, 0) for some in planted.values() for text in some]
        lines = (json.dumps({"text": text, "label": f"class {label}"}) + "\n" for text, label in known)
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    return planted


def pictures(folder: Path, rng: np.random.Generator) -> dict[str, list[str]]:
    """Write the emoji in splits with changed ones of train in test; return their names."""
    paths = np.array(sorted(samples.resolve_data("emoji").rglob("*.png")))
    test, validation, train = np.split(rng.permutation(paths), [HELD_OUT, 2 * HELD_OUT])
    planted = {}
    for (way, change), some in zip(CHANGED.items(), train[: EACH * len(CHANGED)].reshape(-1, EACH), strict=True):
        planted[way] = [f"{way.partition(' ')[0]}-{len(planted)}-{path.name}" for path in some]
        for path, name in zip(some, planted[way], strict=True):
            change(Image.open(path).convert("RGB")).save(_place(folder, "test", path) / name)
    for split, some in (("test", test), ("validation", validation), ("train", train)):
        for path in some:
            shutil.copy(path, _place(folder, split, path))
    return planted


def found(task: str, source: Path, planted: Mapping[str, Sequence[str]], folder: Path) -> list[str]:
    """Return a line for each way: how many of its copies were found to be what; features are taken by a run."""
    settings = catalog.read_config(CONFIGS / task / "probe.yaml", [f"data.source={source}", "data.label_issues=false"])
    rows = data.load(settings.data, catalog.task(settings.task), settings.seed)
    leaked = np.flatnonzero(rows.hygiene.copied["test", "train"])
    known = {_shown(row) for row in rows.splits["test"].select(leaked).with_format("arrow")[:].to_pylist()}
    likely = _likely(settings, folder) if task == "text-classification" else set()
    every = {text for some in planted.values() for text in some}
    lines = []
    for way, some in planted.items():
        near, more = len(known.intersection(some)), len(likely.difference(known).intersection(some))
        lines.append(f"| {way} | {near} | {more} | {len(some) - near - more} |")
    others = rows.sizes["test"] - len(every)
    return [*lines, f"| none, {others} rows of test | {len(known - every)} | {len(likely - every)} | |"]


def _likely(settings: RunConfig, folder: Path) -> set[str]:
    with Interruption() as interruption:
        training.run(settings, Run.create(settings, folder), interruption)
    with open(folder / likely_copies.FILE, newline="", encoding="utf-8") as file:
        pairs = [row for row in csv.DictReader(file) if (row["split"], row["copy_split"]) == ("test", "train")]
    return {row["text_or_file"] for row in pairs}


def _others(words: Sequence[str], others: np.ndarray, rng: np.random.Generator) -> list[str]:
    changed = np.array(words, object)
    changed[rng.choice(len(words), len(words) // 4, replace=False)] = rng.choice(others, len(words) // 4)
    return list(changed)


def _compressed(picture: Image.Image, quality: int) -> Image.Image:
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=quality)
    return Image.open(encoded)


def _place(folder: Path, split: str, path: Path) -> Path:
    place = folder / split / path.parent.name
    place.mkdir(parents=True, exist_ok=True)
    return place


def _shown(row: Mapping[str, Any]) -> str:
    return str(row["text"]) if "text" in row else Path(row["image"]["path"]).name


if __name__ == "__main__":
    main()
